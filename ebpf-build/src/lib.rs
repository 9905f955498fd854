//! Finds a BPF-capable Rust toolchain and builds eBPF programs with it.
//!
//! The workspace itself stays on stable Rust; only the packages that run inside the kernel need a
//! compiler with unstable features and a `core` for the BPF target. A build script needs one call:
//!
//! ```no_run
//! fn main() -> Result<(), doorstep_ebpf_build::Error> {
//!     doorstep_ebpf_build::build_for_build_script(
//!         "doorstep-gateway-ebpf",
//!         "doorstep-gateway-ebpf",
//!         "GATEWAY_OBJECT",
//!     )
//! }
//! ```
//!
//! after which `env!("GATEWAY_OBJECT")` is the path of the object file.
#![forbid(unsafe_code)]

mod build;
mod build_script;
mod linker;
mod paths;
mod toolchain;

pub use anyhow::Error;

pub use build::{BuildRequest, GATEWAY_PACKAGE, bpf_target, build, lint};
pub use build_script::build_for_build_script;
pub use linker::find_linker;
pub use paths::{find_in_path, target_dir, workspace_root};
pub use toolchain::Toolchain;
