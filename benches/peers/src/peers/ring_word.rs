//! The ring whose slots begin with their own commit word: the sequence they carry, plus one. The consumer
//! polls the slot it will read; only the producer looks at an index.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::shared::{self, APART, Lane};
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct RingWord;

const HEAD: usize = 0;
const SLOTS: usize = APART;
const WORD: usize = 8;

/// A slot and its word: whole lines, so that up to 56 bytes share the word's.
#[inline(always)]
fn stride(size: usize) -> usize {
    (WORD + size).next_multiple_of(64)
}

pub struct Half {
    lane: Lane,
    slots: u64,
    next: u64,
    /// The producer's: the consumer's index as last seen.
    head: u64,
}

impl Half {
    fn new(lane: Lane, slots: usize) -> Self {
        Self { lane, slots: slots as u64, next: 0, head: 0 }
    }

    #[inline(always)]
    fn atomic(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: aligned, within the lane, mapped as long as `self` lives, and only ever used as an atomic.
        unsafe { &*self.lane.word(offset) }
    }

    #[inline(always)]
    fn slot(&self, size: usize) -> usize {
        SLOTS + (self.next & (self.slots - 1)) as usize * stride(size)
    }
}

impl Sender for Half {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        while self.next - self.head == self.slots {
            self.head = self.atomic(HEAD).load(Ordering::Acquire);
            if self.next - self.head == self.slots {
                spin_loop();
            }
        }
        let slot = self.slot(size);
        // SAFETY: the slot is within the lane and free, so the other side does not touch it.
        fill(unsafe { std::slice::from_raw_parts_mut(self.lane.bytes(slot + WORD), size) });
        self.next += 1;
        self.atomic(slot).store(self.next, Ordering::Release);
    }
}

impl Receiver for Half {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        let slot = self.slot(size);
        while self.atomic(slot).load(Ordering::Acquire) != self.next + 1 {
            spin_loop();
        }
        // SAFETY: the slot is within the lane and published, so the other side does not touch it.
        read(unsafe { std::slice::from_raw_parts(self.lane.bytes(slot + WORD), size) });
        self.next += 1;
        self.atomic(HEAD).store(self.next, Ordering::Release);
    }
}

impl Contender for RingWord {
    type Tx = Half;
    type Rx = Half;
    type Offer = (Half, Half);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let ([out, back], token) = shared::offer(SLOTS + stride(spec.size) * spec.slots)?;
        Ok(((Half::new(out, spec.slots), Half::new(back, spec.slots)), token))
    }

    fn join(spec: &Spec, token: &str) -> Result<(Half, Half)> {
        let [out, back] = shared::join(token)?;
        Ok((Half::new(back, spec.slots), Half::new(out, spec.slots)))
    }

    fn accept(offer: Self::Offer) -> Result<(Half, Half)> {
        Ok(offer)
    }
}
