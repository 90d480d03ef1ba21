//! A typed side receives from a raw one, which sends any length: every message of the right length arrives as sent,
//! by whatever call, and the first other one is corrupt, then and ever after.
#![no_main]

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use arbitrary::Arbitrary;
use capnproto_shm_transport::{Channel, Config, RecvError, Transport};
use capnproto_shm_transport_fuzz::*;
use libfuzzer_sys::fuzz_target;

/// Twenty-four bytes in a slot of thirty-two.
type Value = [u64; 3];

const BYTES: usize = size_of::<Value>();
const SHORT: Duration = Duration::from_micros(20);

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Length {
    Right,
    Any(u8),
}

#[derive(Arbitrary, Debug)]
enum Step {
    Send(u64),
    SendLength(Length),
    /// A span of so many bytes, and how many are committed.
    Span(u8, Length),
    Recv(bool),
    Copied,
    Into,
    Latest,
    Drain(u8, u8),
    Window(Vec<Held>),
    /// The other way, by the value and by the slot.
    Answer(u64, bool),
}

#[derive(Arbitrary, Debug)]
enum Held {
    Wait(u8),
    Release(u8),
    Send(Length),
}

#[derive(Arbitrary, Debug)]
struct Input {
    slots: u8,
    steps: Vec<Step>,
}

/// The raw side, and what of its messages has not arrived.
struct Peer {
    transport: Transport,
    sent: VecDeque<Vec<u8>>,
    next: u8,
}

impl Peer {
    fn message(&mut self, len: Length) -> Vec<u8> {
        self.next = self.next.wrapping_add(1);
        let len = match len {
            Length::Right => BYTES,
            Length::Any(len) => len.into(),
        };
        (0..len).map(|at| self.next.wrapping_mul(31).wrapping_add(at as u8)).collect()
    }

    fn send(&mut self, len: Length) {
        let message = self.message(len);
        if self.transport.try_send(&message).is_ok() {
            self.sent.push_back(message);
        }
    }

    /// How many of the right length come before one that is not.
    fn right(&self) -> usize {
        self.sent.iter().take_while(|message| message.len() == BYTES).count()
    }

    fn arrived(&mut self, value: &Value) {
        assert_eq!(self.sent.pop_front().unwrap(), bytes(value));
    }

    /// Why there was nothing.
    fn nothing(&self, error: &RecvError) {
        match error {
            RecvError::Corrupt(_) => assert_ne!(self.sent.front().unwrap().len(), BYTES),
            RecvError::Empty | RecvError::Timeout => assert!(self.sent.is_empty()),
            other => panic!("{other}"),
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn run(input: Input) {
    let name = name("values");
    let config = Config::new().slot_count(1 << (input.slots % 5));
    let mut typed = Channel::<Value>::create(&name, &config).unwrap();
    let transport = Transport::open(&name, Duration::ZERO).unwrap();
    let mut peer = Peer { transport, sent: VecDeque::new(), next: 0 };
    let slots = typed.slot_count();
    for step in input.steps.into_iter().take(64) {
        match step {
            Step::Send(word) => {
                let message = bytes(&[word; 3]);
                if peer.transport.try_send(&message).is_ok() {
                    peer.sent.push_back(message);
                }
            }
            Step::SendLength(len) => peer.send(len),
            Step::Span(reserve, len) => {
                let message = peer.message(len);
                if let Ok(mut span) = peer.transport.try_reserve_span(reserve.into())
                    && message.len() <= span.len()
                {
                    span[..message.len()].copy_from_slice(&message);
                    span.commit(message.len());
                    peer.sent.push_back(message);
                }
            }
            Step::Recv(timed) => match if timed { typed.recv_timeout(SHORT) } else { typed.try_recv() } {
                Ok(value) => peer.arrived(&value),
                Err(error) => peer.nothing(&error),
            },
            Step::Copied => match typed.try_recv_copied() {
                Ok(value) => peer.arrived(&value),
                Err(error) => peer.nothing(&error),
            },
            Step::Into => {
                let mut value = [7; 3];
                match typed.try_recv_into(&mut value) {
                    Ok(()) => peer.arrived(&value),
                    Err(error) => {
                        assert_eq!(value, [7; 3]);
                        peer.nothing(&error);
                    }
                }
            }
            Step::Latest => match typed.try_recv_latest() {
                Ok(value) => {
                    peer.sent.drain(..peer.right() - 1);
                    peer.arrived(&value);
                }
                Err(error) => peer.nothing(&error),
            },
            Step::Drain(stop, max) => {
                let (right, mut seen) = (peer.right(), 0);
                let result = typed.drain_while(max.into(), |value| {
                    peer.arrived(value);
                    seen += 1;
                    if seen == usize::from(stop) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                match result {
                    Ok(count) => assert_eq!(count, seen),
                    Err(error) => peer.nothing(&error),
                }
                // What is known to be there is handed over.
                assert!(seen <= right && (seen > 0 || right == 0 || max == 0));
            }
            Step::Window(steps) => {
                let mut window = typed.window();
                for step in steps.into_iter().take(16) {
                    match step {
                        Held::Wait(most) => {
                            let (most, before) = (usize::from(most % 20), window.len());
                            match window.try_wait_for(most) {
                                Ok(()) => assert_eq!(window.len(), most.max(before)),
                                Err(RecvError::WindowTooLarge { .. }) => assert!(most > slots),
                                Err(RecvError::Corrupt(_)) => {
                                    assert!(window.len() == peer.right() && peer.sent.len() > window.len());
                                }
                                Err(RecvError::Empty) => assert_eq!(window.len(), peer.sent.len()),
                                Err(other) => panic!("{other}"),
                            }
                        }
                        Held::Release(most) => {
                            let most = usize::from(most % 20).min(window.len());
                            window.release(most);
                            peer.sent.drain(..most);
                        }
                        Held::Send(len) => peer.send(len),
                    }
                    assert!(window.iter().map(bytes).eq(peer.sent.iter().take(window.len()).cloned()));
                    assert!(peer.transport.stats().tx.used_slots >= window.len());
                }
                peer.sent.drain(..window.len());
            }
            Step::Answer(word, in_place) => {
                if in_place {
                    let mut value = typed.try_reserve().unwrap();
                    assert_eq!(*value, [0; 3]);
                    *value = [word; 3];
                    value.commit();
                } else {
                    typed.try_send(&[word; 3]).unwrap();
                }
                assert_eq!(*peer.transport.try_recv().unwrap(), bytes(&[word; 3]));
            }
        }
    }
}

fuzz_target!(|input: Input| run(input));
