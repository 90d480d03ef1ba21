//! One cache line that goes back and forth: what the hardware takes, for a message of up to 56 bytes. No
//! flow control, so it can only answer.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::shared::{self, Lane};
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct Line;

pub struct Half {
    lane: Lane,
    next: u64,
}

impl Half {
    pub fn new(lane: Lane) -> Self {
        Self { lane, next: 0 }
    }

    #[inline(always)]
    fn turn(&self) -> &AtomicU64 {
        // SAFETY: aligned, within the lane, mapped as long as `self` lives, and only ever used as an atomic.
        unsafe { &*self.lane.word(0) }
    }
}

impl Sender for Half {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        // SAFETY: within the lane; the other side looks only after the store below.
        fill(unsafe { std::slice::from_raw_parts_mut(self.lane.bytes(8), size) });
        self.next += 1;
        self.turn().store(self.next, Ordering::Release);
    }
}

impl Receiver for Half {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        self.next += 1;
        while self.turn().load(Ordering::Acquire) != self.next {
            spin_loop();
        }
        // SAFETY: within the lane, and published.
        read(unsafe { std::slice::from_raw_parts(self.lane.bytes(8), size) });
    }
}

impl Contender for Line {
    type Tx = Half;
    type Rx = Half;
    type Offer = (Half, Half);

    fn offer(_: &Spec) -> Result<(Self::Offer, String)> {
        let ([out, back], token) = shared::offer(64)?;
        Ok(((Half::new(out), Half::new(back)), token))
    }

    fn join(_: &Spec, token: &str) -> Result<(Half, Half)> {
        let [out, back] = shared::join(token)?;
        Ok((Half::new(back), Half::new(out)))
    }

    fn accept(offer: Self::Offer) -> Result<(Half, Half)> {
        Ok(offer)
    }
}
