//! `Accounts`, on the administration socket: the operator's people.

use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::accounts_server::Accounts;
use doorstep_proto::v1::change_account_request::Change;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::convert::{self, Violations};
use crate::account::{Actor, Name, Role};
use crate::engine::{AccountChange, Engine, EngineError};

pub struct AccountsService {
    engine: Arc<Engine>,
}

impl AccountsService {
    pub fn new(engine: Arc<Engine>) -> Self {
        AccountsService { engine }
    }
}

fn failed(error: EngineError) -> Status {
    convert::status(&error)
}

fn role(violations: &mut Violations, text: &str) -> Option<Role> {
    let role = Role::from_name(text).ok_or("must be viewer, agent or admin");
    violations.check("role", role)
}

#[tonic::async_trait]
impl Accounts for AccountsService {
    async fn add_account(
        &self,
        request: Request<pb::AddAccountRequest>,
    ) -> Result<Response<pb::AddAccountResponse>, Status> {
        let request = request.into_inner();
        let run = Run::from(request.dry_run);
        let password = Zeroizing::new(request.password);
        let mut violations = Violations::default();
        let name = violations.check("name", request.name.parse::<Name>());
        let role = role(&mut violations, &request.role);
        let (Some(name), Some(role)) = (name, role) else {
            return Err(violations.status());
        };
        let added = self
            .engine
            .add_account(Actor::Operator, name, role, password, run);
        added.await.map_err(failed)?;
        Ok(Response::new(pb::AddAccountResponse {}))
    }

    async fn list_accounts(
        &self,
        _: Request<pb::ListAccountsRequest>,
    ) -> Result<Response<pb::ListAccountsResponse>, Status> {
        let rows = self.engine.store.accounts().await;
        let rows = rows.map_err(|error| failed(error.into()))?;
        let accounts = rows
            .into_iter()
            .map(|row| pb::AccountView {
                name: row.name.to_string(),
                role: row.role.to_string(),
                disabled: row.is_disabled,
                created_unix_ms: row.created_ms,
                password_unix_ms: row.password_ms,
            })
            .collect();
        Ok(Response::new(pb::ListAccountsResponse { accounts }))
    }

    async fn change_account(
        &self,
        request: Request<pb::ChangeAccountRequest>,
    ) -> Result<Response<pb::ChangeAccountResponse>, Status> {
        let request = request.into_inner();
        let run = Run::from(request.dry_run);
        let mut violations = Violations::default();
        let name = violations.check("name", request.name.parse::<Name>());
        let change = match request.change {
            Some(Change::Role(text)) => role(&mut violations, &text).map(AccountChange::Role),
            Some(Change::Disabled(is_disabled)) => Some(AccountChange::Disabled(is_disabled)),
            Some(Change::Password(password)) => {
                Some(AccountChange::Password(Zeroizing::new(password)))
            }
            None => {
                violations.add("change", "one of role, disabled and password is needed");
                None
            }
        };
        let (Some(name), Some(change)) = (name, change) else {
            return Err(violations.status());
        };
        let changed = self
            .engine
            .change_account(Actor::Operator, name, change, run);
        changed.await.map_err(failed)?;
        Ok(Response::new(pb::ChangeAccountResponse {}))
    }
}
