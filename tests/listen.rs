//! Receiving in the background: bursts, stopping, the channel's end, and a callback that panics.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use capnproto_shm_transport::{Config, PollMode, RecvError, SendError, Stats, Transport};
use common::*;

#[test]
fn child() {
    play(&[("count", count), ("crash", crash)]);
}

fn join(name: &str) -> Transport {
    Transport::open(name, LONG).unwrap()
}

/// Sends a thousand messages, then waits to be told that they arrived.
fn count(args: &[String]) {
    let mut b = join(&args[0]);
    for index in 0..1000 {
        b.send(&pattern(index, index % 32)).unwrap();
    }
    assert_eq!(&*b.recv().unwrap(), b"thanks");
}

/// Sends one message and waits to be killed.
fn crash(args: &[String]) {
    let mut b = join(&args[0]);
    b.send(b"last words").unwrap();
    say("sent");
    hold();
}

fn create(name: &str, mode: PollMode) -> Transport {
    Transport::create(name, &Config::new().slot_size(32).slot_count(256).poll(mode)).unwrap()
}

const MODES: [PollMode; 3] = [PollMode::Spin, PollMode::Interval(Duration::from_millis(1)), PollMode::Park];

#[test]
fn every_message_reaches_the_callback_and_join_says_how_it_ended() {
    for mode in MODES {
        let name = named("listen");
        let (messages, received) = mpsc::channel();
        let (mut tx, listener) = create(&name, mode).listen(move |m| messages.send(m.to_vec()).unwrap());
        let peer = spawn("count", &[&name]);
        for index in 0..1000 {
            assert_eq!(received.recv().unwrap(), pattern(index, index % 32), "{mode:?}, message {index}");
        }
        tx.send(b"thanks").unwrap();
        peer.join();
        assert!(matches!(listener.join(), RecvError::Closed));
        assert!(received.recv().is_err(), "nothing came twice, and the callback is gone");
    }
}

#[test]
fn join_says_that_the_peer_died_after_its_last_message() {
    let name = named("listen-death");
    let (messages, received) = mpsc::channel();
    let (mut tx, listener) =
        create(&name, PollMode::Park).listen(move |m| messages.send(m.to_vec()).unwrap());
    let mut peer = spawn("crash", &[&name]);
    peer.wait_for("sent");
    peer.kill();
    assert!(matches!(listener.join(), RecvError::PeerDead));
    assert_eq!(received.iter().collect::<Vec<_>>(), [b"last words"]);
    assert!(matches!(tx.try_send(b"anyone?"), Err(SendError::PeerDead)));
}

#[test]
fn messages_are_released_in_bursts_of_at_most_64() {
    let name = named("listen-burst");
    let mut a = create(&name, PollMode::Spin);
    let b = join(&name);
    for index in 0..100 {
        a.send(&pattern(index, 8)).unwrap();
    }
    let (report, used) = mpsc::channel();
    let third = name.to_string();
    let (_tx, listener) = b.listen(move |_| report.send(Stats::of(&third).unwrap().tx.used_slots).unwrap());
    let used: Vec<_> = used.iter().take(100).collect();
    assert_eq!(used, [[100; 64].as_slice(), &[36; 36]].concat());
    drop(listener);
}

#[test]
fn stop_gives_the_consumer_back_while_it_waits() {
    for mode in MODES {
        let name = named("listen-stop");
        let mut a = create(&name, PollMode::Spin);
        let b = Transport::open_with(&name, LONG, &Config::new().poll(mode)).unwrap();
        let (messages, received) = mpsc::channel();
        let (_tx, listener) = b.listen(move |m| messages.send(m.to_vec()).unwrap());
        a.send(b"in the background").unwrap();
        assert_eq!(received.recv().unwrap(), b"in the background");
        assert!(!listener.is_finished());
        let mut rx = listener.stop();
        a.send(b"by hand").unwrap();
        assert_eq!(&*rx.recv().unwrap(), b"by hand");
        assert!(received.try_recv().is_err());
    }
}

#[test]
fn drop_joins_and_closes_this_direction_only() {
    let name = named("listen-drop");
    let mut a = create(&name, PollMode::Spin);
    let (alive, gone) = mpsc::channel::<()>();
    let (mut tx, listener) = join(&name).listen(move |_| drop(alive.clone()));
    drop(listener);
    assert_eq!(gone.try_recv(), Err(mpsc::TryRecvError::Disconnected), "the thread was not joined");
    assert!(matches!(a.try_send(b"x"), Err(SendError::Closed)));
    tx.send(b"still open").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"still open");
}

#[test]
fn a_panic_in_the_callback_reaches_join_stop_and_drop() {
    for ending in ["join", "stop", "drop"] {
        let name = named("listen-panic");
        let mut a = create(&name, PollMode::Spin);
        let (_tx, listener) = join(&name).listen(|m| panic!("cannot take {}", String::from_utf8_lossy(m)));
        a.send(b"this").unwrap();
        eventually("the thread has ended", || listener.is_finished());
        let panic = catch_unwind(AssertUnwindSafe(|| match ending {
            "join" => drop(listener.join()),
            "stop" => drop(listener.stop()),
            _ => drop(listener),
        }));
        let panic = panic.expect_err(ending);
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "cannot take this", "{ending}");
        assert!(matches!(a.send(b"x"), Err(SendError::Closed)), "the receiving half is gone with it");
    }
}

#[test]
fn an_interruption_stays_until_a_call_would_wait() {
    let name = named("interruption");
    let mut a = create(&name, PollMode::Park);
    let mut b = join(&name);
    a.interrupter().interrupt();
    b.send(b"first").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"first");
    a.wait_for_peer(LONG).unwrap();
    assert!(matches!(a.recv(), Err(RecvError::Interrupted)));
    assert!(matches!(a.try_recv(), Err(RecvError::Empty)));
}
