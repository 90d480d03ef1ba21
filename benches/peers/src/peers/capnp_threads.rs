//! Cap'n Proto messages between two threads of one process, in plain memory: one line says where the message
//! lies. What is left is what it takes to build a message on one processor and read it on another. No flow
//! control, so it can only answer.

use std::collections::HashMap;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use anyhow::{Context, Result};
use capnp::Word;
use capnp::message::{self as capnp_message, ReaderOptions, ScratchSpaceHeapAllocator, SegmentArray};

use super::message::{self, Message};
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct CapnpThreads<M>(PhantomData<M>);

/// Where the last message of a direction lies.
#[derive(Default)]
#[repr(align(128))]
struct Lane {
    turn: AtomicU64,
    start: AtomicPtr<u8>,
    bytes: AtomicUsize,
}

type Built = capnp_message::Builder<ScratchSpaceHeapAllocator<'static>>;

pub struct Tx<M> {
    lane: Arc<Lane>,
    next: u64,
    /// As many as a ring has slots, each with the message that was last built in it.
    built: Vec<Option<Built>>,
    parts: usize,
    message: PhantomData<M>,
}

pub struct Rx<M> {
    lane: Arc<Lane>,
    next: u64,
    parts: usize,
    message: PhantomData<M>,
}

/// A direction's ends. The memory is never given back: a benchmark has few.
fn direction<M>(spec: &Spec) -> (Tx<M>, Rx<M>) {
    let built = (0..spec.slots).map(|_| {
        let memory = Word::allocate_zeroed_vec(spec.size.div_ceil(8)).leak();
        Some(Built::new(ScratchSpaceHeapAllocator::new(Word::words_to_bytes_mut(memory))))
    });
    let (lane, parts, message) = (Arc::new(Lane::default()), spec.parts, PhantomData);
    let tx = Tx { lane: Arc::clone(&lane), next: 0, built: built.collect(), parts, message };
    (tx, Rx { lane, next: 0, parts, message })
}

impl<M: Message> Sender for Tx<M> {
    #[inline(always)]
    fn send(&mut self, _: usize, fill: impl FnOnce(&mut [u8])) {
        let at = self.next as usize % self.built.len();
        let old = self.built[at].take().expect("each place has a message");
        let mut built = Built::new(old.into_allocator());
        M::write(built.init_root(), message::word(fill), self.parts);
        let segment = built.get_segments_for_output()[0];
        self.lane.start.store(segment.as_ptr().cast_mut(), Ordering::Relaxed);
        self.lane.bytes.store(segment.len(), Ordering::Relaxed);
        self.built[at] = Some(built);
        self.next += 1;
        self.lane.turn.store(self.next, Ordering::Release);
    }
}

impl<M: Message> Receiver for Rx<M> {
    #[inline(always)]
    fn recv(&mut self, _: usize, read: impl FnOnce(&[u8])) {
        self.next += 1;
        while self.lane.turn.load(Ordering::Acquire) != self.next {
            spin_loop();
        }
        let start = self.lane.start.load(Ordering::Relaxed);
        let bytes = self.lane.bytes.load(Ordering::Relaxed);
        // SAFETY: the sender's segment, published by the turn, and left alone until it was answered.
        let segments = [unsafe { std::slice::from_raw_parts(start.cast_const(), bytes) }];
        let reader = capnp_message::Reader::new(SegmentArray::new(&segments), ReaderOptions::new());
        let word = M::read(reader.get_root().expect("root"), self.parts).expect("message");
        read(&word.to_ne_bytes());
    }
}

type Joined = Box<dyn std::any::Any + Send>;

/// The followers' ends, until they take them.
static OFFERED: LazyLock<Mutex<HashMap<String, Joined>>> = LazyLock::new(Mutex::default);

impl<M: Message + Send> Contender for CapnpThreads<M> {
    type Tx = Tx<M>;
    type Rx = Rx<M>;
    type Offer = (Tx<M>, Rx<M>);

    const THREADS: bool = true;

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let (out, back) = (direction::<M>(spec), direction::<M>(spec));
        let theirs: Joined = Box::new((back.0, out.1));
        OFFERED.lock().expect("no holder panics").insert(spec.name.clone(), theirs);
        Ok(((out.0, back.1), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Tx<M>, Rx<M>)> {
        let offered = OFFERED.lock().expect("no holder panics").remove(&spec.name);
        Ok(*offered.and_then(|ends| ends.downcast().ok()).context("nothing offered")?)
    }

    fn accept(offer: Self::Offer) -> Result<(Tx<M>, Rx<M>)> {
        Ok(offer)
    }
}
