//! A live pair works while somebody changes words, lengths and slots under it. Until the first change every
//! message arrives as sent; from then on every call gives a message within bounds or a typed error, and an
//! end that called its memory corrupt stays so.
#![no_main]

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use arbitrary::Arbitrary;
use capnproto_shm_transport::{
    Config, Corruption, Interrupter, PollMode, RecvError, SendError, Stats, Transport, Window,
};
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
    RecvLatest(Side),
    RecvLatestTimeout(Side),
    Drain(Side, u8),
    /// Up to so many of so many.
    DrainWhile(Side, u8, u8),
    Window(Side, Vec<Held>),
    WaitForPeer(Side),
    Interrupt(Side),
    Finish(Side),
    Stats(Side),
    Mode(Side, bool, Mode),
    Poke(Which, Place, Value),
}

/// What happens while a side holds a window.
#[derive(Arbitrary, Debug)]
enum Held {
    Wait(u8),
    WaitTimeout(u8),
    Release(u8),
    /// The peer sends.
    Send(u8),
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
    Begun,
    Capabilities(Side),
    Pid(Side),
    Parked(End),
    Ended(End),
    Life(End),
    Processor(End),
    /// How often totals were written, and one of their words.
    Version,
    Total(u8),
    Length(u8),
    Slot(u16),
}

/// Of a ring.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum End {
    Producer,
    Consumer,
}

impl Place {
    /// Where that is in a segment of so many slots and slot bytes, and how many bytes it has.
    fn at(self, slot_count: usize, slot_bytes: usize) -> (usize, usize) {
        let status = |end: End| WORDS + 384 + end as usize * 128;
        match self {
            Self::Tail => (WORDS + 128, 8),
            Self::Begun => (WORDS + 136, 8),
            Self::Head => (WORDS + 256, 8),
            Self::Word(at) => (usize::from(at) * 8, 8),
            Self::Half(at) => (WORDS + usize::from(at) * 4, 4),
            Self::Capabilities(side) => (WORDS + 16 + side as usize * 4, 4),
            Self::Pid(side) => (WORDS + 32 + side as usize * 4, 4),
            Self::Parked(end) => (status(end), 4),
            Self::Ended(end) => (status(end) + 4, 4),
            Self::Life(end) => (status(end) + 16, 4),
            Self::Processor(end) => (status(end) + 20, 4),
            Self::Version => (WORDS + 664, 8),
            Self::Total(word) => (WORDS + 672 + usize::from(word % 12) * 8, 8),
            Self::Length(slot) => (LENGTHS + usize::from(slot) % slot_count * 4, 4),
            Self::Slot(at) => (SLOTS + usize::from(at) % (slot_bytes / 8) * 8, 8),
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Input {
    slot_size: u8,
    slots: u8,
    steps: Vec<Step>,
}

/// One side, and what is known of it.
struct Half {
    transport: Transport,
    sent: VecDeque<Vec<u8>>,
    cannot_send: Option<Corruption>,
    finished: bool,
    receives: Receives,
    interrupter: Interrupter,
    copy: Vec<u8>,
}

/// What is known of a side's receiving half.
#[derive(Default)]
struct Receives {
    cannot: Option<Corruption>,
    /// An interruption was asked for and not told yet.
    interrupted: bool,
}

impl Half {
    fn new(transport: Transport) -> Self {
        let (sent, interrupter) = (VecDeque::new(), transport.interrupter());
        let (receives, copy) = (Receives::default(), Vec::new());
        Self { transport, sent, cannot_send: None, finished: false, receives, interrupter, copy }
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

    /// One that is there.
    fn sent(&mut self, result: Result<(), SendError>, message: Vec<u8>) {
        if Self::sending(&mut self.cannot_send, result).is_some() {
            assert!(!self.finished);
            self.sent.push_back(message);
        }
    }
}

impl Receives {
    fn check<T>(&mut self, result: Result<T, RecvError>) -> Option<T> {
        match (result, self.cannot) {
            (Ok(_), Some(lie)) => panic!("received after {lie}"),
            (Ok(value), None) => return Some(value),
            (Err(RecvError::Corrupt(lie)), None) => self.cannot = Some(lie),
            (Err(RecvError::Corrupt(lie)), Some(first)) => assert_eq!(lie, first),
            (Err(error), Some(lie)) => panic!("{error} after {lie}"),
            (Err(RecvError::Interrupted), None) => assert!(std::mem::take(&mut self.interrupted)),
            (Err(_), None) => {}
        }
        None
    }
}

/// What was sent first is what arrived, unless somebody lied; a message never exceeds the ring.
fn arrived(message: &[u8], peer: &mut Half, honest: bool, limit: usize) {
    assert!(message.len() <= limit);
    if honest {
        assert_eq!(peer.sent.pop_front().unwrap(), message);
    } else {
        std::hint::black_box(message.iter().fold(0_u8, |sum, byte| sum ^ byte));
    }
}

/// The newest is the last that was sent.
fn arrived_last(message: &[u8], peer: &mut Half, honest: bool, limit: usize) {
    if honest {
        peer.sent.drain(..peer.sent.len() - 1);
    }
    arrived(message, peer, honest, limit);
}

/// What is held is what was sent first, and still as it was.
fn held(window: &Window<'_>, peer: &Half, honest: bool, limit: usize) {
    assert!(window.get(window.len()).is_none() && window.iter().len() == window.len());
    if honest {
        assert!(window.iter().eq(peer.sent.iter().take(window.len())));
        assert!(peer.transport.stats().tx.used_slots >= window.len());
    } else {
        for message in window.iter() {
            assert!(message.len() <= limit);
            std::hint::black_box(message.iter().fold(0_u8, |sum, byte| sum ^ byte));
        }
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
    let mut ends = [Half::new(a), Half::new(b)];
    let mut honest = true;
    for step in input.steps.into_iter().take(64) {
        match step {
            Step::Send(side, len) => {
                let (end, message) = (&mut ends[side as usize], payload(len.into()));
                let result = end.transport.try_send(&message);
                end.sent(result, message);
            }
            Step::SendTimeout(side, len) => {
                let (end, message) = (&mut ends[side as usize], payload(len.into()));
                let result = end.transport.send_timeout(&message, SHORT);
                end.sent(result, message);
            }
            Step::Reserve(side, fill, commit) => {
                let end = &mut ends[side as usize];
                let result = end.transport.try_reserve();
                if let Some(mut slot) = Half::sending(&mut end.cannot_send, result) {
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
                if let Some(mut span) = Half::sending(&mut end.cannot_send, result) {
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
                if let Some(mut span) = Half::sending(&mut end.cannot_send, result) {
                    span.fill(9);
                    span.commit(bytes.into());
                    end.sent.push_back(vec![9; bytes.into()]);
                }
            }
            Step::Batch(side, lens) => {
                let Half { transport, sent, cannot_send, .. } = &mut ends[side as usize];
                let (mut batch, mut gathered) = (transport.batch(), 0);
                for message in lens.into_iter().take(20).map(|len| payload(len.into())) {
                    let result = batch.try_send(&message);
                    if Half::sending(cannot_send, result).is_some() {
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
                if let Some(message) = end.receives.check(result) {
                    arrived(&message, peer, honest, limit);
                }
            }
            Step::RecvCopied(side) => {
                let [a, b] = &mut ends;
                let (end, peer) = if matches!(side, Side::A) { (a, b) } else { (b, a) };
                let result = end.transport.try_recv_copied(&mut end.copy);
                if let Some(len) = end.receives.check(result) {
                    assert_eq!(len, end.copy.len());
                    arrived(&end.copy, peer, honest, limit);
                }
            }
            Step::RecvLatest(side) | Step::RecvLatestTimeout(side) => {
                let [a, b] = &mut ends;
                let (end, peer) = if matches!(side, Side::A) { (a, b) } else { (b, a) };
                let result = match step {
                    Step::RecvLatest(_) => end.transport.try_recv_latest(),
                    _ => end.transport.recv_latest_timeout(SHORT),
                };
                if let Some(message) = end.receives.check(result) {
                    arrived_last(&message, peer, honest, limit);
                }
            }
            Step::DrainWhile(side, stop, max) => {
                let [a, b] = &mut ends;
                let (end, peer) = if matches!(side, Side::A) { (a, b) } else { (b, a) };
                let mut seen = 0;
                let result = end.transport.drain_while(max.into(), |message| {
                    arrived(message, peer, honest, limit);
                    seen += 1;
                    if seen >= usize::from(stop) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                if max > 0
                    && let Some(count) = end.receives.check(result)
                {
                    assert_eq!(count, seen);
                    assert!(count <= usize::from(stop.max(1).min(max)));
                }
            }
            Step::Window(side, steps) => {
                let [a, b] = &mut ends;
                let (end, peer) = if matches!(side, Side::A) { (a, b) } else { (b, a) };
                let Half { transport, receives, .. } = end;
                let mut window = transport.window();
                for step in steps.into_iter().take(16) {
                    let before = window.len();
                    match step {
                        Held::Wait(most) | Held::WaitTimeout(most) => {
                            let most = usize::from(most % 20);
                            let result = match step {
                                Held::Wait(_) => window.try_wait_for(most),
                                _ => window.wait_for_timeout(most, SHORT),
                            };
                            match result {
                                Err(RecvError::WindowTooLarge { .. }) => assert!(most > count),
                                // It holds them already.
                                Ok(()) if most <= before => assert_eq!(window.len(), before),
                                Ok(()) => assert_eq!(window.len(), most),
                                Err(_) => assert!((before..most).contains(&window.len())),
                            }
                            if most > before && most <= count {
                                receives.check(result);
                            }
                        }
                        Held::Release(most) => {
                            let most = usize::from(most % 20);
                            window.release(most);
                            assert_eq!(window.len(), before.saturating_sub(most));
                            if honest {
                                peer.sent.drain(..most.min(before));
                            }
                        }
                        Held::Send(len) => {
                            let message = payload(len.into());
                            let result = peer.transport.try_send(&message);
                            peer.sent(result, message);
                        }
                        Held::Poke(which, place, value) => {
                            honest = false;
                            let (at, width) = place.at(count, limit);
                            memory[which as usize].poke(at, width, value);
                        }
                    }
                    held(&window, peer, honest, limit);
                }
                if honest {
                    peer.sent.drain(..window.len());
                }
            }
            Step::WaitForPeer(side) => {
                let Half { transport, receives, .. } = &mut ends[side as usize];
                match transport.wait_for_peer(SHORT) {
                    Ok(()) => {}
                    Err(RecvError::Interrupted) => assert!(std::mem::take(&mut receives.interrupted)),
                    Err(error) => assert!(!honest, "{error}"),
                }
            }
            Step::Interrupt(side) => {
                let Half { interrupter, receives, .. } = &mut ends[side as usize];
                interrupter.interrupt();
                receives.interrupted = true;
            }
            Step::Finish(side) => {
                let end = &mut ends[side as usize];
                match end.transport.finish(SHORT) {
                    Ok(()) => {
                        end.finished = true;
                        assert!(!honest || end.sent.is_empty());
                    }
                    Err(SendError::Corrupt(lie)) => assert_eq!(*end.cannot_send.get_or_insert(lie), lie),
                    Err(_) => {}
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
                    && let Some(count) = end.receives.check(result)
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
                let (at, width) = place.at(count, limit);
                memory[which as usize].poke(at, width, value);
            }
        }
    }
}

fuzz_target!(|input: Input| run(input));
