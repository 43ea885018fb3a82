//! Payloads, as they come from a peer.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::*;

const SHORT: Duration = Duration::from_millis(50);

fn intake(size: usize, max_payload: u64) -> (tempfile::TempDir, Intake) {
    let home = tempfile::tempdir().unwrap();
    let spool = SpoolConfig { dir: home.path().join("tmp"), max_payload };
    (home, Intake::new(size, SHORT, spool))
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ seed).collect()
}

async fn spool(intake: &Intake, owner: &str, data: &[u8]) -> Payload {
    intake.payload(owner, data.len() as u64, &mut &*data).await.unwrap()
}

#[tokio::test]
async fn payloads_arrive_whole_in_memory_and_on_disk() {
    for size in [64 << 20, 2 << 20] {
        // With the smaller room they are too large for memory.
        let (home, intake) = intake(size, 1 << 30);
        let data = bytes(3 * (1 << 20) + 5, 1);
        let payload = spool(&intake, "a", &data).await;
        let on_disk = intake.spool.files() == 0;
        assert_eq!(on_disk, size < 64 << 20);
        let mut got = Vec::new();
        while let chunk = payload.chunk(got.len() as u64, 1 << 16).unwrap()
            && !chunk.is_empty()
        {
            got.extend_from_slice(&chunk);
        }
        assert_eq!(got, data);
        let left = std::fs::read_dir(home.path().join("tmp")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "files on disk have no name");
    }
}

#[tokio::test]
async fn a_file_is_used_again_when_it_is_free_and_by_its_owner_alone() {
    let (_home, intake) = intake(64 << 20, 1 << 30);
    let first = spool(&intake, "a", &bytes(1 << 20, 1)).await;
    let second = spool(&intake, "a", &bytes(1 << 20, 2)).await;
    assert_eq!(intake.spool.files(), 2, "both are in use");
    assert_eq!(first.chunk(0, 64).unwrap(), bytes(64, 1));
    drop((first, second));
    let again = spool(&intake, "a", &bytes(900 << 10, 3)).await;
    assert_eq!(intake.spool.files(), 2);
    assert_eq!(again.chunk(0, 64).unwrap(), bytes(64, 3));
    spool(&intake, "b", &bytes(1 << 20, 4)).await;
    assert_eq!(intake.spool.files(), 3, "another owner");
    spool(&intake, "a", &bytes(5 << 20, 4)).await;
    assert_eq!(intake.spool.files(), 4, "no room in the others");
    for seed in 0..100 {
        let owner = format!("owner {seed}");
        spool(&intake, &owner, &bytes(70 << 10, seed)).await;
    }
    assert!(intake.spool.files() <= 32);
}

#[tokio::test]
async fn a_payload_that_is_cut_off_or_too_long_is_an_error_that_holds_nothing() {
    let (_home, intake) = intake(8 << 20, 6 << 20);
    let error = intake.payload("a", 7 << 20, &mut &[][..]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest, "{error}");
    for silent in [false, true] {
        let (mut near, mut far) = tokio::io::duplex(4 << 20);
        far.write_all(&bytes(1 << 20, 1)).await.unwrap();
        let far = silent.then_some(far);
        let error = intake.payload("a", 2 << 20, &mut near).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PeerLost, "{error}");
        drop(far);
    }
    // All of the room is there again: one payload holds half, three quarters wait for it in vain.
    let held = spool(&intake, "a", &bytes(3 << 20, 1)).await;
    let more = spool(&intake, "a", &bytes(3 << 20, 1)).await;
    let data = bytes(3 << 20, 1);
    let error = intake.payload("a", data.len() as u64, &mut &data[..]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::QueueFull, "{error}");
    drop((held, more));
    spool(&intake, "a", &data).await;
}

#[tokio::test]
async fn a_full_disk_is_said_before_anything_is_written() {
    let (_home, intake) = intake(2 << 20, u64::MAX);
    let error = intake.payload("a", 1 << 60, &mut &[][..]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::QueueFull, "{error}");
    assert!(error.hint.contains("disk"), "{}", error.hint);
}
