//! `keys`: works on the files, whether or not a server runs.

use std::path::Path;

use anyhow::{Context, Result, bail};
use doorstep_daemon::output::{self, Output};
use doorstep_location::LocationId;
use doorstep_server::config::Config;
use doorstep_server::keys::{self, pki};
use doorstep_server::vault::KeyId;
use serde_json::json;

use super::tables::when;
use super::{IdentityAction, KeysAction};

pub fn keys(action: KeysAction, output: Output) -> Result<()> {
    match action {
        KeysAction::Init { config } => init(&config.config, output),
        KeysAction::Show { config } => show(&Config::load(&config.config)?, output),
        KeysAction::RotateSeal { config } => {
            let config = Config::load(&config.config)?;
            keys::rotate_seal(&config)?;
            show(&config, output)
        }
        KeysAction::Gateway { name, out, config } => {
            gateway(&Config::load(&config.config)?, &name, &out, output)
        }
        KeysAction::Identity { action } => identity(action, output),
        KeysAction::Seal {
            location,
            legacy,
            config,
        } => seal(&Config::load(&config.config)?, &location, legacy, output),
    }
}

pub fn init(config: &Path, output: Output) -> Result<()> {
    let config = Config::load(config)?;
    keys::init(&config)?;
    show(&config, output)
}

pub fn show(config: &Config, output: Output) -> Result<()> {
    let opening = keys::current_opening_key(config)?;
    let sealing = opening.sealing_key();
    let ca = keys::ca_path(config);
    let ca_fingerprint = pki::fingerprint(&keys::ca_pem(config)?)?;
    let (server, server_fingerprint) = keys::server::current(config)?;
    let until_ms = server.validity.until_ms;
    match output {
        Output::Json => output::json(&json!({
            "sealing_key": sealing.to_string(),
            "sealing_key_id": sealing.id().to_string(),
            "ca": ca,
            "ca_sha256": ca_fingerprint,
            "server_sha256": server_fingerprint,
            "server_until_unix_ms": until_ms,
            "server_names": config.server_names,
        })),
        Output::Table => output::print(&output::fields(&[
            ("sealing key", sealing.to_string()),
            ("sealing key id", sealing.id().to_string()),
            ("CA certificate", ca.display().to_string()),
            ("CA SHA-256", ca_fingerprint),
            ("server SHA-256", server_fingerprint),
            ("server until", when(until_ms)),
            ("server names", config.server_names.join(", ")),
        ])),
    }
}

pub fn gateway(config: &Config, name: &str, out: &Path, output: Output) -> Result<()> {
    let files = keys::issue_gateway(config, name, out)?;
    match output {
        Output::Json => output::json(&json!({
            "gateway_id": name,
            "certificate": files.cert,
            "key": files.key,
            "ca": files.ca,
        })),
        Output::Table => {
            output::print(&output::fields(&[
                ("certificate", files.cert.display().to_string()),
                ("key", files.key.display().to_string()),
                ("CA certificate", files.ca.display().to_string()),
            ]))?;
            if config.gateway(name).is_none() {
                eprintln!(
                    "note: {name} is not in the configuration yet; the server refuses it until it is"
                );
            }
            Ok(())
        }
    }
}

fn identity(action: IdentityAction, output: Output) -> Result<()> {
    let config = match action {
        IdentityAction::List { config } => Config::load(&config.config)?,
        IdentityAction::Add { config } => {
            let config = Config::load(&config.config)?;
            keys::identity::add(&config)?;
            config
        }
        IdentityAction::Use { key, config } => {
            let config = Config::load(&config.config)?;
            let id = KeyId::new(key).context("identity keys are numbered from 1")?;
            keys::identity::begin_use(&config, id)?;
            config
        }
    };
    let listed = keys::identity::list(&config)?;
    match output {
        Output::Json => {
            let views: Vec<_> = listed
                .into_iter()
                .map(|key| {
                    json!({
                        "key": key.id.number(),
                        "state": key.state.name(),
                        "file": key.path,
                    })
                })
                .collect();
            output::json(&views)
        }
        Output::Table => {
            let rows: Vec<_> = listed
                .into_iter()
                .map(|key| {
                    [
                        key.id.to_string(),
                        key.state.name().to_owned(),
                        key.path.display().to_string(),
                    ]
                })
                .collect();
            output::print(&output::table(&["KEY", "STATE", "FILE"], &rows))
        }
    }
}

fn seal(config: &Config, location: &str, legacy: bool, output: Output) -> Result<()> {
    let location: LocationId = location.parse().context("the location id is not valid")?;
    let sealed = if legacy {
        match keys::legacy_key(config)? {
            Some(key) => key.seal(&location),
            None => bail!(
                "the legacy form is off; [legacy_seal] in the configuration turns it on \
                 (it neither hides nor protects the location: prefer the default form)"
            ),
        }
    } else {
        keys::current_opening_key(config)?
            .sealing_key()
            .seal(&location)
            .context("cannot seal the location id")?
    };
    match output {
        Output::Json => output::json(&json!({
            "location_id": location,
            "sealed": sealed,
        })),
        Output::Table => output::print(&format!("{sealed}\n")),
    }
}
