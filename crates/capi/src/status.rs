//! How a call ended, as a number and in words.

use std::ffi::{CStr, c_char};

/// How a call ended.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "C has no other place for the prefix")]
pub enum cshm_status {
    /// Done.
    CSHM_OK = 0,

    /// Every slot is in use, and the call does not wait.
    CSHM_FULL = 1,
    /// There is no message, and the call does not wait.
    CSHM_EMPTY = 2,
    /// The time is over.
    CSHM_TIMEOUT = 3,
    /// The time is over, the ring is full, and no other side has ever come.
    CSHM_NO_PEER = 4,
    /// cshm_interrupt() ended the wait. Nothing was received.
    CSHM_INTERRUPTED = 5,
    /// The peer closed in order, or this side has finished.
    CSHM_CLOSED = 6,
    /// The peer died.
    CSHM_PEER_DEAD = 7,
    /// The peer died and a new side A took the name.
    CSHM_SUPERSEDED = 8,
    /// The peer put something impossible into shared memory. The half that found it stays unusable.
    CSHM_CORRUPT = 9,
    /// The message does not fit the slot, the reservation or the ring.
    CSHM_TOO_LARGE = 10,
    /// The ring has fewer slots than the window is to hold messages.
    CSHM_WINDOW_TOO_LARGE = 11,

    /// A live process is that side of the channel.
    CSHM_IN_USE = 20,
    /// There is nothing of that name.
    CSHM_NOT_FOUND = 21,
    /// A name, size or option is invalid.
    CSHM_INVALID_CONFIG = 22,
    /// A file in the channel's place is not a whole segment of this user and version.
    CSHM_FOREIGN_SEGMENT = 23,
    /// The segments do not fit the file system, or a limit of this process.
    CSHM_NO_SPACE = 24,
    /// The two sides gave different message tags.
    CSHM_TAG_MISMATCH = 25,
    /// The two sides exchange different types.
    CSHM_TYPE_MISMATCH = 26,
    /// Only side B reopens.
    CSHM_WRONG_SIDE = 27,
    /// An anonymous channel has no name to open again.
    CSHM_NO_NAME = 28,
    /// The system gave no thread.
    CSHM_NO_THREAD = 29,
    /// The system refused; cshm_last_os_error() has its number.
    CSHM_SYSTEM = 30,
    /// The server's filter refuses this client.
    CSHM_REFUSED = 31,
    /// The answer under the server's name does not come from a server of this version.
    CSHM_OTHER_VERSION = 32,
    /// The system does not attest who the peer is. It does for the channels of a server.
    CSHM_PEER_UNKNOWN = 33,

    /// Misuse: a pointer is NULL.
    CSHM_NULL_ARGUMENT = 40,
    /// Misuse: an argument has a value that is not allowed.
    CSHM_INVALID_ARGUMENT = 41,
    /// Misuse: something else is open on this half, such as a reservation, a message, a batch, a window or a
    /// listener.
    CSHM_BUSY = 42,
    /// Misuse: there is nothing to commit, abort, publish, release or stop.
    CSHM_NOTHING_OPEN = 43,
    /// Misuse: the transport was closed.
    CSHM_HANDLE_CLOSED = 44,
    /// Misuse: the wait set has something under this key.
    CSHM_KEY_TAKEN = 45,
    /// Misuse: the wait set has nothing under this key.
    CSHM_KEY_UNKNOWN = 46,

    /// This system does not have what was asked for.
    CSHM_UNSUPPORTED = 50,
    /// A defect of this library; please report it.
    CSHM_PANIC = 99,
}
use cshm_status::*;

/// Every status.
const ALL: [cshm_status; 35] = [
    CSHM_OK,
    CSHM_FULL,
    CSHM_EMPTY,
    CSHM_TIMEOUT,
    CSHM_NO_PEER,
    CSHM_INTERRUPTED,
    CSHM_CLOSED,
    CSHM_PEER_DEAD,
    CSHM_SUPERSEDED,
    CSHM_CORRUPT,
    CSHM_TOO_LARGE,
    CSHM_WINDOW_TOO_LARGE,
    CSHM_IN_USE,
    CSHM_NOT_FOUND,
    CSHM_INVALID_CONFIG,
    CSHM_FOREIGN_SEGMENT,
    CSHM_NO_SPACE,
    CSHM_TAG_MISMATCH,
    CSHM_TYPE_MISMATCH,
    CSHM_WRONG_SIDE,
    CSHM_NO_NAME,
    CSHM_NO_THREAD,
    CSHM_SYSTEM,
    CSHM_REFUSED,
    CSHM_OTHER_VERSION,
    CSHM_PEER_UNKNOWN,
    CSHM_NULL_ARGUMENT,
    CSHM_INVALID_ARGUMENT,
    CSHM_BUSY,
    CSHM_NOTHING_OPEN,
    CSHM_HANDLE_CLOSED,
    CSHM_KEY_TAKEN,
    CSHM_KEY_UNKNOWN,
    CSHM_UNSUPPORTED,
    CSHM_PANIC,
];

impl cshm_status {
    /// The status of this number.
    pub(crate) fn of(number: i32) -> Option<Self> {
        ALL.into_iter().find(|status| *status as i32 == number)
    }

    pub(crate) fn text(self) -> &'static CStr {
        match self {
            CSHM_OK => c"done",
            CSHM_FULL => c"the ring is full",
            CSHM_EMPTY => c"no message yet",
            CSHM_TIMEOUT => c"the time is over",
            CSHM_NO_PEER => {
                c"the ring stayed full until the deadline, and no other side has ever come; start it"
            }
            CSHM_INTERRUPTED => c"the wait was interrupted",
            CSHM_CLOSED => c"the channel is closed",
            CSHM_PEER_DEAD => c"the peer has died; create or reopen the channel",
            CSHM_SUPERSEDED => c"a new side A has taken the channel's name; reopen it",
            CSHM_CORRUPT => c"the channel is corrupt and no longer usable",
            CSHM_TOO_LARGE => c"the message is too large",
            CSHM_WINDOW_TOO_LARGE => c"the ring has fewer slots than the window is to hold messages",
            CSHM_IN_USE => c"a live process is that side of the channel",
            CSHM_NOT_FOUND => c"there is no channel of that name",
            CSHM_INVALID_CONFIG => c"a name, size or option is invalid",
            CSHM_FOREIGN_SEGMENT => {
                c"a file in the channel's place is not a whole segment of this user and version"
            }
            CSHM_NO_SPACE => c"the segments do not fit",
            CSHM_TAG_MISMATCH => c"the two sides gave different message tags",
            CSHM_TYPE_MISMATCH => c"the two sides exchange different types",
            CSHM_WRONG_SIDE => c"only side B reopens",
            CSHM_NO_NAME => c"an anonymous channel has no name to open again",
            CSHM_NO_THREAD => c"the system gave no thread",
            CSHM_SYSTEM => c"the system refused",
            CSHM_REFUSED => c"the server refuses this client",
            CSHM_OTHER_VERSION => c"what answers under the server's name is not a server of this version",
            CSHM_PEER_UNKNOWN => c"the system does not attest who the peer is",
            CSHM_NULL_ARGUMENT => c"an argument is NULL",
            CSHM_INVALID_ARGUMENT => c"an argument has a value that is not allowed",
            CSHM_BUSY => c"something else is open on this half of the transport",
            CSHM_NOTHING_OPEN => c"there is nothing open to end",
            CSHM_HANDLE_CLOSED => c"the transport was closed",
            CSHM_KEY_TAKEN => c"the wait set has something under this key",
            CSHM_KEY_UNKNOWN => c"the wait set has nothing under this key",
            CSHM_UNSUPPORTED => c"not available on this system",
            CSHM_PANIC => c"a defect of the library",
        }
    }
}

/// The meaning of a status, in English. The text stays for ever. Takes any number.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_strerror(status: i32) -> *const c_char {
    cshm_status::of(status).map_or(c"an unknown status", |status| status.text()).as_ptr()
}
