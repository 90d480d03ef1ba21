//! How an RPC connection ends, and how the next one begins.
#![cfg(feature = "rpc")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod workshop;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

use capnproto_shm_transport::capnp::capability::FromClientHook;
use capnproto_shm_transport::capnp::message::{Builder, ReaderOptions};
use capnproto_shm_transport::capnp::{self, Error, ErrorKind};
use capnproto_shm_transport::capnp_rpc::rpc_twoparty_capnp::Side;
use capnproto_shm_transport::capnp_rpc::{Connection, RpcSystem, VatNetwork};
use capnproto_shm_transport::{AcceptError, Config, RecvError, Server, Transport, rpc};
use common::*;
use futures::FutureExt;
use schemas::workshop_capnp::workshop::Client;
use workshop::*;

#[test]
fn child() {
    play(&[("serve", serve), ("client", client), ("connect", connect), ("short", short)]);
}

/// Serves a workshop on channels of this name, one after the other.
fn serve(args: &[String]) {
    let executor = &EXECUTORS[args[1].parse::<usize>().unwrap()];
    let rounds: u32 = args[2].parse().unwrap();
    for _ in 0..rounds {
        let transport = Transport::create(&args[0], &small()).unwrap();
        say("here");
        run(executor, |_| async { rpc::serve_on(transport, workshop()).await.unwrap() });
        say("served");
    }
}

/// Calls until it is killed.
fn client(args: &[String]) {
    let executor = &EXECUTORS[args[1].parse::<usize>().unwrap()];
    let transport = Transport::open(&args[0], LONG).unwrap();
    run(executor, |spawn| async move {
        let (client, system) = rpc::client::<Client>(transport);
        spawn(Box::pin(system.map(drop)));
        assert_eq!(echo(&client, b"hello").await.unwrap(), b"hello");
        let mut request = client.hang_request();
        request.get().set_witness(workshop());
        let hang = request.send().promise;
        echo(&client, b"hello").await.unwrap();
        say("hangs");
        drop(hang.await);
    });
}

fn small() -> Config {
    Config::new().slot_size(256).slot_count(16)
}

fn for_each_executor(test: impl Fn(usize, &'static Executor)) {
    for (number, executor) in EXECUTORS.iter().enumerate() {
        test(number, executor);
    }
}

#[test]
fn calls_on_a_server_that_dies_are_disconnected_and_the_next_server_is_found() {
    for_each_executor(|number, executor| {
        let name = named("rpc-dies");
        for _ in 0..2 {
            let mut peer = spawn("serve", &[&name, &number.to_string(), "1"]);
            peer.wait_for("here");
            let transport = Transport::open(&name, LONG).unwrap();
            run(executor, |spawn| async move {
                let (client, system) = rpc::client::<Client>(transport);
                let ended = Rc::new(Cell::new(None));
                let end = Rc::clone(&ended);
                spawn(Box::pin(async move { end.set(Some(system.await)) }));
                assert_eq!(echo(&client, b"hello").await.unwrap(), b"hello");
                let mut waiting = client.hang_request();
                waiting.get().set_witness(workshop());
                let waiting = waiting.send().promise;
                let error = client.die_request().send().promise.await.map(drop).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Disconnected, "{error}");
                assert!(error.extra.contains("died"), "{error}");
                // Those that waited, and those that come.
                assert_eq!(waiting.await.map(drop).unwrap_err().kind, ErrorKind::Disconnected);
                assert_eq!(echo(&client, b"hello").await.unwrap_err().kind, ErrorKind::Disconnected);
                while ended.take().map(Result::unwrap).is_none() {
                    turn().await;
                }
                // The channel is free although the client is still there.
                drop(client);
            });
            peer.end();
        }
    });
}

#[test]
fn a_server_learns_that_its_client_died_and_cancels_its_calls() {
    for_each_executor(|number, executor| {
        let name = named("rpc-client");
        let transport = Transport::create(&name, &small()).unwrap();
        let mut peer = spawn("client", &[&name, &number.to_string()]);
        let killer = std::thread::spawn(move || {
            peer.wait_for("hangs");
            peer.kill();
        });
        run(executor, |_| async move {
            let bootstrap = workshop();
            rpc::serve_on(transport, bootstrap.clone()).await.unwrap();
            let canceled = bootstrap.canceled_request().send().promise.await.unwrap();
            assert_eq!(canceled.get().unwrap().get_count(), 1);
        });
        killer.join().unwrap();
        assert!(name.is_free(), "{:?}", name.left());
    });
}

#[test]
fn a_client_reconnects_to_a_server_that_serves_again() {
    for_each_executor(|number, executor| {
        let name = named("rpc-again");
        let mut peer = spawn("serve", &[&name, &number.to_string(), "3"]);
        for _ in 0..3 {
            peer.wait_for("here");
            let transport = Transport::open(&name, LONG).unwrap();
            run(executor, |spawn| async move {
                let (client, system) = rpc::client::<Client>(transport);
                let disconnector = system.get_disconnector();
                spawn(Box::pin(system.map(Result::unwrap)));
                assert_eq!(echo(&client, b"hello").await.unwrap(), b"hello");
                disconnector.await.unwrap();
                // The client outlives its connection; the channel does not.
                let error = echo(&client, b"hello").await.unwrap_err();
                assert_eq!(error.kind, ErrorKind::Disconnected, "{error}");
            });
            peer.wait_for("served");
        }
        peer.join();
    });
}

/// Both sides in this process.
fn pair(config: &Config) -> (Transport, Transport) {
    let name = named("rpc-pair");
    let a = Transport::create(&name, config).unwrap();
    let b = Transport::open(&name, LONG).unwrap();
    (a, b)
}

fn network(transport: Transport, side: Side, options: ReaderOptions) -> Box<dyn Connection<Side>> {
    let mut network = rpc::VatNetwork::new(transport, side, options);
    let connection = network.accept().now_or_never().unwrap().unwrap();
    // `RpcSystem` would drive its driver; here nobody does.
    connection
}

/// The next message that comes in, in words.
fn received(connection: &mut dyn Connection<Side>) -> Result<Option<u64>, Error> {
    let message = futures::executor::block_on(connection.receive_incoming_message())?;
    message.map(|message| message.get_body()?.target_size().map(|size| size.word_count)).transpose()
}

/// The frame of a message that holds so many bytes.
fn frame(bytes: usize) -> Vec<u8> {
    let mut message = Builder::new_default();
    message.set_root::<capnp::data::Owned>(&pattern(1, bytes)[..]).unwrap();
    capnp::serialize::write_message_to_words(&message)
}

#[test]
fn a_peer_that_sends_what_is_no_message_is_refused() {
    let cut = |parts: &[&[u8]]| {
        let (mut a, b) = pair(&Config::new().slot_size(64).slot_count(64));
        let mut b = network(b, Side::Server, ReaderOptions::new());
        for part in parts {
            a.send(part).unwrap();
        }
        drop(a);
        received(&mut *b)
    };
    let frame = frame(40);
    assert_eq!(cut(&[&frame]).unwrap(), Some(5));
    assert_eq!(cut(&[&frame[..1], &frame[1..7], &frame[7..50], &frame[50..]]).unwrap(), Some(5));
    assert_eq!(cut(&[]).unwrap(), None);
    // A message of no words comes in; it has no root.
    for parts in [&[&[0; 8][..]][..], &[&[0; 3], &[0; 5]]] {
        assert_eq!(cut(parts).unwrap_err().kind, ErrorKind::MessageContainsOutOfBoundsPointer);
    }

    let gone = cut(&[&frame[..50]]).unwrap_err();
    assert_eq!(gone.kind, ErrorKind::Disconnected);
    assert!(gone.extra.contains("in the middle of a message: 50 bytes came"), "{gone}");
    for (parts, reason) in [
        (&[&[][..]][..], "a part has no bytes"),
        (&[&frame[..8], &[]], "a part has no bytes"),
        (&[&[0; 12]], "4 bytes follow a message of 8"),
        (&[&[255; 8]], "Too many or too few segments 0"),
        (&[&[0, 2, 0, 0]], "Too many or too few segments 513"),
        (&[&[0, 0, 0, 0, 255, 255, 255, 255]], "a message of 4294967296 words is too large"),
    ] {
        let error = cut(parts).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}: not {reason}");
    }
}

#[test]
fn a_message_beyond_the_reader_options_is_refused_before_it_comes() {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(Some(1000));
    let (mut a, b) = pair(&Config::new());
    let mut b = network(b, Side::Server, options);
    a.send(&frame(8000)[..1000]).unwrap();
    assert!(b.receive_incoming_message().now_or_never().is_none());
    let (mut a, b) = pair(&Config::new());
    let mut b = network(b, Side::Server, options);
    a.send(&frame(80_000)[..1000]).unwrap();
    let error = received(&mut *b).unwrap_err();
    assert!(error.extra.contains("the 1000 words that the reader options of this side allow"), "{error}");
}

/// A message that holds so many bytes, sent.
fn send(connection: &mut dyn Connection<Side>, bytes: usize) -> capnp::capability::Promise<(), Error> {
    let mut message = connection.new_outgoing_message(1024);
    message.get_body().unwrap().set_as::<capnp::data::Owned>(&pattern(1, bytes)[..]).unwrap();
    message.send().0
}

#[test]
fn shutting_down_sends_what_waits_and_then_closes() {
    let (a, mut b) = pair(&small());
    let mut network = rpc::VatNetwork::new(a, Side::Client, ReaderOptions::new());
    let mut driver = network.drive_until_shutdown();
    let mut a = network.accept().now_or_never().unwrap().unwrap();
    // The first is in the ring at once, the others wait.
    assert!(send(&mut *a, 100).now_or_never().is_some());
    let mut waiting: Vec<_> = (0..5).map(|_| send(&mut *a, 3000)).collect();
    let mut shut_down = a.shutdown(Ok(()));
    let mut bytes = 0;
    loop {
        // Nobody sends but the driver.
        assert!((&mut driver).now_or_never().is_none());
        let done = (&mut shut_down).now_or_never();
        match b.try_recv() {
            Ok(part) => bytes += part.len(),
            Err(RecvError::Empty) => {}
            Err(RecvError::Closed) => break done.unwrap().unwrap(),
            Err(error) => panic!("{error}"),
        }
        if let Some(done) = done {
            done.unwrap();
            shut_down = capnp::capability::Promise::ok(());
        }
    }
    assert_eq!(bytes, frame(100).len() + 5 * frame(3000).len());
    assert!(waiting.iter_mut().all(|sent| sent.now_or_never().unwrap().is_ok()));
    // Nothing goes out any more, and when the connection is dropped, its driver has done its work.
    assert_eq!(send(&mut *a, 1).now_or_never().unwrap().unwrap_err().kind, ErrorKind::Disconnected);
    assert!((&mut driver).now_or_never().is_none());
    drop(a);
    driver.now_or_never().unwrap().unwrap();
}

#[test]
fn shutting_down_ends_although_the_peer_is_gone_before_everything_is_sent() {
    let (a, b) = pair(&small());
    let mut network = rpc::VatNetwork::new(a, Side::Client, ReaderOptions::new());
    let mut driver = network.drive_until_shutdown();
    let mut a = network.accept().now_or_never().unwrap().unwrap();
    let waits = send(&mut *a, 10_000);
    let shut_down = a.shutdown(Ok(()));
    drop(b);
    assert!((&mut driver).now_or_never().is_none());
    assert_eq!(waits.now_or_never().unwrap().unwrap_err().kind, ErrorKind::Disconnected);
    assert_eq!(shut_down.now_or_never().unwrap().unwrap_err().kind, ErrorKind::Disconnected);
    drop(a);
    assert_eq!(driver.now_or_never().unwrap().unwrap_err().kind, ErrorKind::Disconnected);
}

#[test]
fn a_server_whose_answers_are_not_taken_takes_no_more_calls() {
    let (a, mut b) = pair(&small());
    let mut network = rpc::VatNetwork::new(a, Side::Server, ReaderOptions::new());
    let mut driver = network.drive_until_shutdown();
    let mut a = network.accept().now_or_never().unwrap().unwrap();
    b.send(&frame(8)).unwrap();
    b.send(&frame(8)).unwrap();
    assert!(a.receive_incoming_message().now_or_never().is_some());
    // More than 4 MiB.
    let answers: Vec<_> = (0..5).map(|_| send(&mut *a, 1 << 20)).collect();
    let mut call = a.receive_incoming_message();
    assert!((&mut call).now_or_never().is_none());
    while (&mut call).now_or_never().is_none() {
        assert!((&mut driver).now_or_never().is_none());
        b.drain(16, |_| ()).unwrap();
    }
    drop(answers);
}

#[test]
fn a_dropped_system_closes_the_channel() {
    let (a, mut b) = pair(&small());
    let (client, system) = rpc::client::<Client>(a);
    drop(system);
    // The bootstrap went out.
    drop(b.recv().unwrap());
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    // Although somebody still has a client.
    drop(client);
}

#[test]
fn a_connection_that_has_ended_stays_so() {
    let (a, b) = pair(&small());
    drop(b);
    let network = rpc::VatNetwork::new(a, Side::Client, ReaderOptions::new());
    let mut system = RpcSystem::new(Box::new(network), None);
    let first: Client = system.bootstrap(Side::Server);
    let error = futures::executor::block_on(async {
        let (called, ended) = futures::join!(echo(&first, b"hello"), &mut system);
        ended.unwrap();
        called.unwrap_err()
    });
    assert_eq!(error.kind, ErrorKind::Disconnected, "{error}");
    // Another connection is not to be had from it, which is no reason to panic.
    drop(system.bootstrap::<Client>(Side::Server));
    // One's own side has one's own bootstrap capability.
    let (a, _b) = pair(&small());
    let network = rpc::VatNetwork::new(a, Side::Client, ReaderOptions::new());
    let bootstrap = capnp::capability::Client::new(workshop().into_client_hook());
    let own: Client = RpcSystem::new(Box::new(network), Some(bootstrap)).bootstrap(Side::Client);
    assert_eq!(futures::executor::block_on(echo(&own, b"hello")).unwrap(), b"hello");
}

#[test]
fn a_server_serves_many_clients_and_outlives_each() {
    for_each_executor(|number, executor| {
        let name = unique("rpc-server");
        let server = Server::<Transport>::bind(&name, &small()).unwrap();
        let mut peers: Vec<_> = (0..4).map(|_| spawn("connect", &[&name, &number.to_string()])).collect();
        let mut doomed = spawn("connect", &[&name, &number.to_string()]);
        let killer = std::thread::spawn(move || {
            doomed.wait_for("called");
            doomed.kill();
            peers.iter_mut().for_each(|peer| {
                peer.wait_for("called");
                peer.go();
            });
            peers.into_iter().for_each(Peer::join);
        });
        run(executor, |_| async move {
            let mut serving = Box::pin(rpc::serve(server, workshop()));
            std::future::poll_fn(|cx| {
                assert!(serving.as_mut().poll(cx).is_pending());
                if killer.is_finished() {
                    return std::task::Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
            killer.join().unwrap();
        });
    });
}

/// A client of a server: calls, waits, calls again.
fn connect(args: &[String]) {
    let name = args[0].clone();
    run(&EXECUTORS[args[1].parse::<usize>().unwrap()], |spawn| async move {
        let (client, system) = rpc::connect::<Client>(&name, LONG).await.unwrap();
        let disconnector = system.get_disconnector();
        spawn(Box::pin(system.map(Result::unwrap)));
        assert_eq!(echo(&client, &pattern(1, 10_000)).await.unwrap(), pattern(1, 10_000));
        say("called");
        hold();
        assert_eq!(echo(&client, b"again").await.unwrap(), b"again");
        disconnector.await.unwrap();
    });
}

/// Serves without descriptors, until it is told that a client could not be accepted; then with some.
fn short(args: &[String]) {
    let server = Server::<Transport>::bind(&args[0], &small()).unwrap();
    run(&EXECUTORS[args[1].parse::<usize>().unwrap()], |_| async move {
        let (mut taken, mut refused) = (Vec::new(), 0);
        let mut accept = Box::pin(rpc::serve_with(
            server,
            |_| workshop(),
            |error| {
                assert!(matches!(error, AcceptError::Io { .. } | AcceptError::Create(_)), "{error}");
                refused += 1;
                // It has rested without descriptors too.
                if refused == 2 {
                    FULL.with_borrow_mut(Vec::clear);
                    say("refused");
                }
            },
        ));
        // It waits for a client by now, and has what it needs for that.
        assert!(futures::poll!(&mut accept).is_pending());
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        FULL.set(taken);
        say("full");
        accept.await;
    });
}

std::thread_local! {
    /// Files that leave no descriptor free.
    static FULL: std::cell::RefCell<Vec<std::fs::File>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[test]
fn a_server_that_cannot_accept_says_so_rests_and_goes_on() {
    for (number, executor) in EXECUTORS.iter().enumerate() {
        let name = named("rpc-short");
        let mut peer = spawn("short", &[&name, &number.to_string()]);
        peer.wait_for("full");
        let own = name.to_string();
        run(executor, move |spawn| async move {
            let (client, system) = rpc::connect::<Client>(&own, LONG).await.unwrap();
            spawn(Box::pin(system.map(drop)));
            assert_eq!(echo(&client, b"in the end").await.unwrap(), b"in the end");
        });
        peer.wait_for("refused");
        peer.kill();
        drop(Server::<Transport>::bind(&name, &small()).unwrap());
    }
}
