//! Errors across the wire: a small [`v1::Error`] in the details of a gRPC status.

use nacre_model::{Effect, Errno, Retry, ServiceError};
use prost::Message;
use tonic::{Code, Status};

use crate::v1;

/// What a peer answered, or what became of the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// What POSIX calls it.
    pub errno: Errno,
    /// Whether to send again.
    pub retry: Retry,
    /// Whether it may have happened.
    pub effect: Effect,
    /// What, where and why.
    pub message: String,
}

impl ServiceError for RemoteError {
    fn errno(&self) -> Errno {
        self.errno
    }
    fn retry(&self) -> Retry {
        self.retry
    }
    fn effect(&self) -> Effect {
        self.effect
    }
}

/// The status that carries `error`, its sources included in the message.
pub fn to_status(error: &(impl ServiceError + ?Sized)) -> Status {
    let wire = to_wire(error);
    let details = wire.encode_to_vec().into();
    Status::with_details(Code::FailedPrecondition, wire.message, details)
}

/// An error as it stands in messages, its sources included in the text.
pub fn to_wire(error: &(impl ServiceError + ?Sized)) -> v1::Error {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    v1::Error {
        errno: error.errno().0,
        retry: match error.retry() {
            Retry::Never => v1::Retry::Never,
            Retry::SameTarget => v1::Retry::SameTarget,
            Retry::AfterRefresh => v1::Retry::AfterRefresh,
        } as i32,
        effect: match error.effect() {
            Effect::None => v1::Effect::None,
            Effect::Unknown => v1::Effect::Unknown,
        } as i32,
        message,
    }
}

/// The error in a status. A status without details came from the transport, not from a service:
/// whether the request was carried out is then unknown, and it may be sent again.
pub fn from_status(status: &Status) -> RemoteError {
    match v1::Error::decode(status.details()) {
        Ok(wire) if wire.errno > 0 => RemoteError {
            errno: Errno(wire.errno),
            retry: match wire.retry() {
                v1::Retry::SameTarget => Retry::SameTarget,
                v1::Retry::AfterRefresh => Retry::AfterRefresh,
                v1::Retry::Never | v1::Retry::Unspecified => Retry::Never,
            },
            effect: match wire.effect() {
                v1::Effect::None => Effect::None,
                v1::Effect::Unknown | v1::Effect::Unspecified => Effect::Unknown,
            },
            message: wire.message,
        },
        Ok(_) | Err(_) => transport_error(status),
    }
}

fn transport_error(status: &Status) -> RemoteError {
    let (errno, retry) = match status.code() {
        Code::DeadlineExceeded => (Errno::ETIMEDOUT, Retry::AfterRefresh),
        Code::OutOfRange | Code::InvalidArgument => (Errno::EINVAL, Retry::Never),
        Code::Unimplemented => (Errno::EOPNOTSUPP, Retry::Never),
        Code::Unauthenticated | Code::PermissionDenied => (Errno::EACCES, Retry::Never),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => (Errno::EIO, Retry::AfterRefresh),
    };
    let message = format!("{:?}: {}", status.code(), status.message());
    RemoteError { errno, retry, effect: Effect::Unknown, message }
}
