//! `pki`: the operator's authority and its gateways' certificates.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};
use doorstep_daemon::client::{self, refused};
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::refuse;
use doorstep_pki::files;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::pki_client::PkiClient;
use doorstep_server::config::Config;
use doorstep_server::keys::{self, rotation};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::client::block_on;
use super::tables::when;
use super::{ConfigFile, Socket, keys_views};

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make all keys; never overwrites any
    Init {
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Make a one-time token that a gateway enrolls with (audited). It is shown only here
    Token {
        gateway: String,
        /// How long it may be used: a number with s, m, h or d; 1 minute to 7 days
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
        expires: u64,
        /// Write it to a new file that only you may read, instead of showing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        socket: Socket,
    },
    /// Which tokens there are; not the tokens themselves
    Tokens {
        #[command(flatten)]
        socket: Socket,
    },
    /// Refuse all certificates that a gateway has got until now, and end its stream (audited).
    /// What it forwards it forwards on; a new token lets it in again
    Revoke {
        gateway: String,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        socket: Socket,
    },
    /// Make a gateway's key and certificate here: NAME.pem, NAME.key and ca.pem.
    /// `token` is better: the key then never leaves the gateway
    Issue {
        name: String,
        /// Folder for the three files
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Put another authority in the place of this one, step by step; both are trusted in between
    RotateCa {
        step: Step,
        /// Although gateways that have not renewed yet would be shut out
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Certificates and fingerprints; no secrets
    Show {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Step {
    /// Make it, and trust it
    Prepare,
    /// Let it sign
    Activate,
    /// Trust the former one no more
    Finish,
}

pub fn pki(action: Action, output: Output) -> Result<()> {
    match action {
        Action::Init { config, dry_run } => super::keys::init(&config.config, dry_run, output),
        Action::Issue {
            name,
            out,
            config,
            dry_run,
        } => super::keys::gateway(&Config::load(&config.config)?, &name, &out, dry_run, output),
        Action::Show { config } => {
            super::keys::show(&Config::load(&config.config)?, DryRun::default(), output)
        }
        Action::RotateCa {
            step,
            force,
            config,
            dry_run,
        } => rotate(&Config::load(&config.config)?, step, force, dry_run, output),
        Action::Token {
            gateway,
            expires,
            out,
            socket,
            dry_run,
        } => {
            let asked = pb::CreateTokenRequest {
                gateway_id: gateway,
                lifetime_s: expires,
                dry_run: dry_run.dry_run,
            };
            block_on(token(&socket.socket, asked, out, output))
        }
        Action::Tokens { socket } => block_on(tokens(&socket.socket, output)),
        Action::Revoke {
            gateway,
            socket,
            dry_run,
        } => block_on(revoke(&socket.socket, gateway, dry_run, output)),
    }
}

async fn connect(socket: &Path) -> Result<PkiClient<Channel>> {
    Ok(PkiClient::new(client::connect(socket, "server").await?))
}

async fn token(
    socket: &Path,
    request: pb::CreateTokenRequest,
    out: Option<PathBuf>,
    output: Output,
) -> Result<()> {
    let gateway_id = request.gateway_id.clone();
    let dry_run = DryRun {
        dry_run: request.dry_run,
    };
    let created = connect(socket).await?.create_token(request).await;
    let created = created.map_err(refused)?.into_inner();
    let token = Zeroizing::new(created.token);
    let expires = created.expires_unix_ms;
    dry_run.tell();
    if let Some(out) = &out
        && dry_run.dry_run
    {
        if out.exists() {
            refuse!("{} is there already; it is not overwritten", out.display());
        }
    } else if let Some(out) = &out {
        files::write_new(out, format!("{}\n", *token).as_bytes())?;
    }
    match (output, out) {
        (Output::Json, out) => output::json(&dry_run.with(keys_views::Token {
            gateway_id,
            token: (out.is_none() && !token.is_empty()).then_some(token.as_str()),
            file: out,
            expires_unix_ms: expires,
        })),
        (Output::Table, None) if dry_run.dry_run => output::print(&format!(
            "a token for {gateway_id}, until {}\n",
            when(expires)
        )),
        (Output::Table, None) => {
            output::print(&format!("{}\n", *token))?;
            eprintln!("good once, until {}", when(expires));
            Ok(())
        }
        (Output::Table, Some(out)) => output::print(&output::fields(&[
            ("token", out.display().to_string()),
            ("good until", when(expires)),
        ])),
    }
}

async fn tokens(socket: &Path, output: Output) -> Result<()> {
    let mut client = connect(socket).await?;
    let answer = client.list_tokens(pb::ListTokensRequest {}).await;
    let tokens = answer.map_err(refused)?.into_inner().tokens;
    match output {
        Output::Json => {
            let rows = tokens.into_iter().map(|row| keys_views::TokenRow {
                gateway_id: row.gateway_id,
                created_unix_ms: row.created_unix_ms,
                expires_unix_ms: row.expires_unix_ms,
                used_unix_ms: (row.used_unix_ms != 0).then_some(row.used_unix_ms),
            });
            output::json(&rows.collect::<Vec<_>>())
        }
        Output::Table => {
            let rows: Vec<_> = tokens
                .into_iter()
                .map(|row| {
                    let used = match row.used_unix_ms {
                        0 => "-".to_owned(),
                        at => when(at),
                    };
                    vec![
                        row.gateway_id,
                        when(row.created_unix_ms),
                        when(row.expires_unix_ms),
                        used,
                    ]
                })
                .collect();
            output::print(&output::table(
                &["GATEWAY", "CREATED", "EXPIRES", "USED"],
                &rows,
            ))
        }
    }
}

async fn revoke(socket: &Path, gateway_id: String, dry_run: DryRun, output: Output) -> Result<()> {
    let request = pb::RevokeGatewayRequest {
        gateway_id: gateway_id.clone(),
        dry_run: dry_run.dry_run,
    };
    let revoked = connect(socket).await?.revoke_gateway(request).await;
    let until = revoked.map_err(refused)?.into_inner().issued_until_unix_ms;
    dry_run.tell();
    match output {
        Output::Json => output::json(&dry_run.with(keys_views::Revoked {
            gateway_id,
            issued_until_unix_ms: until,
        })),
        Output::Table => output::print(&format!(
            "certificates of {gateway_id} issued until {} are refused\n",
            when(until)
        )),
    }
}

fn rotate(config: &Config, step: Step, force: bool, dry_run: DryRun, output: Output) -> Result<()> {
    let step = match step {
        Step::Prepare => rotation::Step::Prepare,
        Step::Activate => rotation::Step::Activate,
        Step::Finish => rotation::Step::Finish,
    };
    let next = rotation::rotate(config, step, force, dry_run.into())?;
    let trusted = keys::pki::pem_blocks(&keys::ca_pem(config)?)
        .map(|pem| keys::pki::fingerprint(&pem))
        .collect::<Result<Vec<_>>>()
        .context("ca.pem")?;
    dry_run.tell();
    match output {
        Output::Json => {
            let trusted_sha256 = trusted;
            output::json(&dry_run.with(keys_views::Rotated {
                trusted_sha256,
                next,
            }))
        }
        Output::Table => {
            let rows: Vec<_> = trusted
                .into_iter()
                .map(|digest| ("trusted SHA-256", digest))
                .collect();
            output::print(&output::fields(&rows))?;
            eprintln!("{next}");
            Ok(())
        }
    }
}

/// Seconds.
fn lifetime(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    parsed
        .filter(|seconds| doorstep_server::enroll::TOKEN_LIFE.contains(seconds))
        .ok_or_else(|| "must be 60s to 7d, like 30m or 2h".to_owned())
}
