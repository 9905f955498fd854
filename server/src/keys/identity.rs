//! The identity keys on disk: one file each, whose name tells the key's number and state.
//!
//! | file | the key |
//! |---|---|
//! | `identity-0003.next` | opens and indexes; will seal once it is used |
//! | `identity-0002.key` | opens and indexes; the highest number of these seals |
//! | `identity-0001.retired` | is not read: kept for backups of the database, until someone removes it |
//!
//! States change by renaming, so a key is never half written and never lost. Why in this order, see
//! [`crate::vault::rotation`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use doorstep_daemon::dry_run::Run;
use doorstep_daemon::refuse;

use super::{existing_dir, files, secret_bytes, write_secret};
use crate::config::Config;
use crate::store::Needs;
use crate::vault::{IdentityKey, KeyId, Vault};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Opens and indexes.
    Next,
    /// Seals, opens and indexes.
    Current,
    /// Opens and indexes what was sealed with it.
    Old,
    /// Is not read.
    Retired,
}

impl State {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Next => "next",
            State::Current => "current",
            State::Old => "old",
            State::Retired => "retired",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    pub id: KeyId,
    pub state: State,
    pub path: PathBuf,
}

fn path(dir: &Path, id: KeyId, extension: &str) -> PathBuf {
    dir.join(format!("identity-{id}.{extension}"))
}

pub(super) fn init(dir: &Path) -> Result<()> {
    write_secret(&path(dir, KeyId::new(1).context("no first key")?, "key"))
}

/// All of them, the newest first.
pub fn list(config: &Config) -> Result<Vec<KeyFile>> {
    files_in(&existing_dir(config)?)
}

fn files_in(dir: &Path) -> Result<Vec<KeyFile>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let parts = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("identity-")?.split_once('.'));
        let Some((number, extension)) = parts else {
            continue;
        };
        let state = match extension {
            "next" => State::Next,
            "key" => State::Old,
            "retired" => State::Retired,
            _ => continue,
        };
        let id =
            number.parse().ok().and_then(KeyId::new).with_context(|| {
                format!("{}: {number} is not the number of a key", path.display())
            })?;
        found.push(KeyFile { id, state, path });
    }
    found.sort_by_key(|key| std::cmp::Reverse(key.id));
    if let Some(current) = found.iter_mut().find(|key| key.state == State::Old) {
        current.state = State::Current;
    }
    for pair in found.windows(2) {
        if pair[0].id == pair[1].id {
            bail!(
                "{} and {} are of the same key; which one it is, only you can tell: move the other away",
                pair[0].path.display(),
                pair[1].path.display()
            );
        }
    }
    Ok(found)
}

/// Those of a list that are read, in the order in which a vault has them.
pub fn in_use(listed: &[KeyFile]) -> impl Iterator<Item = KeyId> {
    let current = listed.iter().filter(|key| key.state == State::Current);
    let others = listed
        .iter()
        .filter(|key| matches!(key.state, State::Next | State::Old));
    current.chain(others).map(|key| key.id)
}

/// The keys that are not retired, read anew.
pub fn load(config: &Config) -> Result<Vault> {
    vault(&existing_dir(config)?)
}

/// All keys that are not retired.
pub(super) fn vault(dir: &Path) -> Result<Vault> {
    let mut current = None;
    let mut others = Vec::new();
    for file in files_in(dir)? {
        if file.state == State::Retired {
            continue;
        }
        let key = IdentityKey::new(file.id, &secret_bytes(&file.path)?);
        if file.state == State::Current {
            current = Some(key);
        } else {
            others.push(key);
        }
    }
    let current = current.with_context(|| {
        format!(
            "{} holds no identity key (identity-NNNN.key); restore it from a backup: without it \
             nobody's number can be read",
            dir.display()
        )
    })?;
    Ok(Vault::new(current, others)?)
}

/// Makes a new key. It seals nothing until [`begin_use`].
pub fn add(config: &Config, run: Run) -> Result<KeyFile> {
    let dir = existing_dir(config)?;
    let present = files_in(&dir)?;
    if let Some(next) = present.iter().find(|key| key.state == State::Next) {
        refuse!(
            "identity key {} was added already and is not in use yet: `keys identity use {}`",
            next.id,
            next.id.number()
        );
    }
    // Numbers of retired keys are never given again: values in backups name them.
    let id = match present.first() {
        Some(newest) => newest.id.next().context("there are no more numbers")?,
        None => bail!("{} holds no identity key", dir.display()),
    };
    let path = path(&dir, id, "next");
    if !run.is_dry() {
        write_secret(&path)?;
        files::sync_dir(&dir)?;
    }
    Ok(KeyFile {
        id,
        state: State::Next,
        path,
    })
}

/// Has a key that was added seal from now on: a running server takes it up within seconds. Where its file is.
pub fn begin_use(config: &Config, id: KeyId, run: Run) -> Result<PathBuf> {
    let dir = existing_dir(config)?;
    let file = find(&dir, id)?;
    if file.state != State::Next {
        refuse!("identity key {id} is {} already", file.state.name());
    }
    // What cannot be read must not become the key that seals.
    secret_bytes(&file.path)?;
    let to = path(&dir, id, "key");
    if !run.is_dry() {
        rename(&dir, &file.path, &to)?;
    }
    Ok(to)
}

/// Whether a key may be retired as far as the files tell; the current key.
pub fn check_old(config: &Config, id: KeyId) -> Result<KeyId> {
    let dir = existing_dir(config)?;
    let listed = files_in(&dir)?;
    match find(&dir, id)?.state {
        State::Old => {}
        State::Current => refuse!(
            "identity key {id} seals; `keys identity add` and `use` another one before this one is \
             retired"
        ),
        State::Next => refuse!("identity key {id} is not in use yet; there is nothing to retire"),
        State::Retired => refuse!("identity key {id} is retired already"),
    }
    let current = listed.iter().find(|key| key.state == State::Current);
    Ok(current.context("no identity key seals")?.id)
}

/// Takes an old key out of use; where its file is kept. `needs`: rows in the database that are still
/// of this key; only with none it is safe.
pub fn retire(config: &Config, id: KeyId, needs: Needs, run: Run) -> Result<PathBuf> {
    check_old(config, id)?;
    let dir = existing_dir(config)?;
    if needs.total() > 0 {
        refuse!(
            "{needs} still need identity key {id}. A running server renews them by and by: start one \
             if none runs, and ask again when `keys identity list` shows none"
        );
    }
    let file = find(&dir, id)?;
    let to = path(&dir, id, "retired");
    if !run.is_dry() {
        rename(&dir, &file.path, &to)?;
    }
    Ok(to)
}

/// Makes a key that was retired one that is read again.
pub fn put_back(config: &Config, id: KeyId) -> Result<()> {
    let dir = existing_dir(config)?;
    rename(&dir, &path(&dir, id, "retired"), &path(&dir, id, "key"))
}

fn find(dir: &Path, id: KeyId) -> Result<KeyFile> {
    files_in(dir)?
        .into_iter()
        .find(|key| key.id == id)
        .with_context(|| {
            format!(
                "{} holds no identity key {id}; `keys identity list` shows them",
                dir.display()
            )
        })
}

fn rename(dir: &Path, from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to)
        .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
    files::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::vault::{Purpose, Rotation};

    const CONFIG: &str = r#"
operator = "north-net"
data_dir = "data"
[[gateway]]
id = "gw1"
locations = ["110103"]
ipv4_pool = "198.51.100.0/29"
"#;

    #[test]
    fn keys_are_added_used_and_retired_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::parse(CONFIG, &dir.path().join("server.toml")).unwrap();
        super::super::init(&config).unwrap();
        let states = || -> Vec<(u32, &str)> {
            let listed = list(&config).unwrap();
            listed
                .iter()
                .map(|key| (key.id.number(), key.state.name()))
                .collect()
        };
        let open = || vault(&config.keys_dir()).unwrap();
        let id = |number| KeyId::new(number).unwrap();
        let error = |result: Result<()>| format!("{:#}", result.unwrap_err());
        let owner = Uuid::from_u128(1);
        assert_eq!(states(), [(1, "current")]);
        let first = open().number(Purpose::Phone, owner, "12345").unwrap();

        add(&config, Run::Real).unwrap();
        assert_eq!(states(), [(2, "next"), (1, "current")]);
        assert_eq!(open().current_id(), id(1), "it does not seal yet");
        assert_eq!(open().indexes(Purpose::Phone, "1").len(), 2);
        assert!(error(add(&config, Run::Real).map(drop)).contains("use 2"));
        assert!(
            error(begin_use(&config, id(3), Run::Real).map(drop))
                .contains("holds no identity key 0003")
        );
        assert!(error(begin_use(&config, id(1), Run::Real).map(drop)).contains("current already"));

        begin_use(&config, id(2), Run::Real).unwrap();
        assert_eq!(states(), [(2, "current"), (1, "old")]);
        let both = open();
        assert_eq!(both.current_id(), id(2));
        let renewed = Rotation::new(&both)
            .number(Purpose::Phone, owner, &first)
            .unwrap()
            .unwrap();

        assert_eq!(
            in_use(&list(&config).unwrap()).collect::<Vec<_>>(),
            [id(2), id(1)]
        );
        let needs = Needs {
            subscribers: 3,
            ..Needs::default()
        };
        assert!(
            error(retire(&config, id(1), needs, Run::Real).map(drop)).contains("3 subscribers")
        );
        let none = Needs::default();
        assert!(error(retire(&config, id(2), none, Run::Real).map(drop)).contains("0002 seals"));
        retire(&config, id(1), none, Run::Real).unwrap();
        assert!(
            error(retire(&config, id(1), none, Run::Real).map(drop)).contains("retired already")
        );
        put_back(&config, id(1)).unwrap();
        assert_eq!(states(), [(2, "current"), (1, "old")]);
        let kept = retire(&config, id(1), none, Run::Real).unwrap();
        assert!(kept.exists(), "a backup may need it");
        assert_eq!(states(), [(2, "current"), (1, "retired")]);
        let opened = open().open(Purpose::Phone, owner, &renewed.number.sealed);
        assert_eq!(opened.unwrap().as_slice(), b"12345");
        let told = open()
            .open(Purpose::Phone, owner, &first.sealed)
            .unwrap_err()
            .to_string();
        assert!(told.contains("identity-0001.retired"), "{told}");

        std::fs::remove_file(kept).unwrap();
        add(&config, Run::Real).unwrap();
        assert_eq!(states(), [(3, "next"), (2, "current")]);
        std::fs::remove_file(path(&config.keys_dir(), id(2), "key")).unwrap();
        let told = error(vault(&config.keys_dir()).map(drop));
        assert!(told.contains("holds no identity key"), "{told}");
    }
}
