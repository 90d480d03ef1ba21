//! A live pair works while somebody changes words, lengths and slots under it. Until the first change every
//! message arrives as sent; from then on every call gives a message within bounds or a typed error, and an
//! end that called its memory corrupt stays so.
#![no_main]

use std::collections::VecDeque;
use std::time::Duration;

use arbitrary::Arbitrary;
use capnproto_shm_transport::{Config, Corruption, PollMode, RecvError, SendError, Stats, Transport};
use capnproto_shm_transport_fuzz::*;
use libfuzzer_sys::fuzz_target;

const SHORT: Duration = Duration::from_micros(20);

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Side {
    A,
    B,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Send(Side, u8),
    SendTimeout(Side, u8),
    Reserve(Side, u8, Option<u8>),
    Span(Side, u16, Option<u16>),
    SpanTimeout(Side, u16),
    Batch(Side, Vec<u8>),
    Recv(Side),
    RecvTimeout(Side),
    RecvCopied(Side),
    Drain(Side, u8),
    Stats(Side),
    Mode(Side, bool, Mode),
    Poke(Which, Place, Value),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Mode {
    Spin,
    Park,
    Interval(u64),
}

/// Somewhere in a segment.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Tail,
    Head,
    /// Any 8 bytes of the header.
    Word(u8),
    /// Any 4 bytes of the living half.
    Half(u8),
    Length(u8),
    Slot(u16),
}

#[derive(Arbitrary, Debug)]
struct Input {
    slot_size: u8,
    slots: u8,
    steps: Vec<Step>,
}

/// One side, and what is known of it.
struct End {
    transport: Transport,
    sent: VecDeque<Vec<u8>>,
    cannot_send: Option<Corruption>,
    cannot_receive: Option<Corruption>,
    copy: Vec<u8>,
}

impl End {
    fn new(transport: Transport) -> Self {
        Self { transport, sent: VecDeque::new(), cannot_send: None, cannot_receive: None, copy: Vec::new() }
    }

    fn sending<T>(known: &mut Option<Corruption>, result: Result<T, SendError>) -> Option<T> {
        match (result, *known) {
            (Ok(_), Some(lie)) => panic!("sent after {lie}"),
            (Ok(value), None) => return Some(value),
            (Err(SendError::Corrupt(lie)), None) => *known = Some(lie),
            (Err(SendError::Corrupt(lie)), Some(first)) => assert_eq!(lie, first),
            (Err(SendError::TooLarge { needed, capacity }), _) => assert!(needed > capacity),
            (Err(error), Some(lie)) => panic!("{error} after {lie}"),
            (Err(_), None) => {}
        }
        None
    }

    fn receiving<T>(known: &mut Option<Corruption>, result: Result<T, RecvError>) -> Option<T> {
        match (result, *known) {
            (Ok(_), Some(lie)) => panic!("received after {lie}"),
            (Ok(value), None) => return Some(value),
            (Err(RecvError::Corrupt(lie)), None) => *known = Some(lie),
            (Err(RecvError::Corrupt(lie)), Some(first)) => assert_eq!(lie, first),
            (Err(error), Some(lie)) => panic!("{error} after {lie}"),
            (Err(_), None) => {}
        }
        None
    }
}

/// What was sent first is what arrived, unless somebody lied; a message never exceeds the ring.
fn arrived(message: &[u8], peer: &mut End, honest: bool, limit: usize) {
    assert!(message.len() <= limit);
    if honest {
        assert_eq!(peer.sent.pop_front().unwrap(), message);
    } else {
        std::hint::black_box(message.iter().fold(0_u8, |sum, byte| sum ^ byte));
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (len * 31 + at) as u8).collect()
}

fn run(input: Input) {
    let name = name("ring");
    let config = Config::new()
        .slot_size(1 + usize::from(input.slot_size))
        .slot_count(1 << (input.slots % 5))
        .poll(PollMode::Spin);
    let a = Transport::create(&name, &config).unwrap();
    let b = Transport::open(&name, Duration::ZERO).unwrap();
    let memory = [Which::AToB, Which::BToA].map(|which| Memory::of(&name, which));
    let stride = match a.slot_size() {
        small @ ..=64 => small.next_power_of_two().max(8),
        large => large.next_multiple_of(64),
    };
    let (count, limit) = (a.slot_count(), stride * a.slot_count());
    let mut ends = [End::new(a), End::new(b)];
    let mut honest = true;
    for step in input.steps.into_iter().take(64) {
        match step {
            Step::Send(side, len) => {
                let (end, message) = (&mut ends[side as usize], payload(len.into()));
                let result = end.transport.try_send(&message);
                if End::sending(&mut end.cannot_send, result).is_some() {
                    end.sent.push_back(message);
                }
            }
            Step::SendTimeout(side, len) => {
                let (end, message) = (&mut ends[side as usize], payload(len.into()));
                let result = end.transport.send_timeout(&message, SHORT);
                if End::sending(&mut end.cannot_send, result).is_some() {
                    end.sent.push_back(message);
                }
            }
            Step::Reserve(side, fill, commit) => {
                let end = &mut ends[side as usize];
                let result = end.transport.try_reserve();
                if let Some(mut slot) = End::sending(&mut end.cannot_send, result) {
                    slot.fill(fill);
                    if let Some(len) = commit.map(|len| usize::from(len).min(slot.len())) {
                        slot.commit(len);
                        end.sent.push_back(vec![fill; len]);
                    }
                }
            }
            Step::Span(side, bytes, commit) => {
                let end = &mut ends[side as usize];
                let result = end.transport.try_reserve_span(bytes.into());
                if let Some(mut span) = End::sending(&mut end.cannot_send, result) {
                    assert_eq!(span.len(), usize::from(bytes));
                    span.fill(bytes as u8);
                    if let Some(len) = commit.map(|len| usize::from(len.min(bytes))) {
                        span.commit(len);
                        end.sent.push_back(vec![bytes as u8; len]);
                    }
                }
            }
            Step::SpanTimeout(side, bytes) => {
                let end = &mut ends[side as usize];
                let result = end.transport.reserve_span_timeout(bytes.into(), SHORT);
                if let Some(mut span) = End::sending(&mut end.cannot_send, result) {
                    span.fill(9);
                    span.commit(bytes.into());
                    end.sent.push_back(vec![9; bytes.into()]);
                }
            }
            Step::Batch(side, lens) => {
                let End { transport, sent, cannot_send, .. } = &mut ends[side as usize];
                let (mut batch, mut gathered) = (transport.batch(), 0);
                for message in lens.into_iter().take(20).map(|len| payload(len.into())) {
                    let result = batch.try_send(&message);
                    if End::sending(cannot_send, result).is_some() {
                        sent.push_back(message);
                        gathered += 1;
                    }
                }
                assert_eq!(batch.publish(), gathered);
            }
            Step::Recv(side) | Step::RecvTimeout(side) => {
                let [a, b] = &mut ends;
                let (end, peer) = if matches!(side, Side::A) { (a, b) } else { (b, a) };
                let result = match step {
                    Step::Recv(_) => end.transport.try_recv(),
                    _ => end.transport.recv_timeout(SHORT),
                };
                if let Some(message) = End::receiving(&mut end.cannot_receive, result) {
                    arrived(&message, peer, honest, limit);
                }
            }
            Step::RecvCopied(side) => {
                let [a, b] = &mut ends;
                let (end, peer) = if matches!(side, Side::A) { (a, b) } else { (b, a) };
                let result = end.transport.try_recv_copied(&mut end.copy);
                if let Some(len) = End::receiving(&mut end.cannot_receive, result) {
                    assert_eq!(len, end.copy.len());
                    arrived(&end.copy, peer, honest, limit);
                }
            }
            Step::Drain(side, max) => {
                let [a, b] = &mut ends;
                let (end, peer) = if matches!(side, Side::A) { (a, b) } else { (b, a) };
                let mut seen = 0;
                let result = end.transport.drain(max.into(), |message| {
                    arrived(message, peer, honest, limit);
                    seen += 1;
                });
                // With nothing to take it has nothing to say either.
                if max > 0
                    && let Some(count) = End::receiving(&mut end.cannot_receive, result)
                {
                    assert_eq!(count, seen);
                }
            }
            Step::Stats(side) => {
                let transport = &ends[side as usize].transport;
                for ring in [transport.stats().tx, transport.stats().rx] {
                    assert!(ring.used_slots <= count);
                }
                drop(Stats::of(&name));
            }
            Step::Mode(side, local, mode) => {
                let control = ends[side as usize].transport.poll_control();
                let mode = match mode {
                    Mode::Spin => PollMode::Spin,
                    Mode::Park => PollMode::Park,
                    Mode::Interval(nanos) => PollMode::Interval(Duration::from_nanos(nanos)),
                };
                if local { control.set_local(mode) } else { control.set_remote(mode) }
            }
            Step::Poke(which, place, value) => {
                honest = false;
                let (at, width) = match place {
                    Place::Tail => (WORDS + 128, 8),
                    Place::Head => (WORDS + 256, 8),
                    Place::Word(at) => (usize::from(at) * 8, 8),
                    Place::Half(at) => (WORDS + usize::from(at) * 4, 4),
                    Place::Length(slot) => (LENGTHS + usize::from(slot) % count * 4, 4),
                    Place::Slot(at) => (SLOTS + usize::from(at) % (limit / 8) * 8, 8),
                };
                memory[which as usize].poke(at, width, value);
            }
        }
    }
}

fuzz_target!(|input: Input| run(input));
