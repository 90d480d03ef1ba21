//! Many clients of one server, well-behaved and not.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{
    AcceptError, Channel, Config, CreateError, Limits, Missing, OpenError, RecvError, RemoveError, SendError,
    Server, Transport, WaitSet,
};
use common::*;

#[test]
fn child() {
    play(&[("echo", echo), ("stay", stay), ("server", server), ("bind", bind), ("typed", typed)]);
}

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4)
}

/// Whether nothing of a server is left under its name.
fn left(name: &Name) -> Vec<PathBuf> {
    name.left()
}

/// A client: sends so many numbers and expects each back.
fn echo(args: &[String]) {
    let mut client = Transport::connect(&args[0], LONG).unwrap();
    assert_eq!(client.peer().unwrap().pid, args[2].parse::<u32>().unwrap());
    for number in 0..args[1].parse::<u64>().unwrap() {
        client.send(&number.to_le_bytes()).unwrap();
        assert_eq!(*client.recv().unwrap(), number.to_le_bytes());
    }
}

/// A client that connects, says so, and waits to be killed.
fn stay(args: &[String]) {
    let mut client = Transport::connect(&args[0], LONG).unwrap();
    client.send(b"here").unwrap();
    say("here");
    hold();
}

#[test]
fn ten_clients_each_have_a_channel_of_their_own() {
    let name = named("ten");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let own = std::process::id().to_string();
    let peers: Vec<_> = (0..10).map(|_| spawn("echo", &[&name, "200", &own])).collect();
    let pids: Vec<_> = peers.iter().map(Peer::id).collect();
    let mut set = WaitSet::new().unwrap();
    let mut clients = Vec::new();
    for key in 0..10 {
        let mut client = server.accept().unwrap();
        let peer = client.peer().unwrap();
        assert!(pids.contains(&peer.pid) && peer.uid == rustix::process::geteuid().as_raw(), "{peer:?}");
        set.insert(key, client.halves().1).unwrap();
        clients.push(client);
    }
    assert_eq!(server.clients(), 10);
    let mut open = 10;
    while open > 0 {
        for key in set.wait(None).unwrap().to_vec() {
            let (to_client, from_client) = clients[key as usize].halves();
            loop {
                match from_client.try_recv() {
                    Ok(message) => to_client.send(&message).unwrap(),
                    Err(RecvError::Empty) => break,
                    Err(RecvError::Closed) => {
                        set.remove(key);
                        open -= 1;
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    peers.into_iter().for_each(Peer::join);
    drop(clients);
    assert_eq!(server.clients(), 0);
    drop(server);
    assert!(left(&name).is_empty(), "{:?}", left(&name));
}

#[test]
fn a_name_belongs_to_one_server() {
    let name = named("one");
    let server = Server::<Transport>::bind(&name, &config()).unwrap();
    let second = Server::<Transport>::bind(&name, &config());
    assert!(matches!(second, Err(CreateError::InUse { .. })), "{second:?}");
    let said = second.unwrap_err().to_string();
    assert!(said.contains("in use by a live side A or server"), "{said}");
    drop(server);
    drop(Server::<Transport>::bind(&name, &config()).unwrap());
    let long = "x".repeat(60);
    assert!(matches!(Server::<Transport>::bind(&long, &config()), Err(CreateError::Config(_))));
    assert!(matches!(Transport::connect(&long, LONG), Err(OpenError::Config(_))));
}

/// Binds, says so, and waits to be killed.
fn bind(args: &[String]) {
    let _server = Server::<Transport>::bind(&args[0], &config()).unwrap();
    say("bound");
    hold();
}

#[test]
fn a_dead_servers_name_is_reclaimed() {
    let name = named("dead");
    let mut peer = spawn("bind", &[&name]);
    peer.wait_for("bound");
    assert!(matches!(Server::<Transport>::bind(&name, &config()), Err(CreateError::InUse { .. })));
    peer.kill();
    assert!(!left(&name).is_empty());
    let missing = Transport::connect(&name, Duration::ZERO).unwrap_err();
    assert!(matches!(missing, OpenError::Timeout { missing: Missing::Server, .. }), "{missing}");
    assert!(missing.to_string().contains("start the server"), "{missing}");
    drop(Server::<Transport>::bind(&name, &config()).unwrap());
    assert!(left(&name).is_empty(), "{:?}", left(&name));
}

#[test]
fn what_a_dead_server_left_is_removed_and_a_live_one_keeps_its_name() {
    let name = named("remove");
    assert!(matches!(Server::remove(&name), Err(RemoveError::NotFound { .. })));
    let mut peer = spawn("bind", &[&name]);
    peer.wait_for("bound");
    let before = left(&name);
    assert!(matches!(Server::remove(&name), Err(RemoveError::InUse { .. })));
    assert_eq!(left(&name), before);
    peer.kill();
    Server::remove(&name).unwrap();
    assert!(left(&name).is_empty(), "{:?}", left(&name));
    assert!(matches!(Server::remove("no/name"), Err(RemoveError::Config(_))));
}

/// Serves: accepts one client, says so, and waits to be killed.
fn server(args: &[String]) {
    let mut server = Server::<Transport>::bind(&args[0], &config()).unwrap();
    say("bound");
    let mut client = server.accept().unwrap();
    client.send(b"before").unwrap();
    say("accepted");
    hold();
}

#[test]
fn a_servers_death_takes_no_client_down_and_the_next_server_is_joined() {
    let name = named("successor");
    for _ in 0..2 {
        let mut peer = spawn("server", &[&name]);
        peer.wait_for("bound");
        let mut client = Transport::connect(&name, LONG).unwrap();
        peer.wait_for("accepted");
        assert_eq!(client.peer().unwrap().pid, peer.id());
        peer.kill();
        assert_eq!(&*client.recv().unwrap(), b"before");
        assert!(matches!(client.recv(), Err(RecvError::PeerDead)));
        assert!(matches!(client.send(b"x"), Err(SendError::PeerDead)));
    }
    drop(Server::<Transport>::bind(&name, &config()).unwrap());
}

#[test]
fn a_client_that_is_killed_touches_nobody_else() {
    let name = named("killed");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut killed = spawn("stay", &[&name]);
    let mut first = server.accept().unwrap();
    killed.wait_for("here");
    let mut other = spawn("stay", &[&name]);
    let mut second = server.accept().unwrap();
    other.wait_for("here");
    killed.kill();
    assert_eq!(&*first.recv().unwrap(), b"here");
    assert!(matches!(first.recv(), Err(RecvError::PeerDead)));
    assert_eq!(&*second.recv().unwrap(), b"here");
    assert!(matches!(second.try_recv(), Err(RecvError::Empty)));
    drop(first);
    let _third = spawn("stay", &[&name]);
    assert_eq!(&*server.accept().unwrap().recv().unwrap(), b"here");
}

#[test]
fn the_geometry_the_tag_and_the_types_are_checked() {
    let name = named("typed");
    let mut server = Server::<Channel<u64, u32>>::bind(&name, &config().message_tag("sums")).unwrap();
    let peer = spawn("typed", &[&name]);
    let mut client = server.accept().unwrap();
    client.send(&7).unwrap();
    assert_eq!(*client.recv().unwrap(), 9);
    peer.join();
}

fn typed(args: &[String]) {
    let name = &args[0];
    let wrong = Channel::<u32, u32>::connect(name, LONG).unwrap_err();
    assert!(matches!(&wrong, OpenError::Type { direction: "receiving", .. }), "{wrong}");
    let wrong = Channel::<u64, u64>::connect(name, LONG).unwrap_err();
    assert!(matches!(&wrong, OpenError::Type { direction: "sending", .. }), "{wrong}");
    let wrong =
        Channel::<u32, u64>::connect_with(name, LONG, &Config::new().message_tag("other")).unwrap_err();
    assert!(matches!(&wrong, OpenError::Tag { found, .. } if found == "sums"), "{wrong}");
    let mut client = Channel::<u32, u64>::connect(name, LONG).unwrap();
    assert_eq!(*client.recv().unwrap(), 7);
    client.send(&9).unwrap();
}

#[test]
fn a_filter_says_who_may_connect() {
    let name = named("filter");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let own = std::process::id();
    server.filter(move |peer| peer.pid != own);
    let client = std::thread::spawn({
        let name = name.to_string();
        move || Transport::connect(&name, LONG).unwrap_err()
    });
    while !client.is_finished() {
        let nobody = server.accept_timeout(Duration::from_millis(5)).unwrap_err();
        assert!(matches!(nobody, AcceptError::Timeout), "{nobody}");
    }
    let refused = client.join().unwrap();
    assert!(matches!(refused, OpenError::Refused { .. }), "{refused}");
}

#[test]
fn limits_hold_further_clients_up_until_one_leaves() {
    let name = named("limits");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut limits = Limits::default();
    limits.clients = 2;
    server.limits(limits);
    let connect = || {
        let name = name.to_string();
        std::thread::spawn(move || Transport::connect(&name, LONG).unwrap())
    };
    let (first, second, third) = (connect(), connect(), connect());
    let (one, two) = (server.accept().unwrap(), server.accept().unwrap());
    assert!(matches!(server.accept_timeout(Duration::from_millis(30)), Err(AcceptError::Timeout)));
    assert_eq!(server.clients(), 2);
    drop(one);
    let three = server.accept().unwrap();
    drop((two, three));
    for client in [first, second, third] {
        assert!(matches!(client.join().unwrap().recv(), Err(RecvError::Closed)));
    }
}

/// Clients that connect and say nothing, or nonsense, hold nobody up.
#[test]
fn a_silent_client_and_a_lying_one_hold_nobody_up() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with};
    let name = named("silent");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut limits = Limits::default();
    limits.handshakes = 4;
    limits.handshake_time = Duration::from_millis(50);
    server.limits(limits);
    let socket = directory().join(format!("{}.fs.socket", &*name));
    let raw = || {
        let raw =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&raw, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        raw
    };
    let silent: Vec<_> = (0..10).map(|_| raw()).collect();
    for nonsense in [&b"x"[..], &[0; 152], &[0xff; 4096]] {
        let liar = raw();
        let _ = send(&liar, nonsense, rustix::net::SendFlags::NOSIGNAL);
    }
    let client = std::thread::spawn({
        let name = name.to_string();
        move || Transport::connect(&name, LONG).unwrap()
    });
    let accepted = server.accept().unwrap();
    drop((accepted, client.join().unwrap(), silent));
    assert_eq!(server.clients(), 0);
}

#[test]
fn the_forms_that_do_not_wait_for_ever() {
    let name = named("forms");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
    let began = Instant::now();
    assert!(matches!(server.accept_timeout(Duration::from_millis(10)), Err(AcceptError::Timeout)));
    assert!(began.elapsed() >= Duration::from_millis(10));
    let waited = Transport::connect(&name, Duration::from_millis(10)).unwrap_err();
    assert!(matches!(waited, OpenError::Timeout { missing: Missing::Place, .. }), "{waited}");
    let _ = server.wait_fd().as_fd();
}

#[cfg(feature = "async")]
#[test]
fn tasks_connect() {
    let name = named("connecting");
    let waited = smol::block_on(Transport::connect_async(&name, Duration::from_millis(10), &Config::new()));
    assert!(matches!(waited, Err(OpenError::Timeout { missing: Missing::Server, .. })), "{waited:?}");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let waited = smol::block_on(Transport::connect_async(&name, Duration::from_millis(10), &Config::new()));
    assert!(matches!(waited, Err(OpenError::Timeout { missing: Missing::Place, .. })), "{waited:?}");
    let client = smol::block_on(futures_lite::future::try_zip(
        async {
            Transport::connect_async(&name, LONG, &Config::new()).await.map_err(|error| error.to_string())
        },
        async { server.accept_async().await.map_err(|error| error.to_string()) },
    ));
    let (mut client, mut accepted) = client.unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(&*accepted.recv().unwrap(), b"hello");
}

#[cfg(feature = "tokio")]
#[test]
fn tasks_accept_and_serve() {
    let name = named("tasks");
    let own = std::process::id().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
        let peers: Vec<_> = (0..5).map(|_| spawn("echo", &[&name, "100", &own])).collect();
        let mut tasks = Vec::new();
        for _ in 0..5 {
            let mut client = server.accept_async().await.unwrap();
            tasks.push(tokio::spawn(async move {
                let (to_client, from_client) = client.halves();
                while let Ok(message) = from_client.recv_async().await {
                    to_client.send_async(&message).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        peers.into_iter().for_each(Peer::join);
    });
    assert!(left(&name).is_empty(), "{:?}", left(&name));
}
