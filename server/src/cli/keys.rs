//! `keys`: works on the files, whether or not a server runs; a key is retired by the server that
//! runs, if one does.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use doorstep_daemon::client::refused;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::{self, Exit};
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::refuse;
use doorstep_location::LocationId;
use doorstep_proto::v1 as pb;
use doorstep_server::config::Config;
use doorstep_server::keys::identity::{KeyFile, State};
use doorstep_server::keys::{self, pki};
use doorstep_server::store::{Database, Needs, Store};
use doorstep_server::vault::KeyId;
use doorstep_server::{engine, serve};

use super::tables::when;
use super::{IdentityAction, KeysAction, client, keys_views};

pub fn keys(action: KeysAction, output: Output) -> Result<()> {
    match action {
        KeysAction::Init { config, dry_run } => init(&config.config, dry_run, output),
        KeysAction::Show { config } => {
            show(&Config::load(&config.config)?, DryRun::default(), output)
        }
        KeysAction::RotateSeal { config, dry_run } => {
            let config = Config::load(&config.config)?;
            keys::rotate_seal(&config, dry_run.into())?;
            show(&config, dry_run, output)
        }
        KeysAction::Gateway {
            name,
            out,
            config,
            dry_run,
        } => gateway(&Config::load(&config.config)?, &name, &out, dry_run, output),
        KeysAction::Identity { action } => identity(action, output),
        KeysAction::Seal {
            location,
            legacy,
            config,
        } => seal(&Config::load(&config.config)?, &location, legacy, output),
    }
}

pub fn init(config: &Path, dry_run: DryRun, output: Output) -> Result<()> {
    let config = Config::load(config)?;
    if dry_run.dry_run {
        keys::check_none(&config)?;
        dry_run.tell();
        let folder = config.keys_dir();
        return match output {
            Output::Json => output::json(&dry_run.with(keys_views::KeysToBe { folder })),
            Output::Table => output::print(&format!("all keys in {}\n", folder.display())),
        };
    }
    keys::init(&config)?;
    show(&config, dry_run, output)
}

/// Of a dry run: the keys as they are, since nobody has those to come.
pub fn show(config: &Config, dry_run: DryRun, output: Output) -> Result<()> {
    let opening = keys::current_opening_key(config)?;
    let sealing = opening.sealing_key();
    let ca = keys::ca_path(config);
    let ca_fingerprint = pki::fingerprint(&keys::ca_pem(config)?)?;
    let (server, server_fingerprint) = keys::server::current(config)?;
    let until_ms = server.validity.until_ms;
    if dry_run.dry_run {
        eprintln!(
            "dry run: nothing was changed; another sealing key would be used instead of this:"
        );
    }
    match output {
        Output::Json => output::json(&dry_run.with(keys_views::Keys {
            sealing_key: sealing.to_string(),
            sealing_key_id: sealing.id().to_string(),
            ca,
            ca_sha256: ca_fingerprint,
            server_sha256: server_fingerprint,
            server_until_unix_ms: until_ms,
            server_names: config.server_names.clone(),
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

pub fn gateway(
    config: &Config,
    name: &str,
    out: &Path,
    dry_run: DryRun,
    output: Output,
) -> Result<()> {
    let files = keys::issue_gateway(config, name, out, dry_run.into())?;
    dry_run.tell();
    match output {
        Output::Json => output::json(&dry_run.with(keys_views::Issued {
            gateway_id: name.to_owned(),
            certificate: files.cert,
            key: files.key,
            ca: files.ca,
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
        IdentityAction::Add { config, dry_run } => {
            let config = Config::load(&config.config)?;
            let made = keys::identity::add(&config, dry_run.into())?;
            if dry_run.dry_run {
                return tell_identity(made.id, made.state, &made.path, output);
            }
            config
        }
        IdentityAction::Use {
            key,
            config,
            dry_run,
        } => {
            let config = Config::load(&config.config)?;
            let key = id(key)?;
            let file = keys::identity::begin_use(&config, key, dry_run.into())?;
            if dry_run.dry_run {
                return tell_identity(key, State::Current, &file, output);
            }
            config
        }
        IdentityAction::Retire {
            key,
            config,
            dry_run,
        } => {
            let config = Config::load(&config.config)?;
            let key = id(key)?;
            let kept = retire(&config, key, dry_run)?;
            if dry_run.dry_run {
                return tell_identity(key, State::Retired, Path::new(&kept), output);
            }
            eprintln!(
                "note: {kept} is kept for backups of the database from before; remove it when there \
                 are none any more"
            );
            config
        }
    };
    show_identity(&config, output)
}

fn id(number: u32) -> Result<KeyId> {
    KeyId::new(number)
        .ok_or_else(|| exit::because(Exit::Usage, "identity keys are numbered from 1"))
}

/// By the server that runs on the configuration's folder, or else here. Where the key is kept.
fn retire(config: &Config, id: KeyId, dry_run: DryRun) -> Result<String> {
    let mut kept = String::new();
    client::block_on(async {
        kept = if serve::is_running(config)? {
            let mut client = client::connect(&config.admin_socket).await?;
            let key = id.number();
            let request = pb::RetireIdentityKeyRequest {
                key,
                dry_run: dry_run.dry_run,
            };
            let answer = client.retire_identity_key(request).await;
            answer.map_err(refused)?.into_inner().file
        } else {
            engine::retire_offline(config, id, dry_run.into())
                .await?
                .display()
                .to_string()
        };
        Ok(())
    })?;
    Ok(kept)
}

/// A key as it would be.
fn tell_identity(id: KeyId, state: State, file: &Path, output: Output) -> Result<()> {
    let dry_run = DryRun { dry_run: true };
    dry_run.tell();
    match output {
        Output::Json => output::json(&dry_run.with(keys_views::IdentityKeyToBe {
            key: id.number(),
            state: state.name(),
            file: file.to_owned(),
        })),
        Output::Table => output::print(&output::table(
            &["KEY", "STATE", "FILE"],
            &[[
                id.to_string(),
                state.name().to_owned(),
                file.display().to_string(),
            ]],
        )),
    }
}

fn show_identity(config: &Config, output: Output) -> Result<()> {
    let listed = keys::identity::list(config)?;
    let needs = needs(config, &listed);
    // None where it is not known, and for the current key.
    let needed = |key: &KeyFile| {
        let known = needs.as_ref().filter(|_| key.state != State::Current);
        known.map(|needs| needs.get(&key.id).copied().unwrap_or_default())
    };
    match output {
        Output::Json => {
            let views: Vec<_> = listed
                .iter()
                .map(|key| {
                    let needed = needed(key);
                    keys_views::IdentityKey {
                        key: key.id.number(),
                        state: key.state.name(),
                        file: key.path.clone(),
                        subscribers: needed.map(|needed| needed.subscribers),
                        sessions: needed.map(|needed| needed.sessions),
                        answers: needed.map(|needed| needed.answers),
                    }
                })
                .collect();
            output::json(&views)
        }
        Output::Table => {
            let rows: Vec<_> = listed
                .iter()
                .map(|key| {
                    let needed = needed(key);
                    let count = |of: fn(&Needs) -> u64| {
                        needed.map_or("-".to_owned(), |needed| of(&needed).to_string())
                    };
                    [
                        key.id.to_string(),
                        key.state.name().to_owned(),
                        count(|needed| needed.subscribers),
                        count(|needed| needed.sessions),
                        count(|needed| needed.answers),
                        key.path.display().to_string(),
                    ]
                })
                .collect();
            output::print(&output::table(
                &["KEY", "STATE", "SUBSCRIBERS", "SESSIONS", "ANSWERS", "FILE"],
                &rows,
            ))
        }
    }
}

/// Rows of the database that need a key, the current one aside; none where the database cannot tell.
fn needs(config: &Config, listed: &[KeyFile]) -> Option<BTreeMap<KeyId, Needs>> {
    let current = listed.iter().find(|key| key.state == State::Current)?.id;
    if let Database::Sqlite(path) = &config.database
        && !path.exists()
    {
        // No server has run yet.
        return Some(BTreeMap::new());
    }
    let mut needs = BTreeMap::new();
    let looked = client::block_on(async {
        needs = Store::look_at_needs(&config.database, current).await?;
        Ok(())
    });
    match looked {
        Ok(()) => Some(needs),
        Err(error) => {
            eprintln!("note: how many rows need which key is not known: {error:#}");
            None
        }
    }
}

fn seal(config: &Config, location: &str, legacy: bool, output: Output) -> Result<()> {
    let location: LocationId = location.parse().map_err(|error| {
        let text = format!("the location id is not valid: {error}");
        exit::because(Exit::Usage, text)
    })?;
    let sealed = if legacy {
        match keys::legacy_key(config)? {
            Some(key) => key.seal(&location),
            None => refuse!(
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
        Output::Json => output::json(&keys_views::Sealed {
            location_id: location.to_string(),
            sealed,
        }),
        Output::Table => output::print(&format!("{sealed}\n")),
    }
}
