//! `upgrade`: other programs in place of those that forward.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use doorstep_daemon::client::refused;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::{self, Exit};
use doorstep_daemon::output::{self, Output, table};
use doorstep_proto::v1;

use super::{json, show};
use crate::admin::attachment;
use crate::config::{Config, DEFAULT_SOCKET};
use crate::daemon;
use crate::dataplane::Object;

#[derive(Args)]
pub struct Upgrade {
    /// Object file with the programs; without it, those that this binary was built with
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
    /// Configuration file: names the daemon's socket, and takes the place of a daemon that does not
    /// run
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Socket of the daemon, unless the configuration names it
    #[arg(
        long,
        value_name = "PATH",
        env = "DOORSTEP_GATEWAY_SOCKET",
        default_value = DEFAULT_SOCKET,
        conflicts_with = "config"
    )]
    socket: PathBuf,
    #[command(flatten)]
    dry_run: DryRun,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub async fn upgrade(args: &Upgrade) -> anyhow::Result<()> {
    let object = match &args.object {
        Some(file) => Object::new(
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        ),
        None => Object::built_in(),
    };
    let programs = match &args.config {
        None => ask(&args.socket, &object, args.dry_run).await?,
        Some(file) => {
            let config = Config::load(file)?;
            if runs(&config.admin_socket) {
                ask(&config.admin_socket, &object, args.dry_run).await?
            } else {
                let run = args.dry_run.into();
                let programs = daemon::upgrade(config, &object, run).await;
                // As the daemon does.
                let refused = |error| exit::because(Exit::Refused, error);
                let programs = programs.map_err(refused)?;
                let programs = programs.iter();
                programs.map(|program| attachment(program, run)).collect()
            }
        }
    };
    args.dry_run.tell();
    match args.output {
        Output::Json => output::json(&args.dry_run.with(json::upgrade(&programs))),
        Output::Table => output::print(&text(&programs)),
    }
}

/// Whether anybody listens. Who cannot be asked for another reason is asked, and the reason told.
fn runs(socket: &Path) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ConnectionRefused | NotFound),
    }
}

async fn ask(
    socket: &Path,
    object: &Object,
    dry_run: DryRun,
) -> anyhow::Result<Vec<v1::GatewayProgram>> {
    let request = v1::GatewayUpgradeRequest {
        object: object.bytes().to_vec(),
        dry_run: dry_run.dry_run,
    };
    let answer = show::connect(socket).await?.upgrade(request).await;
    Ok(answer.map_err(refused)?.into_inner().programs)
}

fn text(programs: &[v1::GatewayProgram]) -> String {
    let rows: Vec<_> = programs
        .iter()
        .map(|program| {
            let id = |id: u32| match id {
                0 => "-".to_owned(),
                id => id.to_string(),
            };
            vec![
                program.port.clone(),
                program.hook.clone(),
                program.program.clone(),
                id(program.before),
                id(program.after),
            ]
        })
        .collect();
    table(&["PORT", "HOOK", "PROGRAM", "ID BEFORE", "ID NOW"], &rows)
}
