//! The file as it is written, with the place of each value.

use std::path::PathBuf;

use doorstep_daemon::rate::Rate;
use serde::Deserialize;
use toml::Spanned;

use super::{ShaperKind, TagPriority, XdpMode};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub id: Spanned<String>,
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    #[serde(default = "default_pin_path")]
    pub pin_path: PathBuf,
    #[serde(default = "default_admin_socket")]
    pub admin_socket: PathBuf,
    #[serde(default = "default_inventory")]
    pub inventory: PathBuf,
    pub delegated_prefix_len: Option<Spanned<u8>>,
    #[serde(default)]
    pub line_prefixes: bool,
    pub max_sessions: Option<Spanned<u32>>,
    #[serde(default)]
    pub xdp_mode: XdpMode,
    #[serde(default)]
    pub shaper: ShaperKind,
    pub accounting_interval_ms: Option<Spanned<u64>>,
    pub garden: Option<Garden>,
    pub metrics: Option<doorstep_daemon::metrics::Config>,
    pub traces: Option<doorstep_daemon::traces::Config>,
    pub access_port: Spanned<Vec<AccessPort>>,
    pub operator: Spanned<Vec<Operator>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessPort {
    pub name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    pub name: Spanned<String>,
    pub index: Option<Spanned<u16>>,
    pub uplink: Spanned<String>,
    pub uplink_vlan: Option<Spanned<u16>>,
    #[serde(default)]
    pub next_hops: Vec<Spanned<String>>,
    pub routing_table: Option<Spanned<u32>>,
    pub subscriber_prefixes: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub gateway_addresses: Vec<Spanned<String>>,
    #[serde(default)]
    pub hairpin: bool,
    #[serde(default)]
    pub clamp_mss: bool,
    #[serde(default)]
    pub tag_priority: TagPriority,
    pub garden: Option<OperatorGarden>,
    pub server: Server,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Garden {
    pub lines: Option<Spanned<u32>>,
    pub rate: Option<Rate>,
    pub lease_s: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorGarden {
    pub servers: Spanned<Vec<Spanned<String>>>,
    pub prefixes: Spanned<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub url: Spanned<String>,
    #[serde(default)]
    pub replicas: Vec<Spanned<String>>,
    pub server_name: Option<Spanned<String>>,
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: Option<PathBuf>,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/doorstep-gateway".into()
}

fn default_pin_path() -> PathBuf {
    "/sys/fs/bpf/doorstep".into()
}

fn default_admin_socket() -> PathBuf {
    super::DEFAULT_SOCKET.into()
}

fn default_inventory() -> PathBuf {
    "inventory.csv".into()
}
