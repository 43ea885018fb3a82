//! A request that calls a function or method, or reads an attribute.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use rhd_protocol::{
    call::{Call, Codec, Verb},
    error::{ErrorInfo, ErrorKind},
    id::CallId,
    service::Flavor,
};

use super::{
    Web, answer, arguments, events,
    failure::Failure,
    intake::Held,
    openapi,
    target::{self, Reading},
};
use crate::telemetry;

/// Names the call in answers.
const CALL: HeaderName = HeaderName::from_static("x-rhd-call");
/// Seconds that the call may take.
const TIMEOUT: HeaderName = HeaderName::from_static("x-rhd-timeout");
/// The node that must run it.
const NODE: HeaderName = HeaderName::from_static("x-rhd-node");
/// The trace that a call belongs to: https://www.w3.org/TR/trace-context/
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Query parameters of this kind are options, never arguments: no argument has a hyphen.
const OPTION: &str = "rhd-";
/// The longest time that can be asked for, in seconds: a year.
const LONGEST: f64 = 366.0 * 86_400.0;

/// What a request asks for besides its target.
#[derive(Debug)]
struct Wishes {
    /// Encoding of the answer.
    codec: Codec,
    /// Whether replies are wanted one by one.
    events: bool,
    node: Option<String>,
    timeout_ms: Option<u64>,
    /// Query parameters that are arguments.
    query: Vec<(String, String)>,
}

/// Answers `GET` and `POST` of any path that no page has.
pub(super) async fn handle(State(web): State<Web>, request: Request) -> Response {
    let id = CallId::from_bytes(rand::random());
    let mut response =
        call(&web, id, request).await.unwrap_or_else(|failure| failure.of_call(id).into_response());
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(CALL, id);
    }
    response
}

async fn call(web: &Web, id: CallId, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let sent = match parts.method {
        Method::GET => None,
        Method::POST => Some(content_type(&parts.headers)?),
        _ => return Err(not_allowed()),
    };
    let wishes = wishes(&parts, sent)?;
    let path = path(&parts)?;
    if let Some(path) = path.strip_suffix(openapi::FILE).filter(|_| sent.is_none()) {
        return describe(web, path, wishes).await;
    }
    let (service, method) = find(web, &path, &wishes).await?;
    let slot = web.slot()?;
    let mut call = Call::new(id, service);
    call.codec = wishes.codec;
    call.node = wishes.node;
    call.timeout_ms = wishes.timeout_ms;
    call.logs = wishes.events;
    call.trace = header_text(&parts.headers, TRACEPARENT)
        .filter(|text| telemetry::is_traceparent(text))
        .map(str::to_owned);
    let held = match sent {
        Some(from) => web.inner.intake.read(&parts.headers, body).await.map(|held| (held, from))?,
        None => (Held::default(), Codec::Json),
    };
    let arguments = match sent {
        Some(_) if !wishes.query.is_empty() => {
            return Err(Failure::bad("arguments of a POST go into its body")
                .hint("send them as JSON, or use GET"));
        }
        Some(from) => arguments::of_body(&held.0.bytes, from, wishes.codec).await?,
        None => {
            let bare = wishes.query.is_empty();
            if let Some(method) = method.as_deref().filter(|_| bare)
                && web.flavor(&call, method).await? == Some(Flavor::Property)
            {
                call.verb = Verb::Get;
            }
            arguments::of_query(wishes.query, wishes.codec)?
        }
    };
    call.method = method;
    call.parts = vec![arguments.len() as u64];
    let trace = call.trace.clone();
    let asked = (call.service.clone(), call.method.clone(), call.node.clone());
    let keep = (held, slot, web.inner.requests.token());
    let replies = web.inner.calls.call(call, Bytes::from(arguments));
    let trace = replies.traceparent().or(trace);
    let answer = if wishes.events {
        events::stream(replies, web.inner.config.alive(), keep)
    } else {
        let answer = answer::whole(replies, wishes.codec, web.inner.config.max_body).await;
        drop(keep);
        match answer {
            // A generator that yields nothing looks like a function that returns nothing.
            Ok(None) => answer::nothing(wishes.codec, web.yields(asked).await),
            Ok(Some(answer)) => answer,
            Err(failure) => failure.of_call(id).into_response(),
        }
    };
    Ok(traced(answer, trace))
}

/// Tells the caller which trace its call is in.
fn traced(mut answer: Response, trace: Option<String>) -> Response {
    if let Some(trace) = trace.and_then(|trace| HeaderValue::from_str(&trace).ok()) {
        answer.headers_mut().insert(TRACEPARENT, trace);
    }
    answer
}

/// The path as text.
fn path(parts: &Parts) -> Result<String, Failure> {
    let path = percent_decode_str(parts.uri.path()).decode_utf8();
    path.map(Into::into).map_err(|_| Failure::bad("the path is no UTF-8"))
}

/// Answers with what a service offers.
async fn describe(web: &Web, path: &str, wishes: Wishes) -> Result<Response, Failure> {
    let (service, method) = find(web, path, &wishes).await?;
    if method.is_some() {
        return Err(web.inner.naming.not_found(path).into());
    }
    openapi::answer(&web.describe(&service, wishes.node).await?)
}

/// The service and method that a path means, of those that are known.
async fn find(web: &Web, path: &str, wishes: &Wishes) -> Result<(String, Option<String>), Failure> {
    let naming = &web.inner.naming;
    let readings = target::readings(path, naming.user());
    let Some(first) = readings.first() else {
        let info = ErrorInfo::new(ErrorKind::NotFound, format!("{path} is no name"));
        return Err(Failure::from(info).hint("the page at / lists what can be called"));
    };
    let found = match readings.iter().find(|reading| naming.knows(&reading.service)) {
        Some(known) => known,
        // What nobody tells of may be a name that only its node knows.
        None if wishes.node.is_some() => first_on(web, &readings, wishes.node.as_deref()).await?,
        None => return Err(naming.not_found(&first.service).into()),
    };
    Ok((found.service.clone(), found.method.clone()))
}

/// The first reading that is a service of this node.
async fn first_on<'a>(
    web: &Web,
    readings: &'a [Reading],
    node: Option<&str>,
) -> Result<&'a Reading, Failure> {
    let mut missing = None;
    for reading in readings {
        match web.describe(&reading.service, node.map(str::to_owned)).await {
            Ok(_) => return Ok(reading),
            Err(failure) if failure.info.kind != ErrorKind::NotFound => return Err(failure),
            Err(failure) => missing = missing.or(Some(failure)),
        }
    }
    Err(missing.unwrap_or_else(|| Failure::bad("the path is no name")))
}

/// How the body of a POST is encoded. Simple forms of a web page are none of these.
fn content_type(headers: &HeaderMap) -> Result<Codec, Failure> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    said.and_then(format).ok_or_else(|| {
        let info = ErrorInfo::new(ErrorKind::BadRequest, "the body is of a type that is not taken");
        Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, info)
            .hint("send `Content-Type: application/json` or `application/msgpack`")
            .with(header::ACCEPT, "application/json, application/msgpack")
    })
}

fn format(media: &str) -> Option<Codec> {
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Some(Codec::Json),
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
            Some(Codec::Msgpack)
        }
        _ => None,
    }
}

fn wishes(parts: &Parts, sent: Option<Codec>) -> Result<Wishes, Failure> {
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let accepted: Vec<&str> = accept.unwrap_or_default().split(',').map(str::trim).collect();
    let events = accepted.iter().any(|media| media.starts_with("text/event-stream"));
    let codec = match accepted.iter().find_map(|media| format(media)) {
        _ if events => Codec::Json,
        Some(codec) => codec,
        None => sent.unwrap_or(Codec::Json),
    };
    let header = |name| header_text(&parts.headers, name);
    let mut wishes = Wishes {
        codec,
        events,
        node: header(NODE).map(str::to_owned),
        timeout_ms: header(TIMEOUT).map(seconds).transpose()?,
        query: Vec::new(),
    };
    for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        match name.strip_prefix(OPTION) {
            Some("timeout") => wishes.timeout_ms = Some(seconds(&value)?),
            Some("node") => wishes.node = Some(value.into_owned()),
            Some(_) => {
                return Err(Failure::bad(format!("{name} is no option"))
                    .hint("options are rhd-timeout and rhd-node"));
            }
            None => wishes.query.push((name.into_owned(), value.into_owned())),
        }
    }
    Ok(wishes)
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A time as milliseconds.
fn seconds(text: &str) -> Result<u64, Failure> {
    let seconds: Option<f64> = text.trim().parse().ok();
    match seconds.filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST) {
        Some(seconds) => Ok((Duration::from_secs_f64(seconds).as_millis() as u64).max(1)),
        None => Err(Failure::bad(format!("{text:?} is no timeout"))
            .hint("X-Rhd-Timeout is in seconds, such as 2.5")),
    }
}

fn not_allowed() -> Failure {
    let info = ErrorInfo::new(ErrorKind::BadRequest, "functions are called by GET and POST only");
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, info).with(header::ALLOW, "GET, POST")
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};

    use super::*;

    fn asked(uri: &str, headers: &[(&str, &str)]) -> Result<Wishes, Failure> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        wishes(&request.body(Body::empty()).unwrap().into_parts().0, Some(Codec::Msgpack))
    }

    #[test]
    fn options_are_told_from_arguments() {
        let w = asked("/f?a=1&rhd-timeout=2.5&rhd-node=box&b=x%20y", &[]).unwrap();
        assert_eq!((w.timeout_ms, w.node.as_deref()), (Some(2500), Some("box")));
        assert_eq!(w.query, [("a".into(), "1".into()), ("b".into(), "x y".into())]);
        assert_eq!(w.codec, Codec::Msgpack, "the answer is encoded as the body is");
        for bad in ["0", "-1", "x", "inf", "NaN", "1e300", ""] {
            assert!(asked("/f", &[("x-rhd-timeout", bad)]).is_err(), "{bad}");
        }
        assert!(asked("/f?rhd-nope=1", &[]).is_err());
    }

    #[test]
    fn accept_chooses_the_answer() {
        let accept = |accept| asked("/f", &[("accept", accept)]).unwrap();
        assert_eq!(accept("application/json").codec, Codec::Json);
        assert_eq!(accept("*/*").codec, Codec::Msgpack);
        assert_eq!(accept("text/html, application/x-msgpack;q=0.9").codec, Codec::Msgpack);
        let events = accept("text/event-stream");
        assert!(events.events && events.codec == Codec::Json);
    }

    #[test]
    fn forms_of_web_pages_are_no_bodies() {
        let taken = |media| {
            content_type(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(media),
            )]))
            .is_ok()
        };
        assert!(taken("application/json; charset=utf-8") && taken("Application/MsgPack"));
        for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
        {
            assert!(!taken(simple), "{simple}");
        }
        assert!(content_type(&HeaderMap::new()).is_err());
    }
}
