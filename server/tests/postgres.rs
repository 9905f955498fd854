//! The tests of the other files once more, on a real PostgreSQL.

#[path = "crashes.rs"]
mod crashes;
#[path = "gateways.rs"]
mod gateways;
#[path = "inputs.rs"]
mod inputs;
#[path = "services.rs"]
mod services;
#[path = "sessions.rs"]
mod sessions;
