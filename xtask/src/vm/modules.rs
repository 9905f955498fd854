//! The kernel modules that go into the virtual machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::kernel::Unpacked;
use crate::process::{command, output, run_quietly};

/// Loaded at boot, so that no test waits for one or needs the right to load it.
pub const LOADED: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "veth",
    "bridge",
    "8021q",
    "dummy",
    "tun",
    "vrf",
    "nf_tables",
    "nf_conntrack",
    "nft_chain_nat",
    "nft_ct",
    "nft_masq",
    "nft_nat",
    "overlay",
    "sch_fq",
    "sch_ingress",
    "sch_netem",
    "cls_bpf",
];

/// There when something asks for them.
pub const AVAILABLE: &[&str] = &[
    "act_bpf",
    "act_mirred",
    "act_police",
    "act_vlan",
    "af_packet_diag",
    "br_netfilter",
    "cls_flower",
    "cls_matchall",
    "cls_u32",
    "crc32c_generic",
    "ifb",
    "inet_diag",
    "ipvlan",
    "macvlan",
    "nf_conntrack_netlink",
    "nfnetlink",
    "nft_fib",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_limit",
    "nft_log",
    "nft_numgen",
    "nft_redir",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_tproxy",
    "nlmon",
    "pktgen",
    "sch_clsact",
    "sch_fq_codel",
    "sch_htb",
    "sch_prio",
    "sch_tbf",
    "tcp_bbr",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "xsk_diag",
];

/// Writes the decompressed modules and their index as a tree that `modprobe` can use.
pub fn stage(kernel: &Unpacked, tree: &Path) -> Result<()> {
    let base = Path::new("lib/modules").join(&kernel.release);
    let source = kernel.folder.join(&base);
    let index = Index::read(&source)?;
    let mut wanted = BTreeSet::new();
    for name in LOADED {
        if !index.add(name, &mut wanted) && !index.is_builtin(name) {
            bail!(
                "the kernel {} has no module {name}, which the virtual machine needs",
                kernel.release
            );
        }
    }
    for name in AVAILABLE {
        index.add(name, &mut wanted);
    }
    for module in &wanted {
        copy(&source.join(module), &tree.join(&base).join(module))?;
    }
    for list in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        let from = source.join(list);
        if from.is_file() {
            fs::copy(&from, tree.join(&base).join(list))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    let depmod = doorstep_ebpf_build::find_in_path("depmod").context("no depmod: package kmod")?;
    run_quietly(command(depmod).arg("-b").arg(tree).arg(&kernel.release))
}

/// Copies a module, decompressed: that is slow in emulation.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a module lies in a folder")?;
    fs::create_dir_all(folder)?;
    if from.extension().is_some_and(|extension| extension == "xz") {
        let content = output(command("xz").arg("-dc").arg(from))?;
        fs::write(to.with_extension(""), content)?;
    } else {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// What `modules.dep` and `modules.builtin` say.
struct Index {
    by_name: BTreeMap<String, PathBuf>,
    dependencies: BTreeMap<PathBuf, Vec<PathBuf>>,
    builtin: BTreeSet<String>,
}

impl Index {
    fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = folder.join(name);
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        Ok(Self::parse(
            &read("modules.dep")?,
            &read("modules.builtin")?,
        ))
    }

    fn parse(dependencies: &str, builtin: &str) -> Self {
        let mut index = Self {
            by_name: BTreeMap::new(),
            dependencies: BTreeMap::new(),
            builtin: builtin.lines().map(module_name).collect(),
        };
        for line in dependencies.lines() {
            let Some((module, needed)) = line.split_once(':') else {
                continue;
            };
            index
                .by_name
                .insert(module_name(module), PathBuf::from(module));
            index.dependencies.insert(
                PathBuf::from(module),
                needed.split_whitespace().map(PathBuf::from).collect(),
            );
        }
        index
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&module_name(name))
    }

    /// Adds a module and all it depends on (`modules.dep` is transitive); says whether it exists.
    fn add(&self, name: &str, to: &mut BTreeSet<PathBuf>) -> bool {
        let Some(module) = self.by_name.get(&module_name(name)) else {
            return false;
        };
        to.insert(module.clone());
        to.extend(self.dependencies.get(module).into_iter().flatten().cloned());
        true
    }
}

/// `kernel/net/8021q/8021q.ko.xz` is `8021q`; `-` and `_` are the same in module names.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split(".ko").next().unwrap_or(file);
    stem.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/net/802/mrp.ko.xz:
kernel/net/802/garp.ko.xz: kernel/net/802/stp.ko.xz
kernel/net/802/stp.ko.xz:
kernel/net/8021q/8021q.ko.xz: kernel/net/802/garp.ko.xz kernel/net/802/stp.ko.xz kernel/net/802/mrp.ko.xz
";

    #[test]
    fn a_module_brings_what_it_depends_on() {
        let index = Index::parse(DEPENDENCIES, "kernel/net/packet/af-packet.ko\n");
        let mut wanted = BTreeSet::new();
        assert!(index.add("8021q", &mut wanted));
        assert_eq!(wanted.len(), 4);
        assert!(!index.add("af_packet", &mut wanted));
        assert!(index.is_builtin("af_packet"));
    }
}
