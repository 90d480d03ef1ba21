//! A slot that Python has: how many buffers of it there are, and what happens when it is let go.
//!
//! Python decides when the last view of a buffer goes, so a slot is given back only when nobody asks for it any more
//! *and* no view is left. One word has both: whether it is let go, and the number of views.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use transport::StatsHandle;

use crate::fork::Process;
use crate::receiver::Receiver;
use crate::sender::Sender;

/// Set once the slot is let go. The rest counts views.
const GONE: usize = 1;
const VIEW: usize = 2;

pub(crate) struct Hold {
    word: AtomicUsize,
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
    process: Process,
    /// Keeps the memory mapped, for what looks at it without a view of its own: `numpy.ndarray(buffer=...)` does.
    _mapping: StatsHandle,
}

/// The half that has the slot, and is to be told that it is free.
pub(crate) enum Owner {
    Reservation(Arc<Sender>),
    Message(Arc<Receiver>),
    /// One of several messages of a window, with how many of them, and the window itself, are still there.
    Frame(Arc<Receiver>, Arc<AtomicUsize>),
}

// SAFETY: the pointer is to shared memory that stays mapped; Python controls the reads and writes there.
#[allow(unsafe_code)]
unsafe impl Send for Hold {}
// SAFETY: as above; the rest is atomic or never changes.
#[allow(unsafe_code)]
unsafe impl Sync for Hold {}

/// The fate of a slot that is let go.
#[derive(PartialEq, Eq)]
pub(crate) enum LetGo {
    Now,
    /// When the last view goes.
    Later,
    /// It was before.
    Before,
}

impl Hold {
    pub(crate) fn new(start: NonNull<u8>, len: usize, owner: Owner, mapping: StatsHandle) -> Self {
        Self { word: AtomicUsize::new(0), start, len, owner, process: Process::this(), _mapping: mapping }
    }

    pub(crate) fn place(&self) -> (NonNull<u8>, usize) {
        (self.start, self.len)
    }

    pub(crate) fn is_writable(&self) -> bool {
        matches!(self.owner, Owner::Reservation(_))
    }

    pub(crate) fn is_of_window(&self) -> bool {
        matches!(self.owner, Owner::Frame(..))
    }

    /// Counts one more view.
    ///
    /// # Errors
    ///
    /// `ValueError` if the slot is let go, `RuntimeError` in a forked child, which does not have it.
    pub(crate) fn export(&self) -> PyResult<()> {
        self.process.check()?;
        let more = |word| (word & GONE == 0).then_some(word + VIEW);
        let counted = self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, more);
        counted.map(|_| ()).map_err(|_| self.released())
    }

    /// Counts one view less. The last of a slot that is let go gives it back.
    pub(crate) fn unexport(&self) {
        if self.word.fetch_sub(VIEW, Ordering::AcqRel) == VIEW | GONE {
            self.end();
        }
    }

    /// Whether it is let go.
    pub(crate) fn is_gone(&self) -> bool {
        self.word.load(Ordering::Relaxed) & GONE != 0
    }

    /// Lets the slot go, whether there are views or not.
    pub(crate) fn let_go(&self) -> LetGo {
        match self.word.fetch_or(GONE, Ordering::AcqRel) {
            0 => {
                self.end();
                LetGo::Now
            }
            word if word & GONE != 0 => LetGo::Before,
            _ => LetGo::Later,
        }
    }

    /// Takes the slot, if there is no view, for a caller who says what becomes of it.
    pub(crate) fn take(&self) -> PyResult<()> {
        match self.word.compare_exchange(0, GONE, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(word) if word & GONE != 0 => Err(self.released()),
            Err(_) => Err(self.viewed()),
        }
    }

    /// Gives back what [`take`](Self::take) took.
    pub(crate) fn give_back(&self) {
        self.word.fetch_and(!GONE, Ordering::Release);
    }

    /// Nobody has the slot any more. Comes once.
    fn end(&self) {
        match &self.owner {
            Owner::Reservation(sender) => sender.end(),
            Owner::Message(receiver) => receiver.end(),
            Owner::Frame(receiver, left) => receiver.end_of_one(left),
        }
    }

    #[cold]
    fn released(&self) -> PyErr {
        PyValueError::new_err(match self.owner {
            Owner::Reservation(_) => "this reservation was committed or aborted",
            Owner::Message(_) => "this message was released",
            Owner::Frame(..) => "this message of a window was released",
        })
    }

    /// The error that Python also raises for a `bytearray`.
    #[cold]
    pub(crate) fn viewed(&self) -> PyErr {
        PyBufferError::new_err(match self.owner {
            Owner::Reservation(_) => {
                "a view of the slot is still there (an array, a memoryview), so it is not sent; delete the view before the \
                 end, or copy what is needed of it"
            }
            _ => {
                "a view of the message is still there (an array, a memoryview); delete it before the end, or copy what is \
                 needed of it"
            }
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // No view is left: each keeps the object that has this.
        self.let_go();
    }
}
