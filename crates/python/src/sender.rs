//! The sending half, and the reservation that is open on it.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use transport::{Producer, SendError, StatsHandle, WriteSlot};

use crate::buffer::Input;
use crate::errors::{closed_here, of_send};
use crate::fork::Process;
use crate::hold::{Hold, LetGo, Owner};
use crate::pinned::Pinned;
use crate::reservation::Reservation;
use crate::wait::{Closing, Patience, wait};

/// Looks that a waiting call takes before it gives the GIL away: about as long as that takes there and back.
pub(crate) const LOOKS: usize = 64;

pub(crate) struct Sender {
    state: Mutex<Sending>,
    closing: Closing,
    process: Process,
    /// Bytes of every message, if they are values of one type; else 0.
    value_size: usize,
}

struct Sending {
    /// Before what it borrows from: parts drop in order.
    open: Option<WriteSlot<'static>>,
    hold: Weak<Hold>,
    /// None once closed.
    producer: Option<Pinned<Producer>>,
}

impl Sending {
    /// The half, if nothing borrows it.
    #[inline]
    fn idle(&mut self) -> PyResult<&'static mut Producer> {
        if self.open.is_some() {
            return Err(self.taken());
        }
        let producer = self.producer.as_mut().ok_or_else(closed_here)?;
        // SAFETY: no guard is open. Callers do not keep what they get beyond the next call of this, and put a guard
        // nowhere but in `open`.
        Ok(unsafe { producer.borrow() })
    }

    fn mapping(&self) -> PyResult<StatsHandle> {
        self.producer.as_ref().map(Pinned::mapping).ok_or_else(closed_here)
    }

    #[cold]
    fn taken(&self) -> PyErr {
        match self.hold.upgrade() {
            Some(hold) if hold.is_gone() => {
                PyBufferError::new_err("a view of the last reservation is still there; delete it first")
            }
            _ => PyRuntimeError::new_err("a reservation is open; commit or abort it first"),
        }
    }

    /// One try to reserve, which waits so long.
    #[inline]
    fn reserve(
        producer: &'static mut Producer,
        bytes: usize,
        time: Option<Duration>,
    ) -> Result<WriteSlot<'static>, SendError> {
        match (bytes <= producer.slot_size(), time) {
            (true, None) => producer.try_reserve(),
            (true, Some(time)) => producer.reserve_timeout(time),
            (false, None) => producer.try_reserve_span(bytes),
            (false, Some(time)) => producer.reserve_span_timeout(bytes, time),
        }
    }
}

impl Sender {
    pub(crate) fn new(producer: Producer, mapping: StatsHandle, value_size: usize) -> Arc<Self> {
        let producer = Some(Pinned::new(producer, mapping));
        Arc::new(Self {
            state: Mutex::new(Sending { open: None, hold: Weak::new(), producer }),
            closing: Closing::of("transport"),
            process: Process::this(),
            value_size,
        })
    }

    /// The half for this call alone.
    #[inline]
    fn state(&self) -> PyResult<MutexGuard<'_, Sending>> {
        self.process.check()?;
        if self.closing.is_asked() {
            return Err(closed_here());
        }
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(state)) => Ok(state.into_inner()),
            Err(TryLockError::WouldBlock) => Err(busy()),
        }
    }

    /// The same, for one of the few who never meet a call that waits: while a reservation is open, none does.
    fn state_soon(&self) -> MutexGuard<'_, Sending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free slot or span of them. None if there is none and the call does not wait.
    #[inline]
    fn slot(
        &self,
        py: Python<'_>,
        state: &mut Sending,
        bytes: usize,
        patience: Patience,
    ) -> PyResult<Option<WriteSlot<'static>>> {
        let producer = state.idle()?;
        if bytes <= producer.slot_size() {
            if let Some(slot) = producer.reserve_at_hand() {
                return Ok(Some(slot));
            }
        }
        let looks = if matches!(patience, Patience::None) { 1 } else { LOOKS };
        for _ in 0..looks {
            match Sending::reserve(state.idle()?, bytes, None) {
                Ok(slot) => return Ok(Some(slot)),
                Err(SendError::Full) => std::hint::spin_loop(),
                Err(error) => return Err(of_send(error)),
            }
        }
        if matches!(patience, Patience::None) {
            return Ok(None);
        }
        let attempt = |time| match state.idle() {
            Ok(producer) => Sending::reserve(producer, bytes, Some(time)),
            // Nobody else changes it meanwhile.
            Err(_) => Err(SendError::Closed),
        };
        let waited = wait(py, patience, Some(&self.closing), attempt);
        waited.inspect_err(|_| self.close_if_asked(state))?.map(Some).map_err(of_send)
    }

    /// Refuses a length that no value of the channel has.
    #[inline]
    fn check_length(&self, bytes: usize) -> PyResult<()> {
        if self.value_size != 0 && bytes != self.value_size { Err(self.wrong_length(bytes)) } else { Ok(()) }
    }

    #[cold]
    fn wrong_length(&self, bytes: usize) -> PyErr {
        let size = self.value_size;
        PyValueError::new_err(format!(
            "a message of {bytes} bytes on a channel of values of {size} bytes each"
        ))
    }

    /// Copies one message into a slot, or a span of them. False if there is no room and the call does not wait.
    #[inline]
    pub(crate) fn send(&self, message: &Bound<'_, PyAny>, patience: Patience) -> PyResult<bool> {
        let input = Input::of(message)?;
        let bytes = input.bytes();
        self.check_length(bytes.len())?;
        let mut state = self.state()?;
        let Some(mut slot) = self.slot(message.py(), &mut state, bytes.len(), patience)? else {
            return Ok(false);
        };
        slot[..bytes.len()].copy_from_slice(bytes);
        slot.commit(bytes.len());
        Ok(true)
    }

    /// Sends messages of one slot each, with one publication for as many as there is room for.
    pub(crate) fn send_many(
        &self,
        py: Python<'_>,
        messages: &[Bound<'_, PyAny>],
        patience: Patience,
    ) -> PyResult<()> {
        let inputs = messages.iter().map(Input::of).collect::<PyResult<Vec<_>>>()?;
        for input in &inputs {
            self.check_length(input.bytes().len())?;
        }
        let mut state = self.state()?;
        let mut left = inputs.as_slice();
        while !left.is_empty() {
            let mut batch = state.idle()?.batch();
            while let Some((input, rest)) = left.split_first() {
                match batch.try_send(input.bytes()) {
                    Ok(()) => left = rest,
                    Err(SendError::Full) => break,
                    Err(error) => return Err(of_send(error)),
                }
            }
            batch.publish();
            if let Some((input, rest)) = left.split_first() {
                let bytes = input.bytes();
                let Some(mut slot) = self.slot(py, &mut state, bytes.len(), patience)? else { break };
                slot[..bytes.len()].copy_from_slice(bytes);
                slot.commit(bytes.len());
                left = rest;
            }
        }
        Ok(())
    }

    /// A reservation of so many bytes, or of a slot. None if there is no room and the call does not wait.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        py: Python<'_>,
        bytes: Option<usize>,
        patience: Patience,
    ) -> PyResult<Option<Reservation>> {
        let mut state = self.state()?;
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => state.idle()?.slot_size(),
        };
        self.check_length(bytes)?;
        let Some(mut slot) = self.slot(py, &mut state, bytes, patience)? else { return Ok(None) };
        let start = NonNull::from(&mut *slot).cast();
        let owner = Owner::Reservation(Arc::clone(self));
        let hold = Arc::new(Hold::new(start, bytes, owner, state.mapping()?));
        (state.open, state.hold) = (Some(slot), Arc::downgrade(&hold));
        Ok(Some(Reservation::new(Arc::clone(self), hold)))
    }

    /// Publishes the open reservation. `hold` is taken: nobody looks at the slot.
    pub(crate) fn commit(&self, hold: &Hold, bytes: usize) -> PyResult<()> {
        self.process.check()?;
        self.check_length(bytes).inspect_err(|_| hold.give_back())?;
        let mut state = self.state_soon();
        if let Some(slot) = state.open.take() {
            slot.commit(bytes);
        }
        self.close_if_asked(&mut state);
        Ok(())
    }

    /// Aborts the open reservation: nobody looks at the slot any more.
    pub(crate) fn end(&self) {
        if self.process.is_this() {
            let mut state = self.state_soon();
            state.open = None;
            self.close_if_asked(&mut state);
        }
    }

    fn close_if_asked(&self, state: &mut Sending) {
        if self.closing.is_asked() {
            state.producer = None;
        }
    }

    /// Closes this direction once no view is left. False if there are some.
    pub(crate) fn close(&self, py: Python<'_>) -> bool {
        if !self.process.is_this() {
            return true;
        }
        self.closing.ask();
        if self.closing.waits_here() {
            return true;
        }
        let open = py.detach(|| {
            let mut state = self.state_soon();
            if state.open.is_none() {
                state.producer = None;
            }
            state.hold.upgrade()
        });
        open.is_none_or(|hold| hold.let_go() != LetGo::Later)
    }

    /// Begins anew with another half. This one is closed.
    pub(crate) fn renew(&self, producer: Producer, mapping: StatsHandle) {
        self.state_soon().producer = Some(Pinned::new(producer, mapping));
        self.closing.begin_anew();
    }

    /// See `Producer::finish`.
    pub(crate) fn finish(&self, py: Python<'_>, patience: Patience) -> PyResult<()> {
        let state = &mut *self.state()?;
        state.idle()?;
        let attempt = |time| match state.idle() {
            Ok(producer) => producer.finish(time),
            Err(_) => Err(SendError::Closed),
        };
        let waited = wait(py, patience, Some(&self.closing), attempt);
        waited.inspect_err(|_| self.close_if_asked(state))?.map_err(of_send)
    }

    /// Prepares to wait for room in an event loop.
    pub(crate) fn arm(&self, bytes: usize) -> PyResult<bool> {
        let mut state = self.state()?;
        let producer = state.idle()?;
        if bytes <= producer.slot_size() { producer.arm() } else { producer.arm_span(bytes) }.map_err(of_send)
    }

    /// Reads from the half, also while a reservation is open.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Producer) -> T) -> PyResult<T> {
        let state = self.state()?;
        state.producer.as_ref().map(|producer| read(producer.get())).ok_or_else(closed_here)
    }

    /// Whether a call of this thread waits, beneath a signal handler.
    pub(crate) fn waits_here(&self) -> bool {
        self.closing.waits_here()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_asked()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // The mapping is not there, so nothing may be written to it, and its addresses may be others' by now.
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget((state.open.take(), state.producer.take()));
        }
    }
}

#[cold]
fn busy() -> PyErr {
    PyRuntimeError::new_err(
        "another call sends on this transport now; a channel has one sender, so let one thread send, or use a lock",
    )
}
