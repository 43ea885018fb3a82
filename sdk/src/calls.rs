//! Calls with plain data: arguments and results in msgpack or JSON.

use std::{collections::BTreeMap, time::Duration};

use rhd_protocol::{
    call::{Call, Codec, Reply, RunOptions, Verb},
    error::{ErrorInfo, ErrorKind},
    frame,
    id::CallId,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Client, Replies, requests::not_understood};

/// What to call, and how.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Name of a function, class or instance.
    pub service: String,
    /// Method or attribute of it.
    pub method: Option<String>,
    /// The node that must run it; none: whoever hosts it.
    pub node: Option<String>,
    /// What to call the instance that is constructed.
    pub instance: Option<String>,
    /// Calls, or reads an attribute.
    pub verb: Verb,
    /// What it may take; none: as long as it wants.
    pub timeout: Option<Duration>,
    /// Whether its stdout and stderr are wanted.
    pub logs: bool,
    /// What its host is to keep of it.
    pub run: Option<RunOptions>,
}

impl Invocation {
    /// Calls the service of this name.
    pub fn of(service: &str) -> Self {
        Self { service: service.into(), ..Self::default() }
    }

    /// Calls a method of it.
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.into());
        self
    }
}

impl Client {
    /// Calls with positional arguments (a tuple, or an empty array for none) in msgpack.
    ///
    /// Dropping the future cancels the call. Items of a generator come by [`Client::start`].
    pub async fn call<R: DeserializeOwned>(
        &self,
        what: &Invocation,
        args: &impl Serialize,
    ) -> Result<R, ErrorInfo> {
        let kwargs = BTreeMap::<String, ()>::new();
        let replies = self.start(what, Codec::Msgpack, args, &kwargs).await?;
        result(replies, &what.service, |_, _| ()).await
    }

    /// Starts a call and hands out its replies.
    pub async fn start(
        &self,
        what: &Invocation,
        codec: Codec,
        args: &impl Serialize,
        kwargs: &impl Serialize,
    ) -> Result<Replies, ErrorInfo> {
        let body = body_of(codec, &(args, kwargs))?;
        let call = Call {
            node: what.node.clone(),
            verb: what.verb,
            method: what.method.clone(),
            instance: what.instance.clone(),
            run: what.run.clone(),
            codec,
            parts: vec![body.len() as u64],
            timeout_ms: what.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            logs: what.logs,
            ..Call::new(CallId::from_bytes(rand::random()), what.service.clone())
        };
        self.send_call(call, &body).await
    }
}

/// Reads a call to its result; `output` takes what it wrote.
pub(crate) async fn result<R: DeserializeOwned>(
    mut replies: Replies,
    name: &str,
    mut output: impl FnMut(u8, &[u8]),
) -> Result<R, ErrorInfo> {
    while let Some((reply, body)) = replies.next().await? {
        match reply {
            Reply::Done { codec, .. } => return value_of(codec, &body),
            Reply::Fail { error, .. } => return Err(error),
            Reply::Item { .. } => {
                let text = format!("{name} is a generator");
                return Err(ErrorInfo::new(ErrorKind::BadRequest, text)
                    .hint("read its items: Function::stream"));
            }
            Reply::Log { fd, .. } => output(fd, &body),
            Reply::Progress { .. } => {}
        }
    }
    Err(not_understood("it has no end"))
}

/// Encodes plain data.
pub fn body_of(codec: Codec, value: &impl Serialize) -> Result<Vec<u8>, ErrorInfo> {
    let wrong = |source: String| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("arguments can't be encoded: {source}"))
    };
    match codec {
        Codec::Msgpack => frame::to_vec(value).map_err(|e| wrong(e.to_string())),
        Codec::Json => serde_json::to_vec(value).map_err(|e| wrong(e.to_string())),
        Codec::Pickle => Err(wrong("only Python writes pickle".into())),
    }
}

/// Decodes plain data.
pub fn value_of<T: DeserializeOwned>(codec: Codec, body: &[u8]) -> Result<T, ErrorInfo> {
    let wrong = |source: String| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("the result is not of this type: {source}"))
    };
    match codec {
        Codec::Msgpack => frame::decode(body).map_err(|e| match e {
            frame::FrameError::Decode(source) => wrong(source.to_string()),
            other => wrong(other.to_string()),
        }),
        Codec::Json => serde_json::from_slice(body).map_err(|e| wrong(e.to_string())),
        Codec::Pickle => Err(wrong("only Python reads pickle".into())),
    }
}
