//! The connection of a command to the daemon.

use std::error::Error;
use std::path::Path;

use anyhow::Context as _;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::exit::{self, Exit};

/// Connects to the daemon at `socket`; `daemon` is what errors call it, such as "server".
pub async fn connect(socket: &Path, daemon: &str) -> anyhow::Result<Channel> {
    let socket = std::path::absolute(socket)
        .with_context(|| format!("cannot find out where {} is", socket.display()))?;
    let text = socket
        .to_str()
        .with_context(|| format!("socket path {} is not UTF-8", socket.display()))?;
    Endpoint::from_shared(format!("unix://{text}"))
        .with_context(|| format!("socket path {text} cannot be used"))?
        .connect()
        .await
        .map_err(|error| {
            let text = format!(
                "cannot reach the {daemon} at {text}: {}; is it running \
                 (`systemctl status doorstep-{daemon}`), and are you its user? --socket names another socket",
                root_cause(&error)
            );
            exit::because(Exit::Unreachable, text)
        })
}

/// What the system said; the transport's own words around it say nothing.
fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

/// The daemon's own words, without the framing of the protocol; and the exit code for it.
#[must_use]
pub fn refused(status: Status) -> anyhow::Error {
    let exit = Exit::from(&status);
    match status.message() {
        "" => exit::because(exit, format_args!("the daemon: {}", status.code())),
        text => exit::because(exit, text),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use doorstep_proto::v1::TerminalStatusRequest;
    use doorstep_proto::v1::terminal_admin_client::TerminalAdminClient;
    use tokio_util::sync::CancellationToken;
    use tonic::service::Routes;
    use tonic::transport::Server;

    use super::*;
    use crate::socket::AdminSocket;

    #[tokio::test]
    async fn a_call_goes_through() {
        let folder = tempfile::tempdir().unwrap();
        // Neither a space nor a percent sign is special in a path.
        let path = folder.path().join("the 100%25 socket");
        let stop = CancellationToken::new();
        let socket = AdminSocket::bind(&path).unwrap();
        let router = Server::builder().add_routes(Routes::default());
        let serving = tokio::spawn(socket.serve(router, stop.clone()));
        let channel = connect(&path, "terminal").await.unwrap();
        let answer = TerminalAdminClient::new(channel)
            .status(TerminalStatusRequest {})
            .await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unimplemented, "{status}");
        stop.cancel();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_absent_daemon_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.sock");
        let stale = folder.path().join("stale.sock");
        drop(UnixListener::bind(&stale).unwrap());
        for (path, cause) in [
            (&missing, "No such file or directory"),
            (&stale, "Connection refused"),
        ] {
            let error = connect(path, "server").await.unwrap_err();
            assert_eq!(exit::of(&error), Exit::Unreachable);
            let error = error.to_string();
            let expected = format!("cannot reach the server at {}: {cause}", path.display());
            assert!(error.starts_with(&expected), "{error}");
            assert!(error.contains("--socket"), "{error}");
        }
    }

    #[test]
    fn answers_are_passed_on() {
        for (status, text, exit) in [
            (
                Status::not_found("there is no such session"),
                "there is no such session",
                Exit::NotFound,
            ),
            (
                Status::unavailable(""),
                "the daemon: The service is currently unavailable",
                Exit::NotNow,
            ),
        ] {
            let error = refused(status);
            assert_eq!(error.to_string(), text);
            assert_eq!(exit::of(&error), exit);
        }
    }
}
