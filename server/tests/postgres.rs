//! The tests of the other files once more, on a real PostgreSQL.
#![allow(
    clippy::duplicate_mod,
    reason = "each of the files below has what they have in common as a module of its own"
)]

#[path = "app.rs"]
mod app;
#[path = "bulk.rs"]
mod bulk;
#[path = "chosen_plans.rs"]
mod chosen_plans;
#[path = "console.rs"]
mod console;
#[path = "crashes.rs"]
mod crashes;
#[path = "dhcp.rs"]
mod dhcp;
#[path = "dry_run.rs"]
mod dry_run;
#[path = "gateways.rs"]
mod gateways;
#[path = "inputs.rs"]
mod inputs;
#[path = "plans.rs"]
mod plans;
#[path = "retention.rs"]
mod retention;
#[path = "rotation.rs"]
mod rotation;
#[path = "services.rs"]
mod services;
#[path = "sessions.rs"]
mod sessions;
#[path = "time_to_live.rs"]
mod time_to_live;
#[path = "transfer.rs"]
mod transfer;
#[path = "why.rs"]
mod why;
