//! The tests of the other files once more, on a real PostgreSQL.

mod common;

mod app;
mod bulk;
mod chosen_plans;
mod console;
mod crashes;
mod dhcp;
mod dry_run;
mod gateways;
mod inputs;
mod plans;
mod retention;
mod rotation;
mod services;
mod sessions;
mod time_to_live;
mod transfer;
mod why;
