//! The tests of the terminal from outside, in one program: there is less to link.

mod support;

mod app;
mod apply;
mod daemon;
mod doctor;
mod exit_codes;
mod links;
mod metrics;
mod own_rooms;
mod plan;
mod repairs;
mod switch;
