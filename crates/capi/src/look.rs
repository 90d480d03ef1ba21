//! Calls that look and ask, for any thread.

use transport::{Peer, RingStats, Side, Stats};

use crate::arguments::output;
use crate::config::{poll_mode, poll_number};
use crate::failure::{Failed, guarded, guarded_value};
use crate::handle::cshm_transport;
use crate::status::cshm_status;
use crate::status::cshm_status::CSHM_PEER_UNKNOWN;

/// Figures of one ring. Each is true of some recent moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct cshm_ring_stats {
    /// Payload bytes of a slot.
    pub slot_size: u64,
    /// Slots of the ring.
    pub slot_count: u64,
    /// Slots published and not yet released.
    pub used_slots: u64,
    /// Messages published.
    pub messages: u64,
    /// Payload bytes published.
    pub bytes: u64,
    /// Times the sender found the ring full.
    pub full_waits: u64,
    /// Times either end went to sleep.
    pub parks: u64,
    /// Times either end woke the other.
    pub wakes: u64,
    /// Whether either end has closed, died or been superseded, as far as it is known: 1, else 0.
    pub closed: u64,
}

/// Both rings of a channel, as seen from one side.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct cshm_stats {
    /// The ring this side sends into.
    pub tx: cshm_ring_stats,
    /// The ring this side receives from.
    pub rx: cshm_ring_stats,
}

impl From<RingStats> for cshm_ring_stats {
    fn from(ring: RingStats) -> Self {
        Self {
            slot_size: ring.slot_size as u64,
            slot_count: ring.slot_count as u64,
            used_slots: ring.used_slots as u64,
            messages: ring.messages,
            bytes: ring.bytes,
            full_waits: ring.full_waits,
            parks: ring.parks,
            wakes: ring.wakes,
            closed: ring.closed.into(),
        }
    }
}

impl From<Stats> for cshm_stats {
    fn from(stats: Stats) -> Self {
        Self { tx: stats.tx.into(), rx: stats.rx.into() }
    }
}

/// The process on the other side of a channel, as the system attests it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct cshm_peer {
    /// The process's number, as this side's pid namespace knows it; 0 if it does not.
    pub pid: u32,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl From<Peer> for cshm_peer {
    fn from(Peer { pid, uid, gid }: Peer) -> Self {
        Self { pid, uid, gid }
    }
}

/// The peer's process. CSHM_PEER_UNKNOWN but on the channels of a server (Linux): nobody attests the others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_get_peer(transport: *const cshm_transport, out: *mut cshm_peer) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let peer = unsafe { cshm_transport::shared(transport) }?.peer;
        out.write(peer.ok_or_else(|| Failed::plain(CSHM_PEER_UNKNOWN))?.into());
        Ok(())
    })
}

/// Figures of both rings, now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_get_stats(
    transport: *const cshm_transport,
    out: *mut cshm_stats,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let shared = unsafe { cshm_transport::shared(transport) }?;
        out.write(shared.stats.get().into());
        Ok(())
    })
}

/// Payload bytes of a slot in the direction this side sends; 0 for a transport that is NULL or closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_slot_size(transport: *const cshm_transport) -> usize {
    // SAFETY: the header's contract.
    guarded_value(0, || Ok(unsafe { cshm_transport::shared(transport) }?.slot_size))
}

/// Slots in the direction this side sends; 0 for a transport that is NULL or closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_slot_count(transport: *const cshm_transport) -> usize {
    // SAFETY: the header's contract.
    guarded_value(0, || Ok(unsafe { cshm_transport::shared(transport) }?.slot_count))
}

/// The largest message this side can send, as a span, in bytes; 0 for a transport that is NULL or closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_max_message_size(transport: *const cshm_transport) -> usize {
    guarded_value(0, || {
        // SAFETY: the header's contract.
        let shared = unsafe { cshm_transport::shared(transport) }?;
        Ok(shared.slot_size * shared.slot_count)
    })
}

/// Whether this is side A, which created the channel; false for a transport that is NULL or closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_is_side_a(transport: *const cshm_transport) -> bool {
    // SAFETY: the header's contract.
    guarded_value(false, || Ok(unsafe { cshm_transport::shared(transport) }?.side == Side::A))
}

/// Whether the other side has ever been there. It may have gone since.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_peer_attached(transport: *const cshm_transport) -> bool {
    // SAFETY: the header's contract.
    guarded_value(false, || Ok(unsafe { cshm_transport::shared(transport) }?.stats.peer_attached()))
}

/// Ends a wait of the receiving half: the call that waits for a message now, or else the next one that would, returns
/// CSHM_INTERRUPTED, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_interrupt(transport: *const cshm_transport) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        unsafe { cshm_transport::shared(transport) }?.interrupter.interrupt();
        Ok(())
    })
}

/// How this side waits: CSHM_SPIN, CSHM_PARK, or nanoseconds between two looks. CSHM_PARK for a transport that is
/// NULL or closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_local_poll(transport: *const cshm_transport) -> i64 {
    guarded_value(crate::config::CSHM_PARK, || {
        // SAFETY: the header's contract.
        Ok(poll_number(unsafe { cshm_transport::shared(transport) }?.poll.local()))
    })
}

/// How the other side waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_remote_poll(transport: *const cshm_transport) -> i64 {
    guarded_value(crate::config::CSHM_PARK, || {
        // SAFETY: the header's contract.
        Ok(poll_number(unsafe { cshm_transport::shared(transport) }?.poll.remote()))
    })
}

/// Changes how this side waits, now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_set_local_poll(transport: *const cshm_transport, mode: i64) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        unsafe { cshm_transport::shared(transport) }?.poll.set_local(poll_mode(mode));
        Ok(())
    })
}

/// Changes how the other side waits, now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_set_remote_poll(transport: *const cshm_transport, mode: i64) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        unsafe { cshm_transport::shared(transport) }?.poll.set_remote(poll_mode(mode));
        Ok(())
    })
}
