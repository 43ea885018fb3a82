use std::{
    fs::File,
    io::{IoSlice, Write},
    os::fd::{AsFd, BorrowedFd},
    os::unix::{fs::FileExt, net::UnixStream as Blocking},
    time::Duration,
};

use rhd_protocol::frame::{self, PAYLOAD_AT};
use rustix::fs::{MemfdFlags, SealFlags};

use super::*;
use crate::framed::Body;

fn pair() -> (Conn, Conn) {
    let (near, far) = UnixStream::pair().unwrap();
    (Conn::new(near), Conn::new(far))
}

/// A reader, and the blocking end that a rule breaker writes to.
fn stranger() -> (Conn, Blocking) {
    let (near, far) = Blocking::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (Conn::new(UnixStream::from_std(near).unwrap()), far)
}

fn file(size: u64, seals: SealFlags) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
    file.set_len(size).unwrap();
    file.write_all_at(&[1], 0).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

fn state(file: &File) -> u8 {
    let mut state = [9];
    file.read_exact_at(&mut state, 0).unwrap();
    state[0]
}

fn send_fds(socket: &Blocking, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    let sent =
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    assert_eq!(sent.unwrap(), bytes.len());
}

#[tokio::test]
async fn abandoned_reads_and_writes_lose_nothing() {
    let (mut near, mut far) = pair();
    let frame = Frame::new(&("t", 1), vec![7; 50 * JOIN]).unwrap();
    near.queue(frame.clone());
    let got = loop {
        // Both futures are dropped at whatever point they reached.
        let _ = tokio::time::timeout(Duration::from_micros(50), near.flush()).await;
        let read = far.read(frame::MAX_BODY);
        if let Ok(got) = tokio::time::timeout(Duration::from_micros(50), read).await {
            break got.unwrap().unwrap();
        }
    };
    assert_eq!(got, frame);
    assert!(near.is_flushed() && far.is_idle());
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_broken() {
    let bytes = frame::encode(&"x", 4).unwrap();
    for (limit, broken) in [(64, false), (3, true)] {
        let (mut conn, mut far) = stranger();
        far.write_all(&bytes).unwrap();
        drop(far);
        let error = conn.read(limit).await.unwrap_err();
        assert_eq!(matches!(error, FramedError::Frame(_)), broken, "{error}");
    }
}

#[tokio::test]
async fn payloads_go_from_hand_to_hand_between_other_frames() {
    let (mut near, mut far) = pair();
    let made = file(PAYLOAD_AT + 4, SealFlags::SHRINK | SealFlags::GROW);
    made.write_all_at(b"data", PAYLOAD_AT).unwrap();
    let kept = made.try_clone().unwrap();
    let payload = Payload::new(Arc::new(made), 4, None);
    let small = Frame::new(&"small", vec![3; 100]).unwrap();
    let large = Frame::new(&"large", Body::Beside(payload)).unwrap();
    for frame in [&small, &large, &small, &large] {
        near.queue(frame.clone());
        near.flush().await.unwrap();
    }
    for expected in [&small, &large, &small, &large] {
        let got = far.read(1024).await.unwrap().unwrap();
        assert_eq!(got.header::<String>().unwrap(), expected.header::<String>().unwrap());
        assert_eq!(got.payload().is_some(), expected.payload().is_some());
        if got.payload().is_some() {
            let inline = got.clone().inline(4).await.unwrap();
            assert_eq!(inline, Frame::new(&"large", b"data".to_vec()).unwrap());
            assert!(got.inline(3).await.is_err());
            assert_eq!(state(&kept), 0, "whoever was given it is done with it");
            kept.write_all_at(&[1], 0).unwrap();
        }
    }
    drop(large);
    assert_eq!(state(&kept), 1, "it was passed on: this end can't know");
    assert!(far.is_idle());
}

#[tokio::test]
async fn what_was_passed_to_nobody_is_free_again() {
    let made = file(PAYLOAD_AT + 4, SealFlags::SHRINK);
    let kept = made.try_clone().unwrap();
    drop(Frame::new(&"x", Body::Beside(Payload::new(Arc::new(made), 4, None))).unwrap());
    assert_eq!(state(&kept), 0);
}

#[tokio::test]
async fn descriptors_that_are_not_as_they_should_be_are_refused_and_closed() {
    let head = |len| frame::encode_beside(&"x", len).unwrap();
    let good = file(PAYLOAD_AT + 8, SealFlags::SHRINK);
    let (pipe, _writer) = std::io::pipe().unwrap();
    let plain = tempfile::tempfile().unwrap();
    plain.set_len(PAYLOAD_AT + 8).unwrap();
    let open = file(PAYLOAD_AT + 8, SealFlags::GROW);
    let huge = file(PAYLOAD_AT + 8, SealFlags::SHRINK);
    let cases: [(&str, u64, Vec<BorrowedFd<'_>>); 8] = [
        ("none", 8, vec![]),
        ("two", 8, vec![good.as_fd(), good.as_fd()]),
        ("eight", 8, vec![good.as_fd(); 8]),
        ("too short", 9, vec![good.as_fd()]),
        ("a pipe", 8, vec![pipe.as_fd()]),
        ("unsealed", 8, vec![plain.as_fd()]),
        ("may shrink", 8, vec![open.as_fd()]),
        ("overflows", u64::MAX - 4, vec![huge.as_fd()]),
    ];
    for (what, len, fds) in cases {
        let (mut conn, mut far) = stranger();
        let mut frame = head(8);
        let at = frame.len() - frame::BESIDE_BODY;
        frame[at..].copy_from_slice(&len.to_be_bytes());
        match fds.is_empty() {
            true => far.write_all(&frame).unwrap(),
            false => send_fds(&far, &frame, &fds),
        }
        let error = tokio::time::timeout(Duration::from_secs(5), conn.read(64)).await;
        assert!(error.expect(what).is_err(), "{what}");
    }
    // With a frame that takes none, and one by one in a frame that never ends.
    let (mut conn, far) = stranger();
    send_fds(&far, &frame::encode(&"x", 0).unwrap(), &[good.as_fd()]);
    assert!(conn.read(64).await.is_err());
    let (mut conn, far) = stranger();
    for byte in &head(8)[..4] {
        send_fds(&far, &[*byte], &[good.as_fd()]);
    }
    assert!(conn.read(64).await.is_err());
}
