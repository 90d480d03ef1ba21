//! A forked child has none of its parent's mappings and threads, so it has no part in what its parent made: there, every
//! call on that fails, and freeing it frees memory alone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::failure::{Failed, Outcome};
use crate::handle::cshm_transport;
use crate::status::cshm_status::CSHM_HANDLE_CLOSED;

/// How many forks lie between this process and the one that loaded the library.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The transports there are. The way of a message is too short to ask whether this process made its transport, so a child
/// goes to them once instead.
static TRANSPORTS: Mutex<BTreeSet<Transport>> = Mutex::new(BTreeSet::new());

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Transport(*mut cshm_transport);

// SAFETY: another thread looks at the number alone, until a forked child has no other thread.
unsafe impl Send for Transport {}

fn transports() -> MutexGuard<'static, BTreeSet<Transport>> {
    TRANSPORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets a forked child know of a transport, until [`forget`].
pub(crate) fn remember(transport: *mut cshm_transport) {
    watch();
    transports().insert(Transport(transport));
}

/// The transport is about to be freed.
pub(crate) fn forget(transport: *mut cshm_transport) {
    transports().remove(&Transport(transport));
}

/// Whether a transport is not freed yet.
#[cfg(test)]
pub(crate) fn knows(transport: *mut cshm_transport) -> bool {
    transports().contains(&Transport(transport))
}

/// The process in which something was made.
#[derive(Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn this() -> Self {
        watch();
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// That it is this one.
    pub(crate) fn check(self) -> Outcome {
        if self.0 == FORKS.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Failed::detailed(
            CSHM_HANDLE_CLOSED,
            "this process was forked from the one that made it; make one here",
        ))
    }
}

/// Why a transport is closed.
pub(crate) fn closed_text() -> &'static str {
    if FORKS.load(Ordering::Relaxed) == 0 {
        "the transport was closed"
    } else {
        "the transport was closed, or this process was forked from the one that made it; open one here"
    }
}

/// Has forks noticed, from now on.
fn watch() {
    #[cfg(unix)]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: the handlers are functions of this library, which the system forgets with it. Without memory for them
            // forks go unnoticed.
            let _ = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        });
    }
}

thread_local! {
    /// Held across a fork, by the thread that forks.
    static HELD: RefCell<Option<MutexGuard<'static, BTreeSet<Transport>>>> = const { RefCell::new(None) };
}

fn held(
    next: Option<MutexGuard<'static, BTreeSet<Transport>>>,
) -> Option<MutexGuard<'static, BTreeSet<Transport>>> {
    HELD.try_with(|held| held.replace(next)).ok().flatten()
}

#[cfg_attr(not(unix), allow(dead_code))]
extern "C" fn before() {
    held(Some(transports()));
}

#[cfg_attr(not(unix), allow(dead_code))]
extern "C" fn in_parent() {
    held(None);
}

#[cfg_attr(not(unix), allow(dead_code))]
extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    let Some(transports) = held(None) else { return };
    for transport in transports.iter() {
        // SAFETY: it is alive, or it would have been forgotten, and this is the only thread.
        unsafe { cshm_transport::forsake(transport.0) };
    }
}
