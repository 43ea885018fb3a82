//! Real folders, on real meshes over loopback, in one process.

use std::{collections::BTreeMap, fs};

use rhd_protocol::{
    folder::{FolderAsk, Place, Synced},
    frame,
    machine::reconcile::Mode,
    membership::Role,
};
use tempfile::TempDir;

use super::{pull::Pull, source::Source, *};
use crate::{
    asked::{Meter, Out},
    mesh::{
        MeshTasks,
        testing::{admit, alone, soon},
    },
};

mod granted;
mod lies;
mod restarted;
mod steady;

/// A node with a home of its own.
struct Node {
    home: TempDir,
    folders: Folders,
    closing: CancellationToken,
    _tasks: MeshTasks,
}

impl Node {
    async fn start(name: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (mesh, tasks) = alone(home.path(), name).await;
        let naming = Naming::open(home.path(), mesh.clone(), "ann").unwrap();
        let folders = Folders::open(home.path(), mesh, naming, Stores::default()).unwrap();
        Self { home, folders, closing: CancellationToken::new(), _tasks: tasks }
    }

    fn serve(&self) {
        self.folders.serve(&TaskTracker::new(), &self.closing);
    }

    /// Two nodes of one realm, the first of which founded it; neither answers yet.
    async fn pair(role: Role) -> [Self; 2] {
        let [one, other] = [Self::start("one").await, Self::start("other").await];
        admit(&one.folders.inner.mesh, &other.folders.inner.mesh, role).await;
        [one, other]
    }

    fn id(&self) -> NodeId {
        self.folders.inner.mesh.me()
    }

    /// A folder of its own.
    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join("files").join(name)
    }

    fn write(&self, folder: &str, files: &[(&str, &[u8])]) {
        for (name, content) in files {
            let path = self.at(folder).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn read(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let root = self.at(folder);
        let mut left = vec![root.clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                match entry.file_type().unwrap().is_dir() {
                    true => left.push(path),
                    false => {
                        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                        found.insert(name, fs::read(path).unwrap_or_default());
                    }
                }
            }
        }
        found
    }

    /// Has what a folder of another node has, in one of the same name.
    async fn pull(&self, from: &Self, folder: &str) -> Result<Synced, FolderError> {
        self.pull_to(from, folder, &self.at(folder)).await
    }

    async fn pull_to(&self, from: &Self, folder: &str, to: &Path) -> Result<Synced, FolderError> {
        let path = from.at(folder).display().to_string();
        let place = Place { node: None, path, grant: None };
        let source = Source::new(&self.folders, from.id(), place);
        let meter = Meter::default();
        let (folders, mode) = (&self.folders, Mode::Copy);
        let pull = Pull {
            folders,
            source: super::pull::From::Node(&source),
            to,
            mode,
            they_know: false,
            once: false,
            limit: u64::MAX,
            meter: &meter,
        };
        soon(pull.run()).await
    }
}

/// Bytes that nothing repeats.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut bytes = vec![0; len];
    reader.fill(&mut bytes);
    bytes
}
