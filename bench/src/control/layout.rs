//! The operator that is simulated: its gateways, the homes at each, the pools, the configuration.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use doorstep_location::LocationId;

/// The server's name, in its certificate too.
pub const OPERATOR: &str = "bench";

/// Plans with different rates.
pub const PLANS: [&str; 2] = ["slow", "fast"];

/// What they give, as the configuration has it.
pub const RATES: [&str; 2] = ["100M", "200M"];

/// Homes at a gateway that requests name. Several subscribers share one: a line may carry several
/// sessions, and sealing a location costs as much as opening it.
const HOMES: u32 = 4;

/// Bits of all pools together: 10.0.0.0/8, and as many /56 of 2001:db8::/32.
const ALL_BITS: u32 = 24;

/// How large the operator is.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub gateways: u32,
    /// Binary logarithm of the addresses in a gateway's pool.
    pool_bits: u32,
}

/// A place that a subscriber can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    pub gateway: u32,
    number: u32,
}

impl Layout {
    /// With pools large enough for subscribers that spread unevenly.
    pub fn new(gateways: u32, subscribers: u32) -> Result<Self> {
        ensure!(gateways > 1, "--gateways: moves need at least two");
        let each = (subscribers / gateways + 64) * 4;
        let pool_bits = each.next_power_of_two().trailing_zeros();
        ensure!(
            gateways.next_power_of_two().trailing_zeros() + pool_bits <= ALL_BITS,
            "--gateways, --subscribers: there are not enough addresses for so many"
        );
        Ok(Self {
            gateways,
            pool_bits,
        })
    }

    /// What a gateway is called.
    pub fn name(gateway: u32) -> String {
        format!("gw-{gateway:05}")
    }

    pub fn homes(self) -> impl Iterator<Item = Home> {
        (0..self.gateways * HOMES).map(Home::numbered)
    }

    /// Where the subscriber of this number begins.
    pub fn first_home(self, subscriber: u32) -> Home {
        Home::numbered(subscriber % (self.gateways * HOMES))
    }

    /// A home at another gateway, at random.
    pub fn elsewhere(self, gateway: u32) -> Home {
        let step = rand::random_range(1..self.gateways);
        Home {
            gateway: (gateway + step) % self.gateways,
            number: rand::random_range(0..HOMES),
        }
    }

    /// The server's configuration, without the key `database`.
    pub fn config(self, port: u16, database: Option<&str>) -> String {
        let mut text = format!(
            "operator = \"{OPERATOR}\"\n\
             data_dir = \"data\"\n\
             listen = \"127.0.0.1:{port}\"\n\
             admin_socket = \"admin.sock\"\n\
             default_plan = \"{}\"\n",
            PLANS[0]
        );
        if let Some(url) = database {
            let _ = writeln!(text, "database = \"{url}\"");
        }
        // All terminals share a few connections here, and are refused only when there are several
        // times as many as the server works at best with.
        text.push_str(
            "[limits]\n\
             concurrent_requests = 1024\n\
             streams_per_connection = 16384\n\
             request_timeout_ms = 60000\n\
             watches = 65536\n\
             concurrent_requests_per_source = 65536\n\
             connections_per_source = 20000\n\
             source_rate = { per_minute = 0 }\n\
             registration_rate = { per_minute = 0 }\n\
             subscriber_rate = { per_minute = 0 }\n\
             gateway_message_rate = { per_minute = 0 }\n",
        );
        for (plan, rate) in PLANS.iter().zip(RATES) {
            let _ = write!(
                text,
                "[[plan]]\nname = \"{plan}\"\nupstream = \"{rate}\"\ndownstream = \"{rate}\"\n"
            );
        }
        for gateway in 0..self.gateways {
            let (ipv4, ipv6) = self.pools(gateway);
            let _ = write!(
                text,
                "[[gateway]]\nid = \"{}\"\nlocations = [\"{}\"]\nipv4_pool = \"{ipv4}\"\n\
                 ipv6_pool = \"{ipv6}\"\n",
                Self::name(gateway),
                community(gateway),
            );
        }
        text
    }

    fn pools(self, gateway: u32) -> (String, String) {
        let first = gateway << self.pool_bits;
        let ipv4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) | first);
        let base = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
        let ipv6 = Ipv6Addr::from(base | u128::from(first) << 72);
        (
            format!("{ipv4}/{}", 32 - self.pool_bits),
            format!("{ipv6}/{}", 56 - self.pool_bits),
        )
    }
}

impl Home {
    fn numbered(number: u32) -> Self {
        Self {
            gateway: number / HOMES,
            number: number % HOMES,
        }
    }

    /// Among all homes.
    pub fn index(self) -> usize {
        (self.gateway * HOMES + self.number) as usize
    }

    pub fn location(self) -> Result<LocationId> {
        let text = format!("{}-001-001-{:03}", community(self.gateway), self.number + 1);
        text.parse().with_context(|| text.clone())
    }
}

/// What a gateway serves. A community's name does not end in 0.
fn community(gateway: u32) -> String {
    format!("110103-g{gateway}x")
}

/// Reads a configuration as the server does.
pub fn parse(text: &str, file: &Path) -> Result<doorstep_server::config::Config> {
    Ok(doorstep_server::config::Config::parse(text, file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_takes_the_configuration_and_finds_every_home() {
        let layout = Layout::new(300, 100_000).unwrap();
        let text = layout.config(7443, Some("postgres://bench@localhost/bench"));
        let config = parse(&text, Path::new("/bench/server.toml")).unwrap();
        assert_eq!(config.gateways.len(), 300);
        for (index, home) in layout.homes().enumerate() {
            assert_eq!(home.index(), index);
            let serving = config.gateway_for(&home.location().unwrap()).unwrap();
            assert_eq!(serving.id, Layout::name(home.gateway));
        }
        let capacity = config.gateways[299].ipv4.unwrap().pool.capacity();
        assert!(capacity >= 1_000, "{capacity}");
        for _ in 0..1_000 {
            assert_ne!(layout.elsewhere(299).gateway, 299);
        }
    }

    #[test]
    fn more_than_there_are_addresses_for_is_refused() {
        assert!(Layout::new(1, 10).is_err());
        assert!(Layout::new(4_000, 1_000_000).is_ok());
        assert!(Layout::new(4_000, 10_000_000).is_err());
    }
}
