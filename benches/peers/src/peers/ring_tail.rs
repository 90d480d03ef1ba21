//! The textbook ring: the consumer polls the producer's index, each side keeps the other's as last seen.
//! With a `PAUSE`, a consumer that has drained the ring lets a batch form before it looks again.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::shared::{self, APART, Lane};
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct RingTail<const PAUSE: u32>;

/// Offsets in a lane: both indices, then the slots.
const TAIL: usize = 0;
const HEAD: usize = APART;
const SLOTS: usize = 2 * APART;

/// One side of one ring.
pub struct Half<const PAUSE: u32> {
    lane: Lane,
    slots: u64,
    /// Ours, and the other side's as last seen.
    mine: u64,
    theirs: u64,
}

impl<const PAUSE: u32> Half<PAUSE> {
    fn new(lane: Lane, slots: usize) -> Self {
        Self { lane, slots: slots as u64, mine: 0, theirs: 0 }
    }

    #[inline(always)]
    fn index(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: aligned, within the lane, mapped as long as `self` lives, and only ever used as an atomic.
        unsafe { &*self.lane.word(offset) }
    }

    #[inline(always)]
    fn slot(&self, size: usize) -> *mut u8 {
        self.lane.bytes(SLOTS + (self.mine & (self.slots - 1)) as usize * size)
    }
}

impl<const PAUSE: u32> Sender for Half<PAUSE> {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        while self.mine - self.theirs == self.slots {
            self.theirs = self.index(HEAD).load(Ordering::Acquire);
            if self.mine - self.theirs == self.slots {
                spin_loop();
            }
        }
        // SAFETY: the slot is within the lane and free, so the other side does not touch it.
        fill(unsafe { std::slice::from_raw_parts_mut(self.slot(size), size) });
        self.mine += 1;
        self.index(TAIL).store(self.mine, Ordering::Release);
    }
}

impl<const PAUSE: u32> Receiver for Half<PAUSE> {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        while self.mine == self.theirs {
            for _ in 0..PAUSE {
                spin_loop();
            }
            self.theirs = self.index(TAIL).load(Ordering::Acquire);
            if PAUSE == 0 && self.mine == self.theirs {
                spin_loop();
            }
        }
        // SAFETY: the slot is within the lane and published, so the other side does not touch it.
        read(unsafe { std::slice::from_raw_parts(self.slot(size), size) });
        self.mine += 1;
        self.index(HEAD).store(self.mine, Ordering::Release);
    }
}

impl<const PAUSE: u32> Contender for RingTail<PAUSE> {
    type Tx = Half<PAUSE>;
    type Rx = Half<PAUSE>;
    type Offer = (Self::Tx, Self::Rx);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let ([out, back], token) = shared::offer(SLOTS + spec.size * spec.slots)?;
        Ok(((Half::new(out, spec.slots), Half::new(back, spec.slots)), token))
    }

    fn join(spec: &Spec, token: &str) -> Result<(Self::Tx, Self::Rx)> {
        let [out, back] = shared::join(token)?;
        Ok((Half::new(back, spec.slots), Half::new(out, spec.slots)))
    }

    fn accept(offer: Self::Offer) -> Result<(Self::Tx, Self::Rx)> {
        Ok(offer)
    }
}
