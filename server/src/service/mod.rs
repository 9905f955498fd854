//! The gRPC services: protobuf in, engine calls, protobuf out.

pub mod access;
pub mod control;
pub mod convert;
mod gateway_stream;
pub mod operator;
