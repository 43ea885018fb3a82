//! Errors as HTTP says them: a status, and the error itself as JSON.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::CallId,
};

/// An error on its way to a caller.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) info: ErrorInfo,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, info: ErrorInfo) -> Self {
        Self { status, info, headers: Vec::new() }
    }

    /// A request that can't be understood.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        ErrorInfo::new(ErrorKind::BadRequest, message).into()
    }

    /// Adds what to type next.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.info.hint = hint.into();
        self
    }

    /// Names the call that failed.
    pub(super) fn of_call(mut self, id: CallId) -> Self {
        if self.info.call.is_empty() {
            self.info.call = id.to_string();
        }
        self
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }
}

impl From<ErrorInfo> for Failure {
    fn from(info: ErrorInfo) -> Self {
        let failure = Self::new(status(info.kind), info);
        match failure.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                failure.with(header::RETRY_AFTER, "1")
            }
            _ => failure,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.info).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}

/// The status that says most of what an error is.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::PeerLost | ErrorKind::VersionMismatch => StatusCode::BAD_GATEWAY,
        ErrorKind::DaemonUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Remote | ErrorKind::Cancelled | ErrorKind::EnvError | ErrorKind::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
