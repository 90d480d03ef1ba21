//! A peer that dies is found out, whatever the survivor does meanwhile, and nothing it committed is lost.
//!
//! The promise is 100 ms. A loaded machine may stop the survivor itself for longer, so the tests allow
//! twenty times as much and print what they measured.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, Missing, OpenError, PollMode, RecvError, SendError, Transport};
use common::*;

const ALLOWED: Duration = Duration::from_secs(2);
const INTERVAL: PollMode = PollMode::Interval(Duration::from_millis(1));
const MODES: [PollMode; 3] = [PollMode::Spin, INTERVAL, PollMode::Park];
const SIDES: [&str; 2] = ["A", "B"];

#[test]
fn child() {
    play(&[("doomed", doomed)]);
}

fn meet(side: &str, name: &str, mode: PollMode) -> Transport {
    let config = Config::new().slot_size(32).slot_count(4).poll(mode);
    match side {
        "A" => Transport::create(name, &config).unwrap(),
        _ => Transport::open_with(name, LONG, &config).unwrap(),
    }
}

/// Commits three messages, has a fourth half written, and waits for the end.
fn doomed(args: &[String]) {
    let mut transport = meet(&args[1], &args[0], PollMode::Park);
    if args[1] == "A" {
        eventually("side B is there", || transport.peer_attached());
    }
    for message in ["one", "two", "three"] {
        transport.send(message.as_bytes()).unwrap();
    }
    let mut slot = transport.reserve().unwrap();
    slot[..4].copy_from_slice(b"four");
    say("ready");
    hold();
}

/// A survivor, and the other process that will die.
fn doom(name: &str, dies: &str, mode: PollMode) -> (Transport, Peer) {
    let (survivor, mut peer);
    if dies == "A" {
        peer = spawn("doomed", &[name, "A"]);
        survivor = meet("B", name, mode);
    } else {
        survivor = meet("A", name, mode);
        peer = spawn("doomed", &[name, "B"]);
    }
    peer.wait_for("ready");
    (survivor, peer)
}

/// Kills the peer once `survive` is at work, and checks how long it took to notice.
fn killed_during(what: &str, mut peer: Peer, survive: impl FnOnce()) {
    let (died, noticed) = thread::scope(|scope| {
        let killer = scope.spawn(move || {
            // Lets the survivor begin to wait. If it has not, the test shows less, not something else.
            thread::sleep(Duration::from_millis(50));
            let now = Instant::now();
            peer.kill();
            now
        });
        survive();
        let noticed = Instant::now();
        (killer.join().unwrap(), noticed)
    });
    let took = noticed.saturating_duration_since(died);
    println!("{what}: found out after {took:?}");
    assert!(took < ALLOWED, "{what}: {took:?}");
}

fn drain_three(survivor: &mut Transport) {
    for message in ["one", "two", "three"] {
        assert_eq!(&*survivor.recv().unwrap(), message.as_bytes());
    }
}

#[test]
fn a_receiver_drains_and_then_learns_of_the_death() {
    for dies in SIDES {
        for mode in MODES {
            let name = named("death-recv");
            let (mut survivor, peer) = doom(&name, dies, mode);
            killed_during(&format!("{dies} dies, the other receives in {mode:?}"), peer, || {
                drain_three(&mut survivor);
                assert!(matches!(survivor.recv(), Err(RecvError::PeerDead)));
            });
            assert!(matches!(survivor.try_recv(), Err(RecvError::PeerDead)), "and stays dead");
            assert!(matches!(survivor.drain(9, |_| ()), Err(RecvError::PeerDead)));
            assert!(matches!(survivor.try_send(b"x"), Err(SendError::PeerDead)), "to the other half too");
        }
    }
}

#[test]
fn what_was_committed_is_drained_after_the_death_too() {
    for dies in SIDES {
        let name = named("death-drain");
        let (mut survivor, mut peer) = doom(&name, dies, PollMode::Park);
        peer.kill();
        drain_three(&mut survivor);
        let mut copy = Vec::new();
        assert!(matches!(survivor.recv_copied(&mut copy), Err(RecvError::PeerDead)));
    }
}

#[test]
fn a_sender_in_a_full_ring_learns_of_the_death() {
    for dies in SIDES {
        for mode in MODES {
            let name = named("death-send");
            let (mut survivor, peer) = doom(&name, dies, mode);
            while survivor.try_send(b"fill").is_ok() {}
            killed_during(&format!("{dies} dies, the other waits for room in {mode:?}"), peer, || {
                assert!(matches!(survivor.send(b"more"), Err(SendError::PeerDead)));
            });
            assert!(matches!(survivor.try_reserve(), Err(SendError::PeerDead)));
            assert!(matches!(survivor.try_reserve_span(64), Err(SendError::PeerDead)));
            drain_three(&mut survivor);
            assert!(matches!(survivor.try_recv(), Err(RecvError::PeerDead)));
        }
    }
}

#[test]
fn who_only_tries_every_30_ms_learns_of_the_death() {
    for busy_before in [false, true] {
        let name = named("death-try");
        let (mut survivor, peer) = doom(&name, "B", PollMode::Spin);
        drain_three(&mut survivor);
        if busy_before {
            for _ in 0..10_002 {
                assert!(matches!(survivor.try_recv(), Err(RecvError::Empty)));
            }
        }
        killed_during(&format!("tries each 30 ms, in a tight loop before: {busy_before}"), peer, || {
            while matches!(survivor.try_recv(), Err(RecvError::Empty)) {
                thread::sleep(Duration::from_millis(30));
            }
            assert!(matches!(survivor.try_recv(), Err(RecvError::PeerDead)));
        });
    }
    let name = named("death-try-send");
    let (mut survivor, peer) = doom(&name, "B", PollMode::Spin);
    while survivor.try_send(b"fill").is_ok() {}
    killed_during("tries to send each 30 ms", peer, || {
        while matches!(survivor.try_send(b"x"), Err(SendError::Full)) {
            thread::sleep(Duration::from_millis(30));
        }
        assert!(matches!(survivor.try_send(b"x"), Err(SendError::PeerDead)));
    });
}

#[test]
fn both_halves_in_two_threads_learn_of_one_death() {
    let name = named("death-halves");
    let (mut survivor, peer) = doom(&name, "B", PollMode::Park);
    while survivor.try_send(b"fill").is_ok() {}
    let (mut tx, mut rx) = survivor.split();
    killed_during("two threads wait", peer, || {
        thread::scope(|scope| {
            scope.spawn(|| assert!(matches!(tx.send(b"more"), Err(SendError::PeerDead))));
            while rx.recv().is_ok() {}
            assert!(matches!(rx.recv(), Err(RecvError::PeerDead)));
        });
    });
}

#[cfg(unix)]
#[test]
fn a_stopped_peer_is_not_dead() {
    use rustix::process::{Pid, Signal, kill_process};
    for stops in SIDES {
        let name = named("stopped");
        let (mut survivor, mut peer) = doom(&name, stops, PollMode::Park);
        drain_three(&mut survivor);
        let pid = Pid::from_raw(peer.id() as i32).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        assert!(matches!(survivor.recv_timeout(Duration::from_millis(300)), Err(RecvError::Timeout)));
        assert!(!capnproto_shm_transport::Stats::of(&name).unwrap().tx.closed);
        kill_process(pid, Signal::CONT).unwrap();
        // It goes on, and ends in order.
        peer.go();
        peer.join();
        assert!(matches!(survivor.recv(), Err(RecvError::Closed)));
    }
}

#[test]
fn a_dead_side_a_is_never_joined_and_its_leftovers_are_removable() {
    let name = named("death-join");
    let (survivor, mut peer) = doom(&name, "A", PollMode::Park);
    drop(survivor);
    peer.kill();
    let error = Transport::open(&name, Duration::from_millis(30)).unwrap_err();
    assert!(matches!(error, OpenError::Timeout { missing: Missing::SideA, .. }), "{error}");
    assert_eq!(name.left().len(), 2);
    Transport::remove(&name).unwrap();
    assert_eq!(name.left().len(), 0);
}
