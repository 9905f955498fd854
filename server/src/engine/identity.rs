//! Identity keys at work: numbers under all of them, rows brought from older ones to the current
//! one, and the end of a key. Why in this order, see [`crate::vault::rotation`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use doorstep_daemon::blocking;
use doorstep_daemon::dry_run::Run;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Engine, EngineError, Result, now_ms};
use crate::config::Config;
use crate::identity::{IdCard, Phone};
use crate::keys;
use crate::keys::identity::State;
use crate::session::{SealedSecret, Session};
use crate::store::{
    Answer, Kind, Needs, NewSubscriber, Renewal, SessionRow, Store, StoreError, Subscriber, Who,
};
use crate::vault::{KeyId, Number, Purpose, Renewed, Rotation, Secret, Vault, VaultError};

/// Audit action: no row needs a key any more. Once for each key.
const AUDIT_RENEWED: &str = "identity-rows-renewed";
/// Audit action: a key is not read any more.
const AUDIT_RETIRED: &str = "retire-identity-key";
/// Audit action: a number was found to be two subscribers'.
const AUDIT_TWICE: &str = "number-registered-twice";

/// Rows renewed together; they share transactions with whatever else comes.
const PAGE: i64 = 64;
/// Claims of a retired key that are removed together.
const CLAIMS: i64 = 256;
/// Rest after a page, in times that the page took: the walk takes a quarter of the time at most,
/// and less of it the more there is to do besides.
const REST: f64 = 3.0;
const LEAST_REST: Duration = Duration::from_millis(5);
/// Until rows are looked for again once none was found. Another server may still seal with an older
/// key for a while, so it grows from the one to the other.
const SOON: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(3600);

/// An identity key as this server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityKey {
    pub id: KeyId,
    pub state: State,
    /// Rows that cannot be read without it; not counted for the current key.
    pub needs: Option<Needs>,
}

/// What became of the rows of a page, or of a walk.
#[derive(Debug, Default)]
struct Tally {
    renewed: u64,
    /// By something else, meanwhile.
    changed: u64,
    /// Left as they are.
    broken: u64,
    why: Option<EngineError>,
}

impl Tally {
    fn count(&mut self, renewal: Result<Renewal>) -> Result<()> {
        match renewal {
            Ok(Renewal::Done | Renewal::Twice) => self.renewed += 1,
            Ok(Renewal::Changed) => self.changed += 1,
            Err(error @ (EngineError::Vault(_) | EngineError::Interrupted(_))) => {
                self.broken += 1;
                self.why = Some(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// One of the three kinds of rows, as it was read.
enum Due {
    Subscriber(Subscriber),
    Session(Box<SessionRow>),
    Answer((Uuid, Uuid), Answer),
}

impl Due {
    /// By which rows of its kind are walked over.
    fn id(&self) -> Uuid {
        match self {
            Due::Subscriber(row) => row.id,
            Due::Session(row) => row.session.id,
            Due::Answer((_, request), _) => *request,
        }
    }
}

impl Engine {
    pub(super) fn vault(&self) -> Arc<Vault> {
        let vault = self.vault.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&vault)
    }

    /// A subscriber who is new, with numbers claimed under every identity key, and the secret that
    /// the row holds the hash of.
    pub(super) fn new_subscriber(
        &self,
        phone: Option<&Phone>,
        id_card: Option<&IdCard>,
    ) -> Result<(NewSubscriber, Secret)> {
        let id = Uuid::new_v4();
        let secret = Secret::generate()?;
        let vault = self.vault();
        let mut claims = Vec::new();
        let mut sealed = |purpose, value: &str| -> Result<_> {
            claims.extend(vault.indexes(purpose, value));
            let number = vault.number(purpose, id, value)?;
            Ok((number.index, number.sealed))
        };
        let new = NewSubscriber {
            id,
            phone: phone
                .map(|phone| sealed(Purpose::Phone, phone.as_str()))
                .transpose()?,
            id_card: id_card
                .map(|card| sealed(Purpose::IdCard, card.as_str()))
                .transpose()?,
            claims,
            secret_hash: secret.hash(),
        };
        Ok((new, secret))
    }

    /// Whose a phone number is.
    pub async fn subscriber_by_phone(&self, phone: &Phone) -> Result<Option<Uuid>> {
        let claims = self.vault().indexes(Purpose::Phone, phone.as_str());
        let owners = self.store.owners(claims.iter().map(Vec::as_slice)).await?;
        Ok(claims.iter().find_map(|claim| owners.get(claim)).copied())
    }

    /// Takes up what has changed in the files of the identity keys; whether anything has. Files that
    /// do not work leave everything as it is. Blocks on the disk.
    pub fn refresh_identity_keys(&self) -> anyhow::Result<bool> {
        let former = self.vault();
        let listed = keys::identity::list(&self.config)?;
        if let Some(gone) = former
            .ids()
            .find(|id| !listed.iter().any(|file| file.id == *id))
        {
            anyhow::bail!(
                "the file of identity key {gone} is gone; put it back, or, if no row needs the key, \
                 restart the server without it"
            );
        }
        if keys::identity::in_use(&listed).eq(former.ids()) {
            return Ok(false);
        }
        let vault = keys::identity::load(&self.config)?;
        tracing::info!(
            current = %vault.current_id(),
            older = vault.older_ids().len(),
            "other identity keys are used from now on"
        );
        *self.vault.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(vault);
        self.walk_now.notify_one();
        Ok(true)
    }

    /// The identity keys that this server has, the newest first, and others that rows need.
    pub async fn identity_keys(&self) -> Result<Vec<IdentityKey>> {
        let vault = self.vault();
        let current = vault.current_id();
        // Where there has never been another key, none of all the rows has to be looked at.
        let mut needs = match current.number() {
            1 => BTreeMap::new(),
            _ => self.store.identity_needs(current).await?,
        };
        let mut all: Vec<IdentityKey> = vault
            .ids()
            .map(|id| IdentityKey {
                id,
                state: match id.cmp(&current) {
                    std::cmp::Ordering::Less => State::Old,
                    std::cmp::Ordering::Equal => State::Current,
                    std::cmp::Ordering::Greater => State::Next,
                },
                needs: (id != current).then(|| needs.remove(&id).unwrap_or_default()),
            })
            .collect();
        all.extend(needs.into_iter().map(|(id, needs)| IdentityKey {
            id,
            state: State::Retired,
            needs: Some(needs),
        }));
        all.sort_by_key(|key| std::cmp::Reverse(key.id));
        Ok(all)
    }

    /// Takes an old key out of use, here and now; where its file is kept, or by a dry run would be.
    pub async fn retire_identity_key(
        self: &Arc<Self>,
        id: KeyId,
        run: Run,
    ) -> anyhow::Result<PathBuf> {
        keys::identity::check_old(&self.config, id)?;
        if run.is_dry() {
            return retire(&self.config, &self.store, id, run).await;
        }
        let sealed_with = self.vault().current_id();
        self.refresh_on_disk().await?;
        if self.vault().current_id() != sealed_with {
            // Units of work that began before still bring rows of the former key.
            anyhow::bail!(
                "the server has only now begun to seal with identity key {}: ask again in a moment",
                self.vault().current_id()
            );
        }
        let retired = retire(&self.config, &self.store, id, run).await;
        // Either way: rows that are left are renewed now, or what is left of the key is removed.
        self.walk_now.notify_one();
        let path = retired?;
        self.refresh_on_disk().await?;
        Ok(path)
    }

    async fn refresh_on_disk(self: &Arc<Self>) -> anyhow::Result<bool> {
        let engine = Arc::clone(self);
        blocking::run(move || engine.refresh_identity_keys())
            .await
            .context("the look at the identity keys crashed")?
    }

    /// Renews rows of older identity keys whenever there are any, until it is told to end.
    ///
    /// Any number of servers may do so on one database at the same time: of two that renew the same
    /// row one finds it renewed. What is cut off anywhere is gone on with at the next start.
    pub async fn walk_identity_rows(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pause = SOON;
        loop {
            let walked = tokio::select! {
                walked = self.walk_once() => walked,
                () = shutdown.cancelled() => return,
            };
            pause = match walked {
                Ok(0) => (pause * 2).min(LATE),
                Ok(_) => SOON,
                Err(error) => {
                    tracing::error!(%error, "cannot renew rows of older identity keys; trying again");
                    (pause * 2).min(LATE)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.walk_now.notified() => pause = SOON,
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Renews all rows that are due, and says so once a key is not needed any more. Returns how many
    /// were renewed.
    async fn walk_once(&self) -> Result<u64> {
        let vault = self.vault();
        let older = vault.older_ids();
        let mut renewed = 0;
        if !older.is_empty() {
            loop {
                let tally = self.pass(&vault).await?;
                renewed += tally.renewed;
                if let Some(error) = tally.why {
                    tracing::error!(
                        rows = tally.broken,
                        %error,
                        "rows of older identity keys cannot be renewed"
                    );
                }
                if tally.renewed + tally.changed == 0 {
                    break;
                }
            }
            let needs = self.store.identity_needs(vault.current_id()).await?;
            for key in older {
                self.finish(&vault, key, &needs).await?;
            }
        }
        self.forget_claims(&vault).await?;
        Ok(renewed)
    }

    /// Once over all rows.
    async fn pass(&self, vault: &Vault) -> Result<Tally> {
        let mut tally = Tally::default();
        for kind in [Kind::Subscriber, Kind::Session, Kind::Answer] {
            // Servers that begin at different places seldom meet at the same row.
            let start = Uuid::new_v4();
            for (mut after, until) in [(start, Uuid::max()), (Uuid::nil(), start)] {
                loop {
                    let began = Instant::now();
                    let due = self.due(kind, vault.current_id(), (after, until)).await?;
                    let Some(last) = due.last() else { break };
                    after = last.id();
                    for renewal in join_all(due.into_iter().map(|row| self.renew(vault, row))).await
                    {
                        tally.count(renewal)?;
                    }
                    rest(began).await;
                }
            }
        }
        Ok(tally)
    }

    async fn due(&self, kind: Kind, before: KeyId, between: (Uuid, Uuid)) -> Result<Vec<Due>> {
        let store = &self.store;
        Ok(match kind {
            Kind::Subscriber => {
                let rows = store.subscribers_before(before, between, PAGE).await?;
                rows.into_iter().map(Due::Subscriber).collect()
            }
            Kind::Session => {
                let rows = store.sessions_before(before, between, PAGE).await?;
                rows.into_iter()
                    .map(|row| Due::Session(Box::new(row)))
                    .collect()
            }
            Kind::Answer => {
                let rows = store.answers_before(before, between, PAGE).await?;
                rows.into_iter()
                    .map(|(key, row)| Due::Answer(key, row))
                    .collect()
            }
        })
    }

    async fn renew(&self, vault: &Vault, due: Due) -> Result<Renewal> {
        let rotation = Rotation::new(vault);
        match due {
            Due::Subscriber(row) => {
                let phone = renewed(
                    rotation,
                    Purpose::Phone,
                    row.id,
                    &row.phone_index,
                    &row.phone_sealed,
                )?;
                let card = renewed(
                    rotation,
                    Purpose::IdCard,
                    row.id,
                    &row.id_card_index,
                    &row.id_card_sealed,
                )?;
                self.store
                    .change(move |work| {
                        let renewal = work.renew_numbers(&row, phone.as_ref(), card.as_ref())?;
                        if renewal == Renewal::Twice {
                            work.audit(
                                Who::Server,
                                AUDIT_TWICE,
                                Some(row.id),
                                None,
                                "another subscriber registered a number of this one under another \
                                 identity key",
                                now_ms(),
                            );
                        }
                        Ok(renewal)
                    })
                    .await
            }
            Due::Session(row) => {
                let (key, target) = renewed_keys(rotation, &row.session)?;
                self.store
                    .change(move |work| Ok(work.renew_session_keys(&row, &key, target.as_ref())?))
                    .await
            }
            Due::Answer((subscriber, request), answer) => {
                let purpose = Purpose::SessionKey {
                    generation: answer.generation,
                };
                let Some(key) = rotation.value(purpose, answer.session, &answer.key.0)? else {
                    return Ok(Renewal::Changed);
                };
                let key = SealedSecret(key);
                self.store
                    .change(move |work| {
                        Ok(work.renew_answer((subscriber, request), &answer, &key)?)
                    })
                    .await
            }
        }
    }

    async fn finish(
        &self,
        vault: &Vault,
        key: KeyId,
        needs: &BTreeMap<KeyId, Needs>,
    ) -> Result<()> {
        if let Some(needs) = needs.get(&key) {
            tracing::warn!(%key, %needs, "rows still need an older identity key");
            return Ok(());
        }
        let detail = format!(
            "no row needs identity key {key} any more; {} seals",
            vault.current_id()
        );
        let first = self
            .store
            .change(move |work| {
                let at_ms = now_ms();
                let first = work.finish_walk(key, at_ms)?;
                if first {
                    work.audit(Who::Server, AUDIT_RENEWED, None, None, &detail, at_ms);
                }
                Ok::<_, EngineError>(first)
            })
            .await?;
        if first {
            tracing::info!(%key, "no row needs this identity key any more; it can be retired");
        }
        Ok(())
    }

    /// Removes indexes under keys that have been retired: whoever has such a key could find numbers
    /// by trying.
    async fn forget_claims(&self, vault: &Vault) -> Result<()> {
        let Some(oldest) = vault.ids().min() else {
            return Ok(());
        };
        if !self.store.has_claims_before(oldest).await? {
            return Ok(());
        }
        let needs = self.store.identity_needs(vault.current_id()).await?;
        if needs.keys().any(|key| *key < oldest) {
            // Their numbers are claimed under no newer key.
            return Ok(());
        }
        loop {
            let began = Instant::now();
            if self.store.drop_claims_before(oldest, CLAIMS).await? == 0 {
                return Ok(());
            }
            rest(began).await;
        }
    }
}

/// Differently long at different servers, so that they do not go along with each other.
async fn rest(began: Instant) {
    let long = began
        .elapsed()
        .mul_f64(REST * (0.75 + rand::random::<f64>() / 2.0));
    tokio::time::sleep(long.max(LEAST_REST)).await;
}

fn renewed(
    rotation: Rotation<'_>,
    purpose: Purpose,
    owner: Uuid,
    index: &Option<Vec<u8>>,
    sealed: &Option<Vec<u8>>,
) -> std::result::Result<Option<Renewed>, VaultError> {
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    // A number that is found for somebody else has no index of its own, and is not due for that.
    let index = index.clone().unwrap_or_else(|| sealed.clone());
    let number = Number {
        index,
        sealed: sealed.clone(),
    };
    rotation.number(purpose, owner, &number)
}

/// The keys of a session's connection and of its target, as they are to be.
fn renewed_keys(
    rotation: Rotation<'_>,
    session: &Session,
) -> std::result::Result<(SealedSecret, Option<SealedSecret>), VaultError> {
    let renew = |generation, key: &SealedSecret| {
        let purpose = Purpose::SessionKey { generation };
        let renewed = rotation.value(purpose, session.id, &key.0)?;
        Ok::<_, VaultError>(renewed.map_or_else(|| key.clone(), SealedSecret))
    };
    let key = if session.state.is_connected_side() {
        renew(session.generation, &session.connection.key)?
    } else {
        // Nobody is told this key any more: the connection is being ended.
        SealedSecret::default()
    };
    let target = session
        .target
        .as_ref()
        .map(|target| renew(target.generation, &target.connection.key))
        .transpose()?;
    Ok((key, target))
}

/// Retires a key while no server runs on this folder; where its file is kept.
pub async fn retire_offline(config: &Config, id: KeyId, run: Run) -> anyhow::Result<PathBuf> {
    let _lock = crate::serve::lock_data_dir(config)?;
    keys::identity::check_old(config, id)?;
    let audit = keys::audit_key(config)?;
    let store = Store::open(&config.database, audit, |_| {}, |_| {}).await?;
    let retired = retire(config, &store, id, run).await;
    store.close().await;
    retired
}

async fn retire(config: &Config, store: &Store, id: KeyId, run: Run) -> anyhow::Result<PathBuf> {
    let current = keys::identity::check_old(config, id)?;
    let needs = async || -> std::result::Result<Needs, StoreError> {
        let all = store.identity_needs(current).await?;
        Ok(all.get(&id).copied().unwrap_or_default())
    };
    let (own, needed) = (config.clone(), needs().await?);
    let path = blocking::run(move || keys::identity::retire(&own, id, needed, run))
        .await
        .context("the key's file cannot be renamed")??;
    if run.is_dry() {
        return Ok(path);
    }
    // What was under way while it was counted, by this server or another one.
    let done = match needs().await {
        Ok(Needs {
            subscribers: 0,
            sessions: 0,
            answers: 0,
        }) => note(store, id).await.map_err(anyhow::Error::from),
        Ok(needs) => Err(anyhow::anyhow!(
            "{needs} came to need identity key {id} only now: ask again later"
        )),
        Err(error) => Err(error.into()),
    };
    if done.is_err() {
        keys::identity::put_back(config, id)?;
    }
    done.map(|()| path)
}

async fn note(store: &Store, id: KeyId) -> std::result::Result<(), StoreError> {
    store
        .change(move |work| {
            let detail = format!("identity key {id} is not read any more; no row needs it");
            work.audit(Who::Operator, AUDIT_RETIRED, None, None, &detail, now_ms());
            Ok(())
        })
        .await
}
