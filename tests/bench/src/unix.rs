//! The floor between two processes of one node: a Unix socket for each caller, an echo.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{Outcome, tally::Found};

const MESSAGE: [u8; 128] = [7; 128];

/// Serves until its process is ended: one thread for each connection, as a worker's lanes are.
pub(crate) fn echo(path: &Path) -> Outcome<()> {
    let listener = UnixListener::bind(path)?;
    writeln!(std::io::stdout().lock(), "ready")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(|| answer(stream));
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(mut stream: UnixStream) -> Outcome<()> {
    let mut message = MESSAGE;
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&message)?,
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// An echo in another process.
pub(crate) struct Peer {
    path: PathBuf,
    _echo: Child,
}

impl Peer {
    /// Starts the echo.
    pub(crate) async fn start() -> Outcome<Self> {
        let path = std::env::temp_dir().join(format!("echo-{}.sock", std::process::id()));
        let mut echo = Command::new(std::env::current_exe()?)
            .arg("echo-unix")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = echo.stdout.take().ok_or("no output of the echo")?;
        BufReader::new(said).lines().next_line().await?.ok_or("the echo ended")?;
        Ok(Self { path, _echo: echo })
    }

    /// Sends messages there and back, from so many threads with a connection each.
    pub(crate) fn measure(&self, width: usize, span: Duration) -> Outcome<Found> {
        let start = Instant::now();
        let threads: Vec<_> = (0..width)
            .map(|_| {
                let mut stream = UnixStream::connect(&self.path)?;
                Ok(thread::spawn(move || {
                    let (mut times, mut back) = (Vec::new(), MESSAGE);
                    while start.elapsed() < span {
                        let begin = Instant::now();
                        stream.write_all(&MESSAGE)?;
                        stream.read_exact(&mut back)?;
                        times.push(begin.elapsed());
                    }
                    Outcome::Ok(times)
                }))
            })
            .collect::<Outcome<_>>()?;
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().map_err(|_| "a caller panicked")??);
        }
        Ok(Found::of(times, start.elapsed()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
