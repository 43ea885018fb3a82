//! `rhd call`.

use std::{collections::BTreeMap, time::Duration};

use rhd_protocol::{
    api::Described,
    call::{Codec, Reply, Verb},
    error::{ErrorInfo, ErrorKind},
    service::{Flavor, ServiceKind},
};
use rhd_sdk::{Client, Invocation};
use serde_json::Value;

use super::{Context, env::pair, invite::duration, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A function, or a method or property of a class or instance
    #[arg(value_name = "NAME[.METHOD]")]
    name: String,
    /// Arguments: JSON, or plain text where it is none
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    args: Vec<String>,
    /// A keyword argument; may be given again
    #[arg(long = "kw", value_name = "NAME=JSON", value_parser = pair)]
    kwargs: Vec<(String, String)>,
    /// The node that must run it
    #[arg(long)]
    node: Option<String>,
    /// What it may take, as 30s, 10m or 1h
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let (target, flavor) = target(&client, &args.name, args.node.as_deref()).await?;
    // The end of a generator is no result.
    let yields = matches!(flavor, Flavor::Generator | Flavor::AsyncGenerator);
    let invocation =
        Invocation { node: args.node.clone(), timeout: args.timeout, logs: true, ..target };
    let positional: Vec<Value> = args.args.iter().map(|text| json(text)).collect();
    let named: BTreeMap<&String, Value> = args.kwargs.iter().map(|(k, v)| (k, json(v))).collect();
    let mut replies = client.start(&invocation, Codec::Json, &positional, &named).await?;
    while let Some((reply, body)) = replies.next().await? {
        match reply {
            Reply::Log { .. } => ui.log(&body),
            Reply::Progress { text, .. } => ui.progress(&text),
            Reply::Done { .. } if yields => {}
            Reply::Item { codec, .. } | Reply::Done { codec, .. } => {
                ui.line(&one_line(codec, &body)?)?;
            }
            Reply::Fail { error, .. } => return Err(error),
        }
    }
    Ok(())
}

/// Finds what `name` means: a dot may belong to the name or come before a method.
async fn target(
    client: &Client,
    name: &str,
    node: Option<&str>,
) -> Result<(Invocation, Flavor), ErrorInfo> {
    let whole = match client.describe(name, node).await {
        Ok(described) => return invocation(described, None),
        Err(e) => e,
    };
    let maybe = matches!(whole.kind, ErrorKind::NotFound | ErrorKind::BadRequest);
    let Some((service, method)) = name.rsplit_once('.').filter(|_| maybe) else {
        return Err(whole);
    };
    match client.describe(service, node).await {
        Ok(described) => invocation(described, Some(method)),
        Err(e) if e.kind == ErrorKind::NotFound => Err(whole),
        Err(e) => Err(e),
    }
}

fn invocation(
    described: Described,
    method: Option<&str>,
) -> Result<(Invocation, Flavor), ErrorInfo> {
    let service = described.service;
    let invocation = Invocation::of(&service.name);
    match (method, service.kind) {
        (None, ServiceKind::Function) => Ok((invocation, service.interface.flavor)),
        (None, ServiceKind::Class | ServiceKind::Instance) => {
            Err(ErrorInfo::new(ErrorKind::BadRequest, format!("{} is no function", service.name))
                .hint(format!("call a method of it: rhd call {}.METHOD", service.name))
                .on(&described.node))
        }
        (Some(method), _) => {
            // Members that the interface does not list may exist all the same: the host decides.
            let flavor = service.interface.members.get(method).copied().unwrap_or_default();
            let verb = if flavor == Flavor::Property { Verb::Get } else { Verb::Call };
            Ok((Invocation { verb, ..invocation.method(method) }, flavor))
        }
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()))
}

fn one_line(codec: Codec, body: &[u8]) -> Result<String, ErrorInfo> {
    if codec == Codec::Json && !body.contains(&b'\n') {
        return Ok(String::from_utf8_lossy(body).into_owned());
    }
    let value: Value = rhd_sdk::value_of(codec, body)?;
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_where_they_can_be() {
        assert_eq!(json("3"), Value::from(3));
        assert_eq!(json("[1, \"a\"]"), serde_json::json!([1, "a"]));
        assert_eq!(json("hello world"), Value::from("hello world"));
    }
}
