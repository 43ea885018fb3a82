//! The Unix socket against clients that are wrong, newer, or hostile.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use rhd_protocol::{
    VERSION,
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    frame::{self, MAX_BODY, MAX_HEADER, PREFIX, Prefix},
};
use rhd_tests::Node;
use serde_json::json;

/// A frame with this header, as a client of any version might write it.
fn frame_of(header: &serde_json::Value) -> Vec<u8> {
    frame::encode(header, 0).unwrap()
}

fn reply(stream: &mut UnixStream) -> Reply {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix).unwrap();
    let lengths = Prefix::parse(prefix, MAX_BODY).unwrap();
    let mut bytes = vec![0; lengths.header + lengths.body];
    stream.read_exact(&mut bytes).unwrap();
    frame::decode(&bytes[..lengths.header]).unwrap()
}

fn failure(node: &Node, bytes: &[u8]) -> ErrorInfo {
    let mut stream = node.socket();
    stream.write_all(bytes).unwrap();
    match reply(&mut stream) {
        Reply::Fail { error, .. } => error,
        other => panic!("no failure: {other:?}"),
    }
}

/// Sends bytes, says that no more come, and waits until the daemon is through with them.
fn send_all(node: &Node, bytes: &[u8]) {
    let mut stream = node.socket();
    // The daemon may hang up in the middle, as it should; but it must not keep us waiting.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(e) = stream.take(1 << 20).read_to_end(&mut answer) {
        assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}");
    }
}

fn unharmed(node: &Node) {
    let status = node.status();
    assert_eq!(status.pid, node.pid());
    assert!(status.rss < 512 << 20, "{} bytes resident", status.rss);
}

#[test]
fn a_newer_client_is_told_which_side_to_update() {
    let node = Node::start("old");
    let newer = VERSION + 1;
    for header in [
        json!({"op": "status", "v": newer}),
        json!({"op": "of_the_future", "v": newer, "x": [1, 2]}),
        json!({"op": "call", "call": {"v": newer, "shape": "unknown"}}),
        json!({"op": "deploy", "deploy": {"v": newer}}),
    ] {
        let error = failure(&node, &frame_of(&header));
        assert_eq!(error.kind, ErrorKind::VersionMismatch, "{header}: {error:?}");
        assert!(!error.hint.is_empty(), "{header}: {error:?}");
    }
    unharmed(&node);
}

#[test]
fn a_request_that_is_none_is_refused_in_words() {
    let node = Node::start("strict");
    for header in [
        json!({"op": "of_no_version", "v": VERSION}),
        json!({"v": VERSION}),
        json!({"op": "join", "v": VERSION}),
        json!([1, 2]),
        json!("status"),
        json!(7),
    ] {
        let error = failure(&node, &frame_of(&header));
        assert_eq!(error.kind, ErrorKind::BadRequest, "{header}: {error:?}");
    }
    unharmed(&node);
}

#[test]
fn fields_that_it_does_not_know_are_ignored() {
    let node = Node::start("lenient");
    let mut stream = node.socket();
    let header = json!({"op": "status", "v": VERSION, "of_a_later_release": {"a": [1]}});
    stream.write_all(&frame_of(&header)).unwrap();
    assert!(matches!(reply(&mut stream), Reply::Done { .. }));
}

#[test]
fn frames_cut_anywhere_do_no_harm() {
    let node = Node::start("cut");
    let mut whole = frame::encode(&json!({"op": "status", "v": VERSION}), 5).unwrap();
    whole.extend(b"body!");
    for length in 0..whole.len() {
        send_all(&node, &whole[..length]);
    }
    unharmed(&node);
}

#[test]
fn lengths_over_the_limits_are_refused_without_being_believed() {
    let node = Node::start("limits");
    let header = u32::try_from(MAX_HEADER).unwrap();
    let body = u32::try_from(MAX_BODY).unwrap();
    for (h, b) in [(0, 0), (header + 1, 0), (u32::MAX, u32::MAX), (4, body + 1), (4, u32::MAX)] {
        let bytes = [h.to_be_bytes(), b.to_be_bytes()].concat();
        send_all(&node, &[&bytes[..], &[0x80; 64]].concat());
    }
    // Within the limits, but a lie: many clients that claim much and send nothing.
    let liars: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = node.socket();
            let lie = frame_of(&json!({"op": "status", "v": VERSION}));
            stream.write_all(&lie[..4]).unwrap();
            stream.write_all(&body.to_be_bytes()).unwrap();
            stream.write_all(&lie[PREFIX..]).unwrap();
            stream
        })
        .collect();
    unharmed(&node);
    drop(liars);
}

#[test]
fn random_bytes_and_random_frames_do_no_harm() {
    let node = Node::start("noise");
    let seed = 0x5eed_u64;
    let mut noise = Noise(seed);
    for round in 0..400 {
        let length = usize::from(noise.byte()) * 4;
        let mut bytes: Vec<u8> = (0..length).map(|_| noise.byte()).collect();
        if round % 2 == 0 {
            // A frame by its lengths, whatever its header says.
            let prefix = (u32::try_from(length).unwrap().to_be_bytes(), 0u32.to_be_bytes());
            bytes = [&prefix.0[..], &prefix.1[..], &bytes[..]].concat();
        }
        send_all(&node, &bytes);
    }
    unharmed(&node);
}

#[test]
fn mutated_requests_do_no_harm() {
    let node = Node::start("mutants");
    let good = [
        json!({"op": "describe", "v": VERSION, "name": "x"}),
        json!({"op": "join", "v": VERSION, "ticket": "rhd1aaaa", "name": null}),
        json!({"op": "services", "v": VERSION, "prefix": "/"}),
        json!({"op": "call", "call": {"v": VERSION, "id": "a".repeat(26), "service": "/a/b",
            "codec": "json", "parts": [3, 4], "verb": "call"}}),
    ];
    let mut noise = Noise(7);
    for round in 0..400 {
        let mut bytes = frame_of(&good[round % good.len()]);
        for _ in 0..=noise.byte() % 3 {
            let at = PREFIX + noise.word() % (bytes.len() - PREFIX);
            bytes[at] = noise.byte();
        }
        send_all(&node, &bytes);
    }
    unharmed(&node);
}

#[test]
fn clients_that_only_hold_a_connection_keep_nobody_out() {
    let node = Node::start("held");
    let held: Vec<UnixStream> = (0..100).map(|_| node.socket()).collect();
    unharmed(&node);
    drop(held);
}

/// Noise that is the same in every run (xorshift64*).
struct Noise(u64);

impl Noise {
    fn word(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
    }

    fn byte(&mut self) -> u8 {
        self.word().to_le_bytes()[0]
    }
}
