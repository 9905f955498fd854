//! `Pki`, on the administration socket: tokens and revocations.

use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::pki_server::Pki;
use tonic::{Request, Response, Status};

use super::enrollment::status;
use crate::enroll::Enroller;

pub struct PkiService {
    enroller: Enroller,
}

impl PkiService {
    pub fn new(enroller: Enroller) -> Self {
        PkiService { enroller }
    }
}

#[tonic::async_trait]
impl Pki for PkiService {
    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreatedToken>, Status> {
        let request = request.into_inner();
        let lifetime = Duration::from_secs(request.lifetime_s);
        let created = self
            .enroller
            .create_token(&request.gateway_id, lifetime, request.dry_run.into())
            .await;
        let (token, expires_unix_ms) = created.map_err(|error| status(&error))?;
        Ok(Response::new(pb::CreatedToken {
            token: match request.dry_run {
                true => String::new(),
                false => token.to_text().to_string(),
            },
            expires_unix_ms,
        }))
    }

    async fn list_tokens(
        &self,
        _: Request<pb::ListTokensRequest>,
    ) -> Result<Response<pb::Tokens>, Status> {
        let rows = self.enroller.tokens().await;
        let tokens = rows
            .map_err(|error| status(&error))?
            .into_iter()
            .map(|row| pb::TokenView {
                gateway_id: row.gateway,
                created_unix_ms: row.created_ms,
                expires_unix_ms: row.expires_ms,
                used_unix_ms: row.used_ms.unwrap_or(0),
            })
            .collect();
        Ok(Response::new(pb::Tokens { tokens }))
    }

    async fn revoke_gateway(
        &self,
        request: Request<pb::RevokeGatewayRequest>,
    ) -> Result<Response<pb::RevokedGateway>, Status> {
        let request = request.into_inner();
        let run = request.dry_run.into();
        let revoked = self.enroller.revoke(&request.gateway_id, run).await;
        Ok(Response::new(pb::RevokedGateway {
            issued_until_unix_ms: revoked.map_err(|error| status(&error))?,
        }))
    }
}
