//! What passes between two machines is what passes on one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Channel, ChannelInfo, Config, RecvError, SendError, Transport};
use common::*;
use rustix::process::Signal;

#[test]
fn both_ways_in_order_and_of_any_size() {
    let world = World::new(&["x"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let a = world.create("x");
    let mut b = world.open("x");
    const MESSAGES: u64 = 20_000;
    thread::scope(|scope| {
        scope.spawn(|| {
            let (to_a, from_a) = b.halves();
            let mut buffer = Vec::new();
            for number in 0..MESSAGES {
                from_a.recv_copied_timeout(&mut buffer, LONG).unwrap();
                assert_eq!(buffer, message(number), "{number}");
                if buffer.len() <= to_a.slot_size() {
                    to_a.send_timeout(&buffer, LONG).unwrap();
                } else {
                    let mut span = to_a.reserve_span_timeout(buffer.len(), LONG).unwrap();
                    span.copy_from_slice(&buffer);
                    span.commit(buffer.len());
                }
            }
        });
        let (mut to_b, mut from_b) = a.split();
        scope.spawn(move || {
            for number in 0..MESSAGES {
                let bytes = message(number);
                let mut span = to_b.reserve_span_timeout(bytes.len().max(1), LONG).unwrap();
                span[..bytes.len()].copy_from_slice(&bytes);
                span.commit(bytes.len());
            }
            to_b.finish(LONG).unwrap();
        });
        for number in 0..MESSAGES {
            assert_eq!(&*from_b.recv_timeout(LONG).unwrap(), message(number), "{number}");
        }
    });
}

#[test]
fn a_slow_reader_is_waited_for_no_longer_than_it_takes() {
    // No heartbeat comes in time that could tell of credit instead.
    let world = World::new(&["x", "--timeout", "3600", "--window", "1"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let (mut to_b, _from_b) = world.create("x").split();
    let mut b = world.open("x");
    const MESSAGES: u64 = 500;
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..MESSAGES {
                to_b.send_timeout(&number.to_le_bytes(), LONG).unwrap();
            }
            to_b.finish(LONG).unwrap();
        });
        for number in 0..MESSAGES {
            // So that the ring is full, and the window too.
            thread::sleep(Duration::from_millis(1));
            assert_eq!(receive(&mut b).unwrap(), number.to_le_bytes());
        }
    });
}

#[test]
fn the_far_side_finds_the_same_channel() {
    let world = World::new(&["x"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let config = Config::new().directory(&world.a.0).a_to_b(1, 8).b_to_a(1, 32).message_tag("ticks/1");
    let mut a = Channel::<u64, u32>::create("x", &config).unwrap();
    assert!(!a.peer_attached());
    // Another type is refused, as it would be on one machine.
    eventually("the far channel", || ChannelInfo::of_with("x", &world.b.config()).is_ok());
    let wrong = Channel::<u32, u32>::open_with("x", LONG, &world.b.config());
    assert!(wrong.unwrap_err().to_string().contains("same types"));
    // Nobody is there yet, so side A sees nobody.
    assert!(!a.peer_attached());

    let mut b = Channel::<u32, u64>::open_with("x", LONG, &world.b.config().message_tag("ticks/1")).unwrap();
    let (near, far) =
        (ChannelInfo::of_with("x", &world.a.config()), ChannelInfo::of_with("x", &world.b.config()));
    let (near, far) = (near.unwrap(), far.unwrap());
    for (near, far) in [(near.a_to_b, far.a_to_b), (near.b_to_a, far.b_to_a)] {
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!(near.kind, far.kind);
        assert_eq!(
            (near.stats.slot_size, near.stats.slot_count),
            (far.stats.slot_size, far.stats.slot_count)
        );
    }
    assert_eq!(near.tag, far.tag);
    a.wait_for_peer(LONG).unwrap();
    a.send(&7).unwrap();
    assert_eq!(b.recv_timeout(LONG).map(|value| *value).unwrap(), 7);
    b.send(&8).unwrap();
    assert_eq!(a.recv_timeout(LONG).map(|value| *value).unwrap(), 8);
}

#[test]
fn a_reader_that_does_not_read_stops_the_sender() {
    let world = World::new(&["x", "--window", "16"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let mut a = world.create("x");
    let mut b = world.open("x");
    a.wait_for_peer(LONG).unwrap();
    // Two rings and a window, which may be exceeded by a frame that has one slot of credit left.
    let mut sent = 0u64;
    let full = loop {
        match a.send_timeout(&sent.to_le_bytes(), Duration::from_millis(500)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent <= 16 * 3, "nothing stops it");
    };
    assert!(matches!(full, SendError::Timeout), "{full}");
    for number in 0..sent {
        assert_eq!(receive(&mut b).unwrap(), number.to_le_bytes());
    }
    // And it goes on.
    a.send_timeout(b"more", LONG).unwrap();
    assert_eq!(receive(&mut b).unwrap(), b"more");
}

#[test]
fn one_direction_may_close_alone() {
    let world = World::new(&["x"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let (mut to_b, mut from_b) = world.create("x").split();
    let mut b = world.open("x");
    to_b.send(b"last").unwrap();
    drop(to_b);
    assert_eq!(receive(&mut b).unwrap(), b"last");
    assert!(matches!(receive(&mut b), Err(RecvError::Closed)));
    b.send(b"still").unwrap();
    assert_eq!(&*from_b.recv_timeout(LONG).unwrap(), b"still");
    // A receiver that goes is told to the sender.
    drop(from_b);
    eventually("the sender learns of it", || matches!(b.send(b"x"), Err(SendError::Closed)));
}

#[test]
fn patterns_take_many_channels() {
    let world = World::new(&["sensor-*", "motor-[0-9]"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let names: Vec<_> = (0..8).map(|n| format!("sensor-{n}")).chain(["motor-3".to_owned()]).collect();
    let mut channels: Vec<_> = names.iter().map(|name| world.create(name)).collect();
    let _other = world.create("other");
    for (name, a) in names.iter().zip(&mut channels) {
        let mut b = world.open(name);
        a.send(name.as_bytes()).unwrap();
        assert_eq!(receive(&mut b).unwrap(), name.as_bytes());
        drop(b);
        assert!(matches!(end(a).1, RecvError::Closed));
    }
    assert!(Transport::open_with("other", Duration::ZERO, &world.b.config()).is_err());
}

#[test]
fn sides_may_be_at_either_machine() {
    let world = World::new(&["--all"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let mut here = world.create("from/there".replace('/', "*").as_str());
    let mut there = Transport::create("from?here", &world.b.config()).unwrap();
    let mut other = world.open("from*there");
    let mut another = Transport::open_with("from?here", LONG, &world.a.config()).unwrap();
    here.send(b"1").unwrap();
    there.send(b"2").unwrap();
    assert_eq!(receive(&mut other).unwrap(), b"1");
    assert_eq!(receive(&mut another).unwrap(), b"2");
}

#[test]
fn a_bridge_that_is_told_to_end_ends_in_order() {
    let world = World::new(&["x"]);
    for which in ["near", "far"] {
        let (near, far) = (world.bridge_a(&[]), world.bridge_b(&[]));
        let mut a = world.create("x");
        let mut b = world.open("x");
        a.send(b"before").unwrap();
        assert_eq!(receive(&mut b).unwrap(), b"before");
        let ends = if which == "near" { near } else { far };
        ends.signal(Signal::TERM);
        assert!(matches!(end(&mut a).1, RecvError::Closed), "{which}");
        assert!(matches!(end(&mut b).1, RecvError::Closed), "{which}");
        let (code, said) = ends.end();
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("this bridge leaves"), "{said}");
        drop((a, b));
    }
    eventually("nothing is left", || world.a.left().is_empty() && world.b.left().is_empty());
}

#[test]
fn a_bridge_whose_figures_nobody_reads_ends_in_order() {
    let world = World::new(&["x"]);
    let far = world.bridge_b(&[]);
    let connect = format!("tcp/{}", world.link.address);
    let zenoh = ["--connect", &connect, "--listen", "tcp/127.0.0.1:0"];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let near = Bridge::start_with(&world.a, &zenoh, &["x", "--json"], writer.into());
    let mut a = world.create("x");
    let mut b = world.open("x");
    assert!(matches!(end(&mut a).1, RecvError::Closed));
    assert!(matches!(end(&mut b).1, RecvError::Closed));
    let (code, said) = near.end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot show figures"), "{said}");
    drop(far);
}

#[test]
fn figures_are_lines_of_json() {
    use std::io::BufRead;
    let world = World::new(&["x"]);
    let _far = world.bridge_b(&[]);
    let mut near = std::process::Command::new(env!("CARGO_BIN_EXE_capnp-shm-bridge"))
        .args(["x", "--key", "t", "--json", "--connect", &format!("tcp/{}", world.link.address), "--dir"])
        .arg(&world.a.0)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut a = world.create("x");
    let mut b = world.open("x");
    a.send(b"12345").unwrap();
    receive(&mut b).unwrap();
    let mut lines = std::io::BufReader::new(near.stdout.take().unwrap()).lines();
    let found = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"sent_messages\":1")).unwrap();
    let figures: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&figures["name"], &figures["state"]), (&"x".into(), &"bridged".into()));
    assert_eq!((&figures["sent_bytes"], &figures["received_messages"]), (&5.into(), &0.into()));
    near.kill().unwrap();
    near.wait().unwrap();
}
