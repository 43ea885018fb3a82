//! No bytes make a decoder panic, and what is generated survives the way there and back.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, clippy::expect_used)]
mod fuzz;
mod samples;

use std::{collections::BTreeMap, sync::LazyLock};

use proptest::{collection::vec, option, prelude::*, sample::Index};
use rhd_protocol::{
    call::{Call, Codec, Verb},
    env::EnvSpec,
    frame,
    id::{CallId, Hash},
    wire::{FileEntry, Manifest, link_stays_inside},
};

/// The bytes of every sample, made once: some are signed, which takes its time in a dev build.
static MESSAGES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| samples::samples().iter().filter_map(samples::Sample::encode).collect());

fn every_target(data: &[u8]) {
    fuzz::ALL.iter().for_each(|(_, target)| target(data));
}

#[test]
fn truncated_messages_are_refused_at_every_length() {
    for bytes in MESSAGES.iter() {
        every_target(bytes);
        (0..bytes.len()).for_each(|end| every_target(&bytes[..end]));
    }
}

#[test]
fn deep_nesting_ends_with_an_error_not_the_stack() {
    // Arrays, then maps, as deep as a header can hold; alone and as an unknown field of a message.
    for unit in [&b"\x91"[..], b"\x81\xa1a"] {
        let deep = unit.repeat(frame::MAX_HEADER / unit.len());
        every_target(&deep);
        let field = [b"\x82\xa1v\x01\xa2zz", &deep[..]].concat();
        every_target(&field);
        let tagged = [b"\x82\xa2op\xa6status\xa2zz", &deep[..]].concat();
        every_target(&tagged);
        let late = [b"\x82\xa2zz", &deep[..]].concat();
        every_target(&late);
    }
}

#[test]
fn claimed_lengths_allocate_nothing() {
    // str32, bin32, array32, map32 of 4 GiB, where a field's value is due.
    for kind in [0xdb, 0xc6, 0xdd, 0xdf] {
        let value = [kind, 0xff, 0xff, 0xff, 0xff];
        every_target(&value);
        for field in ["secret", "parts", "files", "roots", "record", "sig", "addrs", "services"] {
            let head = [0x81, 0xa0 | field.len() as u8];
            every_target(&[&head[..], field.as_bytes(), &value[..]].concat());
        }
    }
}

/// What chance or malice does to bytes.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Double(Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<Index>(), vec(any::<u8>(), 1..6)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), 1..9usize).prop_map(|(at, n)| Edit::Remove(at, n)),
        (any::<Index>(), 1..40usize).prop_map(|(at, n)| Edit::Double(at, n)),
    ]
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let span = |at: &Index, n: usize| {
            let start = at.index(bytes.len());
            start..(start + n).min(bytes.len())
        };
        match self {
            Self::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, n) => drop(bytes.drain(span(at, *n))),
            Self::Double(at, n) => {
                let span = span(at, *n);
                let copy = bytes[span.clone()].to_vec();
                bytes.splice(span.start..span.start, copy);
            }
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9/._ äß\n-]{0,24}"
}

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash::from_bytes)
}

fn calls() -> impl Strategy<Value = Call> {
    let head = (any::<u16>(), any::<[u8; 16]>(), option::of(text()), text(), text());
    let verb = prop_oneof![Just(Verb::Call), Just(Verb::New), Just(Verb::Set), Just(Verb::Drop)];
    let codec = prop_oneof![Just(Codec::Pickle), Just(Codec::Msgpack), Just(Codec::Json)];
    let rest = (option::of(text()), option::of(text()), vec(any::<u64>(), 0..5));
    (head, verb, codec, rest, option::of(any::<u64>()), any::<bool>()).prop_map(
        |(
            (v, id, node, service, caller),
            verb,
            codec,
            (method, instance, parts),
            timeout_ms,
            logs,
        )| {
            let id = CallId::from_bytes(id);
            Call {
                v,
                node,
                verb,
                method,
                instance,
                codec,
                parts,
                timeout_ms,
                logs,
                caller,
                ..Call::new(id, service)
            }
        },
    )
}

fn envs() -> impl Strategy<Value = EnvSpec> {
    let vars = proptest::collection::btree_map(text(), text(), 0..4);
    (text(), option::of(text()), vec(text(), 0..5), vec(text(), 0..3), vars, option::of(1..9u32))
        .prop_map(|(name, python, reqs, setup_cmds, env_vars, workers)| EnvSpec {
            compute: Default::default(),
            name,
            python: python.clone(),
            conda_env: python,
            reqs,
            setup_cmds,
            env_vars,
            workers,
            binary: None,
        })
}

fn manifests() -> impl Strategy<Value = Manifest> {
    let part = prop_oneof![Just("a"), Just("b"), Just("c.py"), Just(".."), Just("."), Just("")];
    let path = vec(part, 1..6).prop_map(|parts| parts.join("/"));
    let file = (any::<u64>(), hash(), any::<bool>(), option::of(path.clone()))
        .prop_map(|(size, hash, exec, link)| FileEntry { size, hash, exec, link });
    proptest::collection::btree_map(path, file, 0..8).prop_map(|files| Manifest { files })
}

/// Where a path leads on a real file system with these links, if it stays below the root.
fn resolve(links: &BTreeMap<&str, &str>, path: &str) -> Option<Vec<String>> {
    let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut at: Vec<String> = Vec::new();
    let mut steps = 0;
    while let Some(part) = todo.pop() {
        steps += 1;
        if steps > 200 {
            // A loop: the system says ELOOP.
            return Some(at);
        }
        match part.as_str() {
            "" | "." => {}
            ".." => drop(at.pop()?),
            _ => {
                at.push(part);
                if let Some(target) = links.get(at.join("/").as_str()) {
                    at.pop();
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
            }
        }
    }
    Some(at)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..300)) {
        every_target(&data);
    }

    #[test]
    fn mutated_messages_never_panic(which in any::<Index>(), edits in vec(edit(), 1..6)) {
        let mut bytes = which.get(&MESSAGES).clone();
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        every_target(&bytes);
        // The same as a frame, with honest and with doubtful lengths.
        let len = (bytes.len() as u32).to_be_bytes();
        fuzz::frame(&[&len[..], &[0; 4], &bytes[..]].concat());
        fuzz::frame(&bytes);
    }

    #[test]
    fn typed_text_never_panics(text in "[/@~^]?\\PC{0,80}") {
        fuzz::text(text.as_bytes());
    }

    #[test]
    fn calls_round_trip(call in calls()) {
        let bytes = frame::to_vec(&call).unwrap();
        prop_assert_eq!(frame::decode::<Call>(&bytes).unwrap(), call);
    }

    #[test]
    fn envs_round_trip_and_their_hash_ignores_order(env in envs()) {
        let bytes = frame::to_vec(&env).unwrap();
        prop_assert_eq!(&frame::decode::<EnvSpec>(&bytes).unwrap(), &env);
        let mut turned = env.clone();
        turned.reqs.reverse();
        prop_assert_eq!(turned.build_hash(), env.build_hash());
    }

    #[test]
    fn what_a_safe_manifest_lists_stays_below_its_root(manifest in manifests()) {
        let bytes = frame::to_vec(&manifest).unwrap();
        prop_assert_eq!(&frame::decode::<Manifest>(&bytes).unwrap(), &manifest);
        if manifest.is_safe() {
            let links = manifest.files.iter();
            let links = links.filter_map(|(p, f)| Some((p.as_str(), f.link.as_deref()?))).collect();
            for path in manifest.files.keys() {
                prop_assert!(resolve(&links, path).is_some(), "{path} leads out");
            }
        }
    }

    #[test]
    fn links_alone_stay_below_their_root(path in "[ab]/[ab]/l", target in "[ab./]{1,9}") {
        if link_stays_inside(&path, &target) {
            let links = BTreeMap::from([(path.as_str(), target.as_str())]);
            prop_assert!(resolve(&links, &path).is_some(), "{path} -> {target}");
        }
    }
}
