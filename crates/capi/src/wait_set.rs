//! One thread that waits for many channels.

use std::collections::HashSet;
use std::ffi::c_int;
use std::io;
use std::time::Duration;

use crate::arguments::{CSHM_NOW, output};
use crate::failure::{Failed, Outcome, guarded, guarded_value};
use crate::fork::Process;
use crate::handle::cshm_transport;
use crate::status::cshm_status;
use crate::status::cshm_status::{
    CSHM_BUSY, CSHM_EMPTY, CSHM_INVALID_ARGUMENT, CSHM_KEY_TAKEN, CSHM_KEY_UNKNOWN, CSHM_TIMEOUT,
};

#[cfg(not(unix))]
use absent::WaitSet;
#[cfg(unix)]
use transport::WaitSet;

/// Waits for messages on many channels at once, in one thread. Each is put in under a key of yours. One thread at a time
/// may use a set.
pub struct cshm_wait_set {
    set: WaitSet,
    /// Those that were put in and not taken out: the set itself forgets a transport that was closed.
    keys: HashSet<u64>,
    home: Process,
}

impl cshm_wait_set {
    /// # Safety
    ///
    /// `set` is null or a live set, and nobody else uses it meanwhile.
    unsafe fn of<'a>(set: *mut Self) -> Outcome<&'a mut Self> {
        // SAFETY: the caller's promise.
        let set = unsafe { set.as_mut() }.ok_or_else(|| Failed::null("set"))?;
        set.home.check()?;
        Ok(set)
    }

    fn check_free(&self, key: u64) -> Outcome {
        if !self.keys.contains(&key) {
            return Ok(());
        }
        let what = format_args!("the key {key} is in the wait set already; remove it or take another");
        Err(Failed::detailed(CSHM_KEY_TAKEN, what))
    }

    fn inserted(&mut self, key: u64, inserted: io::Result<()>) -> Outcome {
        match inserted {
            Ok(()) => {
                self.keys.insert(key);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failed::detailed(
                CSHM_BUSY,
                "the transport is in the wait set already, under another key",
            )),
            Err(error) => {
                let what = format_args!("cannot wait for what has the key {key}: {error}");
                Err(Failed::system(what, &error))
            }
        }
    }
}

/// A wait set without anything in it; free it with cshm_wait_set_free(). CSHM_SYSTEM if there is no descriptor for it, or
/// the system has none (Windows).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_wait_set_new(out: *mut *mut cshm_wait_set) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let set = WaitSet::new()
            .map_err(|error| Failed::system(format_args!("the system gives no wait set: {error}"), &error))?;
        out.write(Box::into_raw(Box::new(cshm_wait_set {
            set,
            keys: HashSet::new(),
            home: Process::this(),
        })));
        Ok(())
    })
}

/// Frees a wait set. The transports that are in it stay as they are. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_wait_set_free(set: *mut cshm_wait_set) {
    if !set.is_null() {
        // SAFETY: `cshm_wait_set_new` made it from a box, and the caller does not use it again.
        drop(unsafe { Box::from_raw(set) });
    }
}

/// Puts the receiving half of a transport in. It stays yours: calls that do not wait may come at any time. Do not wait for it
/// otherwise meanwhile, and do not put it into another set. After cshm_reopen() take it out and put it in again. CSHM_KEY_TAKEN if the key
/// is in use, CSHM_BUSY if the transport is in the set already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_wait_set_insert(
    set: *mut cshm_wait_set,
    key: u64,
    transport: *mut cshm_transport,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let set = unsafe { cshm_wait_set::of(set) }?;
        // SAFETY: the header's contract.
        let consumer = unsafe { cshm_transport::rx(transport) }?.idle()?;
        set.check_free(key)?;
        let inserted = set.set.insert(key, consumer);
        set.inserted(key, inserted)
    })
}

/// Puts a descriptor of something else in: a server's (cshm_server_wait_fd()), a socket, a timer, a pipe by which another
/// thread ends the wait. The set keeps a duplicate of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_wait_set_insert_fd(
    set: *mut cshm_wait_set,
    key: u64,
    fd: c_int,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let set = unsafe { cshm_wait_set::of(set) }?;
        if fd < 0 {
            return Err(Failed::detailed(CSHM_INVALID_ARGUMENT, format_args!("{fd} is no descriptor")));
        }
        set.check_free(key)?;
        // SAFETY: the header's contract.
        let inserted = unsafe { insert_fd(&mut set.set, key, fd) };
        set.inserted(key, inserted)
    })
}

/// # Safety
///
/// `fd` is open, or closed and refused by the system.
#[cfg(unix)]
unsafe fn insert_fd(set: &mut WaitSet, key: u64, fd: c_int) -> io::Result<()> {
    // SAFETY: the caller's promise. It is borrowed for this call.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    set.insert_fd(key, descriptor)
}

#[cfg(not(unix))]
unsafe fn insert_fd(_: &mut WaitSet, _: u64, _: c_int) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes out what has this key. CSHM_KEY_UNKNOWN if nothing has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_wait_set_remove(set: *mut cshm_wait_set, key: u64) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let set = unsafe { cshm_wait_set::of(set) }?;
        if !set.keys.remove(&key) {
            let what = format_args!("nothing in the wait set has the key {key}");
            return Err(Failed::detailed(CSHM_KEY_UNKNOWN, what));
        }
        set.set.remove(key);
        Ok(())
    })
}

/// How many keys the set has; 0 for NULL. The key of a transport that was closed counts until it is removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_wait_set_len(set: *mut cshm_wait_set) -> usize {
    // SAFETY: the header's contract.
    guarded_value(0, || Ok(unsafe { cshm_wait_set::of(set) }?.keys.len()))
}

/// Waits until there is something to receive. `keys` gets the keys of those that have something, or whose peer is gone, and
/// of descriptors that are readable; `count` how many there are. They stay until the next call on the set. A key comes
/// again as long as its transport has messages that were not released, and after its peer's end until it is removed. It
/// may come though there is nothing to receive. CSHM_EMPTY and CSHM_TIMEOUT if there is none; CSHM_INVALID_ARGUMENT for a
/// wait without end on a set without keys.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_wait_set_wait(
    set: *mut cshm_wait_set,
    timeout_ns: i64,
    keys: *mut *const u64,
    count: *mut usize,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let set = unsafe { cshm_wait_set::of(set) }?;
        // SAFETY: the header's contract.
        let keys = unsafe { output("keys", keys) }?;
        // SAFETY: the header's contract.
        let count = unsafe { output("count", count) }?;
        let limit = u64::try_from(timeout_ns).ok().map(Duration::from_nanos);
        if limit.is_none() && set.keys.is_empty() {
            let what = "nothing is in the wait set, so this wait would never end; put something in first";
            return Err(Failed::detailed(CSHM_INVALID_ARGUMENT, what));
        }
        let ready = match set.set.wait(limit) {
            Ok(ready) => ready,
            Err(error) => {
                return Err(Failed::system(format_args!("the system refuses to wait: {error}"), &error));
            }
        };
        if ready.is_empty() {
            return Err(Failed::plain(if timeout_ns == CSHM_NOW { CSHM_EMPTY } else { CSHM_TIMEOUT }));
        }
        keys.write(ready.as_ptr());
        count.write(ready.len());
        Ok(())
    })
}

/// In place of a set where the library has none.
#[cfg(not(unix))]
mod absent {
    use super::*;

    pub(super) enum WaitSet {}

    impl WaitSet {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn insert(&mut self, _: u64, _: &mut transport::Consumer) -> io::Result<()> {
            match *self {}
        }

        pub(super) fn remove(&mut self, _: u64) {
            match *self {}
        }

        pub(super) fn wait(&mut self, _: Option<Duration>) -> io::Result<&[u64]> {
            match *self {}
        }
    }
}
