//! The gRPC services: protobuf in, engine calls, protobuf out.

pub mod access;
pub mod accounts;
pub mod control;
pub mod convert;
pub mod enrollment;
mod gateway_stream;
pub mod health;
pub mod operator;
mod operator_bulk;
mod operator_why;
mod paging;
pub mod pki;
pub mod reflection;
