//! What building and testing need, and how to tell whether it is there.

use std::{env, path::Path};

use doorstep_ebpf_build::{Toolchain, find_in_path, find_linker};

use super::{linker, postgres};

/// Something that must be there.
pub struct Need {
    /// Debian packages that bring it.
    pub packages: &'static [&'static str],
    /// The component of the Rust toolchain that brings it, if rustup does.
    pub component: Option<&'static str>,
    /// What it is for.
    pub why: &'static str,
    is_there: fn() -> bool,
}

impl Need {
    /// What will be installed.
    pub fn what(&self) -> String {
        self.packages
            .iter()
            .chain(&self.component)
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The needs that are not met.
pub fn missing() -> Vec<Need> {
    NEEDS
        .into_iter()
        .filter(|need| !(need.is_there)())
        .collect()
}

/// Says how other distributions meet the needs.
pub fn print_other_distribution() {
    println!(
        "setup: the names above are Debian's; install the same tools with this distribution's \
         package manager. For the compiler and the linker run\n  \
         rustup toolchain install nightly --component rust-src\n  \
         {}\n\
         with LLVM's development files. The virtual machine's kernel needs a Debian system.",
        linker::COMMAND
    );
}

const fn program(
    package: &'static [&'static str],
    why: &'static str,
    is_there: fn() -> bool,
) -> Need {
    Need {
        packages: package,
        component: None,
        why,
        is_there,
    }
}

const fn component(name: &'static str, why: &'static str, is_there: fn() -> bool) -> Need {
    Need {
        packages: &[],
        component: Some(name),
        why,
        is_there,
    }
}

fn has(program: &str) -> bool {
    find_in_path(program).is_some()
}

/// Whether flex's library lies where Debian puts libraries.
fn has_libfl() -> bool {
    let folders = ["/usr/lib", "/lib"].map(Path::new);
    let machines = folders.into_iter().filter_map(|lib| lib.read_dir().ok());
    let machines = machines.flatten().flatten().map(|entry| entry.path());
    let mut places = machines.chain(folders.map(Path::to_path_buf));
    places.any(|place| place.join("libfl.so.2").exists())
}

/// Whether the running toolchain has a cargo subcommand of its own; rustup's proxies are there
/// even when the component is not.
fn has_component(program: &str) -> bool {
    match env::var_os("CARGO") {
        Some(cargo) => Path::new(&cargo).with_file_name(program).is_file(),
        None => has(program),
    }
}

const NEEDS: [Need; 24] = [
    program(
        &["rustc-web", "libstd-rust-web-dev-bpf"],
        "the compiler for eBPF programs (rustup's nightly with rust-src would do, and is not here)",
        || Toolchain::find().is_ok(),
    ),
    program(
        &["rust-web-clippy"],
        "the gate checks the lints of eBPF programs",
        || {
            Toolchain::find()
                .is_ok_and(|toolchain| !toolchain.is_system() || toolchain.clippy_driver.is_some())
        },
    ),
    program(
        &["llvm-22-dev", "libpolly-22-dev"],
        "bpf-linker is built against LLVM",
        || {
            find_linker().is_ok()
                || Path::new(linker::LLVM_PREFIX)
                    .join("bin/llvm-config")
                    .exists()
        },
    ),
    program(&["gcc", "libc6-dev"], "some crates contain C", || has("cc")),
    program(&["make"], "some crates contain C", || has("make")),
    program(&["pkg-config"], "some crates contain C", || {
        has("pkg-config")
    }),
    program(
        &["binutils"],
        "strips what goes into the virtual machine",
        || has("strip"),
    ),
    program(
        &["dpkg-dev"],
        "packages name what they are linked with",
        || has("dpkg-shlibdeps"),
    ),
    program(
        &["systemd"],
        "tests have its systemd-analyze judge the daemons' units",
        || has("systemd-analyze"),
    ),
    component("rustfmt", "the gate checks the format", || {
        has_component("cargo-fmt")
    }),
    component("clippy", "the gate checks the lints", || {
        has_component("cargo-clippy")
    }),
    program(
        &["iproute2"],
        "tests and demo make network namespaces",
        || has("ip") && has("tc"),
    ),
    program(&["iputils-ping"], "tests and demo ping", || has("ping")),
    program(
        &["nftables", "ethtool"],
        "tests set address translation and offloads",
        || has("nft") && has("ethtool"),
    ),
    program(
        &["kmod"],
        "finds the modules that the virtual machine loads",
        || has("depmod"),
    ),
    program(
        &["busybox-static"],
        "the virtual machine's user space, and the DHCP client of most home routers",
        || has("busybox"),
    ),
    program(
        &["isc-dhcp-client", "dhcpcd-base"],
        "tests have homes with ordinary DHCP clients",
        || has("dhclient") && has("dhcpcd"),
    ),
    program(
        &["libfl2"],
        "a DHCPv6 client of the tests' homes is linked with it",
        has_libfl,
    ),
    program(
        &["dnsmasq-base"],
        "terminals give the devices in rooms their addresses with it",
        || has("dnsmasq"),
    ),
    program(
        &["chromium-headless-shell", "fonts-dejavu-core"],
        "tests use the web console as a person's browser does",
        || has("chromium-headless-shell") || has("chromium"),
    ),
    program(
        &["fonts-wqy-microhei"],
        "the browser of the tests shows the app's Chinese pages with it",
        || Path::new("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc").is_file(),
    ),
    program(
        &["xz-utils", "zstd"],
        "unpacks the virtual machine's kernel and modules",
        || has("xz") && has("zstd"),
    ),
    program(
        &["qemu-system-x86"],
        "boots distribution kernels in software emulation",
        || has("qemu-system-x86_64"),
    ),
    program(
        &[postgres::PACKAGE],
        "tests and benchmarks start a PostgreSQL of their own",
        postgres::is_there,
    ),
];
