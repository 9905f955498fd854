//! The terminal's configuration file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use doorstep_establish::Tags;
use ipnet::Ipv4Net;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use crate::links::own_rooms;

mod check;

/// Where the daemon listens and its clients ask, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/doorstep-terminal/admin.sock";

/// The name of the operator whose server stands in `[server]`.
pub const DEFAULT_OPERATOR: &str = "default";

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Credentials, sessions and the journal of links.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The socket of the daemon's clients.
    #[serde(default = "default_socket")]
    pub admin_socket: PathBuf,
    /// The operators' servers, by the names that commands have for the operators. The file has one
    /// also in `[server]`, as [`DEFAULT_OPERATOR`].
    #[serde(default)]
    pub operators: BTreeMap<String, Server>,
    #[serde(default)]
    server: Option<Server>,
    /// Where Prometheus may ask; without it nowhere.
    pub metrics: Option<doorstep_daemon::metrics::Config>,
    /// Who collects traces; without it nobody.
    pub traces: Option<doorstep_daemon::traces::Config>,
    /// Toward the building.
    pub wan: Wan,
    /// Toward the rooms; without it the terminal is a single host.
    pub home: Option<Home>,
}

/// An operator's server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `https://host:port`
    pub url: String,
    /// The certificate of the authority that signed the server's (PEM).
    pub ca: PathBuf,
    /// The name in the server's certificate; the URL's host by default.
    pub server_name: Option<String>,
}

/// What a daemon takes up while it runs: both sides of its links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// Toward the building.
    pub wan: Wan,
    /// Toward the rooms.
    pub home: Option<Home>,
}

/// Toward the building.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wan {
    /// The ports on which establishment requests are heard.
    pub ports: Vec<String>,
    /// The tags of the terminal's own frames.
    #[serde(default)]
    pub tags: WanTags,
    /// Metric of the default routes.
    #[serde(default = "default_metric")]
    pub route_metric: u32,
    /// Whether a terminal without a session asks the gateway for a way to the server.
    #[serde(default = "default_true")]
    pub garden: bool,
}

/// The tags of the terminal's own frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WanTags {
    /// As the request arrives.
    #[default]
    Auto,
    /// Always these (or none).
    Fixed(Tags),
}

impl WanTags {
    /// The tags to use for a session whose request came under `arrived`.
    #[must_use]
    pub fn resolve(self, arrived: Tags) -> Tags {
        match self {
            Self::Auto => arrived,
            Self::Fixed(tags) => tags,
        }
    }
}

impl<'de> Deserialize<'de> for WanTags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Word(String),
            Vids(Vec<u16>),
        }
        match Text::deserialize(deserializer)? {
            Text::Word(word) if word == "auto" => Ok(Self::Auto),
            Text::Word(word) if word == "none" => Ok(Self::Fixed(Tags::NONE)),
            Text::Word(_) => Err(D::Error::custom(
                "expected \"auto\", \"none\" or a list of VLAN ids",
            )),
            Text::Vids(vids) => Tags::from_vids(&vids)
                .map(Self::Fixed)
                .map_err(D::Error::custom),
        }
    }
}

impl Serialize for WanTags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(tags) if tags.as_slice().is_empty() => serializer.serialize_str("none"),
            Self::Fixed(tags) => serializer.collect_seq(tags.as_slice().iter().map(|tag| tag.vid)),
        }
    }
}

/// Toward the rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// The bridge that joins the rooms.
    #[serde(default = "default_bridge")]
    pub bridge: String,
    /// Its ports, as [`RoomPort`](crate::links::room_port::RoomPort) reads them.
    #[serde(default)]
    pub room_ports: Vec<String>,
    /// Who gives the rooms' devices their addresses.
    #[serde(default)]
    pub mode: Mode,
    /// The session of the rooms on the bridge, as [`Room::session`]; without it they use all
    /// sessions that no room has for itself, and the oldest one in any case.
    pub session: Option<String>,
    /// The terminal's address toward the rooms, with the length of their network.
    pub ipv4: Option<Ipv4Net>,
    /// Whether the rooms' IPv4 leaves under the session's address.
    #[serde(default = "default_true")]
    pub masquerade: bool,
    /// Whether the rooms' devices get addresses from the terminal, by DHCP and router
    /// advertisements.
    #[serde(default = "default_true")]
    pub dhcp: bool,
    /// Where the sessions' resolvers are written.
    pub resolver_file: Option<PathBuf>,
    /// Pages for whoever is in the rooms; without it there are none.
    pub app: Option<App>,
    /// Rooms with a session of their own, by port (as in `room_ports`).
    #[serde(default)]
    pub rooms: BTreeMap<String, Room>,
}

impl Home {
    /// The terminal's addresses toward the rooms, each with the interface that it is on.
    pub fn doors(&self) -> impl Iterator<Item = (String, Ipv4Net)> {
        let joined = self.ipv4.map(|own| (self.bridge.clone(), own));
        let room = |(port, room): (&String, &Room)| Some((own_rooms::bridge(port), room.ipv4?));
        joined.into_iter().chain(self.rooms.iter().filter_map(room))
    }

    /// Which session is meant for which rooms: by port, or by the bridge for those on it.
    pub fn choices(&self) -> impl Iterator<Item = (String, &str)> {
        let joined = self.session.iter();
        let joined = joined.map(|session| (self.bridge.clone(), session.as_str()));
        let own = self.rooms.iter();
        joined.chain(own.map(|(port, room)| (port.clone(), room.session.as_str())))
    }
}

/// Pages for whoever is in the rooms, at the terminal's addresses there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The name that the rooms' devices find them by, where the terminal gives these their addresses.
    #[serde(default = "default_app_name")]
    pub name: String,
    /// Of HTTP.
    #[serde(default = "default_app_port")]
    pub port: u16,
}

/// A room with a session of its own, which is no port of the home's bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// The session that its devices use: its id, or an operator's name for the oldest one of that
    /// operator's. Without it they reach no other.
    pub session: String,
    /// The terminal's address toward the room, with the length of its network.
    pub ipv4: Option<Ipv4Net>,
}

/// What the terminal is between line and rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A router: the rooms use its sessions.
    #[default]
    Routed,
    /// A switch: the line is a port of the bridge, and the rooms' devices get their addresses from
    /// the operator. The terminal has no session.
    Bridge,
}

impl LinkConfig {
    /// Whether the terminal is a switch, without sessions of its own.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        is_switch(self.home.as_ref())
    }
}

/// Whether a terminal with such rooms is a switch, without sessions of its own.
#[must_use]
pub fn is_switch(home: Option<&Home>) -> bool {
    home.is_some_and(|home| home.mode == Mode::Bridge)
}

fn default_state_dir() -> PathBuf {
    "/var/lib/doorstep-terminal".into()
}

fn default_socket() -> PathBuf {
    DEFAULT_SOCKET.into()
}

fn default_metric() -> u32 {
    52
}

fn default_bridge() -> String {
    "br-home".into()
}

fn default_app_name() -> String {
    "doorstep.home".into()
}

fn default_app_port() -> u16 {
    80
}

fn default_true() -> bool {
    true
}

/// A field, and what is wrong with it.
type Problem = (&'static str, String);

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not a configuration.
    #[error("configuration {path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A value cannot be right.
    #[error("configuration {path}: {field}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong, and what to write.
        problem: String,
    },
}

impl Config {
    /// Reads and checks the file; paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` names it in errors, and its folder is what paths in it are
    /// relative to.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config
            .name_server()
            .and_then(|()| config.check())
            .map_err(|(field, problem)| ConfigError::Value {
                path: path.to_owned(),
                field,
                problem,
            })?;
        config.make_absolute(folder);
        Ok(config)
    }

    /// What a running daemon takes up of it.
    #[must_use]
    pub fn links(&self) -> LinkConfig {
        LinkConfig {
            wan: self.wan.clone(),
            home: self.home.clone(),
        }
    }

    fn make_absolute(&mut self, folder: &Path) {
        let resolver = self
            .home
            .as_mut()
            .and_then(|home| home.resolver_file.as_mut());
        self.traces = self.traces.take().map(|traces| traces.below(folder));
        let own = [&mut self.state_dir, &mut self.admin_socket];
        let servers = self.operators.values_mut().map(|server| &mut server.ca);
        for path in own.into_iter().chain(servers).chain(resolver) {
            *path = folder.join(&*path);
        }
    }

    /// Puts `[server]` among the operators.
    fn name_server(&mut self) -> Result<(), Problem> {
        let Some(server) = self.server.take() else {
            return Ok(());
        };
        match self.operators.insert(DEFAULT_OPERATOR.into(), server) {
            None => Ok(()),
            Some(_) => Err((
                "operators.default",
                "is the name of the operator in [server]; choose another, or leave one out".into(),
            )),
        }
    }
}
