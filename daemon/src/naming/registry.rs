//! The services of this node: a map in memory, functions and classes also as a file each.

use std::{
    collections::HashMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::Hash,
    presence::MAX_SERVICES,
    service::{ServiceAd, ServiceKind},
};
use tokio::sync::watch;

use super::{Hosted, is_public};
use crate::workers::LoadUnit;

/// Services that a node holds, the private ones of handles included.
const MAX_HOSTED: usize = 10_000;

/// Why the registry can't take or give.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The disk says no.
    #[error("{op} {path}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Too many names.
    #[error("this node hosts {0} services already, the most it can tell its peers of")]
    Full(usize),
    /// Somebody was faster.
    #[error("{0} exists already")]
    Exists(String),
}

impl From<RegistryError> for ErrorInfo {
    fn from(error: RegistryError) -> Self {
        match &error {
            RegistryError::Io { source, .. } => {
                Self::new(ErrorKind::Internal, format!("{error}: {source}"))
                    .hint("look at the permissions and free space of the node's home")
            }
            RegistryError::Full(_) => Self::new(ErrorKind::QueueFull, error.to_string())
                .hint("remove what is not needed with `rhd rm NAME`"),
            RegistryError::Exists(_) => Self::new(ErrorKind::Conflict, error.to_string())
                .hint("choose another name, or remove what has it with `rhd rm NAME`"),
        }
    }
}

/// What this node hosts.
pub struct Registry {
    dir: PathBuf,
    map: Mutex<HashMap<String, Arc<Hosted>>>,
    /// All code that somebody may still hold: names, instances and running calls.
    code: Mutex<Vec<Weak<LoadUnit>>>,
    ads: watch::Sender<Vec<ServiceAd>>,
}

impl Registry {
    /// Reads what was hosted before. A file that can't be read is put aside, not lost.
    pub fn open(home: &Path) -> Result<Self, RegistryError> {
        let dir = home.join("services");
        let io_error = |op, path: &Path| {
            let path = path.to_owned();
            move |source| RegistryError::Io { op, path, source }
        };
        std::fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        let mut map = HashMap::new();
        for entry in std::fs::read_dir(&dir).map_err(io_error("list", &dir))? {
            let path = entry.map_err(io_error("list", &dir))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("svc") => {}
                Some("tmp") => {
                    let _ = std::fs::remove_file(&path);
                    continue;
                }
                _ => continue,
            }
            let bytes = std::fs::read(&path).map_err(io_error("read", &path))?;
            match Hosted::from_bytes(&bytes) {
                Ok(hosted) => {
                    map.insert(hosted.service.name.clone(), Arc::new(hosted));
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "service record is damaged; put aside");
                    let _ = std::fs::rename(&path, path.with_extension("damaged"));
                }
            }
        }
        let code = map.values().flat_map(|h| &h.unit).map(Arc::downgrade).collect();
        let (map, code) = (Mutex::new(map), Mutex::new(code));
        let registry = Self { dir, map, code, ads: watch::Sender::default() };
        registry.publish(&registry.lock());
        Ok(registry)
    }

    /// The service of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Hosted>> {
        self.lock().get(name).cloned()
    }

    /// All services, the private ones too.
    pub fn all(&self) -> Vec<Arc<Hosted>> {
        self.lock().values().cloned().collect()
    }

    /// Folders of code that something still needs: a name, an instance of a class that has been
    /// replaced, or a call under way.
    pub fn folders_in_use(&self) -> Vec<PathBuf> {
        let units: Vec<_> = lock(&self.code).iter().filter_map(Weak::upgrade).collect();
        let roots = units.iter().flat_map(|unit| &unit.load.roots);
        roots.map(|root| PathBuf::from(&root.dir)).collect()
    }

    /// What peers may know, as it changes.
    pub fn watch(&self) -> watch::Receiver<Vec<ServiceAd>> {
        self.ads.subscribe()
    }

    /// What peers may know, now.
    pub fn ads(&self) -> Vec<ServiceAd> {
        self.ads.borrow().clone()
    }

    /// Hosts a function or class, in place of an earlier version; its generation is raised above
    /// that one's. Durable on return. A class that is replaced keeps its instances.
    pub fn put(&self, mut hosted: Hosted) -> Result<Arc<Hosted>, RegistryError> {
        let mut map = self.lock();
        let name = hosted.service.name.clone();
        match map.get(&name) {
            Some(old) if old.service.kind == ServiceKind::Instance => {
                return Err(RegistryError::Exists(name));
            }
            Some(old) => {
                hosted.service.generation =
                    hosted.service.generation.max(old.service.generation.saturating_add(1));
            }
            None => room_for(&map, &hosted)?,
        }
        // What nobody chose a name for lives no longer than the handle that made it, or the node.
        if let Some(bytes) = hosted.to_bytes().filter(|_| is_public(&hosted.service.name)) {
            write_atomically(&self.dir, &self.file(&name), &bytes)?;
        }
        let hosted = Arc::new(hosted);
        if let Some(unit) = &hosted.unit {
            let mut code = lock(&self.code);
            code.retain(|unit| unit.strong_count() > 0);
            code.push(Arc::downgrade(unit));
        }
        map.insert(name, hosted.clone());
        self.publish(&map);
        Ok(hosted)
    }

    /// Hosts a new instance.
    pub fn put_instance(&self, hosted: Hosted) -> Result<(), RegistryError> {
        let mut map = self.lock();
        let name = hosted.service.name.clone();
        if map.contains_key(&name) {
            return Err(RegistryError::Exists(name));
        }
        room_for(&map, &hosted)?;
        map.insert(name, Arc::new(hosted));
        self.publish(&map);
        Ok(())
    }

    /// Stops hosting a service; whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool, RegistryError> {
        let mut map = self.lock();
        let Some(hosted) = map.get(name) else { return Ok(false) };
        // First for good, then in memory: a name that can't be removed is there still.
        if hosted.unit.is_some() {
            let path = self.file(name);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(RegistryError::Io { op: "remove", path, source });
                }
                _ => {}
            }
        }
        map.remove(name);
        self.publish(&map);
        Ok(true)
    }

    /// Forgets the instances whose worker process is gone, as `holds` says of an env and the
    /// incarnation of its process; returns their names.
    pub fn forget_lost(&self, holds: impl Fn(&str, u64) -> bool) -> Vec<String> {
        let mut map = self.lock();
        let lost = |h: &Hosted| h.incarnation.is_some_and(|i| !holds(&h.service.env, i));
        let gone: Vec<String> =
            map.values().filter(|h| lost(h)).map(|h| h.service.name.clone()).collect();
        for name in &gone {
            map.remove(name);
        }
        if !gone.is_empty() {
            self.publish(&map);
        }
        gone
    }

    fn publish(&self, map: &HashMap<String, Arc<Hosted>>) {
        let mut ads: Vec<ServiceAd> = map
            .values()
            .filter(|h| is_public(&h.service.name))
            .map(|h| ServiceAd::from(&h.service))
            .collect();
        ads.sort_by(|a, b| a.name.cmp(&b.name));
        self.ads.send_replace(ads);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(Hash::of(name.as_bytes()).to_string()).with_extension("svc")
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Hosted>>> {
        lock(&self.map)
    }
}

/// No code panics while it holds a lock of this room; were it to, what is in it is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn room_for(map: &HashMap<String, Arc<Hosted>>, hosted: &Hosted) -> Result<(), RegistryError> {
    let public = map.values().filter(|h| is_public(&h.service.name)).count();
    if is_public(&hosted.service.name) && public >= MAX_SERVICES {
        return Err(RegistryError::Full(public));
    }
    if map.len() >= MAX_HOSTED {
        return Err(RegistryError::Full(map.len()));
    }
    Ok(())
}

fn write_atomically(dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    let write = || {
        let temp = path.with_extension("tmp");
        let mut file = std::fs::File::create(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, path)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| RegistryError::Io { op: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
