//! An operator and its server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::addresses::{self, Pool, WORLD_V4};
use super::{Plan, binary};
use crate::lab::daemon::Daemon;
use crate::lab::netns::{Netns, run};

const NAMES: [&str; 2] = ["north-net", "south-net"];

/// An operator: a server of its own, which serves at every gateway.
pub struct Operator {
    pub name: &'static str,
    pub server: Daemon,
    pub config: PathBuf,
    socket: PathBuf,
    /// Of the server.
    url: String,
}

impl Operator {
    /// Makes the keys and starts the server.
    pub(super) fn new(dir: &Path, number: usize, plan: Plan, srv: &Netns) -> Result<Self> {
        let name = NAMES[number];
        srv.ip(&format!(
            "addr add {}/24 dev mgmt",
            addresses::server(number)
        ))?;
        let config = write_config(dir, number, plan)?;
        run(binary("doorstep-server")?
            .args(["pki", "init", "--config"])
            .arg(&config))?;
        let socket = config.with_extension("sock");
        let server = Daemon::start("doorstep-server", srv, &config, &socket)?;
        Ok(Self {
            name,
            server,
            config,
            socket,
            url: format!("https://{}:7443", addresses::server(number)),
        })
    }

    /// Starts the server again.
    pub(super) fn restart(&mut self, srv: &Netns) -> Result<()> {
        self.server = Daemon::start("doorstep-server", srv, &self.config, &self.socket)?;
        Ok(())
    }

    /// The sealed form of a location id, as on the sticker at a door.
    pub fn seal(&self, location: &str) -> Result<String> {
        let mut command = binary("doorstep-server")?;
        command
            .args(["keys", "seal", location, "--config"])
            .arg(&self.config);
        Ok(run(&mut command)?.trim().to_owned())
    }

    /// Lets a gateway enroll, from its own host: a token, then a key and a certificate.
    pub fn enroll(&self, gateway: &str, host: &Netns, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let token = folder.join("token");
        let mut command = binary("doorstep-server")?;
        command
            .args(["pki", "token", gateway, "--socket"])
            .arg(&self.socket);
        run(command.arg("--out").arg(&token))?;
        let program = binary("doorstep-gateway")?;
        let mut command = host.command(program.get_program())?;
        command.args(["enroll", "--server", &self.url, "--token-file"]);
        run(command.arg(&token).arg("--out").arg(folder))?;
        Ok(std::fs::remove_file(token)?)
    }

    /// Makes a gateway's key and certificate here, in a folder.
    pub fn issue(&self, gateway: &str, folder: &Path) -> Result<()> {
        let mut command = binary("doorstep-server")?;
        command
            .args(["pki", "issue", gateway, "--config"])
            .arg(&self.config);
        run(command.arg("--out").arg(folder)).map(drop)
    }
}

fn write_config(dir: &Path, number: usize, plan: Plan) -> Result<PathBuf> {
    let (name, address) = (NAMES[number], addresses::server(number));
    let mut text = format!(
        "operator = \"{name}\"\n\
         data_dir = \"server{number}\"\n\
         listen = \"{address}:7443\"\n\
         admin_socket = \"server{number}.sock\"\n\
         server_names = [\"{name}\", \"{address}\"]\n"
    );
    if plan.time_to_live_s > 0 {
        text.push_str("default_plan = \"street\"\n");
    }
    if plan.choice {
        text.push_str("\n[limits]\nsubscriber_rate = { per_minute = 0 }\n");
    }
    text.push_str(plan.traces());
    for gateway in 0..plan.gateways {
        let Pool {
            v4_given,
            gateway: own,
            v6,
            lines,
            ..
        } = addresses::pool(number, gateway);
        write!(
            text,
            "\n[[gateway]]\n\
             id = \"gw{}\"\n\
             locations = [\"{}\"]\n\
             ipv4_pool = \"{v4_given}\"\n\
             ipv4_gateway = \"{own}\"\n\
             ipv6_pool = \"{v6}\"\n\
             delegated_prefix_len = 56\n\
             dns = [\"{WORLD_V4}\"]\n",
            gateway + 1,
            addresses::building_prefix(gateway)
        )?;
        if plan.line_prefixes {
            writeln!(text, "ipv6_line_pool = \"{lines}\"")?;
        }
    }
    if plan.time_to_live_s > 0 {
        write!(
            text,
            "\n[[plan]]\nname = \"street\"\ntime_to_live_s = {}\n",
            plan.time_to_live_s
        )?;
    }
    let file = dir.join(format!("server{number}.toml"));
    std::fs::write(&file, text)?;
    Ok(file)
}
