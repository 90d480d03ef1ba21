//! A server at one machine, its clients at the other.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{AcceptError, Channel, Channels, Limits, RecvError, Server, Transport};
use common::*;

#[test]
fn every_client_has_a_channel_of_its_own_with_the_server_there() {
    let world = World::new(&["x", "--server"]);
    // The one beside the server connects, the one beside the clients listens.
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let mut server = Server::<Channel<u64>>::bind("x", &world.a.config().message_tag("sum/1")).unwrap();
    const CLIENTS: u64 = 4;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut served = 0;
            // The bridge itself looks in once, for what the channels are.
            while served < CLIENTS {
                let mut client = server.accept_timeout(LONG).unwrap();
                served += u64::from(client.recv_timeout(LONG).map(|value| *value).is_ok_and(|value| {
                    client.send(&(value + 1)).unwrap();
                    matches!(client.recv(), Err(RecvError::Closed))
                }));
            }
        });
        for number in 0..CLIENTS {
            let config = world.b.config().message_tag("sum/1");
            let mut client = Channel::<u64>::connect_with("x", LONG, &config).unwrap();
            client.send(&number).unwrap();
            assert_eq!(client.recv_timeout(LONG).map(|value| *value).unwrap(), number + 1);
        }
    });
}

#[test]
fn a_server_that_dies_is_dead_to_its_clients_and_its_successor_serves() {
    let world = World::new(&["x", "--server", "--timeout", "2"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    for _ in 0..2 {
        let mut dies = common::program("server", &world.a, "x");
        let mut client =
            capnproto_shm_transport::Transport::connect_with("x", LONG, &world.b.config()).unwrap();
        loop {
            // A client that came between two servers is refused as by a dead one.
            match receive(&mut client) {
                Ok(bytes) => break assert_eq!(bytes, b"served"),
                Err(RecvError::PeerDead) => {
                    client = capnproto_shm_transport::Transport::connect_with("x", LONG, &world.b.config())
                        .unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        dies.kill().unwrap();
        dies.wait().unwrap();
        assert!(matches!(end(&mut client).1, RecvError::PeerDead));
    }
}

#[test]
fn a_client_that_was_refused_keeps_no_later_one_out_while_another_stays() {
    let world = World::new(&["x", "--server", "--timeout", "2"]);
    let (_near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let connect = || Transport::connect_with("x", LONG, &world.b.config()).unwrap();
    let mut server = Server::<Transport>::bind("x", &world.a.config()).unwrap();
    server.limits(limits(1));
    let (more, asked) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut clients = Vec::new();
            // Until everybody is served.
            loop {
                match asked.try_recv() {
                    Ok(()) => server.limits(limits(2)),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => break,
                }
                match server.accept_timeout(Duration::from_millis(10)) {
                    Ok(mut client) => {
                        let _ = client.send(b"served");
                        clients.push(client);
                    }
                    Err(AcceptError::Timeout) => {}
                    Err(error) => panic!("{error}"),
                }
                // The bridge, which looks in, and those who are gone.
                clients.retain_mut(|client| matches!(client.try_recv().map(drop), Err(RecvError::Empty)));
            }
        });
        let mut stays = connect();
        assert_eq!(receive(&mut stays).unwrap(), b"served");
        // The server has no place for it.
        assert!(matches!(receive(&mut connect()), Err(RecvError::PeerDead)));
        // So there is none here for a while, and clients wait.
        eventually("the name is free", || Channels::servers_with(&world.b.config()).unwrap().is_empty());
        more.send(()).unwrap();
        let served = || receive(&mut connect()).is_ok_and(|bytes| bytes == b"served");
        eventually("another is served", served);
        drop((more, stays));
    });
}

fn limits(clients: usize) -> Limits {
    let mut limits = Limits::default();
    limits.clients = clients;
    limits
}

/// Not a test of its own: the server.
#[test]
fn program() {
    use capnproto_shm_transport::{Config, Transport};
    let Some((_, name)) = asked() else { return };
    let mut server = Server::<Transport>::bind(&name, &Config::new().slot_size(64).slot_count(16)).unwrap();
    let mut clients = Vec::new();
    while let Ok(mut client) = server.accept() {
        let _ = client.send(b"served");
        clients.push(client);
    }
}
