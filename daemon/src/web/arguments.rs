//! Arguments as people send them, made into the body of a call: `[args, kwargs]`.
//!
//! A body is an array of arguments, or an object of named ones. To give both, it is an object with
//! the keys `args` (an array) and `kwargs` (an object) and no others; one of them may be left out.

use std::{borrow::Cow, io::Cursor};

use bytes::Bytes;
use rhd_protocol::{
    call::Codec,
    error::{ErrorInfo, ErrorKind},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, value::RawValue};

use super::failure::Failure;

/// How deep a body may nest where we have to follow it ourselves.
const MAX_DEPTH: usize = 128;

/// The largest body that is taken in another encoding than that of the answer, in bytes: on the way
/// it takes many times its size.
const MAX_TRANSCODED: usize = 1024 * 1024;
/// Bodies above this size are read beside the tasks that others wait for.
const LARGE: usize = 256 * 1024;

/// Arguments in one encoding, as text or bytes of a list and a map.
struct Split<'a> {
    args: Cow<'a, [u8]>,
    kwargs: Cow<'a, [u8]>,
}

/// Makes a request's body, which is in `from`, the body of a call in `to`.
pub(super) async fn of_body(body: &Bytes, from: Codec, to: Codec) -> Result<Vec<u8>, Failure> {
    if body.len() <= LARGE {
        return convert(body, from, to);
    }
    let body = body.clone();
    let converted = tokio::task::spawn_blocking(move || convert(&body, from, to));
    converted.await.unwrap_or_else(|e| {
        Err(ErrorInfo::new(ErrorKind::Internal, format!("the body was not read: {e}")).into())
    })
}

fn convert(body: &Bytes, from: Codec, to: Codec) -> Result<Vec<u8>, Failure> {
    if from != to && body.len() > MAX_TRANSCODED {
        let text =
            format!("the body is larger than {MAX_TRANSCODED} bytes and of another encoding");
        return Err(Failure::bad(text)
            .hint("ask for the answer in the encoding of the body: same Content-Type and Accept"));
    }
    let split = match from {
        _ if body.is_empty() => Split::none(from),
        Codec::Msgpack => split_msgpack(body)?,
        _ => split_json(body)?,
    };
    let joined = split.join(from);
    if from == to { Ok(joined) } else { transcode(&joined, from, to) }
}

/// Makes query parameters named arguments: JSON where they read as JSON, else text.
pub(super) fn of_query(
    pairs: impl IntoIterator<Item = (String, String)>,
    to: Codec,
) -> Result<Vec<u8>, Failure> {
    let mut kwargs = Map::new();
    for (name, text) in pairs {
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if kwargs.insert(name.clone(), value).is_some() {
            return Err(Failure::bad(format!("parameter {name:?} is there twice"))
                .hint("give a list as JSON: name=[1,2]"));
        }
    }
    encode(&Value::Array(vec![Value::Array(Vec::new()), Value::Object(kwargs)]), to)
}

impl Split<'_> {
    fn none(codec: Codec) -> Self {
        let [args, kwargs] = empty(codec);
        Self { args: args.into(), kwargs: kwargs.into() }
    }

    fn join(&self, codec: Codec) -> Vec<u8> {
        let (args, kwargs) = (&*self.args, &*self.kwargs);
        match codec {
            Codec::Msgpack => [&[0x92], args, kwargs].concat(),
            _ => [b"[", args, b",", kwargs, b"]"].concat(),
        }
    }
}

fn empty(codec: Codec) -> [&'static [u8]; 2] {
    if codec == Codec::Msgpack { [&[0x90], &[0x80]] } else { [b"[]", b"{}"] }
}

fn split_json(body: &[u8]) -> Result<Split<'_>, Failure> {
    // As it stands, so that numbers of any size stay what they are.
    let whole: &RawValue = serde_json::from_slice(body).map_err(|e| {
        Failure::bad(format!("the body is no JSON: {e}"))
            .hint("send a JSON array of arguments, or an object of named ones")
    })?;
    let text = whole.get();
    let [no_args, no_kwargs] = empty(Codec::Json);
    match text.as_bytes().first() {
        Some(b'[') => Ok(Split { args: text.as_bytes().into(), kwargs: no_kwargs.into() }),
        Some(b'{') => {
            let both: Result<Both<'_>, _> = serde_json::from_str(text);
            let part = |raw: Option<&RawValue>, first: u8| {
                raw.is_none_or(|raw| raw.get().as_bytes().first() == Some(&first))
            };
            match both {
                Ok(Both { args, kwargs })
                    if (args.is_some() || kwargs.is_some())
                        && part(args, b'[')
                        && part(kwargs, b'{') =>
                {
                    Ok(Split {
                        args: args.map_or(no_args, |raw| raw.get().as_bytes()).to_vec().into(),
                        kwargs: kwargs
                            .map_or(no_kwargs, |raw| raw.get().as_bytes())
                            .to_vec()
                            .into(),
                    })
                }
                _ => Ok(Split { args: no_args.into(), kwargs: text.as_bytes().into() }),
            }
        }
        _ => Err(not_arguments()),
    }
}

/// The form of a body that gives both kinds of arguments.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Both<'a> {
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default)]
    kwargs: Option<&'a RawValue>,
}

fn split_msgpack(body: &[u8]) -> Result<Split<'_>, Failure> {
    let broken = |e: &dyn std::fmt::Display| {
        Failure::bad(format!("the body is no MessagePack: {e}"))
            .hint("send a MessagePack array of arguments, or a map of named ones")
    };
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(body));
    reader.set_max_depth(MAX_DEPTH);
    IgnoredAny::deserialize(&mut reader).map_err(|e| broken(&e))?;
    if reader.position() != body.len() as u64 {
        return Err(broken(&format!("something follows it at byte {}", reader.position())));
    }
    let [no_args, no_kwargs] = empty(Codec::Msgpack);
    match body.first() {
        Some(first) if is_array(*first) => {
            Ok(Split { args: body.into(), kwargs: no_kwargs.into() })
        }
        Some(first) if is_map(*first) => {
            Ok(both_msgpack(body).unwrap_or(Split { args: no_args.into(), kwargs: body.into() }))
        }
        _ => Err(not_arguments()),
    }
}

/// A map of `args` and `kwargs` and nothing else; `body` is one value of MessagePack.
fn both_msgpack(body: &[u8]) -> Option<Split<'_>> {
    let count @ 1..=2 = usize::from(*body.first()?).checked_sub(0x80)? else { return None };
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(body.get(1..)?));
    let [mut args, mut kwargs] = empty(Codec::Msgpack);
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..count {
        let key = String::deserialize(&mut reader).ok()?;
        let start = 1 + usize::try_from(reader.position()).ok()?;
        IgnoredAny::deserialize(&mut reader).ok()?;
        let value = body.get(start..1 + usize::try_from(reader.position()).ok()?)?;
        let first = *value.first()?;
        match key.as_str() {
            _ if seen.contains(&key) => return None,
            "args" if is_array(first) => args = value,
            "kwargs" if is_map(first) => kwargs = value,
            _ => return None,
        }
        seen.push(key);
    }
    Some(Split { args: args.into(), kwargs: kwargs.into() })
}

fn is_array(marker: u8) -> bool {
    matches!(marker, 0x90..=0x9f | 0xdc | 0xdd)
}

fn is_map(marker: u8) -> bool {
    matches!(marker, 0x80..=0x8f | 0xde | 0xdf)
}

fn not_arguments() -> Failure {
    Failure::bad("the body is neither a list of arguments nor a map of named ones")
        .hint("send [1, 2], {\"a\": 1}, or {\"args\": [1], \"kwargs\": {\"b\": 2}}")
}

fn transcode(bytes: &[u8], from: Codec, to: Codec) -> Result<Vec<u8>, Failure> {
    let value: Result<Value, String> = match from {
        Codec::Msgpack => {
            let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
            reader.set_max_depth(MAX_DEPTH);
            Value::deserialize(&mut reader).map_err(|e| e.to_string())
        }
        _ => serde_json::from_slice(bytes).map_err(|e| e.to_string()),
    };
    let value = value.map_err(|e| {
        Failure::bad(format!("the body has no form in the encoding of the answer: {e}"))
            .hint("ask for the answer in the encoding of the body: same Content-Type and Accept")
    })?;
    encode(&value, to)
}

fn encode(value: &Value, to: Codec) -> Result<Vec<u8>, Failure> {
    match to {
        Codec::Msgpack => rmp_serde::to_vec(value).map_err(|e| Failure::bad(e.to_string())),
        _ => serde_json::to_vec(value).map_err(|e| Failure::bad(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Result<String, String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        convert(&body, Codec::Json, Codec::Json)
            .map(|call| String::from_utf8(call).unwrap())
            .map_err(|failure| failure.info.message)
    }

    fn msgpack(body: &Value) -> Value {
        let body = rmp_serde::to_vec(body).unwrap().into();
        let call = convert(&body, Codec::Msgpack, Codec::Msgpack).unwrap();
        rmp_serde::from_slice(&call).unwrap()
    }

    #[test]
    fn a_body_is_a_list_a_map_or_both() {
        for (body, call) in [
            ("", "[[],{}]"),
            ("[1, 2]", "[[1, 2],{}]"),
            (r#" {"a": 1} "#, r#"[[],{"a": 1}]"#),
            (r#"{"args": [1], "kwargs": {"b": 2}}"#, r#"[[1],{"b": 2}]"#),
            (r#"{"kwargs": {"args": [1]}}"#, r#"[[],{"args": [1]}]"#),
            (r#"{"args": [1]}"#, "[[1],{}]"),
            // These are arguments of that name.
            (r#"{"args": 1}"#, r#"[[],{"args": 1}]"#),
            (r#"{"args": [1], "x": 1}"#, r#"[[],{"args": [1], "x": 1}]"#),
            ("{}", "[[],{}]"),
            // Numbers stay as they are, however large.
            ("[123456789012345678901234567890]", "[[123456789012345678901234567890],{}]"),
        ] {
            assert_eq!(json(body).as_deref(), Ok(call), "{body}");
            let Ok(value) = serde_json::from_str::<Value>(body) else { continue };
            if !body.contains("1234") {
                assert_eq!(msgpack(&value), serde_json::from_str::<Value>(call).unwrap(), "{body}");
            }
        }
    }

    #[test]
    fn what_is_no_argument_says_where() {
        assert!(json("[1,\n 2,,]").unwrap_err().contains("line 2 column 4"));
        assert!(json("1").unwrap_err().contains("neither"));
        assert!(json("[1] [2]").is_err());
        assert!(json("\u{0}").is_err());
        let deep = "[".repeat(1_000_000);
        assert!(json(&deep).is_err());
        let bytes = |bytes: &'static [u8]| {
            convert(&Bytes::from_static(bytes), Codec::Msgpack, Codec::Msgpack).is_err()
        };
        // Cut off, too much of it, a scalar, and a claimed length.
        assert!(
            bytes(b"\x92\x01")
                && bytes(b"\x90\x90")
                && bytes(b"\x01")
                && bytes(b"\xdd\xff\xff\xff\xff")
        );
        let deep = Bytes::from(vec![0x91; 1_000_000]);
        assert!(convert(&deep, Codec::Msgpack, Codec::Msgpack).is_err());
    }

    #[test]
    fn encodings_are_changed_where_they_can_be() {
        let body = Bytes::from_static(br#"{"a": [1, "x", null]}"#);
        let call = convert(&body, Codec::Json, Codec::Msgpack).unwrap();
        let call: Value = rmp_serde::from_slice(&call).unwrap();
        assert_eq!(call, serde_json::json!([[], {"a": [1, "x", null]}]));
        let raw = Bytes::from_static(b"\x91\xc4\x01\xff");
        assert!(convert(&raw, Codec::Msgpack, Codec::Msgpack).is_ok());
        assert!(convert(&raw, Codec::Msgpack, Codec::Json).is_err(), "JSON has no bytes");
        let large = Bytes::from(format!("[{}]", vec!["0"; MAX_TRANSCODED].join(",")));
        assert!(convert(&large, Codec::Json, Codec::Json).is_ok());
        assert!(convert(&large, Codec::Json, Codec::Msgpack).is_err());
    }

    #[test]
    fn whatever_comes_is_arguments_or_an_error() {
        use rand::{Rng, SeedableRng};
        let seeds: [&[u8]; 4] = [
            br#"{"args": [1, "x"], "kwargs": {"b": 2.5}}"#,
            br#" [1, [2, {"a": null}], "\u00e9"]"#,
            b"\x82\xa4args\x92\x01\xa1x\xa6kwargs\x81\xa1b\xc3",
            b"\x93\x01\xdc\x00\x01\x02\xc4\x01\xff",
        ];
        let codecs = [Codec::Json, Codec::Msgpack];
        let mut random = rand::rngs::StdRng::seed_from_u64(3);
        for round in 0..20_000 {
            let mut bytes = seeds[round % seeds.len()].to_vec();
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            bytes.truncate(random.random_range(1..=bytes.len()));
            let bytes = Bytes::from(bytes);
            for from in codecs {
                if let Ok(call) = convert(&bytes, from, from) {
                    is_call(&call, from, &bytes);
                }
                for to in codecs {
                    let _ = convert(&bytes, from, to);
                }
            }
        }
    }

    /// Panics unless it is a list of a list and a map, to its end.
    fn is_call(call: &[u8], codec: Codec, of: &[u8]) {
        if codec == Codec::Json {
            let (args, kwargs): (&RawValue, &RawValue) = serde_json::from_slice(call).unwrap();
            assert!(args.get().starts_with('[') && kwargs.get().starts_with('{'), "{of:?}");
            return;
        }
        assert_eq!(call[0], 0x92);
        let mut reader = rmp_serde::Deserializer::new(Cursor::new(&call[1..]));
        assert!(is_array(call[1]), "{of:?}");
        IgnoredAny::deserialize(&mut reader).unwrap();
        assert!(is_map(call[1 + reader.position() as usize]), "{of:?}");
        IgnoredAny::deserialize(&mut reader).unwrap();
        assert_eq!(reader.position() as usize, call.len() - 1, "{of:?}");
    }

    #[test]
    fn a_query_is_named_arguments() {
        let query = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            of_query(pairs, Codec::Json).map(|call| String::from_utf8(call).unwrap())
        };
        let call = query(&[("n", "3"), ("name", "ann"), ("l", "[1]"), ("s", "\"3\"")]).unwrap();
        assert_eq!(call, r#"[[],{"l":[1],"n":3,"name":"ann","s":"3"}]"#);
        assert!(query(&[("n", "3"), ("n", "4")]).is_err());
    }
}
