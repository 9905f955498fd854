//! A home that has a session.

use std::time::Duration;

use doorstep_establish::Mac;
use tokio::sync::mpsc;

use super::home::{Gateway, Terminal};
use super::operator::Granted;

/// Registers and connects through a gateway, `gw-1` with 100.64.1.10 and 2001:db8:10::/56, whose end
/// of the line is returned.
pub async fn go_online(
    terminal: &Terminal,
    grants: &mut mpsc::UnboundedReceiver<Granted>,
) -> Gateway {
    let (code, _, error) = terminal.client("register --phone 13800000000").await;
    assert_eq!(code, 0, "{error}");
    let gateway = Gateway::new("gw-1", Mac([2, 0, 0, 0, 1, 1]));
    let establish = async {
        let grant = grants.recv().await.unwrap();
        gateway.establish(grant, 10).await;
    };
    let asked = tokio::time::timeout(
        Duration::from_secs(60),
        futures::future::join(terminal.client("request --sealed d1.x"), establish),
    );
    let (result, ()) = asked.await.expect("no session comes");
    assert_eq!(result.0, 0, "{}", result.2);
    gateway
}
