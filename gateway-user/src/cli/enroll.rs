//! `enroll`: the gateway's certificate for one operator.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::output::{self, Output};
use doorstep_pki::token::Token;
use zeroize::Zeroizing;

use super::json::Enrolled;
use crate::enroll;

/// More than any token.
const MAX_TOKEN_LEN: u64 = 4096;

#[derive(Args)]
pub struct Enroll {
    /// The operator's server
    #[arg(long, value_name = "https://HOST:PORT")]
    server: String,
    /// The token. Others on this host see it in `ps` while this runs: better a file, or
    /// DOORSTEP_ENROLLMENT_TOKEN
    #[arg(
        long,
        value_name = "TOKEN",
        env = "DOORSTEP_ENROLLMENT_TOKEN",
        hide_env_values = true,
        required_unless_present = "token_file"
    )]
    token: Option<String>,
    /// A file with the token; `-` for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Folder for ca.pem and GATEWAY.pem; the daemon must be able to write there, to renew them
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Put them in the place of files that are there
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    dry_run: DryRun,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub async fn enroll(args: Enroll) -> anyhow::Result<()> {
    let text = match (&args.token_file, args.token) {
        (Some(file), _) => read(file)?,
        (None, token) => Zeroizing::new(token.unwrap_or_default()),
    };
    let token = Token::parse(&text)?;
    let (dry_run, replace) = (args.dry_run, args.replace);
    let enrolled = enroll::enroll(&args.server, &token, &args.out, replace, dry_run.into()).await?;
    let files = &enrolled.files;
    let certificate = enrolled.certificate.as_ref();
    let until = certificate.map(|certificate| certificate.validity.until_ms);
    dry_run.tell();
    match args.output {
        Output::Json => output::json(&dry_run.with(Enrolled {
            gateway_id: token.gateway,
            operator: token.operator,
            ca: files.ca.clone(),
            certificate: files.cert.clone(),
            until_unix_ms: until,
        })),
        Output::Table => output::print(&format!(
            "{} is a gateway of {} now. In its configuration:\n\n\
             [operator.server]\n\
             url = \"{}\"\n\
             server_name = \"{}\"\n\
             ca = \"{}\"\n\
             cert = \"{}\"\n",
            token.gateway,
            token.operator,
            files.address.url,
            files.address.server_name,
            files.ca.display(),
            files.cert.display(),
        )),
    }
}

fn read(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let source: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(
            std::fs::File::open(file)
                .with_context(|| format!("cannot read the token file {}", file.display()))?,
        )
    };
    source
        .take(MAX_TOKEN_LEN)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the token from {}", file.display()))?;
    Ok(text)
}
