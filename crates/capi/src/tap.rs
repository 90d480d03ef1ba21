//! A third process reads a channel's messages in passing.

use std::ffi::c_char;

use transport::{Direction, Tap};

use crate::arguments::{CSHM_NOW, output, text, wait};
use crate::config::{chosen, cshm_config};
use crate::failure::{Failed, Outcome, guarded, guarded_value};
use crate::fork::Process;
use crate::status::cshm_status;

/// Reads the messages of a channel in passing: it takes no part, writes nothing and holds nothing up. One thread at a time
/// may use a tap.
pub struct cshm_tap {
    tap: Tap,
    message: Vec<u8>,
    home: Process,
}

impl cshm_tap {
    /// # Safety
    ///
    /// `tap` is null or a live tap, and nobody else uses it meanwhile.
    unsafe fn of<'a>(tap: *mut Self) -> Outcome<&'a mut Self> {
        // SAFETY: the caller's promise.
        let tap = unsafe { tap.as_mut() }.ok_or_else(|| Failed::null("tap"))?;
        tap.home.check()?;
        Ok(tap)
    }
}

/// A message that a tap has read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cshm_tapped {
    /// The first byte of a copy, which stays until the next call on the tap.
    pub data: *const u8,
    /// Bytes of the message.
    pub len: usize,
    /// The number of its first slot: they are counted from 0 in each direction.
    pub sequence: u64,
    /// Messages of this direction that were lost to the tap since the last that it delivered.
    pub missed: u64,
    /// Whether side B sent it, to side A; otherwise A sent it to B.
    pub from_b: bool,
}

/// Opens the channel `name` for looking on; free it with cshm_tap_free(). It begins with what is sent and not released yet.
/// The sides may be gone: the messages that they left are read then. Of the configuration the directory and the permissions count.
/// CSHM_TIMEOUT if there is no such channel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_tap_open(
    name: *const c_char,
    config: *const cshm_config,
    out: *mut *mut cshm_tap,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let name = unsafe { text("name", name) }?;
        // SAFETY: the header's contract.
        let (config, _) = unsafe { chosen(config) };
        let tap = Tap::open_with(name, &config)?;
        out.write(Box::into_raw(Box::new(cshm_tap { tap, message: Vec::new(), home: Process::this() })));
        Ok(())
    })
}

/// Frees a tap. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_tap_free(tap: *mut cshm_tap) {
    if !tap.is_null() {
        // SAFETY: `cshm_tap_open` made it from a box, and the caller does not use it again.
        drop(unsafe { Box::from_raw(tap) });
    }
}

/// The next message of either direction, whole, in the order of its direction. A tap that falls behind loses messages, and
/// says how many: see `missed`. Nobody wakes a tap: a call that waits looks at intervals of 50 us to 2 ms. The end comes
/// when both directions have ended: CSHM_CLOSED, CSHM_PEER_DEAD or CSHM_SUPERSEDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_tap_next(
    tap: *mut cshm_tap,
    timeout_ns: i64,
    out: *mut cshm_tapped,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let cshm_tap { tap, message, .. } = unsafe { cshm_tap::of(tap) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let tapped = match timeout_ns {
            CSHM_NOW => tap.try_next(message),
            time if time < 0 => tap.next(message),
            time => tap.next_timeout(message, wait(time)),
        }?;
        out.write(cshm_tapped {
            data: message.as_ptr(),
            len: message.len(),
            sequence: tapped.sequence,
            missed: tapped.missed,
            from_b: tapped.direction == Direction::BToA,
        });
        Ok(())
    })
}

/// Messages that were lost to the tap so far, in both directions, also those after which none was delivered; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_tap_missed(tap: *mut cshm_tap) -> u64 {
    // SAFETY: the header's contract.
    guarded_value(0, || Ok(unsafe { cshm_tap::of(tap) }?.tap.missed()))
}
