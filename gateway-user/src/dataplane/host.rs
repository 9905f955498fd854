//! What the fast path needs of the host, and the way back.
//!
//! Every setting that differs is recorded, with its former value, before it is changed; the record
//! lies in the state directory and is what [`restore`] undoes.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use doorstep_establish::Mac;
use ipnet::IpNet;
use rtnetlink::packet_route::link::LinkFlags;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::netlink::{Link, Netlink};
use super::offload::{Feature, Offloads};
use super::ports::{Port, Role};
use super::{DataplaneError, sysctl};
use crate::config::Config;

/// One setting of the host, with the value that it is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Setting {
    Sysctl {
        name: String,
        value: String,
    },
    Offload {
        port: String,
        feature: Feature,
        on: bool,
    },
    /// Bits of `IFF_*`, linux/if.h.
    Flag {
        port: String,
        flag: u32,
        on: bool,
    },
    Address {
        port: String,
        address: IpAddr,
        present: bool,
    },
    Route {
        port: String,
        prefix: IpNet,
        present: bool,
    },
}

/// Changes the host as the fast path needs it. Doing it again changes nothing.
pub(super) async fn prepare(
    config: &Config,
    ports: &[Port],
    gateway_mac: Mac,
    netlink: &Netlink,
) -> Result<(), DataplaneError> {
    let host = Host::new(netlink).await?;
    let mut record = Record::read(config)?;
    let mut changes = Vec::new();
    for setting in wanted(config, ports, gateway_mac) {
        if let Some(former) = host.differs(&setting).await? {
            record.remember(former);
            changes.push(setting);
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    record.write(config)?;
    for setting in &changes {
        info!(?setting, "setting the host up");
        host.apply(setting).await?;
    }
    Ok(())
}

/// Puts back what [`prepare`] changed.
pub(super) async fn restore(config: &Config, netlink: &Netlink) -> Result<(), DataplaneError> {
    let host = Host::new(netlink).await?;
    let record = Record::read(config)?;
    for former in record.former.iter().rev() {
        match host.apply(former).await {
            Ok(()) => {}
            // A port that is gone took its settings with it.
            Err(DataplaneError::NoPort { .. }) => {}
            Err(error) => warn!(%error, setting = ?former, "cannot put back"),
        }
    }
    Record::remove(config)
}

/// The settings that the fast path needs, in the order to make them.
fn wanted(config: &Config, ports: &[Port], gateway_mac: Mac) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut sysctl = |name: String, value: &str| {
        settings.push(Setting::Sysctl {
            name,
            value: value.to_owned(),
        });
    };
    sysctl("net/ipv4/ip_forward".to_owned(), "1");
    sysctl("net/ipv6/conf/all/forwarding".to_owned(), "1");
    // Answers of the kernel carry the mark of what they answer, and with it the operator.
    sysctl("net/ipv4/fwmark_reflect".to_owned(), "1");
    sysctl("net/ipv6/fwmark_reflect".to_owned(), "1");
    for port in ports.iter().filter(|port| port.role == Role::Access) {
        let name = &port.name;
        // The data plane has checked the source; the kernel's route may name another port.
        sysctl(format!("net/ipv4/conf/{name}/rp_filter"), "0");
        sysctl(format!("net/ipv4/conf/{name}/send_redirects"), "0");
        sysctl(format!("net/ipv6/conf/{name}/accept_ra"), "0");
        sysctl(format!("net/ipv6/conf/{name}/autoconf"), "0");
        sysctl(format!("net/ipv6/conf/{name}/accept_dad"), "0");
    }
    let mut flag = |port: &Port, flag: LinkFlags, on| {
        settings.push(Setting::Flag {
            port: port.name.clone(),
            flag: flag.bits(),
            on,
        });
    };
    for port in ports {
        if port.role == Role::Access {
            flag(port, LinkFlags::Noarp, true);
            flag(port, LinkFlags::Allmulti, true);
            if port.mac != gateway_mac {
                flag(port, LinkFlags::Promisc, true);
            }
        }
        flag(port, LinkFlags::Up, true);
    }
    let tagged_uplink = |port: &Port| {
        config
            .operators
            .iter()
            .any(|o| o.uplink == port.name && o.uplink_vlan != 0)
    };
    for port in ports
        .iter()
        .filter(|port| port.role == Role::Access || tagged_uplink(port))
    {
        for feature in Feature::ALL {
            settings.push(Setting::Offload {
                port: port.name.clone(),
                feature,
                on: false,
            });
        }
    }
    // The kernel sends to any access port; the TC program finds the line's.
    if let Some(access) = config.access_ports.first() {
        for operator in &config.operators {
            let port = &access.name;
            let v4 = operator.gateway_v4.map(IpAddr::V4);
            let v6 = operator.gateway_v6.map(IpAddr::V6);
            settings.extend(v4.into_iter().chain(v6).map(|address| Setting::Address {
                port: port.clone(),
                address,
                present: true,
            }));
            let v4 = operator.subscriber_v4.iter().copied().map(IpNet::V4);
            let v6 = operator.subscriber_v6.iter().copied().map(IpNet::V6);
            settings.extend(v4.chain(v6).map(|prefix| Setting::Route {
                port: port.clone(),
                prefix,
                present: true,
            }));
        }
    }
    settings
}

/// The host as it is.
struct Host<'n> {
    netlink: &'n Netlink,
    links: Vec<Link>,
    offloads: Offloads,
}

impl<'n> Host<'n> {
    async fn new(netlink: &'n Netlink) -> Result<Self, DataplaneError> {
        let offloads = Offloads::open().map_err(|source| DataplaneError::Kernel {
            what: "cannot ask for the ports' offloads".to_owned(),
            source,
        })?;
        Ok(Self {
            netlink,
            links: netlink.links().await?,
            offloads,
        })
    }

    fn link(&self, port: &str) -> Result<&Link, DataplaneError> {
        self.links
            .iter()
            .find(|link| link.name == port)
            .ok_or_else(|| DataplaneError::NoPort {
                name: port.to_owned(),
            })
    }

    /// The setting with the value that it has now, if that is another.
    async fn differs(&self, wanted: &Setting) -> Result<Option<Setting>, DataplaneError> {
        let now = match wanted {
            Setting::Sysctl { name, .. } => sysctl::get(name)
                .map_err(kernel(|| format!("cannot read {name}")))?
                .map(|value| Setting::Sysctl {
                    name: name.clone(),
                    value,
                }),
            Setting::Offload { port, feature, .. } => {
                // A driver without the feature hands the tags over as they are.
                let on = self.offloads.get(port, *feature).unwrap_or(None);
                on.map(|on| Setting::Offload {
                    port: port.clone(),
                    feature: *feature,
                    on,
                })
            }
            Setting::Flag { port, flag, .. } => {
                let on = self
                    .link(port)?
                    .flags
                    .contains(LinkFlags::from_bits_retain(*flag));
                Some(Setting::Flag {
                    port: port.clone(),
                    flag: *flag,
                    on,
                })
            }
            Setting::Address { port, address, .. } => {
                let present = self
                    .netlink
                    .has_address(self.link(port)?.index, *address)
                    .await?;
                Some(Setting::Address {
                    port: port.clone(),
                    address: *address,
                    present,
                })
            }
            // Making a route that is there already changes nothing.
            Setting::Route { port, prefix, .. } => Some(Setting::Route {
                port: port.clone(),
                prefix: *prefix,
                present: false,
            }),
        };
        Ok(now.filter(|now| now != wanted))
    }

    async fn apply(&self, setting: &Setting) -> Result<(), DataplaneError> {
        match setting {
            Setting::Sysctl { name, value } => {
                sysctl::set(name, value).map_err(kernel(|| format!("cannot set {name} to {value}")))
            }
            Setting::Offload { port, feature, on } => self
                .offloads
                .set(port, *feature, *on)
                .map_err(kernel(|| format!("cannot set {feature:?} of {port}"))),
            Setting::Flag { port, flag, on } => {
                let flag = LinkFlags::from_bits_retain(*flag);
                self.netlink
                    .set_flags(self.link(port)?.index, flag, *on)
                    .await
            }
            Setting::Address {
                port,
                address,
                present,
            } => {
                let index = self.link(port)?.index;
                match present {
                    true => self.netlink.add_address(index, *address).await,
                    false => self.netlink.remove_address(index, *address).await,
                }
            }
            Setting::Route {
                port,
                prefix,
                present,
            } => {
                let index = self.link(port)?.index;
                match present {
                    true => self.netlink.add_route(index, *prefix).await,
                    false => self.netlink.remove_route(index, *prefix).await,
                }
            }
        }
    }
}

fn kernel(what: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> DataplaneError {
    move |source| DataplaneError::Kernel {
        what: what(),
        source,
    }
}

/// The former values of everything that was changed, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    former: Vec<Setting>,
}

impl Record {
    fn path(config: &Config) -> PathBuf {
        config.state_dir.join("host.json")
    }

    fn read(config: &Config) -> Result<Self, DataplaneError> {
        let path = Self::path(config);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| DataplaneError::Record { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(DataplaneError::Io { path, source }),
        }
    }

    /// Keeps the oldest value of each setting: a later one is ours.
    fn remember(&mut self, former: Setting) {
        if !self.former.iter().any(|known| known.is_same_place(&former)) {
            self.former.push(former);
        }
    }

    fn write(&self, config: &Config) -> Result<(), DataplaneError> {
        let path = Self::path(config);
        let io = |source| DataplaneError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&config.state_dir).map_err(io)?;
        let text = serde_json::to_vec_pretty(self).map_err(|source| DataplaneError::Record {
            path: path.clone(),
            source,
        })?;
        let new = path.with_extension("json.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(io)
    }

    fn remove(config: &Config) -> Result<(), DataplaneError> {
        let path = Self::path(config);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DataplaneError::Io {
                path,
                source: error,
            }),
            _ => Ok(()),
        }
    }
}

impl Setting {
    /// Whether both are about the same thing, whatever its value.
    fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sysctl { name: a, .. }, Self::Sysctl { name: b, .. }) => a == b,
            (
                Self::Offload {
                    port: a,
                    feature: x,
                    ..
                },
                Self::Offload {
                    port: b,
                    feature: y,
                    ..
                },
            ) => a == b && x == y,
            (
                Self::Flag {
                    port: a, flag: x, ..
                },
                Self::Flag {
                    port: b, flag: y, ..
                },
            ) => a == b && x == y,
            (
                Self::Address {
                    port: a,
                    address: x,
                    ..
                },
                Self::Address {
                    port: b,
                    address: y,
                    ..
                },
            ) => a == b && x == y,
            (
                Self::Route {
                    port: a, prefix: x, ..
                },
                Self::Route {
                    port: b, prefix: y, ..
                },
            ) => a == b && x == y,
            _ => false,
        }
    }
}
