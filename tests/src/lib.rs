//! What the tests with real packets share.

pub mod frames;
pub mod lab;
pub mod programs;
pub mod suite;
