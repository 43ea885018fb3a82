//! Streams that pass bytes on without copying them, where they can.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A way out for large bodies.
pub trait Outlet: AsyncWrite + Unpin + Send {
    /// Writes all of `bytes`, and may keep them for as long as that takes.
    fn give(&mut self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send {
        async move { self.write_all(&bytes).await }
    }
}

/// A way in for large bodies.
pub trait Inlet: AsyncRead + Unpin + Send {
    /// Reads at least one byte and at most `max`; none at the end of the stream.
    fn piece(&mut self, max: usize) -> impl Future<Output = io::Result<Bytes>> + Send {
        async move {
            let mut bytes = BytesMut::with_capacity(max.min(64 * 1024));
            (&mut *self).take(max as u64).read_buf(&mut bytes).await?;
            Ok(bytes.freeze())
        }
    }
}

#[cfg(test)]
mod in_tests {
    use super::{Inlet, Outlet};

    impl Outlet for Vec<u8> {}
    impl Outlet for tokio::net::UnixStream {}
    impl Outlet for tokio::io::DuplexStream {}
    impl Inlet for tokio::io::DuplexStream {}
    impl Inlet for &[u8] {}
}
