//! `accounts`: the operator's people, who sign in to the console.

use std::io::{IsTerminal as _, stdin};
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};
use doorstep_daemon::client::{self, refused};
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::{self, Exit};
use doorstep_daemon::output::{self, Output};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::accounts_client::AccountsClient;
use doorstep_proto::v1::change_account_request::Change;
use serde::Serialize;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::tables::when;

const NO_PASSWORD: &str = "standard input has no password; give it as one line";
const TWO_PASSWORDS: &str = "these were two different passwords; nothing was changed";

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Account {
    account: String,
    role: String,
    disabled: bool,
    created_unix_ms: i64,
    /// When the password was set.
    password_unix_ms: i64,
}

/// That it was added or changed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Changed {
    account: String,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// All of them (the default)
    List,
    /// Make one (audited). The password is asked for, or read from standard input
    Add {
        name: String,
        #[arg(long, value_enum)]
        role: Role,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Let nobody sign in with it, and end what is signed in (audited)
    Disable {
        name: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Let it be used again (audited)
    Enable {
        name: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Give it another role (audited)
    Role {
        name: String,
        role: Role,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Give it another password, and end what is signed in (audited). The password is asked for, or
    /// read from standard input
    Password {
        name: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    /// Sees everything but subscribers
    Viewer,
    /// Also looks for subscribers, connects, disconnects and moves
    Agent,
    /// Also forces sessions and changes accounts
    Admin,
}

impl Role {
    fn name(self) -> String {
        match self {
            Role::Viewer => "viewer",
            Role::Agent => "agent",
            Role::Admin => "admin",
        }
        .to_owned()
    }
}

pub async fn accounts(socket: &Path, action: Option<Action>, output: Output) -> Result<()> {
    let (name, change, dry_run) = match action.unwrap_or(Action::List) {
        Action::List => return list(socket, output).await,
        Action::Add {
            name,
            role,
            dry_run,
        } => return add(socket, name, role, dry_run, output).await,
        Action::Disable { name, dry_run } => (name, Change::Disabled(true), dry_run),
        Action::Enable { name, dry_run } => (name, Change::Disabled(false), dry_run),
        Action::Role {
            name,
            role,
            dry_run,
        } => (name, Change::Role(role.name()), dry_run),
        Action::Password { name, dry_run } => {
            let password = password()?;
            (name, Change::Password(password.to_string()), dry_run)
        }
    };
    let mut client = connect(socket).await?;
    let request = pb::ChangeAccountRequest {
        name: name.clone(),
        change: Some(change),
        dry_run: dry_run.dry_run,
    };
    client.change_account(request).await.map_err(refused)?;
    done(&name, "changed", dry_run, output)
}

async fn connect(socket: &Path) -> Result<AccountsClient<Channel>> {
    Ok(AccountsClient::new(
        client::connect(socket, "server").await?,
    ))
}

async fn add(
    socket: &Path,
    name: String,
    role: Role,
    dry_run: DryRun,
    output: Output,
) -> Result<()> {
    let password = password()?;
    let mut client = connect(socket).await?;
    let request = pb::AddAccountRequest {
        name: name.clone(),
        role: role.name(),
        password: password.to_string(),
        dry_run: dry_run.dry_run,
    };
    client.add_account(request).await.map_err(refused)?;
    done(&name, "added", dry_run, output)
}

fn done(name: &str, what: &str, dry_run: DryRun, output: Output) -> Result<()> {
    dry_run.tell();
    match output {
        Output::Json => {
            let account = name.to_owned();
            output::json(&dry_run.with(Changed { account }))
        }
        Output::Table => output::print(&format!("account {name} {what}\n")),
    }
}

async fn list(socket: &Path, output: Output) -> Result<()> {
    let mut client = connect(socket).await?;
    let listed = client.list_accounts(pb::ListAccountsRequest {}).await;
    let accounts = listed.map_err(refused)?.into_inner().accounts;
    match output {
        Output::Json => {
            let rows = accounts.into_iter().map(|row| Account {
                account: row.name,
                role: row.role,
                disabled: row.disabled,
                created_unix_ms: row.created_unix_ms,
                password_unix_ms: row.password_unix_ms,
            });
            output::json(&rows.collect::<Vec<_>>())
        }
        Output::Table => {
            let rows: Vec<_> = accounts
                .into_iter()
                .map(|row| {
                    [
                        row.name,
                        row.role,
                        if row.disabled { "yes" } else { "" }.to_owned(),
                        when(row.created_unix_ms),
                        when(row.password_unix_ms),
                    ]
                })
                .collect();
            output::print(&output::table(
                &["ACCOUNT", "ROLE", "DISABLED", "CREATED", "PASSWORD SET"],
                &rows,
            ))
        }
    }
}

/// Never an argument: those are seen by everybody on the host, and kept by shells.
fn password() -> Result<Zeroizing<String>> {
    if !stdin().is_terminal() {
        let mut line = Zeroizing::new(String::new());
        stdin()
            .read_line(&mut line)
            .context("cannot read the password from standard input")?;
        let password = line.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(exit::because(Exit::Usage, NO_PASSWORD));
        }
        return Ok(Zeroizing::new(password.to_owned()));
    }
    let ask = |prompt| {
        let typed = rpassword::prompt_password(prompt).context("cannot read the password")?;
        Ok::<_, anyhow::Error>(Zeroizing::new(typed.to_string()))
    };
    let first = ask("Password: ")?;
    if *first != *ask("Once more: ")? {
        return Err(exit::because(Exit::Usage, TWO_PASSWORDS));
    }
    Ok(first)
}
