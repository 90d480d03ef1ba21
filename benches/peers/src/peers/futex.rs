//! One cache line and a futex in it, with no spinning: what a sleep and a wake take. No flow control, so it
//! can only answer, or send seldom.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use rustix::thread::futex;

use super::shared::{self, Lane};
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct Futex;

pub struct Half {
    lane: Lane,
    next: u32,
}

impl Half {
    fn turn(&self) -> &AtomicU32 {
        // SAFETY: aligned, within the lane, mapped as long as `self` lives, and only ever used as an atomic.
        unsafe { &*self.lane.word(0).cast() }
    }
}

impl Sender for Half {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        // SAFETY: within the lane; the other side looks only after the store below.
        fill(unsafe { std::slice::from_raw_parts_mut(self.lane.bytes(8), size) });
        self.next = self.next.wrapping_add(1);
        self.turn().store(self.next, Ordering::Release);
        let _ = futex::wake(self.turn(), futex::Flags::empty(), 1);
    }
}

impl Receiver for Half {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        let before = self.next;
        while self.turn().load(Ordering::Acquire) == before {
            let _ = futex::wait(self.turn(), futex::Flags::empty(), before, None);
        }
        self.next = self.next.wrapping_add(1);
        // SAFETY: within the lane, and published.
        read(unsafe { std::slice::from_raw_parts(self.lane.bytes(8), size) });
    }
}

impl Contender for Futex {
    type Tx = Half;
    type Rx = Half;
    type Offer = (Half, Half);

    fn offer(_: &Spec) -> Result<(Self::Offer, String)> {
        let ([out, back], token) = shared::offer(64)?;
        Ok(((Half { lane: out, next: 0 }, Half { lane: back, next: 0 }), token))
    }

    fn join(_: &Spec, token: &str) -> Result<(Half, Half)> {
        let [out, back] = shared::join(token)?;
        Ok((Half { lane: back, next: 0 }, Half { lane: out, next: 0 }))
    }

    fn accept(offer: Self::Offer) -> Result<(Half, Half)> {
        Ok(offer)
    }
}
