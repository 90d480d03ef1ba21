//! A descriptor that is readable from a moment on (Linux).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// For those who wait for descriptors, and for a time.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: OwnedFd,
    at: Option<Instant>,
}

impl Alarm {
    /// One that is not set.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { timer: timerfd_create(TimerfdClockId::Monotonic, flags)?, at: None })
    }

    /// Readable from that moment on, and until it is set again; never, without one.
    pub(crate) fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
        if at == self.at {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let left = at.map_or(zero, |at| {
            // Zero would stand for never.
            let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let time = Itimerspec { it_interval: zero, it_value: left };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time)?;
        self.at = at;
        Ok(())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
