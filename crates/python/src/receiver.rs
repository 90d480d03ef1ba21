//! Receives: every call of the receiving half.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use transport::{Consumer, Interrupter, ReadSlot, RecvError, StatsHandle};

use crate::buffer::Lent;
use crate::errors::{closed_here, of_recv};
use crate::fork::Process;
use crate::hold::{Hold, LetGo, Owner};
use crate::message::Message;
use crate::receiving::{Open, Receiving, Which};
use crate::sender::LOOKS;
use crate::wait::{Closing, Patience, wait};
use crate::window::Frames;

pub(crate) struct Receiver {
    state: Mutex<Receiving>,
    /// None once closed.
    interrupter: Mutex<Option<Interrupter>>,
    closing: Closing,
    process: Process,
}

impl Receiver {
    pub(crate) fn new(consumer: Consumer, mapping: StatsHandle) -> Arc<Self> {
        Arc::new(Self {
            interrupter: Mutex::new(Some(consumer.interrupter())),
            state: Mutex::new(Receiving::new(consumer, mapping)),
            closing: Closing::of("transport"),
            process: Process::this(),
        })
    }

    /// The half for this call alone. From the moment that it is to be closed, it is.
    #[inline]
    fn state(&self) -> PyResult<MutexGuard<'_, Receiving>> {
        if self.closing.is_asked() {
            self.process.check()?;
            return Err(closed_here());
        }
        self.free()
    }

    /// The same, also for what is to be closed.
    #[inline]
    fn free(&self) -> PyResult<MutexGuard<'_, Receiving>> {
        self.process.check()?;
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(state)) => Ok(state.into_inner()),
            Err(TryLockError::WouldBlock) => Err(busy()),
        }
    }

    /// The same, for one of the few who never meet a call that waits: while a message is open, none does.
    fn state_soon(&self) -> MutexGuard<'_, Receiving> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message. None if there is none and the call does not wait.
    #[inline]
    fn slot(
        &self,
        py: Python<'_>,
        state: &mut Receiving,
        which: Which,
        patience: Patience,
    ) -> PyResult<Option<ReadSlot<'static>>> {
        if which == Which::Oldest {
            if let Some(slot) = state.idle()?.recv_at_hand() {
                return Ok(Some(slot));
            }
        }
        let looks = if matches!(patience, Patience::None) { 1 } else { LOOKS };
        for _ in 0..looks {
            match Receiving::receive(state.idle()?, which, None) {
                Ok(slot) => return Ok(Some(slot)),
                Err(RecvError::Empty) => std::hint::spin_loop(),
                Err(error) => return Err(of_recv(error)),
            }
        }
        if matches!(patience, Patience::None) {
            return Ok(None);
        }
        let attempt = |time| match state.idle() {
            Ok(consumer) => Receiving::receive(consumer, which, Some(time)),
            // Nobody else changes it meanwhile.
            Err(_) => Err(RecvError::Closed),
        };
        let waited = wait(py, patience, Some(&self.closing), attempt);
        waited.inspect_err(|_| self.close_if_asked(state))?.map(Some).map_err(of_recv)
    }

    /// The oldest or newest message, in its slot.
    #[inline]
    pub(crate) fn recv(
        self: &Arc<Self>,
        py: Python<'_>,
        which: Which,
        patience: Patience,
    ) -> PyResult<Option<Message>> {
        let mut state = self.state()?;
        let Some(slot) = self.slot(py, &mut state, which, patience)? else { return Ok(None) };
        let owner = Owner::Message(Arc::clone(self));
        let hold = Arc::new(Hold::new(start(&slot), slot.len(), owner, state.mapping()?));
        state.open = Open::Message(slot, Arc::downgrade(&hold));
        Ok(Some(Message::new(hold)))
    }

    /// A copy of the oldest message.
    #[inline]
    pub(crate) fn recv_bytes<'py>(
        &self,
        py: Python<'py>,
        patience: Patience,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut state = self.state()?;
        let slot = self.slot(py, &mut state, Which::Oldest, patience)?;
        Ok(slot.map(|slot| PyBytes::new(py, &slot)))
    }

    /// Copies the oldest message into a buffer, and says how long it is.
    pub(crate) fn recv_into(&self, buffer: &Bound<'_, PyAny>, patience: Patience) -> PyResult<Option<usize>> {
        let mut lent = Lent::writable(buffer)?;
        let mut state = self.state()?;
        let Some(slot) = self.slot(buffer.py(), &mut state, Which::Oldest, patience)? else {
            return Ok(None);
        };
        let room = lent.bytes_mut();
        match room.get_mut(..slot.len()) {
            Some(room) => room.copy_from_slice(&slot),
            None => {
                let text =
                    format!("a message of {} bytes does not fit a buffer of {}", slot.len(), room.len());
                return Err(PyBufferError::new_err((text, PyBytes::new(buffer.py(), &slot).unbind())));
            }
        }
        Ok(Some(slot.len()))
    }

    /// Copies of what is there now, at most so many.
    pub(crate) fn drain<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        let mut state = self.state()?;
        let mut messages = Vec::new();
        let each = |message: &[u8]| messages.push(PyBytes::new(py, message));
        state.idle()?.drain(most, each).map_err(of_recv)?;
        // A list may have Python collect its garbage, and what is collected may close this.
        drop(state);
        PyList::new(py, messages)
    }

    /// Opens a window.
    pub(crate) fn window(self: &Arc<Self>) -> PyResult<Arc<Frames>> {
        let mut state = self.state()?;
        let window = state.idle()?.window();
        let frames = Frames::new();
        state.open = Open::Window(window, Arc::downgrade(&frames));
        Ok(frames)
    }

    /// Has the window hold so many messages. False if it does not, and the call does not wait.
    pub(crate) fn wait_for(
        self: &Arc<Self>,
        py: Python<'_>,
        frames: &Frames,
        count: usize,
        patience: Patience,
    ) -> PyResult<bool> {
        let mut state = self.state()?;
        if frames.are_gone() {
            return Err(Frames::closed());
        }
        let mapping = state.mapping()?;
        let Open::Window(window, _) = &mut state.open else { return Err(Frames::closed()) };
        let waited = match window.try_wait_for(count) {
            Err(RecvError::Empty) if !matches!(patience, Patience::None) => {
                let window = &mut *window;
                wait(py, patience, Some(&self.closing), |time| window.wait_for_timeout(count, time))
            }
            done => Ok(done),
        };
        // Those that came before an error stay.
        let new = window.iter().skip(frames.len()).map(|bytes| (start(bytes), bytes.len()));
        for (start, len) in new.collect::<Vec<_>>() {
            let owner = Owner::Frame(Arc::clone(self), frames.count_one());
            frames.push(Arc::new(Hold::new(start, len, owner, mapping.clone())));
        }
        match waited? {
            Ok(()) => Ok(true),
            Err(RecvError::Empty) => Ok(false),
            Err(error) => Err(of_recv(error)),
        }
    }

    /// Gives the oldest messages of a window back, whose holds are taken.
    pub(crate) fn release_of_window(&self, count: usize) -> PyResult<()> {
        if let Open::Window(window, _) = &mut self.free()?.open {
            window.release(count);
        }
        Ok(())
    }

    /// Ends a window whose holds are taken, and has its messages received again.
    pub(crate) fn put_back(&self) {
        let mut state = self.state_soon();
        match std::mem::replace(&mut state.open, Open::Nothing) {
            Open::Window(window, _) => window.put_back(),
            other => state.open = other,
        }
        self.close_if_asked(&mut state);
    }

    /// Whether no other call is at work.
    pub(crate) fn is_free(&self) -> PyResult<()> {
        self.free().map(|_| ())
    }

    /// Releases what is open: nobody looks at it any more.
    pub(crate) fn end(&self) {
        if self.process.is_this() {
            let mut state = self.state_soon();
            state.open = Open::Nothing;
            self.close_if_asked(&mut state);
        }
    }

    /// For when nothing is open.
    fn close_if_asked(&self, state: &mut Receiving) {
        if self.closing.is_asked() {
            state.consumer = None;
        }
    }

    /// The same, if this was the last of several.
    pub(crate) fn end_of_one(&self, left: &AtomicUsize) {
        if left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end();
        }
    }

    /// Closes this direction once no view is left. False if there are some.
    pub(crate) fn close(&self, py: Python<'_>) -> bool {
        enum Left {
            Nothing,
            Message(Option<Arc<Hold>>),
            Window(Option<Arc<Frames>>),
        }
        if !self.process.is_this() {
            return true;
        }
        self.closing.ask();
        // A call that waits ends.
        if let Some(interrupter) = self.interrupter().take() {
            interrupter.interrupt();
        }
        if self.closing.waits_here() {
            return true;
        }
        let left = py.detach(|| {
            let mut state = self.state_soon();
            match &state.open {
                Open::Nothing => {
                    state.consumer = None;
                    Left::Nothing
                }
                Open::Message(_, hold) => Left::Message(hold.upgrade()),
                Open::Window(_, frames) => Left::Window(frames.upgrade()),
            }
        });
        match left {
            Left::Nothing | Left::Message(None) | Left::Window(None) => true,
            Left::Message(Some(hold)) => hold.let_go() != LetGo::Later,
            Left::Window(Some(frames)) => frames.let_go(self),
        }
    }

    /// Begins anew with another half. This one is closed.
    pub(crate) fn renew(&self, consumer: Consumer, mapping: StatsHandle) {
        *self.interrupter() = Some(consumer.interrupter());
        *self.state_soon() = Receiving::new(consumer, mapping);
        self.closing.begin_anew();
    }

    fn interrupter(&self) -> MutexGuard<'_, Option<Interrupter>> {
        self.interrupter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a wait.
    pub(crate) fn interrupt(&self) {
        if let Some(interrupter) = &*self.interrupter() {
            interrupter.interrupt();
        }
    }

    /// Whether a call of this thread waits, beneath a signal handler.
    pub(crate) fn waits_here(&self) -> bool {
        self.closing.waits_here()
    }

    pub(crate) fn check(&self) -> PyResult<()> {
        self.process.check()
    }

    /// Waits until the other side has come.
    pub(crate) fn wait_for_peer(&self, py: Python<'_>, patience: Patience) -> PyResult<()> {
        let state = &mut *self.state()?;
        state.idle()?;
        let attempt = |time| match state.idle() {
            Ok(consumer) => consumer.wait_for_peer(time),
            Err(_) => Err(RecvError::Closed),
        };
        let waited = wait(py, patience, Some(&self.closing), attempt);
        waited.inspect_err(|_| self.close_if_asked(state))?.map_err(|error| match error {
            RecvError::Timeout => pyo3::exceptions::PyTimeoutError::new_err("no other side has come in time"),
            error => of_recv(error),
        })
    }

    /// Prepares to wait for a message in an event loop.
    pub(crate) fn arm(&self) -> PyResult<bool> {
        self.state()?.idle()?.arm().map_err(of_recv)
    }

    /// Reads from the half, also while a message is open.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Consumer) -> T) -> PyResult<T> {
        let state = self.state()?;
        state.consumer.as_ref().map(|consumer| read(consumer.get())).ok_or_else(closed_here)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // The mapping is not there, so nothing may be written to it, and its addresses may be others' by now.
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            let open = std::mem::replace(&mut state.open, Open::Nothing);
            std::mem::forget((open, state.consumer.take()));
        }
    }
}

/// Where a message lies.
fn start(bytes: &[u8]) -> NonNull<u8> {
    NonNull::from(bytes).cast()
}

#[cold]
fn busy() -> PyErr {
    PyRuntimeError::new_err(
        "another call receives on this transport now; a channel has one receiver, so let one thread receive, or use a lock",
    )
}

/// A number of messages that makes sense.
pub(crate) fn positive(count: usize) -> PyResult<usize> {
    if count == 0 {
        Err(PyValueError::new_err("0 messages are asked for; ask for 1 or more"))
    } else {
        Ok(count)
    }
}
