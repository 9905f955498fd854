//! Another authority in three steps, with both trusted in between, so that nothing breaks.
//!
//! `prepare` makes it and adds it to those that are trusted; gateways get the list with their next
//! certificates. `activate` lets it sign. `finish` ends the trust in the former one. Each step is
//! one file put in place of another, and may be repeated.

use std::time::Duration;

use anyhow::{Context, Result};
use doorstep_daemon::dry_run::Run;
use doorstep_daemon::refuse;
use doorstep_pki::certificate::Certificate;
use doorstep_pki::files;

use super::pki::{self, Authority};
use super::{CA_CERT, CA_KEY, ca_pem, existing_dir, server, signing_authority};
use crate::config::Config;
use crate::engine::now_ms;

const NEXT: &str = "ca-next.key";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Prepare,
    Activate,
    Finish,
}

/// Carries a step out; the text says what to do next. Refuses a step that would shut out gateways
/// that have not renewed since the last one, unless forced.
pub fn rotate(config: &Config, step: Step, force: bool, run: Run) -> Result<&'static str> {
    let dir = existing_dir(config)?;
    let next = dir.join(NEXT);
    match step {
        Step::Prepare => {
            signing_authority(config)?;
            let authority = if next.exists() {
                read_next(config)?
            } else {
                let made = Authority::make(&config.operator)?;
                if !run.is_dry() {
                    files::write_new(&next, made.file().as_bytes())?;
                }
                made
            };
            let mut trusted = ca_pem(config)?;
            if !run.is_dry()
                && !pki::pem_blocks(&trusted).any(|block| block.trim() == authority.cert_pem.trim())
            {
                if !trusted.ends_with('\n') {
                    trusted.push('\n');
                }
                trusted.push_str(&authority.cert_pem);
                files::replace(&dir.join(CA_CERT), trusted.as_bytes(), 0o600)?;
            }
            Ok(
                "give the new ca.pem to the terminals; gateways get it with their next certificates. \
                 Then `pki rotate-ca activate`",
            )
        }
        Step::Activate => {
            if !next.exists() {
                refuse!("there is no authority that waits; begin with `pki rotate-ca prepare`");
            }
            let authority = read_next(config)?;
            let made = Certificate::from_pem(authority.cert_pem.as_bytes())?.issued_ms;
            wait(config, made, force, "the new authority was made")?;
            if !run.is_dry() {
                std::fs::rename(&next, dir.join(CA_KEY))
                    .with_context(|| format!("cannot put {} in place", next.display()))?;
                files::sync_dir(&dir)?;
                server::issue(config, &signing_authority(config)?)?;
            }
            Ok(
                "certificates are signed by the new authority from now on; `pki rotate-ca finish` \
                 when all gateways have renewed theirs",
            )
        }
        Step::Finish => {
            if next.exists() {
                refuse!(
                    "the new authority does not sign yet; `pki rotate-ca activate` comes before this"
                );
            }
            let authority = signing_authority(config)?;
            if pki::pem_blocks(&ca_pem(config)?).count() == 1 {
                return Ok("only one authority is trusted; there is nothing to do");
            }
            let since = server::current(config)?.0.issued_ms;
            wait(config, since, force, "the new authority began to sign")?;
            if !run.is_dry() {
                files::replace(&dir.join(CA_CERT), authority.cert_pem.as_bytes(), 0o600)?;
            }
            Ok("only the new authority is trusted from now on")
        }
    }
}

fn read_next(config: &Config) -> Result<Authority> {
    let path = config.keys_dir().join(NEXT);
    Authority::read(&files::read_private(&path)?, "").with_context(|| path.display().to_string())
}

/// Gateways have all renewed once a certificate's life has passed.
fn wait(config: &Config, since_ms: i64, force: bool, what: &str) -> Result<()> {
    let life = config.certificates.gateway;
    let passed = Duration::from_millis(u64::try_from(now_ms() - since_ms).unwrap_or(0));
    if force || passed >= life {
        return Ok(());
    }
    refuse!(
        "{what} {} h ago, and gateways renew only within {} h: those that have not would be shut \
         out. Wait, or use --force",
        passed.as_secs() / 3600,
        life.as_secs().div_ceil(3600)
    )
}
