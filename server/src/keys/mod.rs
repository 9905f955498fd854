//! The server's keys on disk: `data_dir/keys`, folder 0700, files 0600.

pub mod identity;
pub mod pki;
pub mod rotation;
pub mod server;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use doorstep_daemon::dry_run::Run;
use doorstep_daemon::exit::{self, Exit};
use doorstep_daemon::refuse;
use doorstep_location::sealed::{Keyring, LegacyKey, OpeningKey};
pub use doorstep_pki::files;
use nix::unistd::{Uid, User};
use zeroize::Zeroizing;

use crate::audit::AuditKey;
use crate::config::Config;
use crate::vault::{self, Vault};

/// All authorities that are trusted; the one that signs among them.
const CA_CERT: &str = "ca.pem";
/// Key and certificate of the one that signs.
const CA_KEY: &str = "ca.key";
const AUDIT_KEY: &str = "audit.key";

/// What `run` reads once. Certificates are read again and again, see [`server`].
pub struct Keys {
    pub keyring: Keyring,
    pub vault: Vault,
    pub audit: AuditKey,
}

/// Makes all keys. Refuses to touch a folder that has any.
pub fn init(config: &Config) -> Result<()> {
    check_none(config)?;
    let dir = config.keys_dir();
    files::create_private_dir(&config.data_dir)?;
    files::create_private_dir(&dir)?;
    let authority = pki::Authority::make(&config.operator)?;
    files::write_new(&dir.join(CA_KEY), authority.file().as_bytes())?;
    files::write_new(&dir.join(CA_CERT), authority.cert_pem.as_bytes())?;
    server::issue(config, &authority)?;
    write_secret(&dir.join(AUDIT_KEY))?;
    identity::init(&dir)?;
    add_opening_key(&dir)?;
    files::sync_dir(&dir)
}

/// The daemon could not read what another user has made for it.
fn check_owner(data_dir: &Path) -> Result<()> {
    let Ok(found) = std::fs::metadata(data_dir) else {
        return Ok(());
    };
    let (owner, own) = (Uid::from_raw(found.uid()), Uid::effective());
    // Others know why their folder is another user's, such as on a shared volume.
    if own.is_root() && owner != own {
        let user = User::from_uid(owner).ok().flatten();
        let name = user.map_or_else(|| owner.to_string(), |user| user.name);
        refuse!(
            "{} is {name}'s, and so must be what is in it: run this as {name} \
             (`runuser -u {name} -- doorstep-server …`)",
            data_dir.display()
        );
    }
    Ok(())
}

/// Whether [`init`] may make keys.
pub fn check_none(config: &Config) -> Result<()> {
    check_owner(&config.data_dir)?;
    let dir = config.keys_dir();
    if dir.exists()
        && std::fs::read_dir(&dir)
            .with_context(|| format!("cannot read {}", dir.display()))?
            .next()
            .is_some()
    {
        refuse!(
            "{} holds keys already; they are never overwritten, because seals, gateways and \
             stored numbers depend on them. Move the folder away to begin anew",
            dir.display()
        );
    }
    Ok(())
}

/// Adds an opening key; the newest is the one that `show` gives out.
pub fn rotate_seal(config: &Config, run: Run) -> Result<()> {
    let dir = config.keys_dir();
    let found = dir.join(CA_CERT).try_exists();
    if !found.with_context(|| format!("cannot look into {}", dir.display()))? {
        bail!("{} holds no keys; run `pki init` first", dir.display());
    }
    if run.is_dry() {
        return Ok(());
    }
    add_opening_key(&dir)?;
    files::sync_dir(&dir)
}

fn add_opening_key(dir: &Path) -> Result<PathBuf> {
    let number = opening_key_files(dir)?
        .last()
        .map_or(1, |(number, _)| number + 1);
    let path = dir.join(format!("seal-{number:04}.key"));
    files::write_new(&path, OpeningKey::generate().to_text().as_bytes())?;
    Ok(path)
}

/// Opening keys by number, the oldest first.
fn opening_key_files(dir: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("seal-")?.strip_suffix(".key"))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

fn opening_keys(dir: &Path) -> Result<Vec<OpeningKey>> {
    let mut keys = Vec::new();
    for (_, path) in opening_key_files(dir)? {
        let text = files::read_private(&path)?;
        keys.push(
            OpeningKey::from_text(text.trim())
                .with_context(|| format!("{} is not an opening key", path.display()))?,
        );
    }
    if keys.is_empty() {
        bail!("{} holds no opening key; run `pki init`", dir.display());
    }
    Ok(keys)
}

/// The key that new stickers are sealed to.
pub fn current_opening_key(config: &Config) -> Result<OpeningKey> {
    opening_keys(&existing_dir(config)?)?
        .pop()
        .context("no opening key")
}

/// The passphrase of the legacy form, where the configuration allows it.
pub fn legacy_key(config: &Config) -> Result<Option<LegacyKey>> {
    let Some(path) = &config.legacy_passphrase_file else {
        return Ok(None);
    };
    let text = Zeroizing::new(
        std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the legacy passphrase {}", path.display()))?,
    );
    let passphrase = text.trim_end_matches(['\r', '\n']);
    if passphrase.is_empty() {
        bail!("the legacy passphrase file {} is empty", path.display());
    }
    Ok(Some(LegacyKey::new(passphrase)))
}

pub fn load(config: &Config) -> Result<Keys> {
    let dir = existing_dir(config)?;
    let mut keyring = Keyring::new(opening_keys(&dir)?);
    if let Some(legacy) = legacy_key(config)? {
        keyring = keyring.with_legacy(legacy);
    }
    Ok(Keys {
        keyring,
        vault: identity::vault(&dir)?,
        audit: audit_key(config)?,
    })
}

fn existing_dir(config: &Config) -> Result<PathBuf> {
    let dir = config.keys_dir();
    if !dir.join(CA_CERT).exists() {
        bail!(
            "no keys in {}; make them with `doorstep-server pki init --config FILE`",
            dir.display()
        );
    }
    Ok(dir)
}

/// The key of the audit log. It stays as it is as long as the log is kept.
pub fn audit_key(config: &Config) -> Result<AuditKey> {
    secret_bytes(&existing_dir(config)?.join(AUDIT_KEY)).map(AuditKey::new)
}

/// 32 random bytes, in a file that must not exist yet.
fn write_secret(path: &Path) -> Result<()> {
    let bytes = Zeroizing::new(vault::random::<32>()?);
    files::write_new(path, files::to_hex(bytes.as_slice()).as_bytes())
}

fn secret_bytes(path: &Path) -> Result<Zeroizing<[u8; 32]>> {
    let text = files::read_private(path)?;
    files::from_hex(text.trim())
        .with_context(|| format!("{} is not 64 hexadecimal digits", path.display()))
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

pub fn ca_path(config: &Config) -> PathBuf {
    config.keys_dir().join(CA_CERT)
}

pub fn ca_pem(config: &Config) -> Result<String> {
    read_text(&ca_path(config))
}

/// The authority that signs; none where this server has not got its key.
pub fn authority(config: &Config) -> Result<Option<pki::Authority>> {
    let path = existing_dir(config)?.join(CA_KEY);
    if !path.exists() {
        return Ok(None);
    }
    let file = files::read_private(&path)?;
    pki::Authority::read(&file, &ca_pem(config)?)
        .with_context(|| path.display().to_string())
        .map(Some)
}

/// The same, where there must be one.
pub fn signing_authority(config: &Config) -> Result<pki::Authority> {
    authority(config)?.with_context(|| {
        format!(
            "{} is not here, so this server cannot issue certificates; ask the one that has it",
            config.keys_dir().join(CA_KEY).display()
        )
    })
}

/// Files that a gateway needs to dial this server.
pub struct GatewayFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// Makes a gateway's key and certificate here, into `out`, for a gateway that cannot enroll.
pub fn issue_gateway(config: &Config, name: &str, out: &Path, run: Run) -> Result<GatewayFiles> {
    if !crate::config::is_name(name) {
        let text =
            "a gateway's name is 1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -";
        return Err(exit::because(Exit::Usage, text));
    }
    let authority = signing_authority(config)?;
    let ca_pem = ca_pem(config)?;
    let issued = authority.issue_with_key(name, config.certificates.gateway)?;
    let made = GatewayFiles {
        cert: out.join(format!("{name}.pem")),
        key: out.join(format!("{name}.key")),
        ca: out.join(CA_CERT),
    };
    match std::fs::read_to_string(&made.ca) {
        Ok(present) if present == ca_pem => {}
        Ok(_) => refuse!(
            "{} is another authority's certificate; choose another folder",
            made.ca.display()
        ),
        Err(_) if run.is_dry() => {}
        Err(_) => {
            let uncreated = || format!("cannot create {}", out.display());
            std::fs::create_dir_all(out).with_context(uncreated)?;
            files::write_new(&made.ca, ca_pem.as_bytes())?;
        }
    }
    for file in [&made.key, &made.cert] {
        if file.exists() {
            refuse!("{} is there already; it is not overwritten", file.display());
        }
    }
    if run.is_dry() {
        return Ok(made);
    }
    files::write_new(&made.key, issued.key_pem.as_bytes())?;
    files::write_new(&made.cert, issued.cert_pem.as_bytes())?;
    Ok(made)
}
