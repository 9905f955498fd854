//! `Enrollment`, on the public port: certificates for gateways.

use doorstep_pki::certificate::Certificate;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::enrollment_server::Enrollment;
use tonic::{Code, Request, Response, Status};

use super::convert;
use crate::enroll::{EnrollError, Enroller, Issued};

pub struct EnrollmentService {
    enroller: Enroller,
}

impl EnrollmentService {
    pub fn new(enroller: Enroller) -> Self {
        EnrollmentService { enroller }
    }
}

/// The certificate that a client has shown and the TLS layer has verified.
pub fn shown<T>(request: &Request<T>) -> Result<Certificate, Status> {
    let chain = request.peer_certs();
    let first = chain.as_ref().and_then(|chain| chain.first());
    let certificate = first.and_then(|der| Certificate::from_der(der).ok());
    certificate
        .filter(|shown| !shown.names.is_empty())
        .ok_or_else(|| {
            Status::unauthenticated(
                "a gateway must present the client certificate that the operator issued to it \
             (`doorstep-server pki token NAME` here, `doorstep-gateway enroll` there)",
            )
        })
}

#[tonic::async_trait]
impl Enrollment for EnrollmentService {
    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::IssuedCertificate>, Status> {
        let peer = request.remote_addr();
        let pb::EnrollRequest { token, request } = request.into_inner();
        let token = zeroize::Zeroizing::new(token);
        match self.enroller.enroll(&token, &request).await {
            Ok(issued) => Ok(answer(issued)),
            Err(error) => {
                tracing::warn!(?peer, %error, "enrollment refused");
                Err(status(&error))
            }
        }
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::IssuedCertificate>, Status> {
        let shown = shown(&request)?;
        let request = request.into_inner().request;
        match self.enroller.renew(&shown, &request).await {
            Ok(issued) => Ok(answer(issued)),
            Err(error) => {
                tracing::warn!(names = ?shown.names, %error, "renewal refused");
                Err(status(&error))
            }
        }
    }
}

fn answer(issued: Issued) -> Response<pb::IssuedCertificate> {
    Response::new(pb::IssuedCertificate {
        certificate_pem: issued.certificate_pem,
        authorities_pem: issued.authorities_pem,
    })
}

pub fn status(error: &EnrollError) -> Status {
    let code = match error {
        EnrollError::Token(_) | EnrollError::Request(_) | EnrollError::Lifetime => {
            Code::InvalidArgument
        }
        EnrollError::Refused(..) | EnrollError::NotConfigured(_) | EnrollError::Revoked(_) => {
            Code::PermissionDenied
        }
        EnrollError::Authority(cause) => {
            tracing::error!(error = format!("{cause:#}"), "cannot issue certificates");
            Code::FailedPrecondition
        }
        EnrollError::Engine(error) => return convert::status(error),
    };
    Status::new(code, error.to_string())
}
