//! What a call says: an integer, and what went wrong last in this thread.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use transport::{AcceptError, ConfigError, CreateError, OpenError, RecvError, RemoveError, SendError};

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
    /// What answers under the server's name is not a server of this version.
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

    fn text(self) -> &'static CStr {
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

/// A call that failed, and has said so in this thread.
pub(crate) struct Failed(cshm_status);

pub(crate) type Outcome<T = ()> = Result<T, Failed>;

thread_local! {
    /// How the last failure of this thread is called, and the system's number if it had one.
    static LAST: Cell<(cshm_status, c_int)> = const { Cell::new((CSHM_OK, 0)) };
    /// What there is to say about it beyond its name, with the failure that it belongs to.
    static DETAIL: RefCell<Option<(cshm_status, CString)>> = const { RefCell::new(None) };
}

impl Failed {
    /// An outcome about which nothing more is to be said. Costs no allocation.
    pub(crate) fn plain(status: cshm_status) -> Self {
        LAST.set((status, 0));
        // Where the thread is at its end already, there is nothing to forget.
        let _ = DETAIL.try_with(|detail| {
            if let Ok(mut detail) = detail.try_borrow_mut() {
                *detail = None;
            }
        });
        Self(status)
    }

    #[cold]
    pub(crate) fn detailed(status: cshm_status, what: impl Display) -> Self {
        let failed = Self::plain(status);
        let mut text = what.to_string().into_bytes();
        text.retain(|byte| *byte != 0);
        let text = CString::new(text).unwrap_or_default();
        // A thread at its end says the name alone.
        let _ = DETAIL.try_with(|detail| {
            if let Ok(mut detail) = detail.try_borrow_mut() {
                *detail = Some((status, text));
            }
        });
        failed
    }

    #[cold]
    pub(crate) fn system(what: impl Display, source: &std::io::Error) -> Self {
        let failed = Self::detailed(CSHM_SYSTEM, what);
        const ENOENT: c_int = 2;
        let missing = source.kind() == std::io::ErrorKind::NotFound;
        LAST.set((CSHM_SYSTEM, source.raw_os_error().unwrap_or(if missing { ENOENT } else { 0 })));
        failed
    }

    pub(crate) fn null(argument: &str) -> Self {
        Self::detailed(CSHM_NULL_ARGUMENT, format_args!("{argument} is NULL"))
    }

    /// What a function of this interface has said already.
    pub(crate) fn said(status: cshm_status) -> Outcome {
        if status == CSHM_OK { Ok(()) } else { Err(Self(status)) }
    }

    pub(crate) fn status(&self) -> cshm_status {
        self.0
    }
}

/// Runs what a function does. Nothing unwinds out of it.
#[inline(always)]
pub(crate) fn guarded(body: impl FnOnce() -> Outcome) -> cshm_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CSHM_OK,
        Ok(Err(failed)) => failed.status(),
        Err(panic) => panicked(&*panic),
    }
}

/// The same for a function that returns a value, and `otherwise` on failure.
#[inline(always)]
pub(crate) fn guarded_value<T>(otherwise: T, body: impl FnOnce() -> Outcome<T>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => otherwise,
        Err(panic) => {
            panicked(&*panic);
            otherwise
        }
    }
}

#[cold]
fn panicked(panic: &(dyn std::any::Any + Send)) -> cshm_status {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    Failed::detailed(CSHM_PANIC, format_args!("a defect of the library: {text}")).status()
}

impl From<SendError> for Failed {
    #[cold]
    fn from(error: SendError) -> Self {
        let status = match error {
            SendError::Full => return Self::plain(CSHM_FULL),
            SendError::Timeout => return Self::plain(CSHM_TIMEOUT),
            SendError::NoPeer => return Self::plain(CSHM_NO_PEER),
            SendError::Closed => return Self::plain(CSHM_CLOSED),
            SendError::PeerDead => return Self::plain(CSHM_PEER_DEAD),
            SendError::Superseded => return Self::plain(CSHM_SUPERSEDED),
            SendError::NoDescriptor { code } => {
                return Self::system(&error, &std::io::Error::from_raw_os_error(code));
            }
            SendError::TooLarge { .. } => CSHM_TOO_LARGE,
            SendError::Corrupt(_) => CSHM_CORRUPT,
            _ => CSHM_PANIC,
        };
        Self::detailed(status, error)
    }
}

impl From<RecvError> for Failed {
    #[cold]
    fn from(error: RecvError) -> Self {
        if let RecvError::NoDescriptor { code } = error {
            return Self::system(&error, &std::io::Error::from_raw_os_error(code));
        }
        match receive_end(&error) {
            status @ (CSHM_CORRUPT | CSHM_WINDOW_TOO_LARGE | CSHM_PANIC) => Self::detailed(status, error),
            status => Self::plain(status),
        }
    }
}

/// Why receiving ended.
pub(crate) fn receive_end(error: &RecvError) -> cshm_status {
    match error {
        RecvError::Empty => CSHM_EMPTY,
        RecvError::Timeout => CSHM_TIMEOUT,
        RecvError::Interrupted => CSHM_INTERRUPTED,
        RecvError::WindowTooLarge { .. } => CSHM_WINDOW_TOO_LARGE,
        RecvError::NoDescriptor { .. } => CSHM_SYSTEM,
        RecvError::NoThread => CSHM_NO_THREAD,
        RecvError::Closed => CSHM_CLOSED,
        RecvError::PeerDead => CSHM_PEER_DEAD,
        RecvError::Superseded => CSHM_SUPERSEDED,
        RecvError::Corrupt(_) => CSHM_CORRUPT,
        _ => CSHM_PANIC,
    }
}

fn config_status(error: &ConfigError) -> cshm_status {
    if matches!(error, ConfigError::Unsupported { .. }) { CSHM_UNSUPPORTED } else { CSHM_INVALID_CONFIG }
}

impl From<CreateError> for Failed {
    fn from(error: CreateError) -> Self {
        let status = match &error {
            CreateError::Config(config) => config_status(config),
            CreateError::InUse { .. } => CSHM_IN_USE,
            CreateError::Segment { .. } => CSHM_FOREIGN_SEGMENT,
            CreateError::NoSpace { .. }
            | CreateError::NoInodes { .. }
            | CreateError::FileSizeLimit { .. } => CSHM_NO_SPACE,
            CreateError::Io { source, .. } => return Self::system(&error, source),
            _ => CSHM_PANIC,
        };
        Self::detailed(status, error)
    }
}

/// Why a channel is not to be opened.
pub(crate) fn open_status(error: &OpenError) -> cshm_status {
    match error {
        OpenError::Config(config) => config_status(config),
        OpenError::Timeout { .. } => CSHM_TIMEOUT,
        OpenError::InUse { .. } => CSHM_IN_USE,
        OpenError::Segment { .. } => CSHM_FOREIGN_SEGMENT,
        OpenError::Tag { .. } => CSHM_TAG_MISMATCH,
        OpenError::Type { .. } => CSHM_TYPE_MISMATCH,
        OpenError::Refused { .. } => CSHM_REFUSED,
        OpenError::Handshake { .. } => CSHM_OTHER_VERSION,
        OpenError::NoName => CSHM_NO_NAME,
        OpenError::WrongSide => CSHM_WRONG_SIDE,
        OpenError::Io { .. } => CSHM_SYSTEM,
        _ => CSHM_PANIC,
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::Io { source, .. } => Self::system(&error, source),
            other => Self::detailed(open_status(other), other),
        }
    }
}

impl From<AcceptError> for Failed {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Empty => Self::plain(CSHM_EMPTY),
            AcceptError::Timeout => Self::plain(CSHM_TIMEOUT),
            AcceptError::Create(create) => create.into(),
            AcceptError::Io { ref source, .. } => Self::system(&error, source),
            _ => Self::detailed(CSHM_PANIC, error),
        }
    }
}

impl From<RemoveError> for Failed {
    fn from(error: RemoveError) -> Self {
        let status = match &error {
            RemoveError::Config(config) => config_status(config),
            RemoveError::NotFound { .. } => CSHM_NOT_FOUND,
            RemoveError::InUse { .. } => CSHM_IN_USE,
            RemoveError::Segment { .. } => CSHM_FOREIGN_SEGMENT,
            RemoveError::Io { source, .. } => return Self::system(&error, source),
            _ => CSHM_PANIC,
        };
        Self::detailed(status, error)
    }
}

/// What of this interface a program can rely on: it grows when something that was there changes or goes. A program
/// that was compiled against CSHM_ABI_VERSION needs a library that says the same.
pub const CSHM_ABI_VERSION: u32 = 1;

/// The CSHM_ABI_VERSION of the library that runs.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_abi_version() -> u32 {
    CSHM_ABI_VERSION
}

/// The library's version, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn cshm_version() -> *const c_char {
    const TEXT: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };
    TEXT.as_ptr()
}

/// What a status means, in English. The text stays for ever. Takes any number.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_strerror(status: i32) -> *const c_char {
    cshm_status::of(status).map_or(c"an unknown status", |status| status.text()).as_ptr()
}

/// What went wrong in this thread last, with the names and values that matter, in English; "done" if nothing did.
/// The text stays until the next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_last_error() -> *const c_char {
    let (status, _) = LAST.get();
    let detail = DETAIL.try_with(|detail| {
        let detail = detail.try_borrow().ok()?;
        detail.as_ref().map(|(_, text)| text.as_ptr())
    });
    detail.ok().flatten().unwrap_or(status.text().as_ptr())
}

/// The system's number (errno) of this thread's last failure, if that was CSHM_SYSTEM; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_last_os_error() -> c_int {
    LAST.get().1
}
