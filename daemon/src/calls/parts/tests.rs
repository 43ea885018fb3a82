//! What is named, found again and sent nevertheless.

use std::{os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use rhd_protocol::{
    call::{Again, Call, KEPT_PART},
    frame::PAYLOAD_AT,
    id::{CallId, Hash, NodeId},
};

use super::{arriving::Arriving, kept::Kept, sent::Sent, *};
use tokio::time::timeout;

use crate::framed::Payload;

/// Nothing here takes this long unless it hangs.
const HANGS: Duration = Duration::from_secs(30);
const HOST: NodeId = NodeId::from_bytes([7; 32]);
const OWNER: Owner<'static> = Owner { peer: HOST, env: "env" };

fn payload(parts: &[&[u8]]) -> Payload {
    let file = tempfile::tempfile().unwrap();
    let bytes = parts.concat();
    file.write_all_at(&bytes, PAYLOAD_AT).unwrap();
    Payload::new(Arc::new(file), bytes.len() as u64, None)
}

fn noise(seed: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn call(id: u8, parts: &[&[u8]]) -> Call {
    let parts = parts.iter().map(|part| part.len() as u64).collect();
    Call { parts, ..Call::new(CallId::from_bytes([id; 16]), "/a/f") }
}

/// What a host makes of a call: which parts it lacks, and what it has of its payload.
async fn fill(kept: &Kept, call: &Call, payload: &Payload) -> (Vec<u32>, Vec<u8>) {
    let layout = Layout::of(call, payload.len()).unwrap();
    let into = Arc::new(tempfile::tempfile().unwrap());
    into.set_len(PAYLOAD_AT + payload.len()).unwrap();
    let lacks = kept.fill(OWNER, call, &layout, into.clone()).await.unwrap();
    let mut bytes = vec![0; payload.len() as usize];
    for span in layout.without(call, &lacks) {
        let sent = payload.chunk(span.start, (span.end - span.start) as usize).unwrap();
        into.write_all_at(&sent, PAYLOAD_AT + span.start).unwrap();
    }
    into.read_exact_at(&mut bytes, PAYLOAD_AT).unwrap();
    (lacks, bytes)
}

#[tokio::test]
async fn a_part_is_sent_once_wherever_it_is_in_later_calls() {
    let (sent, kept) = (Sent::default(), Kept::new(1 << 30));
    let big = noise(1, KEPT_PART + 77);
    let other = noise(2, KEPT_PART);
    let shapes: [&[&[u8]]; 4] =
        [&[b"one", &big], &[b"two", &other, &big], &[&big, b"three"], &[b"4", &big, &other, &big]];
    let expected = [vec![], vec![2], vec![0], vec![1, 2, 3]];
    for ((shape, expected), id) in shapes.iter().zip(expected).zip(1..) {
        let (mut call, payload) = (call(id, shape), payload(shape));
        let known = sent.known(HOST, &call.parts, &payload).await;
        let named: Vec<u32> = known.again.iter().map(|again| again.part).collect();
        assert_eq!(named, expected, "of call {id}");
        call.again.clone_from(&known.again);
        let (lacks, bytes) = fill(&kept, &call, &payload).await;
        assert!(lacks.is_empty(), "call {id}");
        assert!(bytes == shape.concat(), "call {id}");
        kept.keep(OWNER, &call, &payload);
        sent.note(HOST, call.id, &known, &lacks);
    }
    assert_eq!(kept.payloads(), 2, "those that brought something");
    let (stranger, of) = (NodeId::from_bytes([8; 32]), call(9, shapes[0]));
    let known = sent.known(stranger, &of.parts, &payload(shapes[0])).await;
    assert!(known.again.is_empty(), "another host was sent nothing");
}

/// Waits until so many calls wait for the one that sends, and then ends that.
async fn waiting(sent: &Sent, waiters: usize, over: impl FnOnce()) {
    let all_wait = async {
        while sent.sending() <= waiters {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(HANGS, all_wait).await.expect("not all of them wait");
    over();
}

#[tokio::test]
async fn of_calls_at_the_same_moment_one_sends() {
    let (sent, big, other) = (Sent::default(), noise(1, KEPT_PART), noise(2, KEPT_PART));
    let (one, both) = (payload(&[&big]), payload(&[&other, &big]));
    let (mut of, of_both) = (call(1, &[&big]), call(2, &[&other, &big]));
    // The first is given up half way, then one is sent.
    for given_up in [true, false] {
        let first = sent.known(HOST, &of.parts, &one).await;
        assert!(first.again.is_empty());
        if given_up {
            let next = sent.known(HOST, &of.parts, &one);
            let (next, ()) = tokio::join!(next, waiting(&sent, 1, || drop(first)));
            assert!(next.again.is_empty(), "it sends in the place of the first");
            continue;
        }
        // Another host is another matter.
        let host = NodeId::from_bytes([8; 32]);
        assert!(sent.known(host, &of.parts, &one).await.again.is_empty());
        let others =
            futures::future::join_all([1, 2, 3].map(|_| sent.known(HOST, &of.parts, &one)));
        let more = sent.known(HOST, &of_both.parts, &both);
        let over = || {
            sent.note(HOST, of.id, &first, &[]);
            drop(first);
        };
        let (others, more, ()) = tokio::join!(others, more, waiting(&sent, 4, over));
        for known in &others {
            assert_eq!(known.again.len(), 1);
            assert_eq!((known.again[0].call, known.again[0].part), (of.id, 0));
        }
        let named: Vec<u32> = more.again.iter().map(|again| again.part).collect();
        assert_eq!(named, [1], "the other part is for it to send");
    }
    of.id = CallId::from_bytes([3; 16]);
    assert_eq!(sent.known(HOST, &of.parts, &one).await.again.len(), 1);
}

#[tokio::test]
async fn who_waits_too_long_sends() {
    let sending = sending::Sending::default();
    let now = tokio::time::Instant::now();
    let first = sending.claim("it", now).await;
    assert!(first.is_some());
    assert!(sending.claim("it", now + Duration::from_millis(5)).await.is_none());
    assert!(sending.claim("other", now + HANGS).await.is_some());
    drop(first);
    assert!(sending.claim("it", now + HANGS).await.is_some());
    assert_eq!(sending.calls(), 0);
}

#[tokio::test]
async fn a_host_waits_for_what_is_under_way_and_names_no_more() {
    let (sent, kept, arriving) = (Sent::default(), Kept::new(1 << 30), Arriving::default());
    let big = noise(1, KEPT_PART);
    let (of, from) = (call(1, &[&big]), payload(&[&big]));
    sent.note(HOST, of.id, &sent.known(HOST, &of.parts, &from).await, &[]);
    let mut named = call(2, &[&big]);
    named.again = sent.known(HOST, &named.parts, &from).await.again;
    assert!(arriving.begin(HOST, &call(9, &[b"small"])).is_none());
    for arrives in [false, true] {
        let coming = arriving.begin(HOST, &of).unwrap();
        let wait = arriving.wait(HOST, &named);
        tokio::pin!(wait);
        assert!(futures::poll!(&mut wait).is_pending());
        let stranger = NodeId::from_bytes([9; 32]);
        assert!(futures::poll!(std::pin::pin!(arriving.wait(stranger, &named))).is_ready());
        if arrives {
            kept.keep(OWNER, &of, &from);
        }
        drop(coming);
        timeout(HANGS, wait).await.unwrap();
        assert_eq!(fill(&kept, &named, &from).await.0.is_empty(), arrives);
    }
    assert!(futures::poll!(std::pin::pin!(arriving.wait(HOST, &named))).is_ready());
}

#[tokio::test]
async fn a_part_that_changed_on_either_side_is_sent() {
    let (sent, kept) = (Sent::default(), Kept::new(1 << 30));
    let big = noise(1, KEPT_PART * 2);
    let first = payload(&[b"x", &big]);
    let mut of = call(1, &[b"x", &big]);
    sent.note(HOST, of.id, &sent.known(HOST, &of.parts, &first).await, &[]);
    kept.keep(OWNER, &of, &first);
    // Where nobody looks, so that it looks the same.
    let mut other = big.clone();
    other[5_000] ^= 1;
    let second = payload(&[b"x", &other]);
    of.id = CallId::from_bytes([2; 16]);
    let known = sent.known(HOST, &of.parts, &second).await;
    assert_eq!(known.again.len(), 1, "it looks the same");
    of.again.clone_from(&known.again);
    let (lacks, bytes) = fill(&kept, &of, &second).await;
    assert_eq!(lacks, [1]);
    assert!(bytes == [b"x".as_slice(), &other].concat());
    of.again.clear();
    kept.keep(OWNER, &of, &second);
    sent.note(HOST, of.id, &known, &lacks);
    // A function that writes to its argument.
    second.file().write_all_at(b"mine", PAYLOAD_AT + 9_000).unwrap();
    of.id = CallId::from_bytes([3; 16]);
    of.again = sent.known(HOST, &of.parts, &second).await.again;
    of.again[0].hash = Hash::of(&other);
    let (lacks, bytes) = fill(&kept, &of, &payload(&[b"x", &other])).await;
    assert_eq!(lacks, [1]);
    assert!(bytes == [b"x".as_slice(), &other].concat());
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_for_its_owner_alone() {
    let kept = Kept::new(KEPT_PART * 5 / 2);
    let big = noise(1, KEPT_PART);
    let hash = Hash::of(&big);
    for id in 0..9 {
        kept.keep(OWNER, &call(id, &[&big]), &payload(&[&big]));
        assert!(kept.payloads() <= 2);
    }
    let mut named = call(20, &[&big]);
    named.again = vec![Again { part: 0, call: CallId::from_bytes([8; 16]), of: 0, hash }];
    let from = payload(&[&big]);
    assert!(fill(&kept, &named, &from).await.0.is_empty());
    let layout = Layout::of(&named, from.len()).unwrap();
    for stranger in
        [Owner { env: "other", ..OWNER }, Owner { peer: NodeId::from_bytes([9; 32]), ..OWNER }]
    {
        let into = Arc::new(tempfile::tempfile().unwrap());
        assert_eq!(kept.fill(stranger, &named, &layout, into).await.unwrap(), [0]);
    }
    named.again[0] =
        Again { call: CallId::from_bytes([0; 16]), hash: Hash::of(b""), ..named.again[0] };
    assert_eq!(fill(&kept, &named, &from).await.0, [0], "long gone");
    let kept = Kept::new(KEPT_PART - 1);
    kept.keep(OWNER, &call(1, &[&big]), &from);
    assert_eq!(kept.payloads(), 0, "larger than all there may be");
}

#[test]
fn a_call_that_does_not_fit_its_payload_is_refused() {
    let big = noise(1, KEPT_PART);
    let of = |again: &[u32], parts: &[u64]| {
        let one = |part: &u32| Again {
            part: *part,
            call: CallId::from_bytes([0; 16]),
            of: 0,
            hash: Hash::of(b""),
        };
        Call { again: again.iter().map(one).collect(), parts: parts.to_vec(), ..call(1, &[]) }
    };
    let len = big.len() as u64;
    assert!(Layout::of(&of(&[1], &[9, len]), len + 9).is_some());
    assert!(Layout::of(&of(&[1], &[9, len]), len).is_none(), "of another length");
    assert!(Layout::of(&of(&[], &[]), 0).is_none(), "no parts");
    assert!(Layout::of(&of(&[0], &[9, len]), len + 9).is_none(), "too small");
    assert!(Layout::of(&of(&[2], &[9, len]), len + 9).is_none(), "no such part");
    assert!(Layout::of(&of(&[1, 1], &[9, len]), len + 9).is_none(), "twice");
    assert!(Layout::of(&of(&[1], &[u64::MAX, len]), len - 1).is_none(), "overflow");
    assert!(Layout::of(&of(&[0; 65], &vec![len; 65]), 65 * len).is_none(), "too many");
}

#[test]
fn what_is_sent_and_what_is_there_is_all_and_once() {
    // Four parts, each empty, odd or large, named or not, lacking or not.
    for n in 0..12u32.pow(4) {
        let parts: Vec<u32> = (0..4).map(|part| n / 12u32.pow(part) % 12).collect();
        let lens: Vec<u64> = parts.iter().map(|p| [0, 9, KEPT_PART][*p as usize % 3]).collect();
        let picked = |mask: u32| {
            let found = (0..).zip(&parts).filter(move |(_, p)| (**p / 3) & mask != 0);
            found.map(|(part, _)| part)
        };
        let named = picked(1).filter(|part: &u32| lens[*part as usize] == KEPT_PART);
        let lacks: Vec<u32> = picked(2).collect();
        let hash = Hash::of(b"");
        let again =
            named.map(|part| Again { part, call: CallId::from_bytes([0; 16]), of: 0, hash });
        let again: Vec<_> = again.collect();
        let call = Call { again, parts: lens.clone(), ..call(1, &[]) };
        let total: u64 = lens.iter().sum();
        let layout = Layout::of(&call, total).unwrap();
        let there = call.again.iter().map(|again| again.part).filter(|part| !lacks.contains(part));
        let mut all = layout.without(&call, &lacks);
        all.extend(there.map(|part| layout.span(part)));
        all.sort_by_key(|span| span.start);
        let mut at = 0;
        for span in all {
            assert!(span.start == at && span.end > at, "{lens:?} {call:?} {lacks:?}");
            at = span.end;
        }
        assert_eq!(at, total);
    }
}
