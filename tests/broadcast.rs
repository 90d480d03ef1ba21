//! One writer and many clients: everyone gets every message, and nobody waits for the slow.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::time::Duration;

use capnproto_shm_transport::{
    AcceptError, Broadcast, Channel, Config, RecvError, SendError, Server, Slow, Transport,
};
use common::*;

#[test]
fn child() {
    play(&[("reader", reader), ("joins", joins)]);
}

fn config() -> Config {
    Config::new().slot_size(64).slot_count(8)
}

/// Reads numbers in order until the writer closes.
fn reader(args: &[String]) {
    let mut client = Channel::<u64>::connect(&args[0], LONG).unwrap();
    client.send(&0).unwrap();
    let mut next = None;
    loop {
        match client.recv_copied() {
            Ok(number) => {
                assert!(next.is_none_or(|next| next == number), "{next:?}, then {number}");
                next = Some(number + 1);
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next, Some(args[1].parse().unwrap()));
}

#[test]
fn every_client_gets_every_message() {
    let name = named("every");
    let mut server = Server::<Channel<u64>>::bind(&name, &Config::new().slot_count(64)).unwrap();
    let mut broadcast = Broadcast::new(Slow::Skip);
    let peers: Vec<_> = (0..5).map(|_| spawn("reader", &[&name, "10000"])).collect();
    for _ in &peers {
        broadcast.add(server.accept().unwrap());
    }
    for number in 0..10_000 {
        // A writer that may wait for its readers has nobody miss anything.
        while broadcast.clients().iter().any(|client| client.stats().tx.used_slots == 64) {
            std::thread::yield_now();
        }
        let sent = broadcast.send(&number).unwrap();
        assert_eq!((sent.delivered, sent.skipped, sent.dropped, sent.gone), (5, 0, 0, 0));
    }
    // Their messages are heard.
    for client in broadcast.clients() {
        assert_eq!(client.recv_copied().unwrap(), 0);
    }
    drop(broadcast);
    peers.into_iter().for_each(Peer::join);
}

fn connected(slow: Slow) -> (Broadcast<Transport>, Transport, Transport, Server<Transport>) {
    let name = named("slow");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut broadcast = Broadcast::new(slow);
    let mut connect = || {
        let client = std::thread::spawn({
            let name = name.to_string();
            move || Transport::connect(&name, LONG).unwrap()
        });
        while broadcast.admit(&mut server).unwrap() == 0 {}
        client.join().unwrap()
    };
    let (fast, slow) = (connect(), connect());
    (broadcast, fast, slow, server)
}

#[test]
fn a_slow_client_misses_what_it_has_no_room_for() {
    let (mut broadcast, mut fast, mut slow, _server) = connected(Slow::Skip);
    for number in 0..20_u8 {
        let sent = broadcast.send(&[number]).unwrap();
        assert_eq!((sent.delivered, sent.skipped), if number < 8 { (2, 0) } else { (1, 1) });
        assert_eq!(*fast.recv().unwrap(), [number]);
    }
    for number in 0..8 {
        assert_eq!(*slow.recv().unwrap(), [number]);
    }
    assert!(matches!(slow.try_recv(), Err(RecvError::Empty)));
    assert_eq!(broadcast.send(&[20]).unwrap().delivered, 2);
    assert_eq!(*slow.recv().unwrap(), [20]);
}

#[test]
fn a_slow_client_is_dropped_and_may_come_again() {
    let (mut broadcast, mut fast, mut slow, server) = connected(Slow::Drop);
    for number in 0..9_u8 {
        let sent = broadcast.send(&[number]).unwrap();
        assert_eq!((sent.delivered, sent.dropped), if number < 8 { (2, 0) } else { (1, 1) });
        assert_eq!(*fast.recv().unwrap(), [number]);
    }
    assert_eq!((broadcast.len(), server.clients()), (1, 1));
    for number in 0..8 {
        assert_eq!(*slow.recv().unwrap(), [number]);
    }
    assert!(matches!(slow.recv(), Err(RecvError::Closed)));
}

fn joins(args: &[String]) {
    let _client = Transport::connect(&args[0], LONG).unwrap();
    say("joined");
    hold();
}

#[test]
fn clients_that_are_gone_are_forgotten() {
    let (mut broadcast, fast, slow, _server) = connected(Slow::Skip);
    drop(fast);
    let sent = broadcast.send(b"one left").unwrap();
    assert_eq!((sent.delivered, sent.gone, broadcast.len()), (1, 1, 1));
    drop((broadcast, slow));

    // One that was killed, though it has room.
    let name = named("killed");
    let mut server = Server::<Transport>::bind(&name, &Config::new()).unwrap();
    let mut broadcast = Broadcast::new(Slow::Skip);
    let mut peer = spawn("joins", &[&name]);
    broadcast.add(server.accept().unwrap());
    peer.wait_for("joined");
    peer.kill();
    eventually("it is forgotten", || broadcast.send(b"nobody").unwrap().gone == 1);
    assert!(broadcast.is_empty());
    assert_eq!(server.clients(), 0);
    assert_eq!(broadcast.send(b"nobody").unwrap(), Default::default());
}

#[test]
fn a_message_that_no_slot_takes_is_the_writers_fault() {
    let (mut broadcast, mut fast, _slow, _server) = connected(Slow::Drop);
    // A span for one that exceeds a slot.
    assert_eq!(broadcast.send(&[7; 100]).unwrap().delivered, 2);
    assert_eq!(*fast.recv().unwrap(), [7; 100]);
    let error = broadcast.send(&[7; 64 * 8 + 1]).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { needed: 513, capacity: 512 }), "{error}");
    assert_eq!(broadcast.len(), 2);
}

#[test]
fn admitting_waits_for_nobody() {
    let name = named("admit");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut broadcast = Broadcast::new(Slow::Skip);
    assert_eq!(broadcast.admit(&mut server).unwrap(), 0);
    assert!(matches!(server.accept_timeout(Duration::ZERO), Err(AcceptError::Timeout)));
}

#[cfg(feature = "capnp")]
#[test]
fn capnp_messages_are_built_in_each_clients_slot_or_once_for_all() {
    use capnproto_shm_transport::CapnpChannel;
    use capnproto_shm_transport::capnp::schema_capnp::node;
    type Nodes = CapnpChannel<node::Owned>;

    let name = named("capnp");
    let mut server = Server::<Nodes>::bind(&name, &Config::new().slot_count(4)).unwrap();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let name = name.to_string();
            std::thread::spawn(move || {
                let mut client = Nodes::connect(&name, LONG).unwrap();
                for id in [7, 7] {
                    let message = client.recv().unwrap();
                    assert_eq!(message.get().unwrap().get_id(), id);
                }
                assert!(matches!(client.recv().map(|_| ()), Err(RecvError::Closed)));
            })
        })
        .collect();
    let mut broadcast = Broadcast::new(Slow::Drop);
    clients.iter().for_each(|_| broadcast.add(server.accept().unwrap()));
    let build = |mut node: node::Builder<'_>| {
        node.set_id(7);
        Ok(())
    };
    assert_eq!(broadcast.send(build).unwrap().delivered, 2);
    let mut message = capnproto_shm_transport::capnp::message::Builder::new_default();
    build(message.init_root()).unwrap();
    let frame = capnproto_shm_transport::capnp::serialize::write_message_to_words(&message);
    assert_eq!(broadcast.send_frame(&frame).unwrap().delivered, 2);
    assert!(matches!(broadcast.send_frame(b"no frame"), Err(SendError::Capnp(_))));
    drop(broadcast);
    clients.into_iter().for_each(|client| client.join().unwrap());
}
