//! Compiles the .proto files with protox, so that no protoc is needed.
//!
//! What they describe is kept, too, with their comments: servers tell it to tools that ask.

use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = [
        "access",
        "admin_accounts",
        "admin_gateway",
        "admin_server",
        "admin_terminal",
        "control",
        "enrollment",
        "establish",
    ]
    .iter()
    .map(|name| root.join(format!("doorstep/v1/{name}.proto")))
    .filter(|file| file.exists())
    .collect();
    println!("cargo:rerun-if-changed=doorstep/v1");
    let descriptors = protox::compile(&files, [root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("doorstep.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(descriptors)?;
    Ok(())
}
