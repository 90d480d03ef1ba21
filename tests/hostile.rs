//! Values that a peer puts into shared memory, before or during use, lead to a typed error that stays, or to a message
//! within bounds; never a panic, never an end to the waiting that was asked for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod memory;

use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, Corruption, PollMode, RecvError, SendError, Stats, Transport};
use common::*;
use memory::*;

const SHORT: Duration = Duration::from_millis(3);

/// Every word that anybody ever writes after creation, but for the slots.
fn words_and_lengths() -> impl Iterator<Item = usize> {
    (256..1152).step_by(8).chain((at::LENGTHS..at::LENGTHS + 4 * SLOTS).step_by(8))
}

/// Two sides in one process, and their memory.
struct Pair {
    a: Transport,
    b: Transport,
    /// The ring from A to B, then the one back.
    rings: [Memory; 2],
    name: Name,
}

fn pair(mode: PollMode) -> Pair {
    let name = named("hostile");
    let a = Transport::create(&name, &Config::new().slot_size(SLOT).slot_count(SLOTS).poll(mode)).unwrap();
    let b = Transport::open_with(&name, LONG, &Config::new().poll(mode)).unwrap();
    let rings = [Memory::of(&name.a2b()), Memory::of(&name.b2a())];
    Pair { a, b, rings, name }
}

impl Pair {
    /// Some laps in both directions, so that no index is small.
    fn warm(mut self) -> Self {
        for round in 0..6 {
            self.a.send(&[round; 3]).unwrap();
            assert_eq!(&*self.b.recv().unwrap(), [round; 3]);
            self.b.send(&[round; 5]).unwrap();
            assert_eq!(&*self.a.recv().unwrap(), [round; 5]);
        }
        self
    }

    /// The direction back still carries messages.
    #[track_caller]
    fn other_direction_works(&mut self) {
        self.b.send_timeout(b"back", LONG).unwrap();
        assert_eq!(&*self.a.recv_timeout(LONG).unwrap(), b"back");
    }
}

#[track_caller]
fn lies(result: Result<impl std::fmt::Debug, RecvError>, word: &str, found: u64, allowed: u64) {
    match result {
        Err(RecvError::Corrupt(Corruption { word: w, found: f, allowed: a, .. })) => {
            assert_eq!((w, f, a), (word, found, allowed));
        }
        other => panic!("{other:?} where {word} = {found} is a lie"),
    }
}

/// Every form of receiving gives the first lie again, whatever stands there by now.
#[track_caller]
fn stays_corrupt(b: &mut Transport, word: &str, found: u64, allowed: u64) {
    lies(b.try_recv(), word, found, allowed);
    lies(b.recv(), word, found, allowed);
    lies(b.recv_timeout(LONG), word, found, allowed);
    lies(b.try_recv_copied(&mut Vec::new()), word, found, allowed);
    lies(b.recv_copied(&mut Vec::new()), word, found, allowed);
    lies(b.recv_copied_timeout(&mut Vec::new(), LONG), word, found, allowed);
    lies(b.drain(9, |_| ()), word, found, allowed);
}

const MODES: [PollMode; 3] = [PollMode::Spin, PollMode::Park, PollMode::Interval(Duration::from_micros(50))];

#[test]
fn a_tail_that_cannot_be() {
    for mode in MODES {
        for value in nasty(6) {
            let mut pair = pair(mode).warm();
            pair.rings[0].put(at::TAIL, value);
            let ahead = value.wrapping_sub(6);
            match pair.b.recv_timeout(SHORT) {
                Ok(message) if (1..=SLOTS as u64).contains(&ahead) => assert!(message.len() <= SLOT),
                Err(RecvError::Timeout) if ahead == 0 => {}
                result => {
                    lies(result, "tail - head", ahead, SLOTS as u64);
                    pair.rings[0].put(at::TAIL, 6);
                    stays_corrupt(&mut pair.b, "tail - head", ahead, SLOTS as u64);
                }
            }
            pair.other_direction_works();
        }
    }
}

#[test]
fn a_head_that_cannot_be() {
    for mode in MODES {
        for value in nasty(6) {
            let mut pair = pair(mode).warm();
            for _ in 0..SLOTS {
                pair.a.try_send(b"fill").unwrap();
            }
            pair.rings[0].put(at::HEAD, value);
            let taken = 10_u64.wrapping_sub(value);
            let count = SLOTS as u64;
            match pair.a.send_timeout(b"more", SHORT) {
                Ok(()) if taken < count => {}
                Err(SendError::Timeout) if taken == count => {}
                Err(SendError::Corrupt(lie)) if taken > count => {
                    assert_eq!((lie.word, lie.found, lie.allowed), ("tail - head", taken, count));
                    pair.rings[0].put(at::HEAD, 10);
                    let stays = |result: Result<(), SendError>| {
                        assert!(matches!(result, Err(SendError::Corrupt(l)) if l == lie), "{result:?}");
                    };
                    stays(pair.a.try_send(b""));
                    stays(pair.a.send(b""));
                    stays(pair.a.send_timeout(b"", LONG));
                    stays(pair.a.try_reserve().map(drop));
                    stays(pair.a.reserve().map(drop));
                    stays(pair.a.try_reserve_span(200).map(drop));
                    stays(pair.a.reserve_span(200).map(drop));
                    stays(pair.a.reserve_span_timeout(200, LONG).map(drop));
                    stays(pair.a.batch().try_send(b""));
                    assert_eq!(pair.a.batch().publish(), 0);
                }
                other => panic!("{other:?} with head = {value}"),
            }
            pair.other_direction_works();
        }
    }
}

#[test]
fn a_length_that_cannot_be() {
    let stride = SLOT as u64;
    // At slot 2 of 4 with one slot published, and with two: one slot fits, or the rest of the lap.
    for published in 1..=2_u64 {
        for value in nasty(3) {
            let value = value as u32;
            let mut pair = pair(PollMode::Park).warm();
            for _ in 0..published {
                pair.a.send(b"abc").unwrap();
            }
            pair.rings[0].length(2, value);
            let result = pair.b.recv_timeout(SHORT).map(|message| message.len());
            let (skipped, room) = (SLOTS as u64 - 2, published * stride);
            match result {
                Ok(len) => assert!(u64::from(value) <= room && len == value as usize),
                // The lap's rest was skipped, and nothing follows.
                Err(RecvError::Timeout) => assert_eq!((value, published), (u32::MAX, skipped)),
                result if value == u32::MAX => {
                    lies(result, "slots skipped", skipped, published);
                    stays_corrupt(&mut pair.b, "slots skipped", skipped, published);
                }
                result => {
                    lies(result, "message length", value.into(), room);
                    pair.rings[0].length(2, 3);
                    stays_corrupt(&mut pair.b, "message length", value.into(), room);
                }
            }
            pair.other_direction_works();
        }
    }
}

#[test]
fn a_skip_after_a_skip_is_a_lie() {
    let mut pair = pair(PollMode::Park).warm();
    for _ in 0..SLOTS {
        pair.a.send(b"abc").unwrap();
    }
    pair.rings[0].length(2, u32::MAX);
    pair.rings[0].length(0, u32::MAX);
    lies(pair.b.try_recv(), "message length", u32::MAX.into(), 2 * SLOT as u64);
    stays_corrupt(&mut pair.b, "message length", u32::MAX.into(), 2 * SLOT as u64);
    pair.other_direction_works();
}

#[test]
fn a_lie_behind_good_messages_costs_none_of_them() {
    let mut pair = pair(PollMode::Park);
    for text in [&b"one"[..], b"two", b"three"] {
        pair.a.send(text).unwrap();
    }
    pair.rings[0].length(2, 1 << 20);
    let mut seen = Vec::new();
    assert_eq!(pair.b.drain(9, |message| seen.push(message.to_vec())).unwrap(), 2);
    assert_eq!(seen, [b"one", b"two"]);
    stays_corrupt(&mut pair.b, "message length", 1 << 20, SLOT as u64);
    pair.other_direction_works();
}

#[test]
fn an_end_that_is_none() {
    for value in nasty(0).into_iter().map(|value| value as u32) {
        let mut pair = pair(PollMode::Park).warm();
        pair.a.send(b"before").unwrap();
        pair.rings[0].put_half(at::PRODUCER_END, value);
        assert_eq!(&*pair.b.recv().unwrap(), b"before", "what was committed arrives, end or no end");
        let expected = pair.b.recv_timeout(SHORT).map(drop);
        match value {
            0 => assert!(matches!(expected, Err(RecvError::Timeout))),
            1 => assert!(matches!(expected, Err(RecvError::Closed))),
            2 => assert!(matches!(expected, Err(RecvError::PeerDead))),
            3 => assert!(matches!(expected, Err(RecvError::Superseded))),
            lie => {
                lies(expected, "producer end", lie.into(), 3);
                pair.rings[0].put_half(at::PRODUCER_END, 0);
                stays_corrupt(&mut pair.b, "producer end", lie.into(), 3);
            }
        }
        pair.other_direction_works();
        pair.rings[0].put_half(at::CONSUMER_END, value);
        let result = pair.a.try_send(b"after");
        match value {
            0 => result.unwrap(),
            1 => assert!(matches!(result, Err(SendError::Closed))),
            2 => assert!(matches!(result, Err(SendError::PeerDead))),
            3 => assert!(matches!(result, Err(SendError::Superseded))),
            lie => {
                let said = |result: Result<(), SendError>| match result {
                    Err(SendError::Corrupt(l)) => {
                        assert_eq!((l.word, l.found, l.allowed), ("consumer end", lie.into(), 3));
                    }
                    other => panic!("{other:?}"),
                };
                said(result);
                pair.rings[0].put_half(at::CONSUMER_END, 0);
                said(pair.a.send(b"after"));
            }
        }
        pair.other_direction_works();
    }
}

/// The words that say how to wait, and the figures: no value of them makes a message wrong, a wait endless
/// or a call fail, except that a side may be taken for gone if the peer says that it was there.
#[test]
fn words_that_cost_patience_at_most() {
    let halves = [
        at::PRODUCER_PARKED,
        at::CONSUMER_PARKED,
        at::CAPABILITIES[0],
        at::CAPABILITIES[1],
        at::ATTACHED,
        at::PROCESSOR[0],
        at::PROCESSOR[1],
    ];
    let words = [at::POLL[0], at::POLL[1]].into_iter().chain(at::COUNTERS);
    for place in words.chain(halves) {
        for value in nasty(0) {
            let mut pair = pair(PollMode::Park).warm();
            for ring in &pair.rings {
                if halves.contains(&place) {
                    ring.put_half(place, value as u32);
                } else {
                    ring.put(place, value);
                }
            }
            let began = Instant::now();
            assert!(matches!(pair.b.recv_timeout(SHORT), Err(RecvError::Timeout)), "{place}: {value}");
            for round in 0..SLOTS as u8 {
                pair.a.send(&[round; 9]).unwrap();
            }
            assert!(matches!(pair.a.send_timeout(b"", SHORT), Err(SendError::Timeout)), "{place}: {value}");
            for round in 0..SLOTS as u8 {
                assert_eq!(&*pair.b.recv().unwrap(), [round; 9]);
            }
            pair.other_direction_works();
            assert!(began.elapsed() < LONG, "{place}: {value}");
            let stats = Stats::of(&pair.name).unwrap();
            assert!(stats.tx.used_slots == 0 && pair.a.stats().rx.used_slots == 0);
        }
    }
}

/// Figures of memory in any state are some figures.
#[test]
fn figures_of_nonsense() {
    let pair = pair(PollMode::Park);
    for place in (256..1152).step_by(8) {
        for value in nasty(1) {
            pair.rings[0].put(place, value);
            for stats in [Stats::of(&pair.name).unwrap(), pair.a.stats(), pair.b.stats()] {
                assert!(stats.tx.used_slots <= SLOTS && stats.rx.used_slots <= SLOTS);
            }
        }
    }
}

#[test]
fn every_word_and_every_length_at_once() {
    for value in nasty(6) {
        for ring in 0..2 {
            let mut pair = pair(PollMode::Park).warm();
            for place in words_and_lengths() {
                pair.rings[ring].put(place, value);
            }
            for side in [&mut pair.a, &mut pair.b] {
                let mut copy = Vec::new();
                for _ in 0..2 * SLOTS {
                    if let Ok(message) = side.recv_timeout(SHORT) {
                        assert!(message.len() <= SLOT * SLOTS);
                    }
                    let _ = side.try_recv_copied(&mut copy);
                    let _ = side.send_timeout(b"x", SHORT);
                    let _ = side.reserve_span_timeout(150, SHORT).map(|span| span.commit(150));
                }
                side.stats();
            }
        }
    }
}

/// Values that stand before the open: the words and the lengths, as the header's fields are in `bad_input`.
#[test]
fn words_that_stand_before_the_open() {
    for place in words_and_lengths() {
        for value in nasty(0) {
            let name = named("before");
            let mut a = Transport::create(&name, &Config::new().slot_size(SLOT).slot_count(SLOTS)).unwrap();
            for path in [name.a2b(), name.b2a()] {
                Memory::of(&path).put(place, value);
            }
            let mut sides = vec![];
            if let Ok(b) = Transport::open(&name, Duration::ZERO) {
                sides.push(b);
            }
            let _ = a.try_send(b"x");
            sides.push(a);
            for side in &mut sides {
                if let Ok(message) = side.try_recv() {
                    assert!(message.len() <= SLOT * SLOTS);
                }
                let _ = side.try_recv_copied(&mut Vec::new());
                let _ = side.try_send(b"y");
                side.stats();
            }
        }
    }
}
