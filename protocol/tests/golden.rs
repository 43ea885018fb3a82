//! The bytes of every message are pinned: see `vectors/README.md`.

#![allow(clippy::unwrap_used)]

mod samples;

use std::{collections::BTreeSet, fs, path::PathBuf};

use data_encoding::HEXLOWER;
use rhd_protocol::{api::AnyRequest, env::EnvSpec, frame, ticket::Ticket};
use samples::{Sample, samples, values};
use serde::{Serialize, de::DeserializeOwned};

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read(name: &str) -> Option<Vec<u8>> {
    let text: String = fs::read_to_string(dir().join(name)).ok()?.split_whitespace().collect();
    Some(HEXLOWER.decode(text.as_bytes()).unwrap())
}

fn write(name: &str, bytes: &[u8]) {
    let lines: Vec<_> = bytes.chunks(40).map(|line| HEXLOWER.encode(line)).collect();
    fs::write(dir().join(name), lines.join("\n") + "\n").unwrap();
}

#[test]
fn what_is_written_never_changes_and_is_understood() {
    let fill = std::env::var_os("RHD_WRITE_VECTORS").is_some();
    for sample in samples() {
        let (file, now) = (sample.file(), sample.encode());
        if let (true, None, Some(now)) = (fill, read(&file), &now) {
            write(&file, now);
        }
        let pinned =
            read(&file).unwrap_or_else(|| panic!("{file} is missing: see tests/vectors/README.md"));
        sample.assert_decodes(&pinned);
        if let Some(now) = now {
            assert_eq!(
                HEXLOWER.encode(&now),
                HEXLOWER.encode(&pinned),
                "{file}: the encoding changed; give the value a new name and keep the old file"
            );
        }
    }
}

#[test]
fn every_file_is_listed_once() {
    let listed: Vec<String> = samples().iter().map(Sample::file).collect();
    let distinct: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), distinct.len(), "a name is used twice");
    let files = fs::read_dir(dir()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file.ends_with(".hex")) {
        assert!(distinct.contains(&file), "{file} is not listed in tests/samples/");
    }
}

#[test]
fn fields_from_the_future_are_ignored() {
    for sample in samples() {
        if let Some(more) = sample.encode().and_then(|bytes| with_field(&bytes)) {
            sample.assert_decodes(&more);
        }
    }
}

/// The same map with one more entry: `zz: [nil, {"a": 1}]`; none when it is no map.
fn with_field(bytes: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = match bytes {
        [n @ 0x80..=0x8f, rest @ ..] => (u16::from(n & 0xf), rest),
        [0xde, a, b, rest @ ..] => (u16::from_be_bytes([*a, *b]), rest),
        _ => return None,
    };
    let mut out = vec![0xde];
    out.extend((len + 1).to_be_bytes());
    out.extend_from_slice(b"\xa2zz\x92\xc0\x81\xa1a\x01");
    out.extend_from_slice(rest);
    Some(out)
}

fn decode<T: DeserializeOwned>(value: &impl Serialize) -> Result<T, frame::FrameError> {
    frame::decode(&frame::to_vec(value).unwrap())
}

#[test]
fn variants_from_the_future_are_errors_not_panics() {
    use rhd_protocol::{api, call, code, error, many, membership, service, ticket, wire, worker};
    let tagged = |tag: &str, name: &str| {
        std::collections::BTreeMap::from([(tag.to_owned(), name.to_owned())])
    };
    let t = tagged("t", "fly");
    assert!(decode::<api::Request>(&tagged("op", "fly")).is_err());
    assert!(decode::<many::Order>(&tagged("op", "fly")).is_err());
    assert!(decode::<many::Order>(&tagged("op", "cancel")).is_err());
    assert!(decode::<call::Reply>(&t).is_err());
    let glance = decode::<call::Glance>(&t).unwrap();
    assert!(!glance.t.is_final() && glance.id.is_none());
    assert!(decode::<wire::Deploy>(&t).is_err());
    assert!(decode::<worker::Control>(&t).is_err());
    assert!(decode::<code::Entry>(&t).is_err());
    assert!(decode::<ticket::JoinReply>(&t).is_err());
    assert!(decode::<call::Verb>(&"fly").is_err());
    assert!(decode::<call::Codec>(&"fly").is_err());
    assert!(decode::<service::ServiceKind>(&"fly").is_err());
    assert!(decode::<service::Flavor>(&"fly").is_err());
    assert!(decode::<membership::Role>(&"fly").is_err());
    // A failure must reach the user whatever its kind.
    assert_eq!(decode::<error::ErrorKind>(&"fly").unwrap(), error::ErrorKind::Internal);
}

#[test]
fn a_newer_clients_version_is_readable_whatever_it_asks() {
    #[derive(Serialize)]
    struct Future {
        op: &'static str,
        v: u16,
        what: Vec<u8>,
    }
    let any: AnyRequest = decode(&Future { op: "fly", v: 9, what: vec![1] }).unwrap();
    assert_eq!((any.op.as_str(), any.version()), ("fly", 9));
}

#[test]
fn env_hashes_and_tickets_are_pinned() {
    let env = values::env();
    assert_eq!(
        env.build_hash().to_string(),
        "ljktfmlhbv4ffto5lhq5ilsnthfgdrpkwgabba5fqejhybvyic6a"
    );
    assert_eq!(EnvSpec { name: String::new(), ..env }.key(), "p4ubku6e5n");
    let text = include_str!("vectors/ticket.txt");
    assert_eq!(values::ticket().to_string(), text.trim());
    assert_eq!(text.trim().parse::<Ticket>().unwrap(), values::ticket());
    assert_eq!(
        values::manifest().hash().to_string(),
        "65l5ewm4xzpt6awzwwv32zoftfxrsypz2fto75kaf7o7wcgnuioa"
    );
}
