//! Several messages held at once, each in its slot; and the newest one, with all before it let go.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod kinds;
#[cfg(unix)]
mod memory;

use std::collections::VecDeque;
use std::mem;
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Channel, Config, PollMode, RecvError, SendError, Transport, Window};
use common::*;
use kinds::*;
use proptest::prelude::*;

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn child() {
    play(&[("count", count), ("last_words", last_words)]);
}

fn config(slots: usize) -> Config {
    Config::new().slot_size(64).slot_count(slots)
}

fn pair(name: &str, slots: usize) -> (Transport, Transport) {
    let a = Transport::create(name, &config(slots)).unwrap();
    (a, Transport::open(name, LONG).unwrap())
}

/// The bytes of a message: every third one is a span of two or three slots.
fn message(index: usize) -> Vec<u8> {
    pattern(index, if index % 3 == 2 { 100 + index % 60 } else { index % 65 })
}

fn send(tx: &mut Transport, index: usize) {
    let message = message(index);
    if message.len() <= 64 {
        tx.send(&message).unwrap();
    } else {
        let mut span = tx.reserve_span(message.len()).unwrap();
        span.copy_from_slice(&message);
        span.commit(message.len());
    }
}

/// Sends many messages as fast as there is room, and closes.
fn count(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    (0..args[1].parse().unwrap()).for_each(|index| send(&mut b, index));
}

#[test]
fn a_window_slides_over_a_stream_of_another_process() {
    const MESSAGES: usize = 3000;
    for mode in [PollMode::Spin, PollMode::Park] {
        let name = named("slides");
        let mut a = Transport::create(&name, &config(16).poll(mode)).unwrap();
        let peer = spawn("count", &[&name, &MESSAGES.to_string()]);
        let mut window = a.window();
        let mut first = 0;
        for turn in 0.. {
            let wanted = turn % 6;
            match window.wait_for(wanted) {
                Ok(()) => assert!(window.len() >= wanted),
                Err(RecvError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
            for (at, held) in window.iter().enumerate() {
                assert_eq!(held, message(first + at), "message {} of the window at {first}", at);
                assert_eq!(&window[at], held);
                assert_eq!(window.get(at), Some(held));
            }
            assert_eq!(window.get(window.len()), None);
            let backwards = window.iter().rev().map(<[u8]>::len).collect::<Vec<_>>();
            let lengths = (0..window.len()).rev().map(|at| message(first + at).len());
            assert_eq!(backwards, lengths.collect::<Vec<_>>());
            let released = (turn % 4).min(window.len());
            window.release(turn % 4);
            first += released;
        }
        // The end came behind everything that was sent, and what is held stays.
        assert_eq!(first + window.len(), MESSAGES);
        for (at, held) in window.iter().enumerate() {
            assert_eq!(held, message(first + at));
        }
        drop(window);
        peer.join();
    }
}

#[test]
fn what_a_window_holds_takes_slots_until_it_is_released() {
    let name = named("holds");
    let (mut a, mut b) = pair(&name, 4);
    for index in 0..4u8 {
        a.send(&[index]).unwrap();
    }
    let mut window = b.window();
    assert!(window.is_empty());
    window.wait_for(3).unwrap();
    assert_eq!((window.len(), a.stats().tx.used_slots), (3, 4));
    assert!(matches!(a.try_send(b"x"), Err(SendError::Full)));
    // A smaller number than it holds changes nothing.
    window.wait_for(1).unwrap();
    assert_eq!(window.len(), 3);
    window.release(2);
    assert_eq!((window.len(), &window[0]), (1, &[2][..]));
    a.send(&[4]).unwrap();
    a.send(&[5]).unwrap();
    assert!(matches!(a.try_send(b"x"), Err(SendError::Full)));
    window.wait_for(4).unwrap();
    assert!(window.iter().eq([[2], [3], [4], [5]]));
    // More than it holds is all, and no more.
    window.release(99);
    assert_eq!((window.len(), a.stats().tx.used_slots), (0, 0));
    for index in 0..3 {
        a.send(&[index]).unwrap();
    }
    window.wait_for(2).unwrap();
    drop(window);
    assert_eq!(a.stats().tx.used_slots, 1, "dropping it gives back all that it held");
    assert_eq!(&*b.recv().unwrap(), [2]);
}

#[test]
#[should_panic(expected = "Out of bounds")]
fn an_index_beyond_the_window_panics() {
    let name = named("beyond");
    let (mut a, mut b) = pair(&name, 4);
    a.send(b"one").unwrap();
    a.send(b"two").unwrap();
    let mut window = b.window();
    window.wait_for(1).unwrap();
    let _ = &window[1];
}

#[test]
fn a_sender_that_waits_for_a_window_goes_on_when_it_is_released() {
    let name = named("sender-waits");
    let (mut a, mut b) = pair(&name, 4);
    for index in 0..4u16 {
        a.send(&index.to_ne_bytes()).unwrap();
    }
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            for index in 4..500u16 {
                a.send(&index.to_ne_bytes()).unwrap();
            }
        });
        let mut window = b.window();
        for oldest in 0..497u16 {
            window.wait_for(4).unwrap();
            assert!(!sender.is_finished() || oldest == 496);
            for at in 0..4 {
                assert_eq!(window[at], (oldest + at as u16).to_ne_bytes());
            }
            window.release(1);
        }
    });
}

#[test]
fn a_window_larger_than_the_ring_is_refused_and_nothing_is_lost() {
    let name = named("too-large");
    let (mut a, mut b) = pair(&name, 4);
    a.send(b"one").unwrap();
    let mut window = b.window();
    type Ask<'w> = fn(&mut Window<'w>, usize) -> Result<(), RecvError>;
    let forms: [Ask<'_>; 3] =
        [|w, n| w.try_wait_for(n), |w, n| w.wait_for(n), |w, n| w.wait_for_timeout(n, LONG)];
    for ask in forms {
        for asked in [5, 1000, usize::MAX] {
            match ask(&mut window, asked).unwrap_err() {
                RecvError::WindowTooLarge { asked: found, slots } => assert_eq!((found, slots), (asked, 4)),
                other => panic!("{other}"),
            }
        }
    }
    assert!(window.is_empty());
    for message in [b"two", b"3rd", b"4th"] {
        a.send(message).unwrap();
    }
    window.try_wait_for(4).unwrap();
    assert!(window.iter().eq([b"one", b"two", b"3rd", b"4th"]));
    drop(a);
    // Nothing is asked for, so nothing is amiss.
    window.wait_for(0).unwrap();
    window.wait_for(4).unwrap();
}

/// Commits two messages and waits to be killed.
fn last_words(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    b.send(b"last").unwrap();
    b.send(b"words").unwrap();
    say("sent");
    hold();
}

#[test]
fn what_came_before_an_error_stays() {
    let name = named("stays");
    let (mut a, mut b) = pair(&name, 8);
    a.send(b"one").unwrap();
    let interrupter = b.interrupter();
    let mut window = b.window();
    assert!(matches!(window.try_wait_for(2), Err(RecvError::Empty)));
    assert!(window.iter().eq([b"one"]));
    a.send(b"two").unwrap();
    assert!(matches!(window.wait_for_timeout(3, SHORT), Err(RecvError::Timeout)));
    assert!(window.iter().eq([b"one", b"two"]));
    a.send(b"six").unwrap();
    interrupter.interrupt();
    assert!(matches!(window.wait_for(4), Err(RecvError::Interrupted)));
    assert!(window.iter().eq([b"one", b"two", b"six"]));
    a.send(b"ten").unwrap();
    drop(a);
    assert!(matches!(window.wait_for(5), Err(RecvError::Closed)));
    assert!(matches!(window.wait_for(5), Err(RecvError::Closed)));
    assert!(window.iter().eq([b"one", b"two", b"six", b"ten"]));
    window.release(1);
    assert!(window.iter().eq([b"two", b"six", b"ten"]));
}

#[test]
fn a_death_leaves_the_window_what_was_committed() {
    let name = named("window-death");
    let mut a = Transport::create(&name, &config(8)).unwrap();
    let mut peer = spawn("last_words", &[&name]);
    peer.wait_for("sent");
    peer.kill();
    let mut window = a.window();
    assert!(matches!(window.wait_for(3), Err(RecvError::PeerDead)));
    assert!(window.iter().eq([&b"last"[..], b"words"]));
}

#[cfg(unix)]
#[test]
fn a_lie_leaves_the_window_what_came_before_it() {
    let name = named("window-lie");
    let (mut a, mut b) = pair(&name, 8);
    let memory = memory::Memory::of(&name.a2b());
    for message in [b"one", b"two", b"lie", b"six"] {
        a.send(message).unwrap();
    }
    memory.length(2, 100_000);
    let mut window = b.window();
    assert!(matches!(window.wait_for(4), Err(RecvError::Corrupt(_))));
    assert!(window.iter().eq([b"one", b"two"]));
    assert!(matches!(window.wait_for(3), Err(RecvError::Corrupt(_))));
    window.release(1);
    assert!(window.iter().eq([b"two"]));
}

/// A span of more than half the ring skips the rest of the lap beforehand, and finds room only once the receiver has
/// stepped over that: also a receiver whose window holds nothing yet.
#[test]
fn an_empty_window_makes_way_for_a_span_that_waits_for_it() {
    for offset in 1..8 {
        let name = named("makes-way");
        let (mut a, mut b) = pair(&name, 8);
        for _ in 0..offset {
            a.send(b"offset").unwrap();
            drop(b.recv().unwrap());
        }
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut span = a.reserve_span_timeout(8 * 64, LONG).unwrap();
                span.fill(offset);
                span.commit(8 * 64);
            });
            let mut window = b.window();
            window.wait_for_timeout(1, LONG).unwrap();
            assert_eq!(window[0], [offset; 8 * 64]);
        });
    }
}

#[test]
fn spans_and_skips_lie_in_a_window_as_any_message() {
    // The skip comes first, in the middle, and last.
    for before in 0..8usize {
        let name = named("skips");
        let (mut a, mut b) = pair(&name, 8);
        for _ in 0..before {
            a.send(b"before").unwrap();
            drop(b.recv().unwrap());
        }
        a.send(b"one").unwrap();
        let mut span = a.reserve_span(3 * 64).unwrap();
        span.fill(3);
        span.commit(3 * 64);
        a.send(b"two").unwrap();
        let used = a.stats().tx.used_slots;
        let mut window = b.window();
        window.try_wait_for(3).unwrap();
        assert!(window.iter().eq([&b"one"[..], &[3; 3 * 64], b"two"]), "{before}");
        assert_eq!(a.stats().tx.used_slots, used, "{before}: something was given back that is held");
        window.release(1);
        assert!(window.iter().eq([&[3; 3 * 64][..], b"two"]));
        assert_eq!(a.stats().tx.used_slots, 4, "{before}: what was skipped goes with what is before it");
        window.release(1);
        assert_eq!((&window[0], a.stats().tx.used_slots), (&b"two"[..], 1));
        window.release(1);
        assert_eq!(a.stats().tx.used_slots, 0);
    }
}

#[test]
fn a_forgotten_window_is_released_with_whatever_comes_next() {
    let name = named("forgotten");
    let (mut a, mut b) = pair(&name, 4);
    let mut fill = |b: &mut Transport| {
        for index in 0..4 {
            a.send_timeout(&[index], LONG).unwrap();
        }
        let mut window = b.window();
        window.wait_for(3).unwrap();
        mem::forget(window);
        assert_eq!(a.stats().tx.used_slots, 4);
    };
    fill(&mut b);
    assert_eq!(&*b.recv().unwrap(), [3], "received all the same");
    fill(&mut b);
    let mut window = b.window();
    assert!(window.is_empty(), "what a forgotten window holds is nobody's");
    window.wait_for(1).unwrap();
    assert_eq!(window[0], [3]);
    drop(window);
    fill(&mut b);
    assert_eq!(b.drain(9, |message| assert_eq!(message, [3])).unwrap(), 1);
    fill(&mut b);
    assert_eq!(&*b.recv_latest().unwrap(), [3]);
    assert_eq!(b.stats().rx.used_slots, 0);
}

#[test]
fn who_waits_after_it_forgot_a_window_of_every_slot_goes_on() {
    let name = named("forgotten-full");
    let (mut a, mut b) = pair(&name, 4);
    thread::scope(|scope| {
        scope.spawn(move || (0..13).for_each(|index| a.send(&[index]).unwrap()));
        let mut window = b.window();
        window.wait_for(4).unwrap();
        mem::forget(window);
        assert_eq!(&*b.recv().unwrap(), [4]);
        let mut window = b.window();
        window.wait_for(4).unwrap();
        assert!(window.iter().eq([[5], [6], [7], [8]]));
        mem::forget(window);
        let mut window = b.window();
        window.wait_for(4).unwrap();
        assert!(window.iter().eq([[9], [10], [11], [12]]));
    });
}

#[test]
fn a_window_of_values() {
    let name = named("values");
    let mut a = Channel::<[u64; 3]>::create(&name, &Config::new().slot_count(4)).unwrap();
    let mut b = Channel::<[u64; 3]>::open(&name, LONG).unwrap();
    let value = |n: u64| [n, n * n, !n];
    (0..4).for_each(|n| a.send(&value(n)).unwrap());
    let mut window = b.window();
    assert!(window.is_empty() && window.get(0).is_none());
    assert!(matches!(window.wait_for(5), Err(RecvError::WindowTooLarge { asked: 5, slots: 4 })));
    window.wait_for(4).unwrap();
    assert!(matches!(a.try_send(&value(4)), Err(SendError::Full)));
    for n in 0..100 {
        assert!(window.iter().copied().eq((n..n + 4).map(value)));
        assert!(window.iter().rev().copied().eq((n..n + 4).rev().map(value)));
        assert_eq!((window[3], window.get(0), window.len()), (value(n + 3), Some(&value(n)), 4));
        window.release(1);
        a.send(&value(n + 4)).unwrap();
        window.wait_for_timeout(4, LONG).unwrap();
    }
    window.release(3);
    assert!(matches!(window.try_wait_for(2), Err(RecvError::Empty)));
    assert!(matches!(window.wait_for_timeout(2, SHORT), Err(RecvError::Timeout)));
    drop(a);
    assert!(matches!(window.wait_for(2), Err(RecvError::Closed)));
    assert_eq!((window.len(), window[0]), (1, value(103)));
}

#[cfg(feature = "capnp")]
#[test]
fn a_window_of_capnp_messages() {
    let name = named("capnp-window");
    let mut a = Versions::create(&name, &config(4)).unwrap();
    let mut b = Versions::open(&name, LONG).unwrap();
    (0..4).for_each(|n| a.put(n, LONG).unwrap());
    let mut window = b.window();
    assert!(window.is_empty() && window.get(0).is_none());
    assert!(matches!(window.wait_for(5), Err(RecvError::WindowTooLarge { asked: 5, slots: 4 })));
    window.wait_for(4).unwrap();
    for n in 0..100 {
        for at in 0..4 {
            let held = window.get(at.into()).unwrap();
            assert_eq!(held.get().unwrap().get_major(), n + at);
        }
        assert!(matches!(a.put(9, Duration::ZERO), Err(SendError::Timeout)));
        window.release(1);
        a.put(n + 4, LONG).unwrap();
        window.wait_for_timeout(4, LONG).unwrap();
    }
    window.release(2);
    assert!(matches!(window.try_wait_for(3), Err(RecvError::Empty)));
    assert_eq!(window.len(), 2);
    drop(window);
    assert_eq!(a.stats().tx.used_slots, 0);
}

fn latest_of_kind<K: Kind>() {
    let name = named("latest");
    let mut a = K::create(&name, &config(4).poll(PollMode::Spin)).unwrap();
    let mut b = K::open_with(&name, LONG, &Config::new()).unwrap();
    assert!(matches!(b.try_latest(), Err(RecvError::Empty)));
    assert!(matches!(b.latest(Some(SHORT)), Err(RecvError::Timeout)));
    for (round, burst) in (0..40).map(|round| (round, round % 4 + 1)) {
        for number in 0..burst {
            a.put(round * 10 + number, LONG).unwrap();
        }
        let newest = match round % 3 {
            0 => b.try_latest(),
            1 => b.latest(Some(LONG)),
            _ => b.latest(None),
        };
        assert_eq!(newest.unwrap(), round * 10 + burst - 1, "{}", K::NAME);
        assert_eq!(a.stats().tx.used_slots, 0, "those before it were released");
        assert!(matches!(b.try_latest(), Err(RecvError::Empty)));
    }
    // It waits for one that comes.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| b.latest(None).unwrap());
        a.put(7, LONG).unwrap();
        assert_eq!(waiting.join().unwrap(), 7);
    });
    // Messages that were sent before an end come before it.
    a.put(8, LONG).unwrap();
    a.put(9, LONG).unwrap();
    drop(a);
    assert_eq!(b.latest(None).unwrap(), 9);
    assert!(matches!(b.latest(None), Err(RecvError::Closed)));
    assert!(matches!(b.try_latest(), Err(RecvError::Closed)));
}

#[test]
fn the_newest_message_comes_and_the_others_are_released_unseen() {
    each_kind!(latest_of_kind());
}

#[test]
fn the_newest_message_may_be_a_span_or_lie_behind_one() {
    for before in 0..8usize {
        for messages in 1..4usize {
            let name = named("latest-span");
            let (mut a, mut b) = pair(&name, 8);
            for _ in 0..before {
                a.send(b"before").unwrap();
                drop(b.recv().unwrap());
            }
            let mut sent = Vec::new();
            for index in 0..messages {
                // Two slots, one, two.
                let message = pattern(index, if index % 2 == 0 { 128 } else { 9 });
                let mut span = a.reserve_span(message.len()).unwrap();
                span.copy_from_slice(&message);
                span.commit(message.len());
                sent.push(message);
            }
            let newest = b.recv_latest().unwrap();
            assert_eq!(&*newest, sent.last().unwrap());
            assert_eq!(a.stats().tx.used_slots, newest.len().div_ceil(64), "it alone is held");
            drop(newest);
            assert_eq!(a.stats().tx.used_slots, 0);
        }
    }
}

#[test]
fn the_newest_is_held_alone_so_the_sender_goes_on() {
    let name = named("latest-held");
    let (mut a, mut b) = pair(&name, 4);
    (0..4).for_each(|n| a.send(&[n]).unwrap());
    let newest = b.recv_latest().unwrap();
    (4..7).for_each(|n| a.try_send(&[n]).unwrap());
    assert!(matches!(a.try_send(b"x"), Err(SendError::Full)));
    assert_eq!(&*newest, [3]);
    drop(newest);
    // A copy of the newest is not to be had, but the next in order is.
    assert_eq!(&*b.recv().unwrap(), [4]);
    assert_eq!(&*b.recv_latest().unwrap(), [6]);
}

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Span(usize),
    Batch(usize),
    /// Within the window.
    WaitFor(usize),
    Release(usize),
    /// The window ends: dropped, or forgotten.
    End {
        forget: bool,
    },
    /// Between two windows.
    Recv,
    Latest,
    Drain(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..65_usize).prop_map(Op::Send),
        3 => (0..600_usize).prop_map(Op::Span),
        1 => (0..4_usize).prop_map(Op::Batch),
        6 => (0..10_usize).prop_map(Op::WaitFor),
        4 => (0..5_usize).prop_map(Op::Release),
        1 => any::<bool>().prop_map(|forget| Op::End { forget }),
        1 => Just(Op::Recv),
        1 => Just(Op::Latest),
        1 => (0..4_usize).prop_map(Op::Drain),
    ]
}

/// The messages that were sent and not received, and those that the window holds.
#[derive(Default)]
struct Model {
    queue: VecDeque<Vec<u8>>,
    held: VecDeque<Vec<u8>>,
    sent: usize,
}

impl Model {
    /// Sends if the ring lets us: only the window's contents matter here.
    fn send(&mut self, tx: &mut Transport, op: &Op, slots: usize) -> bool {
        self.sent += 1;
        match *op {
            Op::Send(len) => {
                let message = pattern(self.sent, len);
                if tx.try_send(&message).is_ok() {
                    self.queue.push_back(message);
                }
            }
            Op::Span(len) => {
                let message = pattern(self.sent, len % (slots * 64 + 1));
                if let Ok(mut span) = tx.try_reserve_span(message.len()) {
                    span.copy_from_slice(&message);
                    span.commit(message.len());
                    self.queue.push_back(message);
                }
            }
            Op::Batch(count) => {
                let mut batch = tx.batch();
                for part in 0..count {
                    let message = pattern(self.sent * 10 + part, 9);
                    if batch.try_send(&message).is_ok() {
                        self.queue.push_back(message);
                    }
                }
            }
            _ => return false,
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_window_is_the_front_of_a_queue(
        slots in prop::sample::select(vec![1, 2, 4, 8]),
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let name = named("window-model");
        let (mut tx, mut rx) = pair(&name, slots);
        let mut model = Model::default();
        let mut ops = ops.iter().peekable();
        while ops.peek().is_some() {
            // Between two windows.
            while let Some(&op) = ops.peek() {
                if model.send(&mut tx, op, slots) {
                    ops.next();
                    continue;
                }
                match *op {
                    Op::Recv => prop_assert_eq!(rx.try_recv().ok().map(|m| m.to_vec()), model.queue.pop_front()),
                    Op::Latest => {
                        let newest = model.queue.drain(..).next_back();
                        prop_assert_eq!(rx.try_recv_latest().ok().map(|m| m.to_vec()), newest);
                    }
                    Op::Drain(most) => {
                        let queue = &mut model.queue;
                        let drained = rx.drain(most, |m| assert_eq!(Some(m), queue.pop_front().as_deref())).unwrap();
                        prop_assert!(drained == most || (drained < most && queue.is_empty()));
                    }
                    _ => break,
                }
                ops.next();
            }
            let mut window = rx.window();
            prop_assert!(window.is_empty());
            let mut forget = false;
            for op in ops.by_ref() {
                match *op {
                    Op::WaitFor(count) if count > slots => {
                        match window.try_wait_for(count) {
                            Err(RecvError::WindowTooLarge { asked, .. }) => prop_assert_eq!(asked, count),
                            other => panic!("{other:?}"),
                        }
                    }
                    Op::WaitFor(count) => {
                        let answer = window.try_wait_for(count);
                        while model.held.len() < count && !model.queue.is_empty() {
                            model.held.extend(model.queue.pop_front());
                        }
                        if model.held.len() >= count {
                            prop_assert!(answer.is_ok());
                        } else {
                            prop_assert!(matches!(answer, Err(RecvError::Empty)));
                        }
                    }
                    Op::Release(count) => {
                        window.release(count);
                        model.held.drain(..count.min(model.held.len()));
                    }
                    Op::End { forget: how } => {
                        forget = how;
                        break;
                    }
                    _ => {
                        model.send(&mut tx, op, slots);
                    }
                }
                prop_assert!(window.iter().eq(model.held.iter().map(|m| &m[..])));
                prop_assert_eq!(window.len(), model.held.len());
            }
            model.held.clear();
            if forget {
                mem::forget(window);
            }
        }
        // The held messages are given back in the end, and the sent ones come out.
        drop(rx.window());
        drop(tx);
        while let Some(expected) = model.queue.pop_front() {
            prop_assert_eq!(&*rx.recv().unwrap(), expected);
        }
        prop_assert!(matches!(rx.recv(), Err(RecvError::Closed)));
        prop_assert_eq!(rx.stats().rx.used_slots, 0);
    }
}
