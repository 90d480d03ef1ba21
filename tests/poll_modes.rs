//! How the two sides wait: every pairing of modes, changed live and from either side.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Config, PollMode, RecvError, SendError, Stats, Transport};
use common::*;

const INTERVAL: PollMode = PollMode::Interval(Duration::from_millis(1));
const MODES: [PollMode; 3] = [PollMode::Spin, INTERVAL, PollMode::Park];

#[test]
fn child() {
    play(&[("echo", echo)]);
}

fn config(mode: PollMode) -> Config {
    Config::new().slot_size(16).slot_count(4).poll(mode)
}

/// Sends back what comes, until the channel is closed.
fn echo(args: &[String]) {
    let mode = MODES[args[1].parse::<usize>().unwrap()];
    let mut b = Transport::open_with(&args[0], LONG, &config(mode)).unwrap();
    let (tx, rx) = b.halves();
    let end = loop {
        match rx.recv() {
            Ok(message) => tx.send(&message).unwrap(),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, RecvError::Closed), "{end}");
}

#[test]
fn every_pairing_exchanges_in_both_directions() {
    for (ours, theirs) in (0..9).map(|pair| (MODES[pair / 3], pair % 3)) {
        let name = named("pairing");
        let mut a = Transport::create(&name, &config(ours)).unwrap();
        let peer = spawn("echo", &[&name, &theirs.to_string()]);
        // One at a time: each side waits for each message.
        for index in 0..30 {
            a.send(&pattern(index, 16)).unwrap();
            assert_eq!(&*a.recv().unwrap(), pattern(index, 16), "{ours:?} with {:?}", MODES[theirs]);
        }
        // A stream: each side also waits for room.
        let (mut tx, mut rx) = a.split();
        thread::scope(|scope| {
            scope.spawn(|| (0..300).for_each(|index| tx.send(&pattern(index, 16)).unwrap()));
            (0..300).for_each(|index| assert_eq!(&*rx.recv().unwrap(), pattern(index, 16)));
        });
        drop((tx, rx));
        peer.join();
    }
}

fn pair(name: &str, a: PollMode, b: PollMode) -> (Transport, Transport) {
    let a = Transport::create(name, &config(a)).unwrap();
    (a, Transport::open_with(name, LONG, &config(b)).unwrap())
}

#[test]
fn both_sides_see_and_set_both_modes() {
    let name = named("control");
    let (a, b) = pair(&name, PollMode::Spin, INTERVAL);
    let (of_a, of_b) = (a.poll_control(), b.poll_control());
    assert_eq!((of_a.local(), of_a.remote()), (PollMode::Spin, INTERVAL));
    assert_eq!((of_b.local(), of_b.remote()), (INTERVAL, PollMode::Spin));
    of_a.set_remote(PollMode::Park);
    of_b.set_remote(PollMode::Interval(Duration::ZERO));
    assert_eq!((of_b.local(), of_a.local()), (PollMode::Park, PollMode::Spin), "no interval is to spin");
    of_a.set_local(PollMode::Interval(Duration::from_secs(10)));
    assert_eq!(of_b.remote(), PollMode::Interval(Duration::from_secs(10)));

    // A clone outlives the transport, and goes to another thread.
    let clone = of_a.clone();
    drop((a, b));
    thread::spawn(move || clone.set_local(PollMode::Park)).join().unwrap();
    assert_eq!(of_a.local(), PollMode::Park);
    assert!(name.is_free(), "a control holds no name");
    drop((of_a, of_b));
    assert_eq!(name.left().len(), 0);
}

#[test]
fn what_is_asked_of_a_peer_before_it_comes_holds_unless_it_chooses() {
    for (chosen, expected) in [(None, INTERVAL), (Some(PollMode::Spin), PollMode::Spin)] {
        let name = named("asked-before");
        let a = Transport::create(&name, &config(PollMode::Park)).unwrap();
        assert_eq!(a.poll_control().remote(), PollMode::Park, "the default");
        a.poll_control().set_remote(INTERVAL);
        let b = match chosen {
            Some(mode) => Transport::open_with(&name, LONG, &config(mode)),
            None => Transport::open(&name, LONG),
        };
        assert_eq!(b.unwrap().poll_control().local(), expected);
    }
}

/// Sleeps in the ring that side A sends into, so far.
fn parks(name: &str) -> u64 {
    Stats::of(name).unwrap().tx.parks
}

#[test]
fn a_waiting_side_follows_a_change_of_its_mode() {
    let name = named("change");
    let (mut a, mut b) = pair(&name, PollMode::Spin, PollMode::Interval(Duration::from_secs(10)));
    let control = a.poll_control();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| b.recv().map(|m| m.to_vec()));
        // From a long sleep to parking: it parks.
        assert_eq!(parks(&name), 0);
        control.set_remote(PollMode::Park);
        eventually("it parks", || parks(&name) > 0);
        // From parking to spinning: it parks no more, so the count comes to rest.
        control.set_remote(PollMode::Spin);
        let mut last = parks(&name);
        eventually("it spins", || {
            thread::sleep(Duration::from_millis(100));
            let now = parks(&name);
            std::mem::replace(&mut last, now) == now
        });
        // And back, from spinning.
        control.set_remote(PollMode::Park);
        eventually("it parks again", || parks(&name) > last);
        assert!(!waiting.is_finished());
        // From parking to a long sleep: a message is found within that sleep's longest stretch.
        control.set_remote(PollMode::Interval(Duration::from_secs(10)));
        a.send(b"found").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), b"found");
    });
}

#[test]
fn a_long_interval_is_no_long_deafness() {
    // Without this a change of mode, a death or a deadline would wait for the sleep's end.
    let name = named("deaf");
    let day = PollMode::Interval(Duration::from_secs(86_400));
    let (mut a, mut b) = pair(&name, day, day);
    assert!(matches!(b.recv_timeout(Duration::from_millis(5)), Err(RecvError::Timeout)));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| b.recv().map(|m| m.to_vec()));
        a.send(b"heard").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), b"heard");
    });
}

#[test]
fn a_parked_receiver_and_a_parked_sender_are_woken() {
    let name = named("park");
    let (mut a, mut b) = pair(&name, PollMode::Park, PollMode::Park);
    let figures = || Stats::of(&name).unwrap().tx;
    // The receiver sleeps; a message wakes it. A wake may fall between two of its sleeps, so try on.
    thread::scope(|scope| {
        scope.spawn(|| while &*b.recv().unwrap() != b"end" {});
        eventually("the receiver parks", || figures().parks > 0);
        eventually("a message wakes it", || {
            a.send(b"x").unwrap();
            figures().wakes > 0
        });
        a.send(b"end").unwrap();
    });
    // The sender sleeps in a full ring; a release wakes it.
    while a.try_send(b"fill").is_ok() {}
    let before = figures();
    thread::scope(|scope| {
        scope.spawn(|| while !matches!(a.send(b"more"), Err(SendError::Closed)) {});
        eventually("the sender parks", || figures().parks > before.parks);
        eventually("a release wakes it", || {
            drop(b.recv().unwrap());
            figures().wakes > before.wakes
        });
        drop(b);
    });
}

#[test]
fn only_parking_sides_sleep_and_only_they_are_woken() {
    for mode in [PollMode::Spin, INTERVAL] {
        let name = named("no-park");
        let (mut a, mut b) = pair(&name, mode, mode);
        assert!(matches!(b.recv_timeout(Duration::from_millis(20)), Err(RecvError::Timeout)));
        while a.try_send(b"fill").is_ok() {}
        assert!(matches!(a.send_timeout(b"x", Duration::from_millis(20)), Err(SendError::Timeout)));
        while b.try_recv().is_ok() {}
        let seen = a.stats().tx;
        assert_eq!((seen.parks, seen.wakes), (0, 0), "{mode:?}");
        assert_eq!(seen.full_waits, 1);
    }
    let name = named("park-count");
    let (a, mut b) = pair(&name, PollMode::Spin, PollMode::Park);
    eventually("a parking side sleeps", || {
        assert!(matches!(b.recv_timeout(Duration::from_millis(20)), Err(RecvError::Timeout)));
        a.stats().tx.parks > 0
    });
    assert_eq!(a.stats().tx.wakes, 0, "and nobody woke it");
}
