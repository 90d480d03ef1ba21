//! A server's name, its clients' lives and what is left of them: races, forks, freezes, futures that are dropped.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(unsafe_code, reason = "fork is unsafe; the call says why it is sound here")]

mod common;
mod handshake;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{
    AcceptError, Config, CreateError, Limits, Missing, OpenError, RecvError, RemoveError, Server, Transport,
    WaitSet,
};
use common::*;
use handshake::{Raw, hello};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn child() {
    play(&[
        ("binds", binds),
        ("frozen_server", frozen_server),
        ("client", client),
        ("forks", forks),
        ("serves_as_child", serves_as_child),
        ("forks_as_one_joins", forks_as_one_joins),
    ]);
}

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4)
}

fn stop(peer: &Peer) {
    kill_process(Pid::from_raw(peer.id() as i32).unwrap(), Signal::STOP).unwrap();
}

/// Binds and gives up as often as it can, and says how often it held the name.
fn binds(args: &[String]) {
    let mut held = 0;
    say("begun");
    while held < 200 {
        match Server::<Transport>::bind(&args[0], &config()) {
            Ok(mut server) => {
                held += 1;
                // A client that has connected is served.
                let _ = server.accept_timeout(Duration::from_micros(100));
            }
            Err(CreateError::InUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn servers_that_bind_at_the_same_time_never_hold_one_name_together() {
    let name = named("race");
    let peers = [spawn("binds", &[&name]), spawn("binds", &[&name])];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // A process that connects meanwhile is a client of one of them, or of none yet.
        let clients = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                match Transport::connect(&name, Duration::from_millis(1)) {
                    Ok(mut client) => {
                        let end = client.recv().map(|_| ()).unwrap_err();
                        assert!(matches!(end, RecvError::Closed | RecvError::PeerDead), "{end}");
                    }
                    Err(OpenError::Timeout { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        peers.into_iter().for_each(Peer::join);
        stop.store(true, Ordering::Relaxed);
        clients.join().unwrap();
    });
    assert_eq!(name.left().len(), 0);
}

#[test]
fn binds_that_are_killed_leave_nothing_that_the_next_does_not_reclaim() {
    let name = named("killed-binds");
    for round in 0..40 {
        let mut peer = spawn("binds", &[&name]);
        peer.wait_for("begun");
        thread::sleep(Duration::from_micros(37 * round));
        peer.kill();
    }
    drop(Server::<Transport>::bind(&name, &config()).unwrap());
    assert!(name.left().is_empty(), "{:?}", name.left());
}

#[test]
fn binds_that_are_killed_leave_nothing_that_a_remove_does_not_take_away() {
    let name = named("killed-removed");
    for round in 0..40 {
        let mut peer = spawn("binds", &[&name]);
        peer.wait_for("begun");
        thread::sleep(Duration::from_micros(37 * round));
        peer.kill();
        match Server::remove(&name) {
            // It was killed between two binds.
            Ok(()) | Err(RemoveError::NotFound { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(name.left().is_empty(), "{:?}", name.left());
    }
}

#[test]
fn what_is_not_of_this_user_is_not_removed_with_a_server() {
    let name = named("kept");
    let lock = directory().join(format!("{}.fs.server", &*name));
    std::os::unix::fs::symlink("/dev/null", &lock).unwrap();
    let refused = Server::remove(&name).unwrap_err();
    assert!(matches!(refused, RemoveError::Segment { .. }), "{refused}");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let refused = Server::remove(&name).unwrap_err();
    assert!(matches!(refused, RemoveError::Segment { .. } | RemoveError::Io { .. }), "{refused}");
    assert!(lock.is_dir());
}

#[test]
fn what_a_dead_server_shared_with_a_group_is_reclaimed_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let name = named("narrower");
    let lock = directory().join(format!("{}.fs.server", &*name));
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    let server = Server::<Transport>::bind(&name, &config()).unwrap();
    assert_eq!(lock.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    drop(server);
    assert!(name.left().is_empty());
}

/// An event loop that waits for the server's descriptor alone is woken for a client that takes too long, too.
#[test]
fn a_silent_client_is_forgotten_by_whoever_waits_for_the_descriptor() {
    let name = named("descriptor");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut limits = Limits::default();
    (limits.handshakes, limits.handshake_time) = (1, Duration::from_millis(60));
    server.limits(limits);
    let mut set = WaitSet::new().unwrap();
    set.insert_fd(7, server.wait_fd()).unwrap();
    assert_eq!(set.insert_fd(7, server.wait_fd()).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    let mut silent = spawn("client", &[&name, "silent"]);
    silent.wait_for("silent");
    let peer = spawn("client", &[&name, "echo"]);
    let mut channel = loop {
        assert_eq!(set.wait(Some(LONG)).unwrap(), [7]);
        match server.try_accept() {
            Ok(channel) => break channel,
            Err(AcceptError::Empty) => {}
            Err(error) => panic!("{error}"),
        }
    };
    channel.send(b"back").unwrap();
    assert_eq!(&*channel.recv().unwrap(), b"back");
    drop(channel);
    peer.join();
    drop(silent);
    assert_eq!((set.len(), set.is_empty()), (1, false));
    set.remove(7);
    assert!(set.is_empty());
}

/// The descriptor is readable as long as there is something to do, also where each wait is followed by one call.
#[test]
fn clients_that_join_together_are_all_told() {
    let name = named("together");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let name = name.to_string();
            thread::spawn(move || Transport::connect(&name, LONG).unwrap())
        })
        .collect();
    let mut set = WaitSet::new().unwrap();
    set.insert_fd(0, server.wait_fd()).unwrap();
    let mut channels = Vec::new();
    while channels.len() < clients.len() {
        assert_eq!(set.wait(Some(LONG)).unwrap(), [0]);
        channels.extend(server.try_accept().ok());
    }
    drop(channels);
    for client in clients {
        drop(client.join().unwrap());
    }
    assert!(set.wait(Some(Duration::from_millis(5))).unwrap().is_empty(), "nothing is left to do");
}

#[test]
fn limits_of_nothing_let_nobody_in_and_cost_nothing() {
    let name = named("nothing");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut limits = Limits::default();
    limits.clients = 0;
    server.limits(limits);
    let client = |wait| {
        let name = name.to_string();
        thread::spawn(move || Transport::connect(&name, wait).map(drop))
    };
    let refused = client(Duration::from_millis(30));
    while !refused.is_finished() {
        assert!(matches!(server.accept_timeout(Duration::from_millis(5)), Err(AcceptError::Timeout)));
    }
    assert!(matches!(refused.join().unwrap(), Err(OpenError::Timeout { missing: Missing::Place, .. })));
    // One handshake at a time is the least, or nobody could ever come.
    (limits.clients, limits.handshakes) = (10, 0);
    server.limits(limits);
    let clients = [client(LONG), client(LONG), client(LONG)];
    let channels = [server.accept().unwrap(), server.accept().unwrap(), server.accept().unwrap()];
    for client in clients {
        client.join().unwrap().unwrap();
    }
    drop(channels);
    // Memory for one and not for two.
    (limits.memory, limits.handshakes) = (40_000, 64);
    server.limits(limits);
    let (one, two) = (client(LONG), client(LONG));
    let first = server.accept().unwrap();
    assert!(matches!(server.accept_timeout(Duration::from_millis(20)), Err(AcceptError::Timeout)));
    drop(first);
    drop(server.accept().unwrap());
    one.join().unwrap().unwrap();
    two.join().unwrap().unwrap();
}

fn client(args: &[String]) {
    if args[1] == "silent" {
        let _socket = Raw::connect(&args[0]);
        say("silent");
        hold();
        return;
    }
    if args[1] == "frozen" {
        let socket = Raw::connect(&args[0]);
        socket.send(&hello(), &[]);
        let _handed = socket.receive();
        say("handed");
        hold();
        return;
    }
    let mut answered = false;
    while !answered {
        // One that joins too late finds its channel closed, and may try again.
        let mut channel = Transport::connect(&args[0], LONG).unwrap();
        loop {
            let message = match channel.recv() {
                Ok(message) => message.to_vec(),
                Err(RecvError::Closed) => break,
                Err(error) => panic!("{error}"),
            };
            channel.send(&message).unwrap();
            answered = true;
        }
    }
}

#[test]
fn a_client_that_freezes_holds_nobody_up() {
    let name = named("frozen-client");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut limits = Limits::default();
    limits.handshake_time = Duration::from_millis(50);
    server.limits(limits);
    // One in mid-handshake, and one with a channel.
    let mut early = spawn("client", &[&name, "frozen"]);
    let handed = thread::spawn(move || {
        early.wait_for("handed");
        stop(&early);
        early
    });
    while !handed.is_finished() {
        assert!(matches!(server.accept_timeout(Duration::from_millis(1)), Err(AcceptError::Timeout)));
    }
    let early = handed.join().unwrap();
    let late = spawn("client", &[&name, "echo"]);
    let mut frozen = server.accept().unwrap();
    stop(&late);
    while frozen.try_send(b"fill").is_ok() {}

    let honest = spawn("client", &[&name, "echo"]);
    let mut channel = server.accept().unwrap();
    channel.send(b"on").unwrap();
    assert_eq!(&*channel.recv().unwrap(), b"on");
    drop(channel);
    honest.join();
    eventually("the one in mid-handshake is dropped", || {
        assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
        server.clients() == 1
    });
    drop((early, late, frozen));
    assert_eq!(server.clients(), 0);
}

fn frozen_server(args: &[String]) {
    let mut server = Server::<Transport>::bind(&args[0], &config()).unwrap();
    say("bound");
    let _channel = server.accept().unwrap();
    say("accepted");
    hold();
}

#[test]
fn a_server_that_freezes_is_waited_for_as_long_as_was_asked() {
    let name = named("frozen-server");
    let mut server = spawn("frozen_server", &[&name]);
    server.wait_for("bound");
    let mut first = Transport::connect(&name, LONG).unwrap();
    server.wait_for("accepted");
    stop(&server);
    let waited = Transport::connect(&name, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(waited, OpenError::Timeout { missing: Missing::Place, .. }), "{waited}");
    assert!(matches!(Server::<Transport>::bind(&name, &config()), Err(CreateError::InUse { .. })));
    assert!(matches!(first.recv_timeout(Duration::from_millis(20)), Err(RecvError::Timeout)));
    server.kill();
    assert!(matches!(first.recv(), Err(RecvError::PeerDead)));
    drop(Server::<Transport>::bind(&name, &config()).unwrap());
    assert!(name.left().is_empty());
}

/// Binds, has a first client, forks a child that drops the server as if it were its own, and serves.
fn forks(args: &[String]) {
    let mut server = Server::<Transport>::bind(&args[0], &config()).unwrap();
    server.accept().map(std::mem::forget).unwrap();
    // SAFETY: this process has no other thread that could hold a lock but the test harness's, which waits; the child
    // closes descriptors and ends.
    match unsafe { libc::fork() } {
        0 => {
            drop(server);
            // SAFETY: ends the process, without the destructors and exit handlers that are its parent's.
            unsafe { libc::_exit(0) }
        }
        id => {
            let pid = Pid::from_raw(id).expect("the fork failed");
            let (_, status) =
                rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0));
        }
    }
    say("forked");
    let mut channel = server.accept().unwrap();
    channel.send(b"here still").unwrap();
    hold();
}

/// Binds, and forks a child that serves, as a program does that becomes a daemon.
fn serves_as_child(args: &[String]) {
    let mut server = Server::<Transport>::bind(&args[0], &config()).unwrap();
    // SAFETY: as above; the child's only thread serves, and ends.
    match unsafe { libc::fork() } {
        0 => {
            let served = server.accept().is_ok_and(|mut channel| {
                channel.send(b"from the child").is_ok() && matches!(channel.recv(), Err(RecvError::Closed))
            });
            let served = served && server.clients() == 0;
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(!served)) }
        }
        id => {
            let pid = Pid::from_raw(id).expect("the fork failed");
            let (_, status) =
                rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0));
        }
    }
}

#[test]
fn a_forked_child_serves_for_its_parent() {
    let name = named("fork-serves");
    let server = spawn("serves_as_child", &[&name]);
    let mut client = Transport::connect(&name, LONG).unwrap();
    assert_eq!(&*client.recv().unwrap(), b"from the child");
    drop(client);
    server.join();
    assert!(name.left().is_empty());
}

#[test]
fn a_forked_child_takes_nothing_from_its_parents_server() {
    let name = named("fork");
    let mut server = spawn("forks", &[&name]);
    let _first = Transport::connect(&name, LONG).unwrap();
    server.wait_for("forked");
    assert!(matches!(Server::<Transport>::bind(&name, &config()), Err(CreateError::InUse { .. })));
    let mut client = Transport::connect(&name, LONG).unwrap();
    assert_eq!(&*client.recv().unwrap(), b"here still");
    server.go();
    server.join();
    assert!(name.left().is_empty());
}

#[cfg(feature = "async")]
mod futures {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn an_accept_that_is_dropped_at_any_poll_loses_no_client() {
        let name = named("dropped-accept");
        let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let name = name.to_string();
                thread::spawn(move || {
                    Transport::connect(&name, LONG).unwrap().recv().map(|_| ()).unwrap_err()
                })
            })
            .collect();
        let mut cx = Context::from_waker(Waker::noop());
        let mut accepted = Vec::new();
        while accepted.len() < clients.len() {
            if let Poll::Ready(channel) = pin!(server.accept_async()).poll(&mut cx) {
                accepted.push(channel.unwrap());
            }
        }
        drop(accepted);
        for client in clients {
            assert!(matches!(client.join().unwrap(), RecvError::Closed));
        }
        assert_eq!(server.clients(), 0);
    }

    #[test]
    fn a_connect_that_is_dropped_at_any_poll_leaves_nothing() {
        let name = named("dropped-connect");
        let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let config = Config::new();
        // The server does nothing, or one step, between two polls; so the client is dropped at each of its own.
        let mut ended = false;
        for polls in 1.. {
            let mut connecting = Box::pin(Transport::connect_async(&name, LONG, &config));
            let mut joined = None;
            for _ in 0..polls {
                if let Poll::Ready(channel) = connecting.as_mut().poll(&mut cx) {
                    joined = Some(channel.unwrap());
                    break;
                }
                assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
            }
            drop(connecting);
            if let Some(mut joined) = joined {
                let mut channel = server.accept().unwrap();
                channel.send(b"joined").unwrap();
                assert_eq!(&*joined.recv().unwrap(), b"joined");
                ended = true;
                break;
            }
            eventually("what it took is given back", || {
                assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
                server.clients() == 0
            });
        }
        assert!(ended);
        assert_eq!(server.clients(), 0);
    }
}

/// Binds, and forks a child that keeps all it has, while a client joins.
fn forks_as_one_joins(args: &[String]) {
    let mut server = Server::<Transport>::bind(&args[0], &config()).unwrap();
    let mut set = WaitSet::new().unwrap();
    set.insert_fd(0, server.wait_fd()).unwrap();
    say("bound");
    hold();
    // It has connected: it is taken, and has nothing to say.
    assert_eq!(set.wait(Some(LONG)).unwrap(), [0]);
    assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
    // SAFETY: as above; the child only waits for its end.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        },
        id => {
            let pid = Pid::from_raw(id).expect("the fork failed");
            say("forked");
            hold();
            assert_eq!(set.wait(Some(LONG)).unwrap(), [0]);
            assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
            let rest = set.wait(Some(Duration::from_millis(5))).unwrap().to_vec();
            kill_process(pid, Signal::KILL).unwrap();
            assert!(rest.is_empty(), "whoever is gone is told once");
        }
    }
}

#[test]
fn a_client_that_went_is_forgotten_though_a_forked_child_has_its_socket() {
    let name = named("fork-joins");
    let mut server = spawn("forks_as_one_joins", &[&name]);
    server.wait_for("bound");
    let mut client = spawn("client", &[&name, "silent"]);
    client.wait_for("silent");
    server.go();
    server.wait_for("forked");
    client.kill();
    server.go();
    server.join();
}
