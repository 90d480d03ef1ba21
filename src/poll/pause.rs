//! Pauses of tasks, by async-io's timers. It panics where the system gives it no descriptors or no thread, and then never
//! works again: so the system is asked first.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;

use crate::system::{Host, System};

/// Descriptors that async-io opens when it is first used, and one to spare.
#[cfg(unix)]
const OPENED: usize = 4;

/// An error if the system has not what async-io takes when it is first used. To be called before each use of it.
pub(super) fn prepare_async_io() -> io::Result<()> {
    static PREPARED: OnceLock<()> = OnceLock::new();
    if PREPARED.get().is_some() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        let opened: Result<Vec<_>, _> = (0..OPENED).map(|_| crate::system::Poller::new()).collect();
        drop(opened?);
    }
    Host::start_thread("shm-probe", || ())?;
    // It opens them here, and starts its thread.
    let mut later = Timer::after(Duration::from_secs(3600));
    let _ = Pin::new(&mut later).poll(&mut Context::from_waker(Waker::noop()));
    PREPARED.get_or_init(|| ());
    Ok(())
}

/// A pause of a task. Where the system gives nothing that would wake it, it looks at the clock while others run.
#[derive(Debug)]
pub(crate) struct Pause {
    until: Instant,
    timer: Option<Timer>,
}

impl Pause {
    pub(crate) fn until(until: Instant) -> Self {
        Self { until, timer: None }
    }

    /// From now on. `time` is one that the clock can reach.
    pub(crate) fn of(time: Duration) -> Self {
        Self::until(Instant::now() + time)
    }
}

impl Future for Pause {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { until, timer } = self.get_mut();
        if timer.is_none() && prepare_async_io().is_ok() {
            *timer = Some(Timer::at(*until));
        }
        match timer {
            Some(timer) => Pin::new(timer).poll(cx).map(drop),
            None if Instant::now() >= *until => Poll::Ready(()),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
