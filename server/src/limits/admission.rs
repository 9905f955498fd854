//! Which requests are looked at. Decided from the peer's address and the method alone, before a
//! byte of the message is read, so that refusing costs little.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Either, Ready, ready};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tower::{Layer, Service};

use super::places::{Full, Place};
use super::{Guard, Reason, Source};

const REGISTER: &str = "/doorstep.v1.Access/Register";
const CONTROL: &str = "/doorstep.v1.GatewayControl/";

/// Asks the guard about each request.
#[derive(Clone)]
pub struct Admission {
    guard: Arc<Guard>,
}

impl Admission {
    pub fn new(guard: Arc<Guard>) -> Self {
        Admission { guard }
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted {
            guard: Arc::clone(&self.guard),
            inner,
        }
    }
}

/// A service behind the guard.
#[derive(Clone)]
pub struct Admitted<S> {
    guard: Arc<Guard>,
    inner: S,
}

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Admitted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answer>, BoxFuture<'static, Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut open = self.guard.answered.open(request.uri().path());
        match self.guard.admit(&request) {
            Ok(place) => {
                let answer = self.inner.call(request);
                Either::Right(Box::pin(async move {
                    let _place = place;
                    let answer = answer.await?;
                    open.answered(&answer);
                    Ok(answer)
                }))
            }
            Err(status) => {
                let answer = status.into_http();
                open.answered(&answer);
                Either::Left(ready(Ok(answer)))
            }
        }
    }
}

/// What tonic knows of a connection to the public port.
type Peer = <TlsStream<TcpStream> as Connected>::ConnectInfo;

impl Guard {
    fn admit(&self, request: &Request<Body>) -> Result<Option<Place<Source>>, Status> {
        let path = request.uri().path();
        // Gateways are few and known by their certificates; their streams have limits of their own.
        if path.starts_with(CONTROL) {
            return Ok(None);
        }
        let peer = request.extensions().get::<Peer>();
        let address = peer.and_then(|peer| TcpConnectInfo::remote_addr(peer.get_ref()));
        let Some(source) = address.map(Source::from) else {
            return Err(Status::internal("the peer has no address"));
        };
        self.admit_from(source, path == REGISTER).map(Some)
    }

    /// One request of whoever is there, by whichever way it comes; the place is its for as long as it is worked on.
    pub fn admit_from(
        &self,
        source: Source,
        is_registration: bool,
    ) -> Result<Place<Source>, Status> {
        let refuse = |reason, after| Err(self.refusals.refuse(reason, after));
        if let Err(after) = self.sources.take(&source) {
            return refuse(Reason::SourceRate, Some(after));
        }
        if is_registration && let Err(after) = self.registrations.take(&source) {
            return refuse(Reason::RegistrationRate, Some(after));
        }
        match self.requests.take(source) {
            Ok(place) => Ok(place),
            Err(Full::Altogether) => refuse(Reason::Requests, None),
            Err(Full::ForKey) => refuse(Reason::SourceRequests, None),
        }
    }
}
