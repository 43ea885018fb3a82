//! The socket file: made once, mode 0600, for one user.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixStream};

/// The longest path that a Unix socket address holds, in bytes, without its terminating zero.
const SUN_PATH: usize = 107;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It can't be made.
    #[error("listen on {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A listening socket that takes only this user's connections.
pub struct Listener {
    listener: UnixListener,
    /// Keeps the folder of a long path open.
    _dir: Option<std::os::fd::OwnedFd>,
}

impl Listener {
    /// Listens on `path`, in place of a socket that a dead daemon left. The caller holds the home's
    /// lock, so no living daemon listens there.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let bind = || {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let (address, dir) = connect_path(path)?;
            // The home is 0700, so nobody else can connect before the mode is set.
            let listener = UnixListener::bind(address)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            Ok(Self { listener, _dir: dir })
        };
        bind().map_err(|source| SocketError::Listen { path: path.into(), source })
    }

    /// The next connection of this user; others are closed unheard.
    pub(super) async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(cred) if cred.uid() == rustix::process::geteuid().as_raw() => {
                        return stream;
                    }
                    Ok(cred) => {
                        tracing::warn!(uid = cred.uid(), "connection of another user refused");
                    }
                    Err(error) => tracing::warn!(%error, "connection of an unknown user refused"),
                },
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to be closed.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// A path that fits a socket address: `path` itself, or on Linux a detour by its folder's
/// descriptor, which must stay open while the path is used.
pub fn connect_path(path: &Path) -> io::Result<(PathBuf, Option<std::os::fd::OwnedFd>)> {
    use std::os::{fd::AsRawFd, unix::ffi::OsStrExt};
    if path.as_os_str().as_bytes().len() <= SUN_PATH {
        return Ok((path.into(), None));
    }
    let (Some(dir), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let dir: std::os::fd::OwnedFd = std::fs::File::open(dir)?.into();
    let detour = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(file);
    Ok((detour, Some(dir)))
}
