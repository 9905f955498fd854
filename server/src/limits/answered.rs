//! How requests have been answered: counted by method and gRPC status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Response;
use tonic::Code;
use tonic::body::Body;

/// Services with these methods; health checks and whatever else is asked for count as the last.
const OURS: &str = "/doorstep.v1.";
const METHODS: [&str; 9] = [
    "Register",
    "RequestAccess",
    "Plans",
    "Release",
    "Watch",
    "Control",
    "Enroll",
    "Renew",
    "other",
];
/// gRPC status codes are numbered from 0 to 16.
const CODES: usize = 17;
const GRPC_STATUS: &str = "grpc-status";

/// Requests answered since the start.
#[derive(Debug, Default)]
pub struct Answered([[AtomicU64; CODES]; METHODS.len()]);

impl Answered {
    /// A request that is being worked on; if it is dropped without an answer it counts as cancelled.
    pub(super) fn open(self: &Arc<Self>, path: &str) -> Open {
        let name = path.rsplit('/').next().filter(|_| path.starts_with(OURS));
        let known = METHODS.iter().position(|method| Some(*method) == name);
        let method = known.unwrap_or(METHODS.len() - 1);
        Open {
            answered: Arc::clone(self),
            method,
            code: Code::Cancelled,
        }
    }

    /// The methods that requests are counted by.
    pub const METHODS: &[&str] = &METHODS;

    /// The statuses that they are counted by.
    pub fn statuses() -> impl Iterator<Item = &'static str> {
        (0..CODES).map(status)
    }

    /// Method, status and count, of those that there have been, and of every method's `ok`.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        METHODS.iter().zip(&self.0).flat_map(|(method, counts)| {
            counts.iter().enumerate().filter_map(|(number, count)| {
                let count = count.load(Ordering::Relaxed);
                let shown = count > 0 || number == Code::Ok as usize;
                shown.then(|| (*method, status(number), count))
            })
        })
    }
}

/// Counted when it is dropped.
pub(super) struct Open {
    answered: Arc<Answered>,
    method: usize,
    code: Code,
}

impl Open {
    /// A stream counts as `ok` once it has begun: how it ends is not known then.
    pub fn answered(&mut self, response: &Response<Body>) {
        let status = response.headers().get(GRPC_STATUS);
        self.code = status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.answered.0[self.method][self.code as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// The name of the status with that number.
fn status(number: usize) -> &'static str {
    name(i32::try_from(number).map_or(Code::Unknown, Code::from_i32))
}

/// As gRPC's documentation spells them, in small letters.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn answers_are_counted_by_method_and_status() {
        let answered = Arc::new(Answered::default());
        let refused = Status::resource_exhausted("no").into_http();
        for (path, response) in [
            ("/doorstep.v1.Access/Register", Some(&refused)),
            ("/doorstep.v1.Access/Register", Some(&Response::default())),
            ("/doorstep.v1.Access/Watch", None),
            ("/grpc.reflection.v1/Anything", Some(&refused)),
            ("/grpc.health.v1.Health/Watch", Some(&Response::default())),
        ] {
            let mut open = answered.open(path);
            if let Some(response) = response {
                open.answered(response);
            }
        }
        let counted: Vec<_> = answered
            .counts()
            .filter(|(_, _, count)| *count > 0)
            .collect();
        let expected = [
            ("Register", "ok", 1),
            ("Register", "resource_exhausted", 1),
            ("Watch", "cancelled", 1),
            ("other", "ok", 1),
            ("other", "resource_exhausted", 1),
        ];
        assert_eq!(counted, expected);
        assert_eq!(
            answered
                .counts()
                .filter(|(_, code, _)| *code == "ok")
                .count(),
            METHODS.len()
        );
    }
}
