//! The tests of the server from outside, in one program: there is less to link.
//!
//! Programs of their own have those that need a process for themselves (`privacy.rs`), measure
//! (`million.rs`, `overload.rs`), or run these once more (`postgres.rs`).

mod common;

mod accounts;
mod app;
mod app_chromium;
mod audit;
mod bulk;
mod chosen_plans;
mod cli;
mod console;
mod console_chromium;
mod console_deeds;
mod crashes;
mod dhcp;
mod dry_run;
mod dry_run_files;
mod enrollment;
mod exit_codes;
mod gateways;
mod health;
mod inputs;
mod metrics;
mod paused;
mod plans;
mod replicas;
mod retention;
mod rotation;
mod services;
mod sessions;
mod supervised;
mod time_to_live;
mod transfer;
mod verification;
mod why;
