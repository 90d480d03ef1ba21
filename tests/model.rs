//! Random operations on a pair of transports do what a queue in plain memory does, slot for slot.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::collections::VecDeque;
use std::mem;

use capnproto_shm_transport::{Config, RecvError, SendError, Transport};
use common::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Commit(usize),
    Abort,
    Span { reserved: usize, committed: usize },
    AbortSpan(usize),
    Batch(Vec<usize>),
    Recv,
    ForgetRecv,
    RecvCopied,
    Drain(usize),
}

/// Lengths are cut to what the geometry allows when an operation is done.
fn op() -> impl Strategy<Value = Op> {
    let len = || 0..400_usize;
    prop_oneof![
        3 => len().prop_map(Op::Send),
        2 => len().prop_map(Op::Commit),
        1 => Just(Op::Abort),
        4 => (len(), len()).prop_map(|(reserved, committed)| Op::Span { reserved, committed }),
        1 => len().prop_map(Op::AbortSpan),
        1 => proptest::collection::vec(len(), 0..6).prop_map(Op::Batch),
        4 => Just(Op::Recv),
        1 => Just(Op::ForgetRecv),
        2 => Just(Op::RecvCopied),
        2 => (0..6_usize).prop_map(Op::Drain),
    ]
}

#[derive(Debug)]
enum Entry {
    /// The rest of a lap, which a span did not fit into.
    Skip(usize),
    Message(Vec<u8>),
}

/// The model of a ring: a queue, and how many slots were ever taken, received and released.
struct Model {
    size: usize,
    count: usize,
    queue: VecDeque<Entry>,
    tail: usize,
    next: usize,
    head: usize,
    messages: u64,
    bytes: u64,
}

impl Model {
    fn slots(&self, bytes: usize) -> usize {
        let stride = if self.size <= 64 {
            self.size.next_power_of_two().max(8)
        } else {
            self.size.next_multiple_of(64)
        };
        bytes.div_ceil(stride).max(1)
    }

    fn free(&self) -> usize {
        self.count - (self.tail - self.head)
    }

    fn skip(&mut self, slots: usize) {
        self.queue.push_back(Entry::Skip(slots));
        self.tail += slots;
    }

    fn push(&mut self, message: Vec<u8>) {
        self.tail += self.slots(message.len());
        self.messages += 1;
        self.bytes += message.len() as u64;
        self.queue.push_back(Entry::Message(message));
    }

    /// The slots that must be skipped before a span, if there is room for it. May skip at once, as the ring does when
    /// span and skip together exceed it.
    fn reserve_span(&mut self, bytes: usize) -> Option<usize> {
        let slots = self.slots(bytes);
        let to_end = self.count - self.tail % self.count;
        let (skip, needed) = match slots {
            _ if slots <= to_end => (0, slots),
            _ if to_end + slots <= self.count => (to_end, to_end + slots),
            _ if self.free() < to_end => return None,
            _ => {
                self.skip(to_end);
                (0, slots)
            }
        };
        (self.free() >= needed).then_some(skip)
    }

    /// Steps over a skip, as a receiver does that looks for a message.
    fn step_over_skip(&mut self) {
        if let Some(&Entry::Skip(slots)) = self.queue.front() {
            self.queue.pop_front();
            self.next += slots;
            self.head = self.next;
        }
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        self.step_over_skip();
        let Some(Entry::Message(message)) = self.queue.pop_front() else { return None };
        self.next += self.slots(message.len());
        Some(message)
    }
}

/// `Ok` if and only if there is room.
fn fits<T>(result: Result<T, SendError>, room: bool) -> Option<T> {
    match result {
        Ok(slot) if room => Some(slot),
        Err(SendError::Full) if !room => None,
        other => panic!("room: {room}, but {:?}", other.map(|_| ())),
    }
}

fn apply(model: &mut Model, tx: &mut Transport, rx: &mut Transport, op: &Op, index: usize) {
    let (size, most) = (model.size, model.size * model.count);
    let small = |len: usize| pattern(index, len % (size + 1));
    match *op {
        Op::Send(len) => {
            let message = small(len);
            if fits(tx.try_send(&message), model.free() > 0).is_some() {
                model.push(message);
            }
        }
        Op::Commit(len) => {
            let message = small(len);
            if let Some(mut slot) = fits(tx.try_reserve(), model.free() > 0) {
                assert_eq!(slot.len(), size);
                slot[..message.len()].copy_from_slice(&message);
                slot.commit(message.len());
                model.push(message);
            }
        }
        Op::Abort => {
            if let Some(mut slot) = fits(tx.try_reserve(), model.free() > 0) {
                slot.fill(0xaa);
            }
        }
        Op::Span { reserved, committed } => {
            let reserved = reserved % (most + 1);
            let message = pattern(index, committed % (reserved + 1));
            let skip = model.reserve_span(reserved);
            if let (Some(mut slot), Some(skip)) = (fits(tx.try_reserve_span(reserved), skip.is_some()), skip)
            {
                assert_eq!(slot.len(), reserved);
                slot[..message.len()].copy_from_slice(&message);
                slot.commit(message.len());
                if skip > 0 {
                    model.skip(skip);
                }
                model.push(message);
            }
        }
        Op::AbortSpan(reserved) => {
            let reserved = reserved % (most + 1);
            let skip = model.reserve_span(reserved);
            if let Some(mut slot) = fits(tx.try_reserve_span(reserved), skip.is_some()) {
                slot.fill(0xaa);
            }
        }
        Op::Batch(ref lens) => {
            let before = model.messages;
            let mut batch = tx.batch();
            for len in lens {
                let message = small(*len);
                if fits(batch.try_send(&message), model.free() > 0).is_some() {
                    model.push(message);
                }
            }
            assert_eq!(batch.publish() as u64, model.messages - before);
        }
        Op::Recv | Op::ForgetRecv => match (rx.try_recv(), model.pop()) {
            (Ok(slot), Some(expected)) => {
                assert_eq!(&*slot, expected);
                if matches!(op, Op::Recv) {
                    drop(slot);
                    model.head = model.next;
                } else {
                    mem::forget(slot);
                }
            }
            (Err(RecvError::Empty), None) => {}
            (found, expected) => panic!("{found:?} where {expected:?} should be"),
        },
        Op::RecvCopied => {
            let mut copy = vec![1; 3];
            match (rx.try_recv_copied(&mut copy), model.pop()) {
                (Ok(len), Some(expected)) => {
                    assert_eq!((len, copy), (expected.len(), expected));
                    model.head = model.next;
                }
                (Err(RecvError::Empty), None) => {}
                (found, expected) => panic!("{found:?} where {expected:?} should be"),
            }
        }
        Op::Drain(max) => {
            let received =
                rx.drain(max, |message| assert_eq!(model.pop().as_deref(), Some(message))).unwrap();
            assert!(received <= max);
            let waiting = model.queue.iter().any(|entry| matches!(entry, Entry::Message(_)));
            assert!(received > 0 || max == 0 || !waiting, "it overlooked a message");
            model.head = model.next;
            // Whether a skip behind the last message was stepped over is the ring's own business.
            if tx.stats().tx.used_slots != model.tail - model.head {
                model.step_over_skip();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_is_a_queue(
        size in prop::sample::select(vec![1, 7, 8, 24, 64, 65, 100]),
        count in prop::sample::select(vec![1, 2, 4, 16]),
        b_sends: bool,
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let name = named("model");
        let config = Config::new().slot_size(size).slot_count(count);
        let mut tx = Transport::create(&name, &config).unwrap();
        let mut rx = Transport::open(&name, LONG).unwrap();
        if b_sends {
            mem::swap(&mut tx, &mut rx);
        }
        let queue = VecDeque::new();
        let mut model = Model { size, count, queue, tail: 0, next: 0, head: 0, messages: 0, bytes: 0 };
        for (index, op) in ops.iter().enumerate() {
            apply(&mut model, &mut tx, &mut rx, op, index);
            let seen = tx.stats().tx;
            prop_assert_eq!(seen, rx.stats().rx);
            prop_assert_eq!(seen.used_slots, model.tail - model.head);
            prop_assert_eq!((seen.messages, seen.bytes), (model.messages, model.bytes));
        }
        // The remaining messages come out to the end, also after the sender has closed.
        drop(tx);
        while let Some(expected) = model.pop() {
            prop_assert_eq!(&*rx.recv().unwrap(), expected);
        }
        prop_assert!(matches!(rx.recv(), Err(RecvError::Closed)));
    }
}
