//! One daemon per home: a locked file that says who holds it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    path::Path,
};

use rhd_protocol::error::{ErrorInfo, ErrorKind};
use rustix::fs::{FlockOperation, flock};

/// The lock of a home; the kernel lets go of it however the process ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says which process has it.
    pub fn take(home: &Path) -> Result<Self, ErrorInfo> {
        let path = home.join("lock");
        let failed = |e: std::io::Error| {
            ErrorInfo::new(ErrorKind::Internal, format!("lock {}: {e}", path.display()))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = (&mut file).take(20).read_to_string(&mut pid);
            let home = home.display();
            return Err(ErrorInfo::new(
                ErrorKind::Conflict,
                format!("a daemon runs already on home {home}: pid {}", pid.trim()),
            )
            .hint(format!(
                "use it, end it with `rhd --home {home} down`, or choose another --home"
            )));
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_hears_the_pid_of_the_first() {
        let home = tempfile::tempdir().unwrap();
        let first = Lock::take(home.path()).unwrap();
        let error = Lock::take(home.path()).err().unwrap();
        assert!(error.message.contains(&std::process::id().to_string()), "{}", error.message);
        drop(first);
        Lock::take(home.path()).unwrap();
    }
}
