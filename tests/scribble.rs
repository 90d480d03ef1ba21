//! A third process writes nonsense over both segments while two sides work: every call of theirs gives a
//! message within bounds or a typed error, in every mode, and no side dies, panics or hangs.
//!
//! Cap'n Proto builders and views in place are outside the promise, so there the scribbler is the sender too.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod memory;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Config, OpenError, PollMode, RecvError, SendError, Transport, WaitSet};
use common::*;
use memory::*;
use rustix::process::{Pid, Signal, kill_process};

const SHORT: Duration = Duration::from_micros(300);
const ROUNDS: usize = 60;
/// Calls of each side in a round.
const CALLS: usize = 400;
/// Words that a round's scribbler writes, at least.
const WORDS: usize = 20_000;

#[test]
fn child() {
    play(&[("side a", side_a), ("side b", side_b), ("scribbler", scribbler)]);
}

/// Numbers without end (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Small, near `now`, at a limit, or anything.
    fn value(&mut self, now: u64) -> u64 {
        match self.below(6) {
            0 => self.next() % 8,
            1 => now.wrapping_add(self.next() % 9).wrapping_sub(4),
            2 => u64::MAX >> self.below(64),
            3 => 1 << self.below(64),
            _ => self.next(),
        }
    }
}

fn config(round: usize) -> Config {
    let mode = [PollMode::Spin, PollMode::Park, PollMode::Interval(Duration::from_micros(30))][round % 3];
    Config::new().slot_size(SLOT).slot_count(SLOTS).poll(mode)
}

fn channel(args: &[String], round: usize) -> String {
    format!("{}-{round}", args[0])
}

/// The area that the rounds scribble over.
#[derive(Clone, Copy, PartialEq)]
enum Area {
    Everything,
    Slots,
    Lengths,
    /// Modes, ends, sleeps and figures.
    Notices,
    /// The scribbler sends: its messages change while they are received.
    Messages,
}

fn area(round: usize) -> Area {
    [Area::Everything, Area::Slots, Area::Lengths, Area::Notices, Area::Messages][round / 3 % 5]
}

/// Makes each round's channel, and works.
fn side_a(args: &[String]) {
    for round in 0..ROUNDS {
        hold();
        let name = channel(args, round);
        match area(round) {
            Area::Messages => copies::create(&name, &config(round), || say("made")),
            _ => {
                let mut a = Transport::create(&name, &config(round)).unwrap();
                say("made");
                worked(work(&mut a, round as u64));
                // The files stay until everybody is done with them.
                hold();
            }
        }
        say("closed");
    }
}

fn side_b(args: &[String]) {
    for round in 0..ROUNDS {
        hold();
        let name = channel(args, round);
        worked(match area(round) {
            Area::Messages => copies::open(&name, &config(round)),
            _ => match Transport::open_with(&name, Duration::ZERO, &config(round)) {
                Ok(mut b) => work(&mut b, !round as u64),
                // It was scribbled over before we came.
                Err(OpenError::Timeout { .. } | OpenError::InUse { .. }) => 0,
                Err(other) => panic!("{other}"),
            },
        });
    }
}

/// Tells how many messages arrived.
fn worked(messages: usize) {
    say("worked");
    say(&messages.to_string());
}

/// Every call there is, until both halves are dead or the round is over. Returns how many messages arrived.
fn work(side: &mut Transport, seed: u64) -> usize {
    let mut random = Random(seed);
    let mut messages = 0;
    let (mut copy, mut dead) = (Vec::new(), [false; 2]);
    for _ in 0..CALLS {
        let sent = match random.below(10) {
            0 => side.try_send(&[1; SLOT]),
            1 => side.send_timeout(&[2; 9], SHORT),
            2 => side.try_reserve().map(|mut slot| {
                slot.fill(3);
                slot.commit(SLOT / 2);
            }),
            3 => side.reserve_span_timeout(150, SHORT).map(|mut span| {
                span.fill(4);
                span.commit(130);
            }),
            4 => {
                let mut batch = side.batch();
                let result = batch.try_send(b"one").and_then(|()| batch.try_send(b"two"));
                batch.publish();
                result
            }
            5 => side.halves().0.arm().map(drop),
            6 => side.halves().0.arm_span(150).map(drop),
            7 => tasks::send(side),
            8 => tasks::reserve_span(side),
            _ => side.try_reserve().map(drop),
        };
        let mut within = |bytes: &[u8]| {
            assert!(bytes.len() <= SLOT * SLOTS);
            std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
            messages += 1;
        };
        let received = match random.below(9) {
            0 => side.try_recv().map(|message| within(&message)),
            1 => side.recv_timeout(SHORT).map(|message| within(&message)),
            2 => side.try_recv_copied(&mut copy).map(|_| within(&copy)),
            3 => side.recv_copied_timeout(&mut copy, SHORT).map(|_| within(&copy)),
            4 => side.halves().1.arm().map(drop),
            5 => sleep_in_set(side),
            6 => tasks::receive(side, within),
            7 => tasks::hold(side, within),
            _ => side.drain(3, within).map(drop),
        };
        let stats = side.stats();
        assert!(stats.tx.used_slots <= SLOTS && stats.rx.used_slots <= SLOTS);
        let died =
            [matches!(sent, Err(SendError::Corrupt(_))), matches!(received, Err(RecvError::Corrupt(_)))];
        for (half, died) in died.into_iter().enumerate() {
            assert!(died || !dead[half], "a corrupt half came back: {sent:?}, {received:?}");
            dead[half] |= died;
        }
        if dead == [true; 2] {
            break;
        }
    }
    messages
}

/// A set's wait, then a look.
fn sleep_in_set(side: &mut Transport) -> Result<(), RecvError> {
    let mut set = WaitSet::new().unwrap();
    set.insert(1, side.halves().1).unwrap();
    set.wait(Some(SHORT)).unwrap();
    side.try_recv().map(drop)
}

/// Tasks that are polled some times and given up.
#[cfg(feature = "async")]
mod tasks {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn polled<T, E>(future: impl Future<Output = Result<T, E>>) -> Option<Result<T, E>> {
        let mut future = pin!(future);
        (0..30).find_map(|_| match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    }

    pub fn send(side: &mut Transport) -> Result<(), SendError> {
        polled(side.send_async(&[5; SLOT])).unwrap_or(Ok(()))
    }

    pub fn reserve_span(side: &mut Transport) -> Result<(), SendError> {
        polled(side.reserve_span_async(150)).map_or(Ok(()), |span| {
            span.map(|mut span| {
                span.fill(6);
                span.commit(140);
            })
        })
    }

    pub fn receive(side: &mut Transport, mut within: impl FnMut(&[u8])) -> Result<(), RecvError> {
        polled(side.recv_async()).map_or(Ok(()), |message| message.map(|message| within(&message)))
    }

    pub fn hold(side: &mut Transport, within: impl FnMut(&[u8])) -> Result<(), RecvError> {
        let mut window = side.window();
        polled(window.wait_for_async(2)).unwrap_or(Ok(()))?;
        window.iter().for_each(within);
        Ok(())
    }
}

#[cfg(not(feature = "async"))]
mod tasks {
    use super::*;

    pub fn send(side: &mut Transport) -> Result<(), SendError> {
        side.try_send(&[5; SLOT])
    }

    pub fn reserve_span(side: &mut Transport) -> Result<(), SendError> {
        side.try_reserve_span(150).map(drop)
    }

    pub fn receive(side: &mut Transport, mut within: impl FnMut(&[u8])) -> Result<(), RecvError> {
        side.try_recv().map(|message| within(&message))
    }

    pub fn hold(side: &mut Transport, _within: impl FnMut(&[u8])) -> Result<(), RecvError> {
        side.window().try_wait_for(2)
    }
}

fn scribbler(args: &[String]) {
    for round in 0..ROUNDS {
        hold();
        let name = format!("{}/{}", directory().display(), channel(args, round));
        let rings = ["a2b", "b2a"].map(|suffix| Memory::of(format!("{name}.fs.{suffix}").as_ref()));
        let mut random = Random(round as u64 * 7919);
        for word in 0..WORDS {
            scribble(&rings[word % 2], area(round), &mut random);
            // Rounds differ in how long a lie stands.
            for _ in 0..random.below(1 << (round % 8)) {
                std::hint::spin_loop();
            }
        }
        say("scribbled");
    }
}

fn scribble(ring: &Memory, area: Area, random: &mut Random) {
    let place = match area {
        Area::Everything => match random.below(3) {
            0 => 256 + 8 * random.below(112),
            1 => at::LENGTHS + 8 * random.below(SLOTS / 2),
            _ => at::SLOTS + 8 * random.below(SLOTS * SLOT / 8),
        },
        Area::Slots => at::SLOTS + 8 * random.below(SLOTS * SLOT / 8),
        Area::Lengths => {
            let length = [0, 1, SLOT, SLOT + 1, SLOT * SLOTS, u32::MAX as usize][random.below(6)];
            return ring.length(random.below(SLOTS), length as u32);
        }
        Area::Notices => [256, 264, 272, 280, 640, 768, 896, 1024][random.below(8)],
        Area::Messages => return copies::feed(ring, random),
    };
    ring.put(place, random.value(ring.get(place)));
}

#[cfg(feature = "capnp")]
mod copies {
    use capnp::message::{Builder, ReaderOptions};
    use capnp::schema_capnp::node;
    use capnproto_shm_transport::CapnpChannel;

    use super::*;

    type Node = CapnpChannel<node::Owned>;

    pub fn create(name: &str, config: &Config, made: impl FnOnce()) {
        let mut a = Node::create(name, config).unwrap();
        made();
        worked(receive(&mut a));
        hold();
    }

    pub fn open(name: &str, config: &Config) -> usize {
        receive(&mut Node::open_with(name, LONG, config).unwrap())
    }

    fn receive(side: &mut Node) -> usize {
        let mut messages = 0;
        side.reader_options(ReaderOptions { traversal_limit_in_words: Some(1 << 12), nesting_limit: 16 });
        for _ in 0..CALLS {
            match side.recv_copied_timeout(SHORT) {
                Ok(message) => {
                    assert!(message.frame_bytes().len() <= SLOT * SLOTS);
                    messages += 1;
                    let _ = message.get().and_then(|node| {
                        let _ = node.get_display_name()?.to_str();
                        node.total_size()?;
                        Builder::new_default().set_root(node)
                    });
                }
                Err(RecvError::Timeout) => {}
                Err(RecvError::Corrupt(_) | RecvError::Closed) => break,
                Err(other) => panic!("{other}"),
            }
        }
        messages
    }

    /// Publishes a frame, or changes what is published.
    pub fn feed(ring: &Memory, random: &mut Random) {
        // One segment of 7 words: a node of no data, with a name of 16 bytes far behind.
        const FRAME: [u64; 8] = [7 << 32, 1 << 48, 1 | 2 << 32 | 128 << 35, 0x6161, 0, 0, 0, 0];
        let slot = random.below(SLOTS);
        match random.below(4) {
            0 => ring.put(at::TAIL, ring.get(at::HEAD).wrapping_add(1)),
            1 => ring.length(slot, SLOT as u32),
            2 => {
                for (word, value) in FRAME.into_iter().enumerate() {
                    ring.put(at::SLOTS + slot * SLOT + word * 8, value);
                }
            }
            _ => {
                let place = at::SLOTS + slot * SLOT + 8 * random.below(SLOT / 8);
                ring.put(place, random.value(ring.get(place)));
            }
        }
    }
}

#[cfg(not(feature = "capnp"))]
mod copies {
    use super::*;

    pub fn create(_: &str, _: &Config, made: impl FnOnce()) {
        made();
        worked(0);
        hold();
    }

    pub fn open(_: &str, _: &Config) -> usize {
        0
    }

    pub fn feed(_: &Memory, _: &mut Random) {}
}

#[test]
fn two_sides_survive_a_scribbler() {
    let name = named("scribble");
    let mut sides = ["side a", "side b", "scribbler"].map(|role| spawn(role, &[&name]));
    // A process that hangs is killed, and missed.
    let pids = sides.each_ref().map(|side| Pid::from_raw(side.id() as i32).unwrap());
    let (done, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(2 * LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
            for pid in pids {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    });
    let [a, b, scribbler] = &mut sides;
    let mut messages = [0; ROUNDS];
    for arrived in &mut messages {
        a.go();
        a.wait_for("made");
        b.go();
        scribbler.go();
        scribbler.wait_for("scribbled");
        for side in [&mut *b, &mut *a] {
            side.wait_for("worked");
            *arrived += side.line().parse::<usize>().unwrap();
        }
        a.go();
        a.wait_for("closed");
    }
    sides.into_iter().for_each(Peer::join);
    drop(done);
    watchdog.join().unwrap();
    assert_eq!(name.left(), [] as [std::path::PathBuf; 0]);
    println!("messages under the scribbler's hand: {}", messages.iter().sum::<usize>());
    for round in (0..ROUNDS).filter(|&round| area(round) == Area::Slots) {
        assert!(messages[round] > 0, "round {round} received nothing");
    }
    println!("guarantee: scribbled words: {}", ROUNDS * WORDS);
}
