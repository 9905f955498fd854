//! Accounts of the operator's people, each change in one transaction with its line in the audit log.

use doorstep_daemon::blocking;
use doorstep_daemon::dry_run::Run;
use doorstep_web::password::{self, PasswordError};
use zeroize::Zeroizing;

use super::{Engine, EngineError, Result, now_ms};
use crate::account::{Actor, Name, Right, Role};
use crate::store::{Account, Who};

const NO_ACCOUNT: &str = "there is no such account; `doorstep-server accounts list` has them all";

/// What becomes of an account.
#[derive(Clone)]
pub enum AccountChange {
    Role(Role),
    Disabled(bool),
    /// Whoever is signed in with the former one must do so again.
    Password(Zeroizing<String>),
}

impl Engine {
    pub async fn add_account(
        &self,
        actor: Actor,
        name: Name,
        role: Role,
        password: Zeroizing<String>,
        run: Run,
    ) -> Result<()> {
        let who = allowed(actor, Right::Administer)?;
        let hash = hash(password).await?;
        let at_ms = now_ms();
        self.store
            .change_or_try(run, move |work| {
                if work.account(name)?.is_some() {
                    return Err(EngineError::Precondition(format!(
                        "there is an account {name} already; choose another name, or change that one"
                    )));
                }
                work.write_account(Account::new(name, role, hash.clone(), at_ms));
                let detail = format!("{name}, {role}");
                work.audit(who, "add-account", None, None, &detail, at_ms);
                Ok(())
            })
            .await
    }

    pub async fn change_account(
        &self,
        actor: Actor,
        name: Name,
        change: AccountChange,
        run: Run,
    ) -> Result<()> {
        // Everybody may have another password of their own.
        let is_own = matches!(actor, Actor::Account(own, _) if own == name);
        let right = match &change {
            AccountChange::Password(_) if is_own => Right::Look,
            _ => Right::Administer,
        };
        let who = allowed(actor, right)?;
        if is_own && !matches!(change, AccountChange::Password(_)) {
            return Err(EngineError::Precondition(
                "nobody changes their own role or disables themselves; ask another admin"
                    .to_owned(),
            ));
        }
        let at_ms = now_ms();
        let (action, detail, role, disabled, hash) = match change {
            AccountChange::Role(role) => {
                let detail = format!("{name}, {role}");
                ("change-account", detail, Some(role), None, None)
            }
            AccountChange::Disabled(is_disabled) => {
                let action = if is_disabled {
                    "disable-account"
                } else {
                    "enable-account"
                };
                (action, name.to_string(), None, Some(is_disabled), None)
            }
            AccountChange::Password(password) => {
                let hash = hash(password).await?;
                ("set-password", name.to_string(), None, None, Some(hash))
            }
        };
        self.store
            .change_or_try(run, move |work| {
                let row = work.account(name)?;
                let mut row = row.ok_or(EngineError::NotFound(NO_ACCOUNT))?;
                row.role = role.unwrap_or(row.role);
                row.is_disabled = disabled.unwrap_or(row.is_disabled);
                if let Some(hash) = &hash {
                    row.password_hash.clone_from(hash);
                    // Never the same time again, however fast the changes come.
                    row.password_ms = at_ms.max(row.password_ms + 1);
                }
                work.write_account(row);
                work.audit(who, action, None, None, &detail, at_ms);
                Ok(())
            })
            .await
    }

    /// Whether this is an account's password.
    pub async fn has_password(&self, name: Name, password: Zeroizing<String>) -> Result<bool> {
        let account = self.store.account(name).await?;
        let hash = account.map(|account| account.password_hash);
        let is_right = blocking::run(move || password::is_right(&password, hash.as_deref())).await;
        Ok(is_right.unwrap_or(false))
    }

    /// The account of whoever gives this name and password; none: they are not right, or the account is
    /// disabled. Which of these, time does not tell either.
    pub async fn sign_in(
        &self,
        name: Option<Name>,
        password: Zeroizing<String>,
    ) -> Result<Option<Account>> {
        let known = match name {
            Some(name) => self.store.account(name).await?,
            None => None,
        };
        let known = known.filter(|account| !account.is_disabled);
        let hash = known.as_ref().map(|account| account.password_hash.clone());
        let is_right = blocking::run(move || password::is_right(&password, hash.as_deref())).await;
        let Some(account) = known.filter(|_| is_right.unwrap_or(false)) else {
            return Ok(None);
        };
        let who = Who::Account(account.name);
        self.store
            .change(move |work| {
                work.audit(who, "sign-in", None, None, "", now_ms());
                Ok::<_, EngineError>(())
            })
            .await?;
        Ok(Some(account))
    }
}

/// On whose account it is done, if they may.
pub(super) fn allowed(actor: Actor, right: Right) -> Result<Who> {
    if !actor.may(right) {
        return Err(EngineError::Forbidden(right));
    }
    Ok(match actor {
        Actor::Operator => Who::Operator,
        Actor::Account(name, _) => Who::Account(name),
    })
}

async fn hash(password: Zeroizing<String>) -> Result<String> {
    let hashed = blocking::run(move || password::hash(&password)).await;
    hashed
        .unwrap_or(Err(PasswordError::Hash))
        .map_err(|error| EngineError::Invalid(error.to_string()))
}
