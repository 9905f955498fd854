//! Compiles the .proto files with protox, so that no protoc is needed.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = [
        "access",
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
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(descriptors)?;
    Ok(())
}
