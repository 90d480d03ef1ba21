//! rtrb: two rings of words between two threads of one process, a chunk a message.

use std::collections::HashMap;
use std::hint::spin_loop;
use std::sync::{LazyLock, Mutex};

use anyhow::{Context, Result};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct Threads;

pub struct Tx(Producer<u64>);
pub struct Rx(Consumer<u64>);

/// The followers' ends, until they take them.
static OFFERED: LazyLock<Mutex<HashMap<String, (Tx, Rx)>>> = LazyLock::new(Mutex::default);

impl Sender for Tx {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        while self.0.cached_slots() < size / 8 && self.0.slots() < size / 8 {
            spin_loop();
        }
        let mut chunk = self.0.write_chunk_uninit(size / 8).expect("room");
        // The ring holds a whole number of messages, so none wraps.
        let bytes = chunk.as_mut_slices().0.as_mut_ptr().cast::<u8>();
        // SAFETY: the chunk's memory, ours until it is committed; `fill` writes all of it and reads nothing.
        unsafe {
            fill(std::slice::from_raw_parts_mut(bytes, size));
            chunk.commit_all();
        }
    }
}

impl Receiver for Rx {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        let chunk = loop {
            if let Ok(chunk) = self.0.read_chunk(size / 8) {
                break chunk;
            }
            spin_loop();
        };
        let words = chunk.as_slices().0;
        // SAFETY: the same memory, as bytes.
        read(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size) });
        chunk.commit_all();
    }
}

impl Contender for Threads {
    type Tx = Tx;
    type Rx = Rx;
    type Offer = (Tx, Rx);

    const THREADS: bool = true;

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let ring = || RingBuffer::new(spec.size / 8 * spec.slots);
        let ((out_tx, out_rx), (back_tx, back_rx)) = (ring(), ring());
        let mut offered = OFFERED.lock().expect("no holder panics");
        offered.insert(spec.name.clone(), (Tx(back_tx), Rx(out_rx)));
        Ok(((Tx(out_tx), Rx(back_rx)), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Tx, Rx)> {
        OFFERED.lock().expect("no holder panics").remove(&spec.name).context("nothing offered")
    }

    fn accept(offer: Self::Offer) -> Result<(Tx, Rx)> {
        Ok(offer)
    }
}
