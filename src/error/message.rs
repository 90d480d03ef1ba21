//! Why a message was not sent or received.

use std::io;

use thiserror::Error;

/// An impossible value in shared memory. The half that found it stays unusable: every later call returns the same
/// error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("shared memory holds {word} = {found}, which is impossible: the limit is {allowed}")]
#[non_exhaustive]
pub struct Corruption {
    /// The name of the word.
    pub word: &'static str,
    /// Its value.
    pub found: u64,
    /// The limit that it breaks.
    pub allowed: u64,
}

/// Why a message was not sent. It was not published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Every slot is in use, and the call does not wait.
    #[error("the ring is full; wait with `reserve` or `send`, or let the peer catch up")]
    Full,
    /// Every slot was in use until the deadline.
    #[error("the ring stayed full until the deadline")]
    Timeout,
    /// The ring stayed full until the deadline, and no other side has ever come.
    #[error("the ring stayed full until the deadline, and no other side has ever come; start it")]
    NoPeer,
    /// The peer closed its receiving end in order, or this side has [`finish`](crate::Transport::finish)ed.
    #[error("the channel is closed")]
    Closed,
    /// The peer died.
    #[error("the peer has died; create or reopen the channel")]
    PeerDead,
    /// The peer died and a new side A took the name.
    #[error("a new side A has taken the channel's name; reopen it")]
    Superseded,
    /// The message is too large for a slot, or for the ring.
    #[error("a message of {needed} bytes does not fit {capacity} bytes; use a span or larger slots")]
    TooLarge {
        /// Bytes asked for.
        needed: usize,
        /// Bytes allowed.
        capacity: usize,
    },
    /// The system gave no descriptor, or no thread, to wait in an event loop with.
    #[error("the system gave nothing to wait in an event loop with: {}", io::Error::from_raw_os_error(*code))]
    NoDescriptor {
        /// The system's code.
        code: i32,
    },
    /// The peer put something impossible into shared memory; this half stays unusable.
    #[error("the channel is corrupt and no longer usable: {0}")]
    Corrupt(#[source] Corruption),
    /// Building the Cap'n Proto message failed.
    #[cfg(feature = "capnp")]
    #[error("building the message failed: {0}")]
    Capnp(#[from] ::capnp::Error),
}

/// Why no message was received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// There is no message now, and the call does not wait.
    #[error("no message yet; wait with `recv`")]
    Empty,
    /// No message came until the deadline.
    #[error("no message came until the deadline")]
    Timeout,
    /// An [`Interrupter`](crate::Interrupter) ended the wait. Nothing was received; the channel goes on.
    #[error("the wait was interrupted")]
    Interrupted,
    /// The ring has fewer slots than the window is to hold messages.
    #[error(
        "a window of {asked} messages does not fit a ring of {slots} slots; use more slots or a smaller window"
    )]
    WindowTooLarge {
        /// Messages asked for.
        asked: usize,
        /// Slots of the ring.
        slots: usize,
    },
    /// The system gave no descriptor, or no thread, to wait in an event loop with.
    #[error("the system gave nothing to wait in an event loop with: {}", io::Error::from_raw_os_error(*code))]
    NoDescriptor {
        /// The system's code.
        code: i32,
    },
    /// The system gave no thread to receive in. Only a [`Listener`](crate::Listener) returns it.
    #[error("the system gave no thread to receive in; end other threads or raise the limit (`ulimit -u`)")]
    NoThread,
    /// Everything that was sent is received, and the peer closed its sending end in order.
    #[error("the peer has closed the channel")]
    Closed,
    /// Everything that was sent is received, and the peer has died.
    #[error("the peer has died; create or reopen the channel")]
    PeerDead,
    /// Everything that was sent is received, and the peer has died and a new side A took the name.
    #[error("a new side A has taken the channel's name; reopen it")]
    Superseded,
    /// The peer put something impossible into shared memory; this half stays unusable.
    #[error("the channel is corrupt and no longer usable: {0}")]
    Corrupt(#[source] Corruption),
}

/// Turns an error of a channel into the matching error of a socket, and keeps it as the source.
macro_rules! into_io_error {
    ($error:ident: $($(#[$attribute:meta])* $variant:pat => $kind:ident,)*) => {
        impl From<$error> for io::Error {
            fn from(error: $error) -> Self {
                let kind = match &error {
                    $($(#[$attribute])* $variant => io::ErrorKind::$kind,)*
                };
                Self::new(kind, error)
            }
        }
    };
}

into_io_error!(RecvError:
    RecvError::Empty => WouldBlock,
    RecvError::Timeout => TimedOut,
    RecvError::Interrupted => Interrupted,
    RecvError::WindowTooLarge { .. } => InvalidInput,
    RecvError::NoDescriptor { .. } | RecvError::NoThread => Other,
    RecvError::Closed => UnexpectedEof,
    RecvError::PeerDead | RecvError::Superseded => ConnectionReset,
    RecvError::Corrupt(_) => InvalidData,
);
into_io_error!(SendError:
    SendError::Full => WouldBlock,
    SendError::Timeout | SendError::NoPeer => TimedOut,
    SendError::Closed => BrokenPipe,
    SendError::PeerDead | SendError::Superseded => ConnectionReset,
    SendError::TooLarge { .. } => InvalidInput,
    SendError::NoDescriptor { .. } => Other,
    SendError::Corrupt(_) => InvalidData,
    #[cfg(feature = "capnp")]
    SendError::Capnp(_) => InvalidData,
);

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn corruption_is_kept_as_the_source() {
        let corruption = Corruption { word: "tail - head", found: 9, allowed: 4 };
        let errors: [Box<dyn Error>; 2] =
            [Box::new(SendError::Corrupt(corruption)), Box::new(RecvError::Corrupt(corruption))];
        for error in errors {
            assert_eq!(error.source().and_then(|source| source.downcast_ref()), Some(&corruption));
        }
    }

    #[test]
    fn an_error_of_a_channel_is_what_it_would_be_of_a_socket_and_says_the_same() {
        let corruption = Corruption { word: "tail - head", found: 9, allowed: 4 };
        for (error, kind) in [
            (RecvError::Empty, io::ErrorKind::WouldBlock),
            (RecvError::Timeout, io::ErrorKind::TimedOut),
            (RecvError::Interrupted, io::ErrorKind::Interrupted),
            (RecvError::Closed, io::ErrorKind::UnexpectedEof),
            (RecvError::PeerDead, io::ErrorKind::ConnectionReset),
            (RecvError::Superseded, io::ErrorKind::ConnectionReset),
            (RecvError::Corrupt(corruption), io::ErrorKind::InvalidData),
        ] {
            let said = error.to_string();
            let error = io::Error::from(error);
            assert_eq!((error.kind(), error.to_string()), (kind, said));
        }
        for (error, kind) in [
            (SendError::Full, io::ErrorKind::WouldBlock),
            (SendError::NoPeer, io::ErrorKind::TimedOut),
            (SendError::Closed, io::ErrorKind::BrokenPipe),
            (SendError::PeerDead, io::ErrorKind::ConnectionReset),
            (SendError::TooLarge { needed: 9, capacity: 8 }, io::ErrorKind::InvalidInput),
            (SendError::Corrupt(corruption), io::ErrorKind::InvalidData),
        ] {
            let said = error.to_string();
            let error = io::Error::from(error);
            assert_eq!((error.kind(), error.to_string()), (kind, said));
        }
    }
}
