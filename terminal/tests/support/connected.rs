//! A home with one operator.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::has_nft;
use super::home::Terminal;
use super::operator::{Granted, Operator, serve};

/// A home with two rooms, whose operator takes some time to answer.
pub async fn connected_home(
    folder: &Path,
    delay: Duration,
) -> (Terminal, mpsc::UnboundedReceiver<Granted>) {
    let (operator, grants) = Operator::new(delay);
    let url = serve(operator, folder).await;
    let config = format!(
        "state_dir = \"state\"\nadmin_socket = \"run/admin.sock\"\n\
         [server]\nurl = \"{url}\"\nca = \"ca.pem\"\nserver_name = \"north-net\"\n\
         [wan]\nports = [\"wan0\"]\n\
         [home]\nroom_ports = [\"room0\", \"room1\"]\nipv4 = \"192.168.77.1/24\"\n\
         masquerade = {}\nresolver_file = \"resolv.conf\"\n",
        has_nft()
    );
    std::fs::write(folder.join("terminal.toml"), config).unwrap();
    let folder = folder.to_owned();
    (Terminal { folder }, grants)
}
