//! Ends of a wait that the peer does not bring about: an interruption from another thread, and time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod kinds;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Config, PollMode, RecvError, SendError, Transport};
use common::*;
use kinds::*;

const SHORT: Duration = Duration::from_millis(5);
const MODES: [PollMode; 3] = [PollMode::Spin, PollMode::Interval(Duration::from_millis(1)), PollMode::Park];

#[test]
fn child() {
    play(&[("guest", guest), ("receiver", receiver), ("leaver", leaver)]);
}

fn config(mode: PollMode) -> Config {
    Config::new().slot_size(32).slot_count(4).poll(mode)
}

fn pair<K: Kind>(name: &str, mode: PollMode) -> (K, K) {
    (K::create(name, &config(mode)).unwrap(), K::open_with(name, LONG, &config(mode)).unwrap())
}

fn interrupted_once<K: Kind>(mode: PollMode) {
    let name = named("once");
    let (mut a, mut b) = pair::<K>(&name, mode);
    let interrupter = b.interrupter();
    let (told, tells) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let taken = b.take_at_last();
                let end = matches!(taken, Err(RecvError::Closed));
                told.send(taken).unwrap();
                if end {
                    break;
                }
            }
        });
        for round in 0..20 {
            // Sometimes before it waits, sometimes while it does.
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            interrupter.interrupt();
            let end = tells.recv_timeout(LONG).unwrap().unwrap_err();
            assert!(matches!(end, RecvError::Interrupted), "{} in {mode:?}: {end}", K::NAME);
            // The next thing that it tells is a message: the channel goes on, and one interruption is told once.
            a.put(round, LONG).unwrap();
            assert_eq!(tells.recv_timeout(LONG).unwrap().unwrap(), round);
        }
        drop(a);
        assert!(matches!(tells.recv_timeout(LONG).unwrap(), Err(RecvError::Closed)));
    });
}

#[test]
fn a_wait_ends_as_interrupted_once() {
    for mode in MODES {
        each_kind!(interrupted_once(mode));
    }
}

fn before_the_wait<K: Kind>(mode: PollMode) {
    let name = named("before");
    let (mut a, mut b) = pair::<K>(&name, mode);
    let (interrupter, another) = (b.interrupter(), b.interrupter());
    // Any number of them, by whichever handle, is one.
    interrupter.interrupt();
    another.clone().interrupt();
    another.interrupt();
    // A call that does not wait is not interrupted, and uses nothing up.
    assert!(matches!(b.try_take(), Err(RecvError::Empty)));
    // A message that is there comes first.
    a.put(1, LONG).unwrap();
    a.put(2, LONG).unwrap();
    assert_eq!(b.take_at_last().unwrap(), 1);
    assert_eq!(b.take(LONG).unwrap(), 2);
    assert!(matches!(b.take_at_last(), Err(RecvError::Interrupted)), "{} in {mode:?}", K::NAME);
    assert!(matches!(b.take(SHORT), Err(RecvError::Timeout)), "{} in {mode:?}", K::NAME);
    // The forms that wait for the newest are interrupted too.
    interrupter.interrupt();
    assert!(matches!(b.latest(None), Err(RecvError::Interrupted)));
    interrupter.interrupt();
    assert!(matches!(b.latest(Some(LONG)), Err(RecvError::Interrupted)));
    // An end comes first as well.
    drop(a);
    interrupter.interrupt();
    assert!(matches!(b.take_at_last(), Err(RecvError::Closed)));
    // Nobody is there to interrupt any more.
    drop(b);
    interrupter.interrupt();
}

#[test]
fn an_interruption_before_the_wait_ends_the_next_one() {
    for mode in MODES {
        each_kind!(before_the_wait(mode));
    }
}

#[test]
fn every_form_that_waits_is_interrupted() {
    let name = named("forms");
    let (_a, mut b) = pair::<Transport>(&name, PollMode::Park);
    let interrupter = b.interrupter();
    type Wait = fn(&mut Transport) -> Result<(), RecvError>;
    let waits: [Wait; 6] = [
        |b| b.recv().map(|_| ()),
        |b| b.recv_timeout(LONG).map(|_| ()),
        |b| b.recv_copied(&mut Vec::new()).map(|_| ()),
        |b| b.recv_copied_timeout(&mut Vec::new(), LONG).map(|_| ()),
        |b| b.window().wait_for(2),
        |b| b.window().wait_for_timeout(2, LONG),
    ];
    for (form, wait) in waits.iter().enumerate() {
        interrupter.interrupt();
        assert!(matches!(wait(&mut b), Err(RecvError::Interrupted)), "form {form}");
    }
}

#[test]
fn an_interruption_of_one_side_is_none_of_the_others() {
    let name = named("own");
    let (mut a, mut b) = pair::<Transport>(&name, PollMode::Park);
    a.interrupter().interrupt();
    assert!(matches!(b.recv_timeout(SHORT), Err(RecvError::Timeout)));
    // Nor does it end a wait for room.
    while a.try_send(b"fill").is_ok() {}
    assert!(matches!(a.send_timeout(b"x", SHORT), Err(SendError::Timeout)));
    assert!(matches!(a.recv(), Err(RecvError::Interrupted)));
}

/// Comes, waits to be told, and goes.
fn guest(args: &[String]) {
    let b = Transport::open(&args[0], LONG).unwrap();
    hold();
    drop(b);
}

fn awaits_its_peer<K: Kind>(mode: PollMode) {
    let name = named("peer");
    let mut a = K::create(&name, &config(mode)).unwrap();
    for wait in [Duration::ZERO, SHORT] {
        assert!(matches!(a.wait_for_peer(wait), Err(RecvError::Timeout)), "{} in {mode:?}", K::NAME);
    }
    let interrupter = a.interrupter();
    interrupter.interrupt();
    assert!(matches!(a.wait_for_peer(LONG), Err(RecvError::Interrupted)), "{} in {mode:?}", K::NAME);
    assert!(matches!(a.wait_for_peer(SHORT), Err(RecvError::Timeout)), "it was told once");
    let mut peer = thread::scope(|scope| {
        let waiting = scope.spawn(|| a.wait_for_peer(LONG));
        thread::sleep(Duration::from_millis(2));
        let peer = spawn("guest", &[&name]);
        waiting.join().unwrap().unwrap();
        peer
    });
    // It is there, so nothing is waited for, and an interruption is for a call that waits.
    interrupter.interrupt();
    a.wait_for_peer(Duration::ZERO).unwrap();
    a.wait_for_peer(LONG).unwrap();
    let end = a.take(LONG).unwrap_err();
    assert!(matches!(end, RecvError::Interrupted), "{} in {mode:?}: {end}", K::NAME);
    // It may have gone since.
    peer.go();
    peer.join();
    a.wait_for_peer(Duration::ZERO).unwrap();
    assert!(matches!(a.take(LONG), Err(RecvError::Closed)));
}

#[test]
fn side_a_waits_for_its_peer_until_it_comes_time_is_over_or_somebody_interrupts() {
    for mode in MODES {
        awaits_its_peer::<Transport>(mode);
    }
    each_kind!(awaits_its_peer(PollMode::Park));
}

#[test]
fn an_interruption_ends_a_wait_for_a_peer_that_has_begun() {
    for mode in MODES {
        let name = named("peer-interrupt");
        let mut a = Transport::create(&name, &config(mode)).unwrap();
        let interrupter = a.interrupter();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| a.wait_for_peer(LONG));
            thread::sleep(Duration::from_millis(2));
            interrupter.interrupt();
            assert!(matches!(waiting.join().unwrap(), Err(RecvError::Interrupted)));
        });
        let mut b = Transport::open(&name, LONG).unwrap();
        b.wait_for_peer(Duration::ZERO).unwrap();
    }
}

#[test]
fn a_sender_in_a_full_ring_is_told_that_nobody_ever_came() {
    let name = named("lonely");
    let mut a = Transport::create(&name, &config(PollMode::Park)).unwrap();
    while a.try_send(b"fill").is_ok() {}
    assert!(matches!(a.try_send(b"x"), Err(SendError::Full)));
    assert!(matches!(a.send_timeout(b"x", SHORT), Err(SendError::NoPeer)));
    assert!(matches!(a.reserve_timeout(SHORT), Err(SendError::NoPeer)));
    assert!(matches!(a.reserve_span_timeout(40, SHORT), Err(SendError::NoPeer)));
    assert!(matches!(a.finish(SHORT), Err(SendError::NoPeer)));
    let peer = spawn("guest", &[&name]);
    a.wait_for_peer(LONG).unwrap();
    for full in [a.send_timeout(b"x", SHORT), a.finish(SHORT)] {
        assert!(matches!(full, Err(SendError::Timeout)));
    }
    peer.join();
    let end = a.send(b"x").unwrap_err();
    assert!(matches!(end, SendError::Closed), "{end}");
}

/// Receives until the channel is closed, one message each time it is told to; then answers.
fn receiver(args: &[String]) {
    of_kind!(&*args[1], receive(&args[0]));
}

fn receive<K: Kind>(name: &str) {
    let mut b = K::open_with(name, LONG, &Config::new()).unwrap();
    say("joined");
    let mut expected = 0;
    loop {
        hold();
        match b.take(LONG) {
            Ok(number) => assert_eq!(number, expected),
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
        expected += 1;
    }
    b.put(expected, LONG).unwrap();
    say("answered");
    hold();
}

fn finishes<K: Kind>() {
    let name = named("finish");
    let mut a = K::create(&name, &config(PollMode::Park)).unwrap();
    let mut peer = spawn("receiver", &[&name, K::NAME]);
    peer.wait_for("joined");
    for number in 0..3 {
        a.put(number, LONG).unwrap();
    }
    // Nobody has received anything: the channel stays as it was.
    assert!(matches!(a.finish(Duration::ZERO), Err(SendError::Timeout)));
    peer.go();
    assert!(matches!(a.finish(Duration::from_millis(20)), Err(SendError::Timeout)));
    assert!(!a.stats().tx.closed);
    a.put(3, LONG).unwrap();
    (0..4).for_each(|_| peer.go());
    a.finish(LONG).unwrap();
    assert!(a.stats().tx.closed && !a.stats().rx.closed);
    assert_eq!(a.stats().tx.used_slots, 0, "everything was released before");
    for _ in 0..3 {
        assert!(matches!(a.put(4, LONG), Err(SendError::Closed)));
    }
    // The peer hears of it, and receiving goes on.
    peer.wait_for("answered");
    assert_eq!(a.take(LONG).unwrap(), 4);
    peer.go();
    peer.join();
    assert!(matches!(a.take(LONG), Err(RecvError::Closed)));
}

#[test]
fn a_direction_is_finished_when_everything_sent_is_released() {
    each_kind!(finishes());
}

/// Receives so many messages and goes.
fn leaver(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    (0..args[1].parse().unwrap()).for_each(|_| drop(b.recv().unwrap()));
}

#[test]
fn finish_says_whether_a_peer_that_went_had_received_everything() {
    for (received, whole) in [("3", true), ("2", false), ("0", false)] {
        let name = named("left");
        let mut a = Transport::create(&name, &config(PollMode::Park)).unwrap();
        for message in [b"1", b"2", b"3"] {
            a.send(message).unwrap();
        }
        let peer = spawn("leaver", &[&name, received]);
        let finished = a.finish(LONG);
        match finished {
            Ok(()) => assert!(whole, "{received} of 3"),
            Err(SendError::Closed) => assert!(!whole, "{received} of 3"),
            Err(other) => panic!("{received} of 3: {other}"),
        }
        peer.join();
        assert!(matches!(a.send(b"4"), Err(SendError::Closed)));
    }
}

#[test]
fn nothing_sent_is_finished_at_once_and_a_forgotten_batch_is_sent_first() {
    let name = named("finish-batch");
    let mut a = Transport::create(&name, &config(PollMode::Park)).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let mut batch = a.batch();
    batch.try_send(b"one").unwrap();
    batch.try_send(b"two").unwrap();
    std::mem::forget(batch);
    thread::scope(|scope| {
        let finishing = scope.spawn(|| a.finish(LONG));
        assert_eq!(&*b.recv().unwrap(), b"one");
        assert_eq!(&*b.recv().unwrap(), b"two");
        finishing.join().unwrap().unwrap();
    });
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    assert!(matches!(a.batch().try_send(b"x"), Err(SendError::Closed)));
    assert!(matches!(a.try_reserve_span(40), Err(SendError::Closed)));
    b.finish(Duration::ZERO).unwrap();
    assert!(matches!(b.try_send(b"x"), Err(SendError::Closed)));
    assert!(matches!(a.recv(), Err(RecvError::Closed)));
}
