//! Where the socket is: its path, or a detour where the path is too long for an address.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixStream;

/// The longest path that a Unix socket address holds, in bytes, without its terminating zero.
const SUN_PATH: usize = 107;

pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (address, _dir) = address(path)?;
    UnixStream::connect(address).await
}

/// On Linux a long path is reached by its folder's descriptor, open for as long as it is used.
fn address(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().as_bytes().len() <= SUN_PATH {
        return Ok((path.into(), None));
    }
    let (Some(dir), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = OwnedFd::from(File::open(dir)?);
    Ok((Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(file), Some(dir)))
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_socket_in_a_deep_folder_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let (address, _dir) = super::address(&deep.join("s")).unwrap();
        let listener = tokio::net::UnixListener::bind(address).unwrap();
        super::connect(&deep.join("s")).await.unwrap();
        listener.accept().await.unwrap();
    }
}
