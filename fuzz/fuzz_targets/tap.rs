//! A tap looks on while a live pair works, and while somebody changes words, lengths and slots under all three. Until the
//! first change it delivers what was sent, in order, and counts exactly what it missed; from then on every call gives a
//! message within bounds or a typed error, and one that called its memory corrupt goes on doing so.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use capnproto_shm_transport::{ChannelInfo, Config, Direction, RecvError, Tap, Transport};
use capnproto_shm_transport_fuzz::*;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Side {
    A,
    B,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Send(Side, u8),
    Span(Side, u16),
    AbortedSpan(Side, u16),
    /// So many; forgotten instead of published if asked.
    Batch(Side, u8, bool),
    /// The other side receives so many.
    Receive(Side, u8),
    Tap(u8),
    TapTimeout,
    /// Opens the tap anew.
    Again,
    Info,
    /// Changes 4 or 8 bytes of the header's second half, of the lengths or of the slots.
    Poke(Which, Place, Value),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Word(u8),
    Length(u8),
    Slot(u16),
}

#[derive(Arbitrary, Debug)]
struct Input {
    slot_size: u8,
    slots: u8,
    steps: Vec<Step>,
}

/// What is known of one direction.
#[derive(Default)]
struct Sent {
    /// Lengths of all messages, in order; each byte is the message's number.
    published: Vec<usize>,
    /// Those of a forgotten batch, published with the next message.
    gathered: Vec<usize>,
    /// Number of the next message that the tap will tell of. None until the first.
    next: Option<usize>,
}

fn fill(slot: &mut [u8], number: usize) {
    slot.fill(number as u8);
}

/// What the tap said is what was sent, unless somebody changed something.
fn check(
    result: Result<capnproto_shm_transport::Tapped, RecvError>,
    bytes: &[u8],
    sent: &mut [Sent; 2],
    honest: bool,
    limit: usize,
    corrupt: &mut bool,
) {
    match result {
        Ok(tapped) => {
            assert!(bytes.len() <= limit);
            if !honest {
                return;
            }
            let sent = &mut sent[(tapped.direction == Direction::BToA) as usize];
            let number = match sent.next {
                Some(next) => next + tapped.missed as usize,
                // It begins with what is not released: the length and the bytes say which that is.
                None => {
                    let first = |number: &usize| {
                        sent.published[*number] == bytes.len()
                            && bytes.iter().all(|byte| *byte == *number as u8)
                    };
                    let from = tapped.missed as usize;
                    (from..sent.published.len()).find(first).expect("a message that was sent")
                }
            };
            assert_eq!(sent.published[number], bytes.len());
            assert!(bytes.iter().all(|byte| *byte == number as u8), "message {number}: {bytes:?}");
            sent.next = Some(number + 1);
        }
        Err(RecvError::Corrupt(_)) => {
            assert!(!honest);
            *corrupt = true;
        }
        Err(error) => assert!(!*corrupt, "{error} after it was corrupt"),
    }
}

fn run(input: Input) {
    let name = name("tap");
    let count = 1 << (input.slots % 5);
    let config = Config::new().slot_size(usize::from(input.slot_size).max(1)).slot_count(count);
    let Ok(a) = Transport::create(&name, &config) else { return };
    let Ok(b) = Transport::open(&name, Duration::ZERO) else { return };
    let mut tap = Tap::open(&name).unwrap();
    let limit = count * a.slot_size().next_multiple_of(64).max(64);
    let memory = [Memory::of(&name, Which::AToB), Memory::of(&name, Which::BToA)];
    let (mut ends, mut sent) = ([a, b], [Sent::default(), Sent::default()]);
    // The first message that a new tap tells is number 0 only while nothing is released: say so.
    sent.iter_mut().for_each(|sent| sent.next = Some(0));
    let (mut honest, mut corrupt, mut bytes) = (true, false, Vec::new());
    for step in input.steps.into_iter().take(64) {
        match step {
            Step::Send(side, len) => {
                let (end, sent) = (&mut ends[side as usize], &mut sent[side as usize]);
                let len = usize::from(len) % (end.slot_size() + 1);
                let number = sent.published.len() + sent.gathered.len();
                if let Ok(mut slot) = end.try_reserve() {
                    fill(&mut slot[..len], number);
                    slot.commit(len);
                    sent.published.append(&mut sent.gathered);
                    sent.published.push(len);
                }
            }
            Step::Span(side, len) => {
                let (end, sent) = (&mut ends[side as usize], &mut sent[side as usize]);
                let len = usize::from(len) % (end.max_message_size() + 1);
                let number = sent.published.len() + sent.gathered.len();
                let before = end.stats().tx.messages;
                if let Ok(mut span) = end.try_reserve_span(len) {
                    fill(&mut span, number);
                    span.commit(len);
                    sent.published.append(&mut sent.gathered);
                    sent.published.push(len);
                } else if end.stats().tx.messages != before {
                    // What it skips beforehand publishes a forgotten batch.
                    sent.published.append(&mut sent.gathered);
                }
            }
            Step::AbortedSpan(side, len) => {
                let (end, sent) = (&mut ends[side as usize], &mut sent[side as usize]);
                let len = usize::from(len) % (end.max_message_size() + 1);
                let before = end.stats().tx.messages;
                let _ = end.try_reserve_span(len).map(|mut span| span.fill(0xee));
                if end.stats().tx.messages != before {
                    sent.published.append(&mut sent.gathered);
                }
            }
            Step::Batch(side, most, forget) => {
                let (end, sent) = (&mut ends[side as usize], &mut sent[side as usize]);
                let mut batch = end.batch();
                for _ in 0..most % 40 {
                    let number = sent.published.len() + sent.gathered.len();
                    let Ok(mut slot) = batch.try_reserve() else { break };
                    let len = number % (slot.len() + 1);
                    fill(&mut slot[..len], number);
                    slot.commit(len);
                    sent.gathered.push(len);
                }
                if forget {
                    std::mem::forget(batch);
                } else {
                    batch.publish();
                    sent.published.append(&mut sent.gathered);
                }
            }
            Step::Receive(side, most) => {
                let _ = ends[1 - side as usize].drain(most.into(), |_| ());
            }
            Step::Tap(most) => {
                for _ in 0..most {
                    let result = tap.try_next(&mut bytes);
                    let goes_on = result.is_ok();
                    check(result, &bytes, &mut sent, honest, limit, &mut corrupt);
                    if !goes_on {
                        break;
                    }
                }
            }
            Step::TapTimeout => {
                let result = tap.next_timeout(&mut bytes, Duration::from_micros(20));
                check(result, &bytes, &mut sent, honest, limit, &mut corrupt);
            }
            Step::Again => {
                if let Ok(again) = Tap::open(&name) {
                    (tap, corrupt) = (again, false);
                    sent.iter_mut().for_each(|sent| sent.next = None);
                }
            }
            Step::Info => {
                if let Ok(info) = ChannelInfo::of(&name) {
                    for ring in [info.a_to_b.unwrap(), info.b_to_a.unwrap()] {
                        assert!(ring.stats.used_slots <= count);
                    }
                }
            }
            Step::Poke(which, place, value) => {
                honest = false;
                let (at, width) = match place {
                    Place::Word(word) => (WORDS + usize::from(word) * 4 / 8 * 8, 8),
                    Place::Length(slot) => (LENGTHS + usize::from(slot) % count * 4, 4),
                    Place::Slot(at) => (SLOTS + usize::from(at) % (limit.min(4096) / 8) * 8, 8),
                };
                let end = SLOTS + (count * if limit / count <= 64 { 8 } else { 64 });
                if at + width <= end {
                    memory[which as usize].poke(at, width, value);
                }
            }
        }
    }
}

fuzz_target!(|input: Input| run(input));
