//! What the fast path needs of the host, and the way back.
//!
//! Every setting that differs is recorded, with its former value, before it is changed; the record
//! lies in the state directory and is what [`restore`] undoes.

mod record;
mod setting;
mod wanted;

use std::io;

use doorstep_establish::Mac;
use rtnetlink::packet_route::link::LinkFlags;
use tracing::{info, warn};

use super::netlink::{Link, Netlink, Root};
use super::offload::Offloads;
use super::ports::Port;
use super::{DataplaneError, sysctl};
use crate::config::Config;
use record::Record;
use setting::Setting;
pub(super) use setting::{Hop, Route, Rule};
pub use wanted::is_own_table;
pub(super) use wanted::{default_route, line_routes, tables};

/// Changes the host as the fast path needs it. Doing it again changes nothing; what an earlier
/// configuration needed and this one does not is put back.
pub(super) async fn prepare(
    config: &Config,
    ports: &[Port],
    gateway_mac: Mac,
    netlink: &Netlink,
) -> Result<(), DataplaneError> {
    let host = Host::new(netlink).await?;
    let mut record = Record::read(config)?;
    let wanted = wanted::settings(config, ports, gateway_mac);
    let needless = record.take_unless(|former| wanted.iter().any(|w| w.is_same_place(former)));
    record.put_back(host.undo(&needless).await);
    let mut changes = Vec::new();
    for setting in wanted {
        if let Some(former) = host.differs(&setting).await? {
            record.remember(former);
            changes.push(setting);
        }
    }
    record.write(config)?;
    for setting in &changes {
        info!(?setting, "setting the host up");
        match host.apply(setting).await {
            Err(error) if setting.is_optional() => warn!(%error, "doing without"),
            result => result?,
        }
    }
    Ok(())
}

/// Which of these ports hold packets until their time.
pub(super) async fn note_shapers(
    ports: &mut [Port],
    netlink: &Netlink,
) -> Result<(), DataplaneError> {
    for port in ports {
        port.shaper = netlink.root(port.ifindex).await?.holds_packets();
    }
    Ok(())
}

/// Puts back what [`prepare`] changed. What cannot be put back stays in the record.
pub(super) async fn restore(config: &Config, netlink: &Netlink) -> Result<(), DataplaneError> {
    let host = Host::new(netlink).await?;
    let mut record = Record::read(config)?;
    let all = record.take_unless(|_| false);
    record.put_back(host.undo(&all).await);
    record.write(config)
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
                let on = self
                    .offloads
                    .get(port, *feature)
                    .map_err(kernel(|| format!("cannot ask {port} for its offloads")))?;
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
            Setting::Shaper { port, .. } => {
                let root = self.netlink.root(self.link(port)?.index).await?;
                Some(Setting::Shaper {
                    port: port.clone(),
                    on: root.holds_packets(),
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
            // They lie in tables and at priorities of our own; making one again changes nothing.
            Setting::Route { route, .. } => Some(Setting::Route {
                route: route.clone(),
                present: false,
            }),
            Setting::Rule { rule, .. } => Some(Setting::Rule {
                rule: rule.clone(),
                present: false,
            }),
            Setting::Followed { table, v6, .. } => Some(Setting::Followed {
                table: *table,
                v6: *v6,
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
            Setting::Shaper { port, on } => self.set_shaper(port, *on).await,
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
            Setting::Route { route, present } => match present {
                true => self.netlink.add_route(route).await,
                false => self.netlink.remove_route(route).await,
            },
            Setting::Rule { rule, present } => match present {
                true => self.netlink.add_rule(rule).await,
                false => self.netlink.remove_rule(rule).await,
            },
            Setting::Followed { table, v6, present } => match present {
                // The follower puts it where the next hop is.
                true => Ok(()),
                false => self.netlink.remove_default(*table, *v6).await,
            },
        }
    }

    async fn set_shaper(&self, port: &str, on: bool) -> Result<(), DataplaneError> {
        let index = self.link(port)?.index;
        match (on, self.netlink.root(index).await?) {
            (true, Root::Default) => self.netlink.set_fq(index).await,
            (true, Root::Foreign(kind)) => Err(DataplaneError::ForeignQdisc {
                port: port.to_owned(),
                kind,
            }),
            (false, Root::OwnFq) => self.netlink.remove_root(index).await,
            _ => Ok(()),
        }
    }

    /// Applies former settings; those that could not be put back.
    async fn undo(&self, former: &[Setting]) -> Vec<Setting> {
        let mut failed = Vec::new();
        for setting in former {
            match self.apply(setting).await {
                Ok(()) => {}
                // A port that is gone took its settings with it.
                Err(DataplaneError::NoPort { .. }) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    warn!(%error, ?setting, "cannot put back");
                    failed.push(setting.clone());
                }
            }
        }
        failed
    }
}

/// Whether a setting's file is gone, as that of a port that is gone.
fn is_absent(error: &DataplaneError) -> bool {
    matches!(error, DataplaneError::Kernel { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn kernel(what: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> DataplaneError {
    move |source| DataplaneError::Kernel {
        what: what(),
        source,
    }
}
