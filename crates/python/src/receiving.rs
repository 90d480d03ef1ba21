//! The receiving half beside what borrows it: a message or a window.

#![allow(unsafe_code)]

use std::sync::Weak;
use std::time::Duration;

use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::prelude::*;
use transport::{Consumer, ReadSlot, RecvError, StatsHandle, Window};

use crate::errors::closed_here;
use crate::hold::Hold;
use crate::pinned::Pinned;
use crate::window::Frames;

pub(crate) struct Receiving {
    /// Before what it borrows from: parts drop in order.
    pub(crate) open: Open,
    /// None once closed.
    pub(crate) consumer: Option<Pinned<Consumer>>,
}

/// The guard that borrows the half, and Python's part of it.
pub(crate) enum Open {
    Nothing,
    Message(#[allow(dead_code, reason = "dropped to release")] ReadSlot<'static>, Weak<Hold>),
    Window(Window<'static>, Weak<Frames>),
}

/// Which message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Oldest,
    Newest,
}

impl Receiving {
    pub(crate) fn new(consumer: Consumer, mapping: StatsHandle) -> Self {
        Self { open: Open::Nothing, consumer: Some(Pinned::new(consumer, mapping)) }
    }

    /// The half, if nothing borrows it.
    #[inline]
    pub(crate) fn idle(&mut self) -> PyResult<&'static mut Consumer> {
        if !matches!(self.open, Open::Nothing) {
            return Err(self.taken());
        }
        let consumer = self.consumer.as_mut().ok_or_else(closed_here)?;
        // SAFETY: no guard is open. Callers do not keep what they get beyond the next call of this, and put a guard
        // nowhere but in `open`.
        Ok(unsafe { consumer.borrow() })
    }

    /// Keeps what was received mapped.
    pub(crate) fn mapping(&self) -> PyResult<StatsHandle> {
        self.consumer.as_ref().map(Pinned::mapping).ok_or_else(closed_here)
    }

    #[cold]
    fn taken(&self) -> PyErr {
        let let_go = match &self.open {
            Open::Nothing => false,
            Open::Message(_, hold) => hold.upgrade().is_none_or(|hold| hold.is_gone()),
            Open::Window(_, frames) => frames.upgrade().is_none_or(|frames| frames.are_gone()),
        };
        if let_go {
            return PyBufferError::new_err("a view of an earlier message is still there; delete it first");
        }
        PyRuntimeError::new_err(match self.open {
            Open::Window(..) => "a window is open; leave its `with` block or call its close() first",
            _ => "a message is open; leave its `with` block or call its release() first",
        })
    }

    /// One try, which waits so long.
    #[inline]
    pub(crate) fn receive(
        consumer: &'static mut Consumer,
        which: Which,
        time: Option<Duration>,
    ) -> Result<ReadSlot<'static>, RecvError> {
        match (which, time) {
            (Which::Oldest, None) => consumer.try_recv(),
            (Which::Oldest, Some(time)) => consumer.recv_timeout(time),
            (Which::Newest, None) => consumer.try_recv_latest(),
            (Which::Newest, Some(time)) => consumer.recv_latest_timeout(time),
        }
    }
}
