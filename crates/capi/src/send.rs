//! Sending: reservations, spans, batches, copies.

use std::ffi::c_void;
use std::ptr;

use transport::{AtHand, Batch, Producer, SendError, WriteSlot};

use crate::arguments::{CSHM_NOW, bytes, output, wait};
use crate::failure::{Failed, Outcome, guarded};
use crate::halves::{Tx, busy, closed};
use crate::handle::cshm_transport;
use crate::left;
use crate::status::cshm_status;
use crate::status::cshm_status::{CSHM_INVALID_ARGUMENT, CSHM_NOTHING_OPEN, CSHM_OK, CSHM_TOO_LARGE};

/// A reserved slot, or span of slots: the message is built in here, where the peer will read it. It holds
/// the bytes that the slot carried before.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cshm_write_slot {
    /// The first byte; valid until the reservation is committed or aborted.
    pub data: *mut u8,
    /// Bytes that may be written.
    pub capacity: usize,
}

/// Reserves the next slot. In a batch it does not wait, whatever the timeout says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_reserve(
    transport: *mut cshm_transport,
    timeout_ns: i64,
    out: *mut cshm_write_slot,
) -> cshm_status {
    if !out.is_null() {
        // SAFETY: the header's contract.
        let slot = unsafe { cshm_reserve_at_hand(transport) };
        if !slot.data.is_null() {
            // SAFETY: the header's contract.
            unsafe { out.write(slot) };
            return CSHM_OK;
        }
    }
    // SAFETY: the header's contract.
    unsafe { reserve_after_a_look(transport, timeout_ns, out) }
}

/// Reserves the next slot, if an earlier call has seen that it is free: the shortest way, for code that calls
/// cshm_reserve() otherwise. `data` is NULL if not, for whatever reason, which is no failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_reserve_at_hand(transport: *mut cshm_transport) -> cshm_write_slot {
    const NONE: cshm_write_slot = cshm_write_slot { data: ptr::null_mut(), capacity: 0 };
    if transport.is_null() {
        return NONE;
    }
    // SAFETY: the header's contract.
    let tx = unsafe { cshm_transport::tx_of(transport) };
    tx.reserve_bare().map_or(NONE, |(data, capacity)| cshm_write_slot { data, capacity })
}

/// # Safety
///
/// As for [`cshm_reserve`].
#[inline(never)]
unsafe extern "C" fn reserve_after_a_look(
    transport: *mut cshm_transport,
    timeout_ns: i64,
    out: *mut cshm_write_slot,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (tx, _waits) = unsafe { cshm_transport::tx_for(transport, timeout_ns) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let slot = match tx.gathering()? {
            Some(batch) => batch.try_reserve()?,
            None => reserve(tx.idle()?, timeout_ns)?,
        };
        out.write(tx.hold(slot));
        Ok(())
    })
}

/// Reserves adjacent slots for one message of up to `bytes` bytes. The rest of the lap is skipped if the message
/// does not fit it, so a span of more than half the ring may find no room even in an empty ring, until the receiver
/// has looked once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_reserve_span(
    transport: *mut cshm_transport,
    bytes: usize,
    timeout_ns: i64,
    out: *mut cshm_write_slot,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (tx, _waits) = unsafe { cshm_transport::tx_for(transport, timeout_ns) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let slot = reserve_span(tx.idle()?, bytes, timeout_ns)?;
        out.write(tx.hold(slot));
        Ok(())
    })
}

/// Reserves room for the next part of something that has `bytes` bytes left and goes out in parts, each a message of its
/// own: a stream of bytes, or a message larger than the ring. A part takes adjacent slots, at most a quarter of the ring, and
/// skips none. It may hold fewer bytes than were asked for, and holds at least one. CSHM_BUSY in a batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_reserve_part(
    transport: *mut cshm_transport,
    bytes: usize,
    timeout_ns: i64,
    out: *mut cshm_write_slot,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (tx, _waits) = unsafe { cshm_transport::tx_for(transport, timeout_ns) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let producer = tx.idle()?;
        let size = producer.part_size(bytes);
        let slot = if size <= producer.slot_size() {
            reserve(producer, timeout_ns)
        } else {
            reserve_span(producer, size, timeout_ns)
        };
        out.write(tx.hold(slot?));
        Ok(())
    })
}

/// Publishes the first `len` bytes of the reservation as one message. CSHM_TOO_LARGE if it has fewer, and
/// CSHM_INVALID_ARGUMENT if this side sends values of another size: then the reservation stays open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_commit(transport: *mut cshm_transport, len: usize) -> cshm_status {
    if !transport.is_null() {
        // SAFETY: the header's contract.
        let tx = unsafe { cshm_transport::tx_of(transport) };
        if !tx.is_no_value(len) {
            match tx.commit_bare(len) {
                AtHand::Done => return CSHM_OK,
                // SAFETY: the header's contract.
                AtHand::PeerSleeps => return unsafe { wake_receiver(transport) },
                AtHand::No => {}
            }
        }
    }
    // SAFETY: the header's contract.
    unsafe { commit_after_a_look(transport, len) }
}

/// # Safety
///
/// As for [`cshm_commit`].
#[inline(never)]
unsafe extern "C" fn commit_after_a_look(transport: *mut cshm_transport, len: usize) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let tx = unsafe { cshm_transport::tx(transport) }?;
        let Some(capacity) = tx.capacity() else {
            return Err(tx.nothing("no reservation is open"));
        };
        if len > capacity || tx.is_no_value(len) {
            return Err(tx.cannot_commit(capacity, len));
        }
        // One without a guard whose length is right was committed before it came to this.
        if let Some(slot) = tx.slot.take() {
            slot.commit(len);
        }
        tx.end_batch_with_reservation();
        Ok(())
    })
}

/// # Safety
///
/// As for [`cshm_commit`].
#[cold]
#[inline(never)]
unsafe extern "C" fn wake_receiver(transport: *mut cshm_transport) -> cshm_status {
    // SAFETY: the header's contract.
    guarded(|| unsafe { cshm_transport::tx(transport) }?.wake_peer())
}

/// Gives the reservation up: nothing is published.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_abort(transport: *mut cshm_transport) -> cshm_status {
    let status = guarded(|| {
        // SAFETY: the header's contract.
        let tx = unsafe { cshm_transport::tx(transport) }?;
        if !tx.has_reserved() {
            return Err(tx.nothing("no reservation is open"));
        }
        tx.abort();
        Ok(())
    });
    // SAFETY: the header's contract.
    unsafe { left::ended(transport, left::RESERVATION, status) }
}

/// Copies one message into the next slot and publishes it. In a batch it does not wait, whatever the timeout says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_send(
    transport: *mut cshm_transport,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> cshm_status {
    if !transport.is_null() && !data.is_null() {
        // SAFETY: the header's contract.
        let tx = unsafe { cshm_transport::tx_of(transport) };
        if let Some((slot, capacity)) = tx.reserve_bare() {
            if len <= capacity && !tx.is_no_value(len) {
                // SAFETY: the slot has so many bytes, and the header's contract.
                unsafe { ptr::copy(data.cast(), slot, len) };
                // SAFETY: the header's contract.
                return unsafe { cshm_commit(transport, len) };
            }
            tx.abort();
        }
    }
    // SAFETY: the header's contract.
    unsafe { send_after_a_look(transport, data, len, timeout_ns) }
}

/// # Safety
///
/// As for [`cshm_send`].
#[inline(never)]
unsafe extern "C" fn send_after_a_look(
    transport: *mut cshm_transport,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (tx, _waits) = unsafe { cshm_transport::tx_for(transport, timeout_ns) }?;
        // SAFETY: the header's contract.
        let message = unsafe { bytes(data, len) }?;
        if tx.is_no_value(len) {
            return Err(tx.not_a_value(len));
        }
        if let Some(batch) = tx.gathering()? {
            return Ok(batch.try_send(message)?);
        }
        let producer = tx.idle()?;
        match timeout_ns {
            CSHM_NOW => producer.try_send(message)?,
            time if time < 0 => endless(producer.send(message))?,
            time => producer.send_timeout(message, wait(time))?,
        }
        Ok(())
    })
}

/// Begins to gather messages that become visible together. Until cshm_batch_publish() each commit and send is
/// gathered, none waits, and CSHM_FULL means: publish, so that the peer can make room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_batch_begin(transport: *mut cshm_transport) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let tx = unsafe { cshm_transport::tx(transport) }?;
        let batch: Batch<'static> = tx.idle()?.batch();
        tx.batch = Some(batch);
        Ok(())
    })
}

/// Makes everything gathered visible: one publication, at most one wake. `count`, if it is not NULL, gets the number
/// of messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_batch_publish(
    transport: *mut cshm_transport,
    count: *mut usize,
) -> cshm_status {
    let status = guarded(|| {
        // SAFETY: the header's contract.
        let tx = unsafe { cshm_transport::tx(transport) }?;
        if tx.has_reserved() {
            return Err(busy("a reservation is open; commit or abort it first"));
        }
        let Some(batch) = tx.batch.take() else {
            return Err(tx.no_batch());
        };
        let published = batch.publish();
        if !count.is_null() {
            // SAFETY: the header's contract.
            unsafe { output("count", count) }?.write(published);
        }
        Ok(())
    });
    // SAFETY: the header's contract.
    unsafe { left::ended(transport, left::BATCH, status) }
}

/// Publishes and ends the batch: at once, or if a reservation is open, when that is committed or aborted. For a guard that may
/// go before the reservation does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_batch_end(transport: *mut cshm_transport) -> cshm_status {
    let status = guarded(|| {
        // SAFETY: the header's contract.
        let tx = unsafe { cshm_transport::tx(transport) }?;
        if tx.batch.is_none() || tx.batch_ends {
            return Err(tx.no_batch());
        }
        tx.batch_ends = true;
        if !tx.has_reserved() {
            tx.end_batch_with_reservation();
        }
        Ok(())
    });
    // SAFETY: the header's contract.
    unsafe { left::ended(transport, left::BATCH, status) }
}

fn reserve_span(
    producer: &'static mut Producer,
    bytes: usize,
    timeout_ns: i64,
) -> Outcome<WriteSlot<'static>> {
    Ok(match timeout_ns {
        CSHM_NOW => producer.try_reserve_span(bytes)?,
        time if time < 0 => endless(producer.reserve_span(bytes))?,
        time => producer.reserve_span_timeout(bytes, wait(time))?,
    })
}

#[inline(always)]
fn reserve(producer: &'static mut Producer, timeout_ns: i64) -> Outcome<WriteSlot<'static>> {
    Ok(match timeout_ns {
        CSHM_NOW => producer.try_reserve()?,
        time if time < 0 => endless(producer.reserve())?,
        time => producer.reserve_timeout(wait(time))?,
    })
}

/// The outcome of a wait without end. Only closing the transport makes it time out.
fn endless<T>(result: Result<T, SendError>) -> Outcome<T> {
    result.map_err(|error| if matches!(error, SendError::Timeout) { closed() } else { error.into() })
}

impl Tx {
    /// Keeps a reservation open, and says where it is.
    #[inline(always)]
    fn hold(&mut self, mut slot: WriteSlot<'static>) -> cshm_write_slot {
        let said = cshm_write_slot { data: slot.as_mut_ptr(), capacity: slot.len() };
        self.slot = Some(slot);
        said
    }

    #[inline(always)]
    fn is_no_value(&self, len: usize) -> bool {
        self.value_size != 0 && len != self.value_size
    }

    #[cold]
    fn not_a_value(&self, len: usize) -> Failed {
        let what = format_args!("a value has {} bytes, not {len}", self.value_size);
        Failed::detailed(CSHM_INVALID_ARGUMENT, what)
    }

    #[cold]
    fn nothing(&self, what: &str) -> Failed {
        if self.is_closed() {
            return closed();
        }
        Failed::detailed(CSHM_NOTHING_OPEN, what)
    }

    #[cold]
    fn no_batch(&self) -> Failed {
        self.nothing("no batch is open")
    }

    #[cold]
    fn cannot_commit(&self, capacity: usize, len: usize) -> Failed {
        if len <= capacity {
            return self.not_a_value(len);
        }
        let what = format_args!("{len} bytes do not fit a reservation of {capacity}");
        Failed::detailed(CSHM_TOO_LARGE, what)
    }
}
