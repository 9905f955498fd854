//! The Doorstep protocols.
//!
//! The `.proto` files under `doorstep/v1` are the reference; this crate holds the code generated
//! from them, and how it becomes bytes.

pub mod codec;

/// Version 1 of all protocols.
#[expect(
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("doorstep.v1");
}

/// All `.proto` files as protobuf describes them: an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("doorstep");

/// The number a gateway sends in `Hello`.
pub const PROTOCOL_VERSION: u32 = 1;
