//! Receiving: messages in their slots, the newest one, copies, bursts.

use std::ffi::{c_int, c_void};
use std::ops::ControlFlow;

use transport::{AtHand, Consumer, RecvError};

use crate::arguments::{CSHM_NOW, output, wait};
use crate::failure::{Failed, guarded};
use crate::halves::Rx;
use crate::handle::cshm_transport;
use crate::left;
use crate::status::cshm_status;
use crate::status::cshm_status::{CSHM_NOTHING_OPEN, CSHM_OK};

/// A received message, where it lies.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cshm_read_slot {
    /// The first byte.
    pub data: *const u8,
    /// Bytes of the message.
    pub len: usize,
}

impl cshm_read_slot {
    #[inline(always)]
    pub(crate) fn of(message: &[u8]) -> Self {
        Self { data: message.as_ptr(), len: message.len() }
    }
}

/// Borrows the oldest message, in the slot it arrived in, until cshm_release(). It is the shared memory itself,
/// mapped read-only: it trusts the peer to leave a committed slot alone. For a peer that is not trusted use
/// cshm_recv_copied().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_recv(
    transport: *mut cshm_transport,
    timeout_ns: i64,
    out: *mut cshm_read_slot,
) -> cshm_status {
    if !transport.is_null() && !out.is_null() {
        // SAFETY: the header's contract.
        let rx = unsafe { cshm_transport::rx_of(transport) };
        if let Some(message) = rx.idle_now().and_then(Consumer::recv_at_hand) {
            // SAFETY: the header's contract.
            unsafe { out.write(rx.hold(message)) };
            return CSHM_OK;
        }
    }
    // SAFETY: the header's contract.
    unsafe { recv_after_a_look(transport, timeout_ns, out) }
}

/// # Safety
///
/// As for [`cshm_recv`].
#[inline(never)]
unsafe extern "C" fn recv_after_a_look(
    transport: *mut cshm_transport,
    timeout_ns: i64,
    out: *mut cshm_read_slot,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (rx, _waits) = unsafe { cshm_transport::rx_for(transport, timeout_ns) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let consumer = rx.idle()?;
        let slot = match timeout_ns {
            CSHM_NOW => consumer.try_recv(),
            time if time < 0 => consumer.recv(),
            time => consumer.recv_timeout(wait(time)),
        };
        out.write(rx.hold(slot?));
        Ok(())
    })
}

/// Borrows the newest message until cshm_release(). Older ones are released unseen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_recv_latest(
    transport: *mut cshm_transport,
    timeout_ns: i64,
    out: *mut cshm_read_slot,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (rx, _waits) = unsafe { cshm_transport::rx_for(transport, timeout_ns) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let consumer = rx.idle()?;
        let slot = match timeout_ns {
            CSHM_NOW => consumer.try_recv_latest(),
            time if time < 0 => consumer.recv_latest(),
            time => consumer.recv_latest_timeout(wait(time)),
        };
        out.write(rx.hold(slot?));
        Ok(())
    })
}

/// Gives the borrowed message's slot back to the peer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_release(transport: *mut cshm_transport) -> cshm_status {
    if !transport.is_null() {
        // SAFETY: the header's contract.
        match unsafe { cshm_transport::rx_of(transport) }.release() {
            AtHand::Done => return CSHM_OK,
            // SAFETY: the header's contract.
            AtHand::PeerSleeps => return unsafe { wake_sender(transport) },
            AtHand::No => {}
        }
    }
    // SAFETY: the header's contract.
    unsafe { nothing_to_release(transport) }
}

/// # Safety
///
/// As for [`cshm_release`].
#[cold]
#[inline(never)]
unsafe extern "C" fn nothing_to_release(transport: *mut cshm_transport) -> cshm_status {
    // SAFETY: the header's contract.
    let status = guarded(|| Err(unsafe { cshm_transport::rx(transport) }?.nothing("no message is open")));
    // SAFETY: the header's contract.
    unsafe { left::ended(transport, left::MESSAGE, status) }
}

/// # Safety
///
/// As for [`cshm_release`].
#[cold]
#[inline(never)]
unsafe extern "C" fn wake_sender(transport: *mut cshm_transport) -> cshm_status {
    // SAFETY: the header's contract.
    guarded(|| unsafe { cshm_transport::rx(transport) }?.wake_peer())
}

/// Copies the oldest message into memory of the transport and releases it. The copy stays until the next call of this
/// function. This is the form for a peer that is not trusted: the length is read once, the bytes are copied once,
/// and nothing that the peer writes afterwards matters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_recv_copied(
    transport: *mut cshm_transport,
    timeout_ns: i64,
    out: *mut cshm_read_slot,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (rx, _waits) = unsafe { cshm_transport::rx_for(transport, timeout_ns) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let consumer = rx.idle()?;
        let copy = &mut rx.copy;
        let length = match timeout_ns {
            CSHM_NOW => consumer.try_recv_copied(copy),
            time if time < 0 => consumer.recv_copied(copy),
            time => consumer.recv_copied_timeout(copy, wait(time)),
        }?;
        out.write(cshm_read_slot::of(copy.get(..length).unwrap_or(copy)));
        Ok(())
    })
}

/// Gets one message of cshm_drain(), for the time of the call. Returns 0 to go on, anything else to end after this
/// message.
pub type cshm_drain_callback =
    Option<unsafe extern "C-unwind" fn(data: *const u8, len: usize, context: *mut c_void) -> c_int>;

/// Hands up to `max` messages to `callback`: those that are there now, and perhaps some that come meanwhile. Releases
/// them all at once. Never waits. `count`, if it is not NULL, gets how many there were, also 0. The callback may
/// send, and may not receive from this transport.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_drain(
    transport: *mut cshm_transport,
    max: usize,
    callback: cshm_drain_callback,
    context: *mut c_void,
    count: *mut usize,
) -> cshm_status {
    guarded(|| {
        let callback = callback.ok_or_else(|| Failed::null("callback"))?;
        let each = |message: &[u8]| {
            // SAFETY: the header's contract: it is a function of this kind.
            let flow = unsafe { callback(message.as_ptr(), message.len(), context) };
            if flow == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        // SAFETY: the header's contract.
        let consumer = unsafe { cshm_transport::rx(transport) }?.lend()?;
        let drained = drain(consumer, max, each);
        // SAFETY: the header's contract. The callback's use of the handle is over.
        unsafe { cshm_transport::rx(transport) }?.take_back(consumer);
        let drained = drained?;
        if !count.is_null() {
            // SAFETY: the header's contract.
            unsafe { output("count", count) }?.write(drained);
        }
        Ok(())
    })
}

fn drain(
    consumer: &mut Consumer,
    max: usize,
    each: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<usize, RecvError> {
    consumer.drain_while(max, each)
}

impl Rx {
    #[cold]
    pub(crate) fn nothing(&mut self, what: &str) -> Failed {
        if self.is_away() { self.gone() } else { Failed::detailed(CSHM_NOTHING_OPEN, what) }
    }
}
