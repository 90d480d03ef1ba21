//! Who dies, and what the other side learns. Every death is a real one: SIGKILL, or a link that is cut or held.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{ChannelInfo, Config, RecvError, SendError, Transport};
use common::*;
use zenoh::Wait;

/// Not a test of its own: the program at one end.
#[test]
fn program() {
    let Some((part, name)) = asked() else { return };
    let config = Config::new().slot_size(64).slot_count(16);
    let mut side = match &*part {
        "a" => Transport::create(&name, &config).unwrap(),
        _ => Transport::open(&name, LONG).unwrap(),
    };
    side.send(b"here").unwrap();
    // Until it is killed, or the other side is gone.
    while side.recv().is_ok() {}
}

#[test]
fn a_program_that_dies_is_dead_at_the_other_machine() {
    let world = World::new(&["x"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    for _ in 0..2 {
        let mut dies = common::program("a", &world.a, "x");
        let mut b = world.open("x");
        assert_eq!(receive(&mut b).unwrap(), b"here");
        dies.kill().unwrap();
        assert!(matches!(end(&mut b).1, RecvError::PeerDead));
        eventually("the sender learns of it", || matches!(b.send(b"x"), Err(SendError::PeerDead)));
        dies.wait().unwrap();
    }
    for _ in 0..2 {
        let mut a = world.create("x");
        let mut dies = common::program("b", &world.b, "x");
        assert_eq!(receive(&mut a).unwrap(), b"here");
        dies.kill().unwrap();
        assert!(matches!(end(&mut a).1, RecvError::PeerDead));
        dies.wait().unwrap();
    }
}

#[test]
fn what_was_sent_before_a_death_arrives_first() {
    let world = World::new(&["x"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let mut a = world.create("x");
    let mut b = world.open("x");
    a.wait_for_peer(LONG).unwrap();
    for number in 0..100u64 {
        if number == 16 {
            // More than a ring is on its way.
            thread::sleep(Duration::from_millis(1));
        }
        a.send_timeout(&number.to_le_bytes(), LONG).unwrap();
    }
    a.abandon();
    for number in 0..100u64 {
        assert_eq!(receive(&mut b).unwrap(), number.to_le_bytes());
    }
    assert!(matches!(receive(&mut b), Err(RecvError::PeerDead)));
}

#[test]
fn a_side_a_that_comes_when_the_last_one_dies_is_bridged() {
    for _ in 0..3 {
        let world = World::new(&["x"]);
        let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
        let dies = world.create("x");
        eventually("the far channel", || ChannelInfo::of_with("x", &world.b.config()).is_ok());
        // The bridge beside side A learns that side B has come when another side A is there.
        world.link.set(Flow::Holds);
        let mut b = world.open("x");
        dies.abandon();
        let mut a = world.create("x");
        world.link.set(Flow::Passes);
        a.send(b"first").unwrap();
        while receive(&mut b).map(|got| assert_eq!(got, b"first")).is_err() {
            // The bridge had seen the death before. It bridges the new side A to a new side B.
            drop(b);
            b = world.open("x");
        }
        drop(a);
        assert!(matches!(end(&mut b).1, RecvError::Closed));
    }
}

#[test]
fn a_bridge_that_is_killed_is_dead_to_both_programs_and_its_successor_bridges_again() {
    let world = World::new(&["x", "--timeout", "2"]);
    let (mut near, mut far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    for dies in ["near", "far", "near"] {
        let mut a = world.create("x");
        let mut b = world.open("x");
        a.send(b"before").unwrap();
        assert_eq!(receive(&mut b).unwrap(), b"before");
        if dies == "near" {
            near.child.kill().unwrap();
        } else {
            far.child.kill().unwrap();
        }
        assert!(matches!(end(&mut a).1, RecvError::PeerDead), "{dies}");
        assert!(matches!(end(&mut b).1, RecvError::PeerDead), "{dies}");
        drop((a, b));
        if dies == "near" {
            near = world.bridge_a(&[]);
        } else {
            far = world.bridge_b(&[]);
        }
    }
    eventually("nothing is left", || world.a.left().is_empty() && world.b.left().is_empty());
}

#[test]
fn a_network_that_is_gone_is_dead_after_the_timeout() {
    let world = World::new(&["x", "--timeout", "1"]);
    let (mut near, mut far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let mut a = world.create("x");
    let mut b = world.open("x");
    a.send(b"before").unwrap();
    assert_eq!(receive(&mut b).unwrap(), b"before");
    world.link.set(Flow::Holds);
    assert!(matches!(end(&mut a).1, RecvError::PeerDead));
    assert!(matches!(end(&mut b).1, RecvError::PeerDead));
    near.hears("the network to the other bridge is gone");
    far.hears("the network to the other bridge is gone");
    drop((a, b));
    // It comes back, and the next generation is bridged.
    world.link.set(Flow::Passes);
    let mut a = world.create("x");
    let mut b = world.open("x");
    a.send(b"after").unwrap();
    assert_eq!(receive(&mut b).unwrap(), b"after");
}

#[test]
fn a_bridge_that_loses_its_zenoh_is_dead_to_its_program() {
    let world = World::new(&["x", "--timeout", "2"]);
    let _far = world.bridge_b(&[]);
    let listen = ["tcp/127.0.0.1:0".to_owned()];
    let zenoh = capnp_shm_bridge::open(None, &[format!("tcp/{}", world.link.address)], &listen).unwrap();
    let mut options = capnp_shm_bridge::Options::new("x", "t");
    (options.config, options.timeout) = (world.a.config(), Duration::from_secs(2));
    let bridge = capnp_shm_bridge::Bridge::start(zenoh.clone(), options, Box::new(|_, _| {})).unwrap();
    let mut a = world.create("x");
    let mut b = world.open("x");
    a.send(b"before").unwrap();
    assert_eq!(receive(&mut b).unwrap(), b"before");
    zenoh.close().wait().unwrap();
    // What is sent from here on goes nowhere.
    let lost = loop {
        if let Err(error) = a.send(b"after") {
            break error;
        }
    };
    assert!(matches!(lost, SendError::PeerDead), "{lost}");
    assert!(matches!(end(&mut a).1, RecvError::PeerDead));
    assert!(matches!(end(&mut b).1, RecvError::PeerDead));
    bridge.stop().unwrap();
}

#[test]
fn a_link_that_is_cut_and_comes_back_loses_nothing() {
    let world = World::new(&["x", "--timeout", "20"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let (mut to_b, mut from_b) = world.create("x").split();
    let mut b = world.open("x");
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        let cuts = scope.spawn(|| {
            for _ in 0..6 {
                // In the middle of a stream.
                let before = received.load(Ordering::Relaxed);
                eventually("messages", || received.load(Ordering::Relaxed) > before + 5000);
                world.link.cut();
            }
        });
        let sent = scope.spawn(move || {
            let mut number = 0u64;
            while !cuts.is_finished() {
                to_b.send_timeout(&number.to_le_bytes(), LONG).unwrap();
                number += 1;
            }
            to_b.finish(LONG).unwrap();
            number
        });
        let (to_a, from_a) = b.halves();
        loop {
            let number = received.load(Ordering::Relaxed);
            match from_a.recv_timeout(LONG) {
                Ok(message) => assert_eq!(*message, number.to_le_bytes()),
                Err(error) => break assert!(matches!(error, RecvError::Closed), "{number}: {error}"),
            }
            received.store(number + 1, Ordering::Relaxed);
        }
        assert_eq!(received.load(Ordering::Relaxed), sent.join().unwrap());
        to_a.send(b"all").unwrap();
        assert_eq!(&*from_b.recv_timeout(LONG).unwrap(), b"all");
    });
}

/// What is killed or cut at random, and whether everything is bridged again afterwards. `T_BRIDGE_ROUNDS` says how often.
#[test]
fn whatever_is_killed_at_random_ends_as_documented() {
    let rounds: u64 = std::env::var("T_BRIDGE_ROUNDS").ok().map_or(8, |rounds| rounds.parse().unwrap());
    let seed =
        std::env::var("T_BRIDGE_SEED").ok().map_or(0x9e37_79b9_7f4a_7c15, |seed| seed.parse().unwrap());
    println!("T_BRIDGE_SEED={seed}");
    let mut state: u64 = seed;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let world = World::new(&["x", "--timeout", "2"]);
    let (mut near, mut far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    for round in 0..rounds {
        let victim = ["program a", "program b", "near", "far", "cut", "held"][random(6) as usize];
        println!("round {round}: {victim}");
        let mut a = common::program("a", &world.a, "x");
        let mut b = common::program("b", &world.b, "x");
        thread::sleep(Duration::from_millis(random(400)));
        match victim {
            "program a" => a.kill().unwrap(),
            "program b" => b.kill().unwrap(),
            "near" => near.child.kill().unwrap(),
            "far" => far.child.kill().unwrap(),
            "cut" => world.link.cut(),
            _ => world.link.set(Flow::Holds),
        }
        thread::sleep(Duration::from_millis(random(3000)));
        world.link.set(Flow::Passes);
        if victim == "near" {
            near = world.bridge_a(&[]);
        }
        if victim == "far" {
            far = world.bridge_b(&[]);
        }
        // Whoever still waits is the survivor of nothing, or waits for a side that will not come.
        let _ = a.kill();
        let _ = b.kill();
        a.wait().unwrap();
        b.wait().unwrap();
        // The next generation is bridged, whatever happened.
        let mut a = world.create("x");
        let mut b = world.open("x");
        let number = round.to_le_bytes();
        while let Err(error) = a.send_timeout(&number, LONG).and_then(|()| {
            receive(&mut b).map(|got| assert_eq!(got, number, "{victim}")).map_err(|_| SendError::PeerDead)
        }) {
            // Side B may have joined what was left of the generation before.
            assert!(matches!(error, SendError::PeerDead | SendError::Closed), "{round}, {victim}: {error}");
            drop((a, b));
            (a, b) = (world.create("x"), world.open("x"));
        }
        drop(a);
        assert!(matches!(end(&mut b).1, RecvError::Closed), "{round}, {victim}");
    }
    drop((near, far));
}
