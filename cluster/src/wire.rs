//! A TCP connection for protocols that are state machines elsewhere: bytes come in through a bounded buffer,
//! go out within a bounded wait.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// For the other side to close after this one has. Encoders look for words from the server now and then only.
const CLOSE: Duration = Duration::from_secs(2);

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side closed it.
    #[error("the connection was closed")]
    Closed,
    /// Nothing came, or nothing could be sent, for the time allowed.
    #[error("the connection was silent for too long")]
    Silent,
    /// The system's error.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A connection with the bytes that were read and not yet taken.
pub struct Wire {
    stream: TcpStream,
    unread: BytesMut,
    patience: Duration,
}

impl Wire {
    /// A connection whose other side may be silent, or not read, for `patience`.
    #[must_use]
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, unread: BytesMut::new(), patience }
    }

    /// What was read and not taken.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Takes `count` bytes off the front.
    pub fn take(&mut self, count: usize) {
        self.unread.advance(count.min(self.unread.len()));
    }

    /// Reads more. Safe to cancel.
    ///
    /// # Errors
    /// [`WireError::Closed`] at the end, [`WireError::Silent`] when nothing came in time.
    pub async fn read(&mut self) -> Result<(), WireError> {
        self.unread.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.unread);
        match tokio::time::timeout(self.patience, read).await {
            Ok(Ok(0)) => Err(WireError::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(WireError::Silent),
        }
    }

    /// Reads more, however long it takes. Safe to cancel.
    ///
    /// # Errors
    /// [`WireError::Closed`] at the end.
    pub async fn read_unhurried(&mut self) -> Result<(), WireError> {
        self.unread.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }

    /// Sends all of `bytes`. Not to be cancelled: what was sent by then is not known.
    ///
    /// # Errors
    /// [`WireError::Silent`] when the other side does not take them in time.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        if bytes.is_empty() {
            return Ok(());
        }
        match tokio::time::timeout(self.patience, self.stream.write_all(bytes)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(WireError::Silent),
        }
    }

    /// Sends `bytes` if the connection still takes any. One that is gone is no error here: what came before it went
    /// can still be read, and reading tells in the end.
    ///
    /// # Errors
    /// As [`Wire::send`], of a side that is there and does not read.
    pub async fn send_if_open(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        match self.send(bytes).await {
            Err(WireError::Io(_)) => Ok(()),
            sent => sent,
        }
    }

    /// Ends the connection so that what was sent arrives: the sending side is closed, then what still comes is
    /// dropped until the other side closes too. Closed with bytes unread, TCP would reset the connection, and
    /// the other side could lose what it has not read yet.
    pub async fn close(&mut self) {
        let ending = async {
            self.stream.shutdown().await?;
            self.unread.clear();
            while self.stream.read_buf(&mut self.unread).await? > 0 {
                self.unread.clear();
            }
            io::Result::Ok(())
        };
        // It is over either way.
        let _ = tokio::time::timeout(CLOSE.min(self.patience), ending).await;
    }
}
