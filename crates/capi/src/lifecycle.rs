//! From creation to the end.

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;

use transport::{Config, MessageKind, Stats, Transport};

use crate::arguments::{Output, output, text, wait};
use crate::config::{chosen, cshm_config};
use crate::failure::{Failed, Outcome, guarded};
use crate::handle::cshm_transport;
use crate::listen::in_callback_of;
use crate::look::cshm_stats;
use crate::status::cshm_status;
#[cfg(not(target_os = "linux"))]
use crate::status::cshm_status::CSHM_UNSUPPORTED;
use crate::status::cshm_status::{CSHM_BUSY, CSHM_INVALID_ARGUMENT};

pub(crate) fn give(out: Output<'_, *mut cshm_transport>, transport: Transport, sends: MessageKind) {
    out.write(cshm_transport::boxed(transport, sends));
}

/// Side A: makes the channel `name` afresh, and gives a transport to be freed with cshm_free(). The files of a dead side A
/// under the name are reclaimed. CSHM_IN_USE if a live side A holds the name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_create(
    name: *const c_char,
    config: *const cshm_config,
    out: *mut *mut cshm_transport,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let name = unsafe { text("name", name) }?;
        // SAFETY: the header's contract.
        let (config, sends) = unsafe { chosen(config) };
        give(out, Transport::create(name, &config)?, sends);
        Ok(())
    })
}

/// Side B: joins the channel `name`, waiting for a live side A to have made it. The slots are side A's to choose.
/// CSHM_TIMEOUT if there was none to join; CSHM_IN_USE if a live side B is there; CSHM_TAG_MISMATCH,
/// CSHM_TYPE_MISMATCH if the two sides do not speak the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_open(
    name: *const c_char,
    timeout_ns: i64,
    config: *const cshm_config,
    out: *mut *mut cshm_transport,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let name = unsafe { text("name", name) }?;
        // SAFETY: the header's contract.
        let (config, sends) = unsafe { chosen(config) };
        give(out, Transport::open_with(name, wait(timeout_ns), &config)?, sends);
        Ok(())
    })
}

/// Asks the server `name` for a channel, and is its side B, waiting for the server and for a place. The slots are the
/// server's to choose. CSHM_TIMEOUT if there was no server or no place; CSHM_TAG_MISMATCH, CSHM_TYPE_MISMATCH if the two
/// sides do not speak the same; CSHM_REFUSED if the server's filter says no; CSHM_OTHER_VERSION if what answers is not a
/// server of this version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_connect(
    name: *const c_char,
    timeout_ns: i64,
    config: *const cshm_config,
    out: *mut *mut cshm_transport,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let name = unsafe { text("name", name) }?;
        // SAFETY: the header's contract.
        let (config, sends) = unsafe { chosen(config) };
        give(out, Transport::connect_with(name, wait(timeout_ns), &config)?, sends);
        Ok(())
    })
}

/// Side B, after the peer closed, died or was superseded: joins the next generation of the channel. On failure the
/// transport is as it was. CSHM_WRONG_SIDE on side A, which creates anew; CSHM_BUSY on a transport that has listened:
/// open anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_reopen(transport: *mut cshm_transport, timeout_ns: i64) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let handle = unsafe { cshm_transport::whole(transport) }?;
        handle.reopen(wait(timeout_ns))
    })
}

/// Makes an anonymous channel over sealed memory (Linux), and is its side A. `fds`, an array of two, gets the
/// descriptors for side B: let a child inherit them (they close on exec; clear FD_CLOEXEC for that) or send them over
/// a Unix socket, call cshm_from_fds() there, and close them here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_pair(
    config: *const cshm_config,
    out: *mut *mut cshm_transport,
    fds: *mut c_int,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let fds = unsafe { output("fds", fds.cast::<[c_int; 2]>()) }?;
        // SAFETY: the header's contract.
        let (config, sends) = unsafe { chosen(config) };
        pair(&config, sends, out, fds)
    })
}

#[cfg(target_os = "linux")]
fn pair(
    config: &Config,
    sends: MessageKind,
    out: Output<'_, *mut cshm_transport>,
    fds: Output<'_, [c_int; 2]>,
) -> Outcome {
    use std::os::fd::IntoRawFd;
    let (transport, descriptors) = Transport::pair(config)?;
    fds.write(descriptors.map(IntoRawFd::into_raw_fd));
    give(out, transport, sends);
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn pair(
    _: &Config,
    _: MessageKind,
    _: Output<'_, *mut cshm_transport>,
    _: Output<'_, [c_int; 2]>,
) -> Outcome {
    Err(Failed::detailed(CSHM_UNSUPPORTED, "anonymous channels need Linux"))
}

/// Side B of an anonymous channel, from the two descriptors that cshm_pair() gave, in that order. The descriptors are
/// the library's from then on, also if it fails: do not close them. They stay yours only if they are refused as
/// CSHM_NULL_ARGUMENT or CSHM_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_from_fds(
    fds: *const c_int,
    config: *const cshm_config,
    out: *mut *mut cshm_transport,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let fds = *unsafe { fds.cast::<[c_int; 2]>().as_ref() }.ok_or_else(|| Failed::null("fds"))?;
        // SAFETY: the header's contract.
        let (config, sends) = unsafe { chosen(config) };
        if fds[0] < 0 || fds[1] < 0 || fds[0] == fds[1] {
            let what = format_args!("{} and {} are not two descriptors", fds[0], fds[1]);
            return Err(Failed::detailed(CSHM_INVALID_ARGUMENT, what));
        }
        // SAFETY: the header's contract.
        give(out, unsafe { from_fds(fds, &config) }?, sends);
        Ok(())
    })
}

/// # Safety
///
/// The descriptors are the caller's to give away, if they are open.
#[cfg(target_os = "linux")]
unsafe fn from_fds(fds: [c_int; 2], config: &Config) -> Outcome<Transport> {
    use std::os::fd::{FromRawFd, OwnedFd};
    for fd in fds {
        // SAFETY: it looks at the number alone.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            return Err(Failed::detailed(CSHM_INVALID_ARGUMENT, format_args!("{fd} is no open descriptor")));
        }
    }
    // SAFETY: the caller's promise.
    let descriptors = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(Transport::from_fds(descriptors, config)?)
}

#[cfg(not(target_os = "linux"))]
unsafe fn from_fds(_: [c_int; 2], _: &Config) -> Outcome<Transport> {
    Err(Failed::detailed(CSHM_UNSUPPORTED, "anonymous channels need Linux"))
}

/// Waits until the other side has come.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_wait_for_peer(transport: *mut cshm_transport, timeout_ns: i64) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (rx, _waits) = unsafe { cshm_transport::rx_for(transport, timeout_ns) }?;
        Ok(rx.idle()?.wait_for_peer(wait(timeout_ns))?)
    })
}

/// Closes the direction in which this side sends, in order, once the peer has released everything that was sent.
/// Receiving goes on. CSHM_TIMEOUT if the peer did not receive everything in time: then nothing is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_finish(transport: *mut cshm_transport, timeout_ns: i64) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (tx, _waits) = unsafe { cshm_transport::tx_for(transport, timeout_ns) }?;
        Ok(tx.idle()?.finish(wait(timeout_ns))?)
    })
}

/// Closes the direction in which this side sends, now: the peer receives what was committed, then CSHM_CLOSED. This side
/// goes on to receive. Closing it again is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_shut_down(transport: *mut cshm_transport) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let tx = unsafe { cshm_transport::tx(transport) }?;
        tx.idle()?.shut_down();
        Ok(())
    })
}

/// Closes both directions in order. An open reservation is aborted, a batch published, messages released, a listener
/// stopped: its callback ends what it has begun to send, and what it begins is CSHM_HANDLE_CLOSED. The peer receives what was committed, then CSHM_CLOSED. Side A also removes the channel's name. The
/// transport stays to be freed; until then every call on it is CSHM_HANDLE_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_close(transport: *mut cshm_transport) -> cshm_status {
    guarded(|| {
        if in_callback_of(transport) {
            return Err(Failed::detailed(CSHM_BUSY, "a listener's callback cannot close its transport"));
        }
        // SAFETY: the header's contract.
        unsafe { cshm_transport::close(transport) }
    })
}

/// Closes a transport, if that was not done, and frees it. The pointer is invalid afterwards. NULL is nothing. From a
/// callback of this very transport it is refused, with CSHM_BUSY, and nothing is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_free(transport: *mut cshm_transport) -> cshm_status {
    guarded(|| {
        let Some(handle) = NonNull::new(transport) else { return Ok(()) };
        // SAFETY: the header's contract.
        Failed::said(unsafe { cshm_close(transport) })?;
        // SAFETY: the header's contract.
        unsafe { cshm_transport::free(handle) };
        Ok(())
    })
}

/// Removes what a dead side A left under `name`. CSHM_NOT_FOUND if there is nothing, CSHM_IN_USE if a live side A
/// holds the name. Of the configuration only the directory counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_remove(name: *const c_char, config: *const cshm_config) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let name = unsafe { text("name", name) }?;
        // SAFETY: the header's contract.
        let (config, _) = unsafe { chosen(config) };
        Ok(Transport::remove_with(name, &config)?)
    })
}

/// Looks at the channel `name` from outside, without taking part: `tx` is the ring from A to B. Of the configuration
/// the directory and the permissions count. CSHM_TIMEOUT if there is no such channel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_stats_of(
    name: *const c_char,
    config: *const cshm_config,
    out: *mut cshm_stats,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let name = unsafe { text("name", name) }?;
        // SAFETY: the header's contract.
        let (config, _) = unsafe { chosen(config) };
        out.write(Stats::of_with(name, &config)?.into());
        Ok(())
    })
}
