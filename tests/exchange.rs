//! The messages of two processes to each other arrive once, in order and whole, in every form of sending and
//! receiving.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::mem;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Config, Consumer, PollMode, Producer, RecvError, SendError, Stats, Transport};
use common::*;

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn child() {
    play(&[
        ("sink", sink),
        ("spans", receive_spans),
        ("threads", two_threads),
        ("steps", steps),
        ("stream", stream),
        ("take", take),
        ("directed", directed),
    ]);
}

/// Short and long polls both occur, and both sides sleep and spin.
fn small(name: &str, slots: usize) -> Transport {
    Transport::create(name, &Config::new().slot_size(40).slot_count(slots)).unwrap()
}

fn join(name: &str) -> Transport {
    Transport::open(name, LONG).unwrap()
}

fn send_in_some_form(tx: &mut Transport, index: usize, message: &[u8]) {
    match index % 6 {
        0 => {
            while let Err(error) = tx.try_send(message) {
                assert!(matches!(error, SendError::Full), "{error}");
                thread::yield_now();
            }
        }
        1 => tx.send(message).unwrap(),
        2 => tx.send_timeout(message, LONG).unwrap(),
        3 => {
            let mut slot = tx.reserve().unwrap();
            assert_eq!(slot.len(), 40);
            slot[..message.len()].copy_from_slice(message);
            slot.commit(message.len());
        }
        4 => {
            let mut slot = tx.reserve_timeout(LONG).unwrap();
            slot[..message.len()].copy_from_slice(message);
            slot.commit(message.len());
        }
        _ => loop {
            let error = match tx.try_reserve() {
                Ok(mut slot) => {
                    slot[..message.len()].copy_from_slice(message);
                    break slot.commit(message.len());
                }
                Err(error) => error,
            };
            assert!(matches!(error, SendError::Full), "{error}");
            thread::yield_now();
        },
    }
}

/// Receives one or more messages in the form that `index` asks for; `Err` at the end of the channel.
fn receive_in_some_form(
    rx: &mut Transport,
    index: usize,
    got: &mut dyn FnMut(&[u8]),
) -> Result<(), RecvError> {
    let mut copy = vec![9; index % 64];
    let copied = match index % 7 {
        0 => rx.try_recv().map(|m| got(&m)).map(|()| None),
        1 => rx.recv().map(|m| got(&m)).map(|()| None),
        2 => rx.recv_timeout(LONG).map(|m| got(&m)).map(|()| None),
        3 => rx.try_recv_copied(&mut copy).map(Some),
        4 => rx.recv_copied(&mut copy).map(Some),
        5 => rx.recv_copied_timeout(&mut copy, LONG).map(Some),
        _ => rx.drain(3, |m| got(m)).map(|n| assert!(n <= 3)).map(|()| None),
    };
    match copied {
        Ok(None) => Ok(()),
        Err(RecvError::Empty) => {
            thread::yield_now();
            Ok(())
        }
        Ok(Some(len)) => {
            assert_eq!(len, copy.len());
            got(&copy);
            Ok(())
        }
        Err(end) => Err(end),
    }
}

const MESSAGES: usize = 20_000;

fn sink(args: &[String]) {
    let mut rx = join(&args[0]);
    let mut next = 0;
    let end = (0..).find_map(|turn| {
        let mut check = |message: &[u8]| {
            assert_eq!(message, pattern(next, next % 41), "message {next}");
            next += 1;
        };
        receive_in_some_form(&mut rx, turn, &mut check).err()
    });
    assert!(matches!(end, Some(RecvError::Closed)), "{end:?}");
    assert_eq!(next, MESSAGES);
}

#[test]
fn every_form_keeps_order_over_many_laps() {
    for slots in [1, 8] {
        let name = named("order");
        let mut tx = small(&name, slots);
        let peer = spawn("sink", &[&name]);
        for index in 0..MESSAGES {
            send_in_some_form(&mut tx, index, &pattern(index, index % 41));
        }
        drop(tx);
        peer.join();
    }
}

/// The reserved bytes and the committed bytes of each message: every size of span at every offset in the lap.
fn schedule(slots: usize) -> Vec<(usize, usize)> {
    let (size, stride) = (40, 64);
    let (mut tail, mut plan) = (0, Vec::new());
    let mut add = |reserved: usize, committed: usize| {
        let to_end = slots - tail % slots;
        let asked = reserved.div_ceil(stride).max(1);
        tail += if asked > to_end { to_end } else { 0 } + committed.div_ceil(stride).max(1);
        plan.push((reserved, committed));
        tail
    };
    for bytes in 0..=size * slots {
        for offset in 0..slots {
            for committed in [bytes, bytes / 2] {
                while add(1, 1) % slots != offset {}
                add(bytes, committed);
            }
        }
    }
    plan
}

fn receive_spans(args: &[String]) {
    let mut rx = join(&args[0]);
    let mut copy = Vec::new();
    for (index, (_, committed)) in schedule(args[1].parse().unwrap()).into_iter().enumerate() {
        let expected = pattern(index, committed);
        match index % 3 {
            0 => assert_eq!(&*rx.recv().unwrap(), expected, "message {index}"),
            1 => assert_eq!(rx.recv_copied(&mut copy).map(|_| &copy).unwrap(), &expected),
            _ => {
                while rx.drain(1, |m| assert_eq!(m, expected, "message {index}")).unwrap() == 0 {
                    thread::yield_now();
                }
            }
        }
    }
    assert!(matches!(rx.recv(), Err(RecvError::Closed)));
}

#[test]
fn spans_of_every_size_fit_at_every_offset() {
    for slots in [1, 2, 4, 8] {
        let name = named("spans");
        let mut tx = small(&name, slots);
        assert_eq!(tx.max_message_size(), 40 * slots);
        let peer = spawn("spans", &[&name, &slots.to_string()]);
        for (index, (reserved, committed)) in schedule(slots).into_iter().enumerate() {
            let mut slot = match index % 3 {
                0 => tx.reserve_span(reserved).unwrap(),
                1 => tx.reserve_span_timeout(reserved, LONG).unwrap(),
                _ => {
                    while matches!(tx.try_reserve_span(reserved), Err(SendError::Full)) {
                        thread::yield_now();
                    }
                    tx.try_reserve_span(reserved).unwrap()
                }
            };
            assert_eq!(slot.len(), reserved);
            slot.fill(0xee);
            slot[..committed].copy_from_slice(&pattern(index, committed));
            slot.commit(committed);
        }
        drop(tx);
        peer.join();
    }
}

fn send_all(mut tx: Producer, salt: usize) {
    for index in 0..20_000 {
        tx.send(&pattern(index + salt, index % 41)).unwrap();
    }
}

fn receive_all(mut rx: Consumer, salt: usize) {
    for index in 0..20_000 {
        assert_eq!(&*rx.recv().unwrap(), pattern(index + salt, index % 41), "message {index}");
    }
    assert!(matches!(rx.recv(), Err(RecvError::Closed)));
}

fn both_at_once(transport: Transport, sends: usize, receives: usize) {
    let (tx, rx) = transport.split();
    thread::scope(|scope| {
        scope.spawn(move || send_all(tx, sends));
        receive_all(rx, receives);
    });
}

fn two_threads(args: &[String]) {
    both_at_once(join(&args[0]), 5, 3);
}

#[test]
fn halves_work_in_two_threads_in_both_directions_at_once() {
    let name = named("halves");
    let a = small(&name, 16);
    let peer = spawn("threads", &[&name]);
    both_at_once(a, 3, 5);
    peer.join();
    assert_eq!(name.left(), [] as [std::path::PathBuf; 0]);
}

/// At each word of the parent: says what is there now, one message a line, then "done".
fn steps(args: &[String]) {
    let mut rx = join(&args[0]);
    say("here");
    loop {
        hold();
        loop {
            match rx.try_recv() {
                Ok(message) => say(&format!("got {}", String::from_utf8_lossy(&message))),
                Err(RecvError::Empty) => break,
                Err(RecvError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
        say("done");
    }
}

/// A channel of four slots whose other side receives when asked.
fn stepped(name: &str) -> (Transport, Peer) {
    let tx = small(name, 4);
    let mut peer = spawn("steps", &[name]);
    peer.wait_for("here");
    (tx, peer)
}

/// The messages that the other process finds now.
fn found(peer: &mut Peer) -> Vec<String> {
    peer.go();
    let lines = std::iter::from_fn(|| Some(peer.line()).filter(|line| line != "done"));
    lines.filter_map(|line| line.strip_prefix("got ").map(str::to_owned)).collect()
}

#[test]
fn a_full_ring_holds_every_slot_and_then_says_so() {
    let name = named("full");
    let (mut tx, mut peer) = stepped(&name);
    for message in ["1", "2", "3", "4"] {
        tx.try_send(message.as_bytes()).unwrap();
    }
    assert_eq!(tx.stats().tx.used_slots, 4);
    assert!(matches!(tx.try_send(b"5"), Err(SendError::Full)));
    assert!(matches!(tx.try_reserve(), Err(SendError::Full)));
    assert!(matches!(tx.try_reserve_span(50), Err(SendError::Full)));
    assert!(matches!(tx.send_timeout(b"5", SHORT), Err(SendError::Timeout)));
    assert!(matches!(tx.reserve_timeout(SHORT), Err(SendError::Timeout)));
    assert!(matches!(tx.reserve_span_timeout(50, SHORT), Err(SendError::Timeout)));
    assert_eq!(tx.stats().tx.full_waits, 1, "it was full once, however often that was tried");
    thread::scope(|scope| {
        // Waits in the full ring until the peer has received.
        let waiting = scope.spawn(|| tx.send(b"5"));
        assert_eq!(found(&mut peer)[..4], ["1", "2", "3", "4"]);
        waiting.join().unwrap().unwrap();
    });
    drop(tx);
    peer.go();
    peer.join();
}

#[test]
#[expect(
    clippy::forget_non_drop,
    reason = "that forgetting a reservation is the same as dropping it is the point"
)]
fn an_aborted_reservation_is_never_seen() {
    let name = named("abort");
    let (mut tx, mut peer) = stepped(&name);
    tx.reserve().unwrap().fill(b'x');
    mem::forget(tx.reserve().unwrap());
    drop(tx.reserve_span(160).unwrap());
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _slot = tx.reserve().unwrap();
        panic!("expected");
    }));
    assert!(unwound.is_err());
    let too_long = catch_unwind(AssertUnwindSafe(|| tx.reserve().unwrap().commit(41)));
    assert!(too_long.is_err());
    assert_eq!(found(&mut peer), [""; 0]);
    assert_eq!((tx.stats().tx.messages, tx.stats().tx.used_slots), (0, 0));
    tx.send(b"only").unwrap();
    drop(tx.reserve().unwrap());
    assert_eq!(found(&mut peer), ["only"]);
    // A span that wraps gives up its place too, when it is aborted.
    drop(tx.reserve_span(160).unwrap());
    tx.send(b"next").unwrap();
    assert_eq!(found(&mut peer), ["next"]);
}

#[test]
fn a_batch_becomes_visible_at_once() {
    let name = named("batch");
    let (mut tx, mut peer) = stepped(&name);
    let mut batch = tx.batch();
    batch.try_send(b"1").unwrap();
    let mut slot = batch.try_reserve().unwrap();
    slot[0] = b'2';
    slot.commit(1);
    drop(batch.try_reserve().unwrap());
    assert_eq!(found(&mut peer), [""; 0]);
    assert_eq!(batch.publish(), 2);
    assert_eq!(found(&mut peer), ["1", "2"]);

    let mut batch = tx.batch();
    for message in [b"3", b"4", b"5", b"6"] {
        batch.try_send(message).unwrap();
    }
    assert!(matches!(batch.try_send(b"7"), Err(SendError::Full)));
    assert_eq!(found(&mut peer), [""; 0]);
    drop(batch);
    assert_eq!(found(&mut peer), ["3", "4", "5", "6"]);

    let mut batch = tx.batch();
    batch.try_send(b"8").unwrap();
    mem::forget(batch);
    assert_eq!(found(&mut peer), [""; 0]);
    tx.send(b"9").unwrap();
    assert_eq!(found(&mut peer), ["8", "9"]);
    assert_eq!((tx.stats().tx.messages, tx.stats().tx.bytes), (8, 8));
}

/// Both ends in this process, where a test can look at each moment.
fn pair(name: &str) -> (Transport, Transport) {
    let a = Transport::create(name, &Config::new().slot_size(40).slot_count(8).poll(PollMode::Spin));
    (a.unwrap(), join(name))
}

#[test]
fn a_drain_takes_at_most_what_it_is_allowed_and_releases_once() {
    let name = named("drain");
    let (mut a, mut b) = pair(&name);
    assert_eq!(b.drain(4, |_| unreachable!()).unwrap(), 0);
    for index in 0..8 {
        a.send(&pattern(index, 9)).unwrap();
    }
    assert_eq!(b.drain(0, |_| unreachable!()).unwrap(), 0);
    let used = || Stats::of(&name).unwrap().tx.used_slots;
    let mut next = 0;
    let received = b.drain(5, |message| {
        assert_eq!(message, pattern(next, 9));
        assert_eq!(used(), 8, "released before the burst was over");
        next += 1;
    });
    assert_eq!((received.unwrap(), used()), (5, 3));

    let unwound = catch_unwind(AssertUnwindSafe(|| b.drain(5, |_| panic!("expected"))));
    assert!(unwound.is_err());
    assert_eq!(used(), 2, "the message that the callback saw is received");
    drop(a);
    assert_eq!(b.drain(9, |_| ()).unwrap(), 2);
    assert!(matches!(b.drain(9, |_| ()), Err(RecvError::Closed)));
}

#[test]
fn a_read_slot_is_released_when_dropped_or_with_the_next_one() {
    let name = named("release");
    let (mut a, mut b) = pair(&name);
    for message in [b"1", b"2", b"3"] {
        a.send(message).unwrap();
    }
    let used = || Stats::of(&name).unwrap().tx.used_slots;
    let slot = b.recv().unwrap();
    assert_eq!(used(), 3, "still borrowed");
    drop(slot);
    assert_eq!(used(), 2);
    mem::forget(b.recv().unwrap());
    assert_eq!(used(), 2, "forgotten");
    assert_eq!(&*b.recv().unwrap(), b"3");
    assert_eq!(used(), 0);
    assert!(matches!(b.recv_timeout(SHORT), Err(RecvError::Timeout)));
    assert!(matches!(b.recv_copied_timeout(&mut Vec::new(), SHORT), Err(RecvError::Timeout)));
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(b.try_recv_copied(&mut Vec::new()), Err(RecvError::Empty)));
}

/// Sends so many messages as fast as there is room, and closes.
fn stream(args: &[String]) {
    let mut b = join(&args[0]);
    (0..args[1].parse().unwrap()).for_each(|index| b.send(&pattern(index, 9)).unwrap());
}

#[test]
fn who_forgot_every_slot_and_waits_lets_them_go() {
    for mode in [PollMode::Spin, PollMode::Interval(SHORT), PollMode::Park] {
        let name = named("forgot-slots");
        let config = Config::new().slot_size(40).slot_count(4).poll(mode);
        let mut a = Transport::create(&name, &config).unwrap();
        let peer = spawn("stream", &[&name, "41"]);
        let mut next = 0;
        let mut received = |message: &[u8]| {
            assert_eq!(message, pattern(next, 9), "{mode:?}");
            next += 1;
        };
        for turn in 0..8 {
            // The first of these waits with a ring that is full of forgotten messages, as its peer does.
            received(&a.recv().unwrap());
            eventually("the ring is full again", || a.stats().rx.used_slots == 4);
            for _ in 0..4 {
                let slot = a.recv().unwrap();
                received(&slot);
                mem::forget(slot);
            }
            assert_eq!(a.stats().rx.used_slots, 4, "a forgotten message takes its slot");
            if turn % 2 == 0 {
                assert!(matches!(a.try_recv(), Err(RecvError::Empty)));
            }
        }
        received(&a.recv().unwrap());
        assert!(matches!(a.recv(), Err(RecvError::Closed)));
        peer.join();
    }
}

#[test]
fn who_forgot_a_batch_that_fills_the_ring_and_waits_publishes_it() {
    for mode in [PollMode::Spin, PollMode::Interval(SHORT), PollMode::Park] {
        let name = named("forgot-batch");
        let mut a = Transport::create(&name, &Config::new().slot_size(40).slot_count(4).poll(mode)).unwrap();
        let peer = spawn("take", &[&name, "40"]);
        for turn in 0..8 {
            let mut batch = a.batch();
            let mut gathered = 0;
            // The peer may hold some of the last turn yet.
            while gathered < 4 {
                match batch.try_send(&pattern(turn * 5 + gathered, 9)) {
                    Ok(()) => gathered += 1,
                    Err(SendError::Full) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            mem::forget(batch);
            assert!(matches!(a.try_reserve(), Err(SendError::Full)));
            // Every form that waits: the peer waits too, for what is gathered.
            let message = pattern(turn * 5 + 4, 9);
            match turn % 4 {
                0 => a.send(&message).unwrap(),
                1 => a.send_timeout(&message, LONG).unwrap(),
                2 => {
                    let mut slot = a.reserve().unwrap();
                    slot[..9].copy_from_slice(&message);
                    slot.commit(9);
                }
                _ => {
                    let mut span = a.reserve_span(100).unwrap();
                    span[..9].copy_from_slice(&message);
                    span.commit(9);
                }
            }
        }
        a.finish(LONG).unwrap();
        peer.join();
    }
}

/// Receives so many messages, then the end.
fn take(args: &[String]) {
    let mut b = join(&args[0]);
    for index in 0..args[1].parse().unwrap() {
        assert_eq!(&*b.recv().unwrap(), pattern(index, 9));
    }
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
}

#[test]
fn a_drain_takes_also_what_came_after_the_last_look() {
    let name = named("drain-all");
    let (mut a, mut b) = pair(&name);
    for _ in 0..20 {
        a.send(b"1").unwrap();
        a.send(b"2").unwrap();
        assert_eq!(&*b.recv().unwrap(), b"1");
        a.send(b"3").unwrap();
        let mut seen = Vec::new();
        assert_eq!(b.drain(9, |message| seen.push(message.to_vec())).unwrap(), 2);
        assert_eq!(seen, [b"2", b"3"]);
    }
}

#[test]
fn a_drain_that_breaks_off_leaves_the_rest() {
    let name = named("drain-while");
    let (mut a, mut b) = pair(&name);
    for index in 0..8 {
        a.send(&[index]).unwrap();
    }
    let until = |b: &mut Transport, last: u8, max: usize| {
        let mut seen = Vec::new();
        let count = b.drain_while(max, |message| {
            seen.push(message[0]);
            if message[0] == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(count.unwrap(), seen.len());
        seen
    };
    assert_eq!(until(&mut b, 2, 9), [0, 1, 2]);
    assert_eq!(a.stats().tx.used_slots, 5, "the one that it broke off at is received");
    assert_eq!(until(&mut b, 3, 9), [3]);
    assert_eq!(until(&mut b, 6, 2), [4, 5], "no more than it may");
    assert_eq!(&*b.recv().unwrap(), [6]);
    assert_eq!(until(&mut b, 99, 9), [7]);
    assert!(until(&mut b, 99, 9).is_empty());
    drop(a);
    assert!(matches!(b.drain_while(9, |_| ControlFlow::Continue(())), Err(RecvError::Closed)));
}

#[test]
fn each_direction_has_slots_of_its_own() {
    let name = named("directions");
    // A few large ones this way, many small ones back.
    let config = Config::new().a_to_b(5000, 2).b_to_a(7, 64);
    let mut a = Transport::create(&name, &config).unwrap();
    let peer = spawn("directed", &[&name]);
    assert_eq!((a.slot_size(), a.slot_count(), a.max_message_size()), (5000, 2, 10_000));
    let stats = a.stats();
    assert_eq!((stats.rx.slot_size, stats.rx.slot_count), (7, 64));
    assert!(matches!(a.send(&[0; 5001]), Err(SendError::TooLarge { needed: 5001, capacity: 5000 })));
    for index in 0..50 {
        a.send(&pattern(index, 5000 - index)).unwrap();
    }
    for index in 0..50 {
        assert_eq!(&*a.recv().unwrap(), pattern(index, 5000 - index)[..index % 8].as_ref());
    }
    // The order of the two calls does not matter, and the one call for both is the last word.
    let last = Config::new().b_to_a(7, 64).a_to_b(5000, 2).slot_count(8).slot_size(24);
    peer.join();
    drop(a);
    let stats = Transport::create(&name, &last).unwrap().stats();
    assert_eq!((stats.tx.slot_size, stats.tx.slot_count), (24, 8));
    assert_eq!((stats.rx.slot_size, stats.rx.slot_count), (24, 8));
}

/// Learns the geometry by joining, and answers each message with its beginning.
fn directed(args: &[String]) {
    // The configuration of side B does not matter.
    let config = Config::new().a_to_b(1, 1).b_to_a(2, 2);
    let mut b = Transport::open_with(&args[0], LONG, &config).unwrap();
    assert_eq!((b.slot_size(), b.slot_count(), b.max_message_size()), (7, 64, 7 * 64));
    let (tx, rx) = b.halves();
    assert_eq!((rx.slot_size(), rx.slot_count()), (5000, 2));
    for index in 0..50 {
        let message = rx.recv().unwrap();
        assert_eq!(&*message, pattern(index, 5000 - index));
        tx.send(&message[..index % 8]).unwrap();
    }
}

#[test]
fn what_is_at_hand_needs_no_look() {
    let name = unique("at-hand");
    let (mut a, mut b) = Transport::create(&name, &Config::new().slot_size(8).slot_count(4))
        .map(|a| (a.split(), Transport::open(&name, LONG).unwrap().split()))
        .unwrap();
    let (sender, receiver) = (&mut a.0, &mut b.1);
    for number in 0..4 {
        let mut slot = sender.reserve_at_hand().expect("a fresh ring is known to be empty");
        slot[0] = number;
        slot.commit(1);
    }
    assert!(sender.reserve_at_hand().is_none(), "the ring is full");
    assert!(receiver.recv_at_hand().is_none(), "nobody has looked yet");
    assert_eq!(*receiver.try_recv().unwrap(), [0]);
    for number in 1..4 {
        assert_eq!(*receiver.recv_at_hand().expect("seen by that look"), [number]);
    }
    assert!(receiver.recv_at_hand().is_none());
    assert!(sender.reserve_at_hand().is_none(), "there is room, and nobody has looked");
    sender.try_send(b"looked").unwrap();
    sender.reserve_at_hand().expect("seen by that look").commit(0);

    // A span is not at hand, and neither is a message to a receiver that is gone.
    assert_eq!(*receiver.try_recv().unwrap(), *b"looked");
    assert!(receiver.recv_at_hand().is_some_and(|message| message.is_empty()));
    sender.try_reserve_span(12).unwrap().commit(12);
    assert!(receiver.recv_at_hand().is_none());
    assert_eq!(receiver.try_recv().unwrap().len(), 12);
    drop(b);
    assert!(sender.reserve_at_hand().is_none());
    assert!(matches!(sender.try_reserve(), Err(SendError::Closed)));
}
