//! The gRPC services: protobuf in, engine calls, protobuf out.

pub mod access;
pub mod control;
pub mod convert;
pub mod operator;
