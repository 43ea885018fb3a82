//! What this node knows of objects in stores: their hashes, as long as they don't change.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhd_protocol::{
    folder::{Entry, MAX_ENTRIES, MAX_SIZE, STAGING, Skipped},
    id::Hash,
    wire::safe_path,
};
use serde::{Deserialize, Serialize};

use super::{blocking, error::FolderError, kept::Kept, scan::skip};
use crate::stores::{About, Location, Object, Store};

/// An object, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    #[serde(rename = "p")]
    path: String,
    #[serde(rename = "t")]
    tag: String,
    #[serde(rename = "h")]
    hash: Hash,
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    exec: bool,
}

/// What a node knows of objects.
#[derive(Debug)]
pub(super) struct Notes(Kept);

impl Notes {
    pub(super) fn open(dir: PathBuf) -> Result<Self, FolderError> {
        Kept::open(dir).map(Self)
    }
}

/// A folder of an object store, as it was when it was listed.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) store: Store,
    /// Those that can be files of a folder, sorted by path.
    pub(super) objects: Vec<Object>,
    known: Mutex<Known>,
    notes: Arc<Notes>,
}

/// What is known of objects, by their paths.
#[derive(Debug)]
struct Known {
    of: HashMap<String, (String, About)>,
    /// Whether it is not what is kept.
    changed: bool,
}

impl Listing {
    /// Lists it. What can't be in a folder is left out, and said.
    pub(super) async fn of(
        store: Store,
        notes: &Arc<Notes>,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Self, FolderError> {
        let mut objects: Vec<Object> = Vec::new();
        for object in store.list().await? {
            let path = object.path.as_str();
            let sound = safe_path(path) && path.split('/').all(|name| name != STAGING);
            // Sorted by bytes, `a-b` comes between `a` and `a/b`.
            let blocked = path.match_indices('/').any(|(end, _)| {
                objects.binary_search_by(|o: &Object| o.path.as_str().cmp(&path[..end])).is_ok()
            });
            match (sound && object.size <= MAX_SIZE, blocked) {
                (true, false) => objects.push(object),
                (true, true) => skip(skipped, path, "an object has the name of a folder above it"),
                (false, _) => skip(skipped, path, "its name or size is none of a file"),
            }
        }
        let (kept, url) = (notes.clone(), store.at().to_string());
        let sound = |noted: &Vec<Note>| noted.len() <= MAX_ENTRIES;
        let noted = blocking(move || Ok(kept.0.load(&url, sound).unwrap_or_default())).await?;
        let before = noted.len();
        let is_there = |note: &Note| {
            let at = objects.binary_search_by(|object| object.path.as_str().cmp(&note.path));
            at.is_ok_and(|at| objects[at].tag == note.tag)
        };
        let current = noted.into_iter().filter(is_there);
        let of: HashMap<String, (String, About)> = current
            .map(|note| (note.path, (note.tag, About { hash: note.hash, exec: note.exec })))
            .collect();
        let known = Known { changed: of.len() != before, of };
        Ok(Self { known: Mutex::new(known), objects, store, notes: notes.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an object, as it is now.
    pub(super) fn about(&self, object: &Object) -> Option<About> {
        let known = self.lock();
        known.of.get(&object.path).filter(|(tag, _)| *tag == object.tag).map(|(_, about)| *about)
    }

    /// Notes what an object holds.
    pub(super) fn learn(&self, path: &str, tag: String, about: About) {
        if !tag.is_empty() {
            let mut known = self.lock();
            known.of.insert(path.to_owned(), (tag, about));
            known.changed = true;
        }
    }

    /// The object at a path.
    pub(super) fn object(&self, path: &str) -> Option<&Object> {
        let at = self.objects.binary_search_by(|object| object.path.as_str().cmp(path)).ok()?;
        self.objects.get(at)
    }

    /// Its objects as the files of a folder; of what nobody has read, only its tag is known, which is
    /// like nothing but itself.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |object: &Object| {
            let unread = || Hash::of(format!("object\0{}", object.tag).as_bytes());
            let about = self.about(object);
            Entry {
                path: object.path.clone(),
                size: object.size,
                hash: about.map_or_else(unread, |about| about.hash),
                exec: about.is_some_and(|about| about.exec),
                link: None,
                dir: false,
            }
        };
        self.objects.iter().map(entry).collect()
    }

    /// Keeps what is known for the next time.
    pub(super) async fn save(&self) -> Result<(), FolderError> {
        let noted: Vec<Note> = {
            let mut known = self.lock();
            if !std::mem::take(&mut known.changed) {
                return Ok(());
            }
            let note = |(path, (tag, about)): (&String, &(String, About))| Note {
                path: path.clone(),
                tag: tag.clone(),
                hash: about.hash,
                exec: about.exec,
            };
            known.of.iter().map(note).collect()
        };
        let (notes, url) = (self.notes.clone(), self.store.at().to_string());
        blocking(move || notes.0.save(&url, &noted)).await
    }
}

/// A URL, as a folder that is written to at most by one.
pub(super) fn as_path(at: &Location) -> PathBuf {
    PathBuf::from(at.to_string())
}
