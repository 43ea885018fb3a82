//! A run on disk: one folder, named by its call.
//!
//! ```text
//! <home>/runs/records/<call id>/meta      what it is and how it ended; replaced as a whole
//!                               inputs    its arguments, as they came
//!                               replies   its replies, as they went: frame after frame
//!                               settled   empty; there once the node of its caller needs no copy
//! <home>/runs/names/<hash>                the call id of the newest run of a name
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    error::ErrorInfo,
    frame::{self, MAX_BODY, PREFIX, Prefix},
    id::{CallId, Hash, NodeId},
    machine::receipt::Receipt,
    run::{Kept, RunInfo, RunStatus},
};
use serde::{Deserialize, Serialize};

use crate::framed::Frame;

/// No meta is longer, in bytes.
const MAX_META: u64 = 1024 * 1024;
/// Bytes of replies that are read at once, unless one frame has more.
const READ: u64 = 256 * 1024;
/// Bytes of a traceback in the summary of a run; the replies have it whole.
const TRACEBACK: usize = 2 * 1024;

/// What the file `meta` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) info: RunInfo,
    /// The node that it came from.
    pub(super) from: NodeId,
    /// What its arguments are; none where they were not kept.
    pub(super) inputs: Option<Kept>,
    /// Whether it is the copy of another node's.
    #[serde(default)]
    pub(super) copy: bool,
}

/// One run's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn of(records: &Path, id: CallId) -> Self {
        Self { path: records.join(id.to_string()) }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder of a run that is about to start; returns where its replies go. Fails when
    /// there is one.
    pub(super) fn create(&self, meta: &Meta, inputs: &[u8]) -> io::Result<File> {
        DirBuilder::new().mode(0o700).create(&self.path)?;
        let make = || {
            if meta.inputs.is_some() {
                open_new(&self.path.join("inputs"))?.write_all(inputs)?;
            }
            self.write(meta, false)?;
            open_new(&self.path.join("replies"))
        };
        make().inspect_err(|_| drop(fs::remove_dir_all(&self.path)))
    }

    /// Replaces `meta`; `durable` waits until the disk has it.
    pub(super) fn write(&self, meta: &Meta, durable: bool) -> io::Result<()> {
        let bytes = frame::to_vec(meta).map_err(io::Error::other)?;
        let temp = self.path.join("meta.tmp");
        let _ = fs::remove_file(&temp);
        let mut file = open_new(&temp)?;
        file.write_all(&bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temp, self.path.join("meta"))?;
        if durable {
            File::open(&self.path)?.sync_all()?;
        }
        Ok(())
    }

    /// What the run is; `None` when there is no record of it, or one that can't be read.
    pub(super) fn read(&self) -> Option<Meta> {
        let mut bytes = Vec::new();
        let file = File::open(self.path.join("meta")).ok()?;
        file.take(MAX_META).read_to_end(&mut bytes).ok()?;
        frame::decode(&bytes)
            .inspect_err(|error| {
                tracing::warn!(%error, run = %self.path.display(), "a record can't be read");
            })
            .ok()
    }

    /// Its arguments.
    pub(super) fn inputs(&self) -> io::Result<Vec<u8>> {
        fs::read(self.path.join("inputs"))
    }

    /// Its replies, for reading.
    pub(super) fn replies(&self) -> io::Result<File> {
        File::open(self.path.join("replies"))
    }

    /// Has `meta` say how the run ended, by its receipt and its replies: its daemon has yet to write
    /// that, or was killed before it could.
    pub(super) fn mend(&self, meta: &mut Meta, told: Option<Receipt>) {
        let info = &mut meta.info;
        info.status = told.map_or(RunStatus::Interrupted, |receipt| receipt.status);
        info.ended_ms = told.map_or(0, |receipt| receipt.ended_ms);
        let Some((status, reply, len)) = self.end() else { return };
        if info.status == RunStatus::Interrupted {
            info.status = status;
        }
        match reply {
            Reply::Fail { error, .. } => info.error = Some(summary(error)),
            _ => info.result = Some(len),
        }
    }

    /// How the replies end, for a run whose end `meta` does not tell.
    fn end(&self) -> Option<(RunStatus, Reply, u64)> {
        let file = self.replies().ok()?;
        let len = file.metadata().ok()?.len();
        let (mut at, mut last) = (0, None);
        while let Ok((frames, next)) = read_frames(&file, at, len) {
            last = frames.into_iter().next_back().or(last);
            if next == at {
                break;
            }
            at = next;
        }
        let last = last?;
        match last.header().ok()? {
            done @ Reply::Done { .. } => Some((RunStatus::Completed, done, last.body.len() as u64)),
            fail @ Reply::Fail { .. } => Some((RunStatus::Error, fail, 0)),
            _ => None,
        }
    }

    /// Notes that the node of its caller has a copy, or wants none.
    pub(super) fn settle(&self) -> io::Result<()> {
        match open_new(&self.path.join("settled")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop),
        }
    }

    /// Whether the node of its caller has a copy, or wants none.
    pub(super) fn is_settled(&self) -> bool {
        self.path.join("settled").exists()
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    }

    /// Removes it; a removal that is cut short leaves a folder without a `meta`, which is no record.
    pub(super) fn remove(&self) -> io::Result<()> {
        let _ = fs::remove_file(self.path.join("meta"));
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// An error as listings show it.
pub(super) fn summary(mut error: ErrorInfo) -> ErrorInfo {
    if error.traceback.len() > TRACEBACK {
        let from = error.traceback.len() - TRACEBACK;
        let end = (from..).find(|at| error.traceback.is_char_boundary(*at)).unwrap_or(0);
        error.traceback = format!("…{}", &error.traceback[end..]);
    }
    error
}

/// Reads whole frames between two offsets, some at a time; returns where the next one starts.
pub(super) fn read_frames(file: &File, mut at: u64, end: u64) -> io::Result<(Vec<Frame>, u64)> {
    let (mut frames, from) = (Vec::new(), at);
    while at - from < READ && end.saturating_sub(at) >= PREFIX as u64 {
        let mut prefix = [0; PREFIX];
        file.read_exact_at(&mut prefix, at)?;
        let lengths = Prefix::parse(prefix, MAX_BODY).map_err(io::Error::other)?;
        let len = PREFIX + lengths.header + lengths.body;
        if end - at < len as u64 {
            break;
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at)?;
        frames.push(Frame::from_bytes(Bytes::from(bytes)).map_err(io::Error::other)?);
        at += len as u64;
    }
    Ok((frames, at))
}

/// Points a name at its newest run.
pub(super) fn point(names: &Path, name: &str, id: CallId) -> io::Result<()> {
    let path = names.join(Hash::of(name.as_bytes()).to_string());
    let temp = path.with_extension(id.to_string());
    fs::write(&temp, id.to_string())?;
    fs::rename(&temp, &path)
}

/// The newest run of a name.
pub(super) fn pointed(names: &Path, name: &str) -> Option<CallId> {
    let path = names.join(Hash::of(name.as_bytes()).to_string());
    fs::read_to_string(path).ok()?.parse().ok()
}

/// Forgets a name.
pub(super) fn unpoint(names: &Path, name: &str) {
    let _ = fs::remove_file(names.join(Hash::of(name.as_bytes()).to_string()));
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
