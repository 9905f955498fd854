//! Who lives where: terminals, their homes, the lines to them, and who serves these.

/// Terminals, each of another subscriber.
pub const TERMINALS: usize = 5;
/// Homes of each, half of them at either gateway.
pub const HOMES: usize = 4;
pub const GATEWAYS: [&str; 2] = ["gw1", "gw2"];
pub const SERVER: &str = "server";
/// Where frames of lines are heard, at either end.
pub const LINES_PORT: u16 = 5000;
/// The interface index of every gateway's access port.
pub const ACCESS: u32 = 7;
const S_VLAN: u16 = 101;
const FIRST_C_VLAN: u16 = 1000;

/// One home of one terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    pub terminal: usize,
    pub number: usize,
}

impl Home {
    pub fn all() -> impl Iterator<Item = Home> {
        (0..TERMINALS).flat_map(|terminal| (0..HOMES).map(move |number| Home { terminal, number }))
    }

    fn gateway(self) -> usize {
        self.number % GATEWAYS.len()
    }

    /// A building of the gateway's, a unit of the terminal's.
    pub fn location(self) -> String {
        let (building, unit, room) = (self.gateway() + 1, self.terminal + 1, self.number + 1);
        format!("110103-xinjingjiayuan-{building:03}-{unit:03}-{room:03}")
    }

    fn c_vlan(self) -> u16 {
        FIRST_C_VLAN + (self.terminal * HOMES + self.number) as u16
    }
}

pub fn terminal_name(terminal: usize) -> String {
    format!("home{}", terminal + 1)
}

/// Whose terminal is at the end of a line.
pub fn terminal_of(c_vlan: u16) -> Option<usize> {
    let terminal = usize::from(c_vlan.checked_sub(FIRST_C_VLAN)?) / HOMES;
    (terminal < TERMINALS).then_some(terminal)
}

/// Of one gateway, as its operator writes it.
pub fn inventory(gateway: &str) -> String {
    let mut text = "location,port,s_vlan,c_vlan\n".to_owned();
    for home in Home::all().filter(|home| GATEWAYS[home.gateway()] == gateway) {
        let (location, c_vlan) = (home.location(), home.c_vlan());
        text.push_str(&format!("{location},access0,{S_VLAN},{c_vlan}\n"));
    }
    text
}

/// The C-VLAN of a location's line.
pub fn line_of(location: &str) -> Option<u16> {
    Home::all()
        .find(|home| home.location() == location)
        .map(Home::c_vlan)
}
