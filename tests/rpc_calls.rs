//! Cap'n Proto RPC between two processes: what capnp-rpc's users rely on holds over a channel.
#![cfg(feature = "rpc")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod workshop;

use std::future::Future;
use std::rc::Rc;

use capnproto_shm_transport::capnp::{Error, ErrorKind};
use capnproto_shm_transport::{Config, Transport, rpc};
use common::*;
use schemas::workshop_capnp::workshop::Client;
use workshop::*;

#[test]
fn child() {
    play(&[("serve", serve)]);
}

/// Serves a workshop until the client goes.
fn serve(args: &[String]) {
    let executor = &EXECUTORS[args[1].parse::<usize>().unwrap()];
    let transport = Transport::open(&args[0], LONG).unwrap();
    run(executor, |_| async {
        rpc::serve_on(transport, workshop()).await.unwrap();
        say("served");
    });
}

/// Small rings, so that messages wait and are cut.
fn small() -> Config {
    Config::new().slot_size(256).slot_count(16)
}

/// Runs `work` on each executor, with a client of a workshop in another process.
fn with_workshop<F: Future<Output = ()> + 'static>(config: &Config, work: fn(Client, Spawn) -> F) {
    for (number, executor) in EXECUTORS.iter().enumerate() {
        let name = named("rpc");
        let transport = Transport::create(&name, config).unwrap();
        let mut peer = spawn("serve", &[&name, &number.to_string()]);
        run(executor, move |spawn| async move {
            let (client, system) = rpc::client::<Client>(transport);
            let disconnector = system.get_disconnector();
            spawn(Box::pin(async { system.await.unwrap() }));
            work(client, Rc::clone(&spawn)).await;
            disconnector.await.unwrap();
        });
        peer.wait_for("served");
        peer.join();
        assert!(name.is_free(), "{}: {:?}", executor.0, name.left());
    }
}

async fn depth(of: &Client) -> Result<u32, Error> {
    Ok(of.depth_request().send().promise.await?.get()?.get_depth())
}

#[test]
fn calls_return() {
    with_workshop(&Config::new(), |client, _| async move {
        for len in [0, 1, 8, 100, 1000] {
            assert_eq!(echo(&client, &pattern(len, len)).await.unwrap(), pattern(len, len));
        }
    });
}

#[test]
fn messages_of_any_size_pass_through_any_ring() {
    with_workshop(&small(), |client, _| async move {
        // The ring has 4096 bytes.
        for len in [0, 200, 255, 256, 1000, 4096, 5000, 40_000, 1 << 20] {
            assert_eq!(echo(&client, &pattern(len, len)).await.unwrap(), pattern(len, len), "{len}");
        }
    });
    for (size, count) in [(1, 4), (3, 16), (100, 1), (1 << 16, 2)] {
        let config = Config::new().slot_size(size).slot_count(count);
        with_workshop(&config, |client, _| async move {
            for len in [0, 21] {
                assert_eq!(echo(&client, &pattern(len, len)).await.unwrap(), pattern(len, len), "{len}");
            }
        });
    }
}

#[test]
fn calls_on_a_promise_go_out_before_it_is_kept() {
    with_workshop(&small(), |client, _| async move {
        let mut inner = client.clone();
        for _ in 0..20 {
            inner = inner.inner_request().send().pipeline.get_workshop();
        }
        assert_eq!(depth(&inner).await.unwrap(), 20);
        assert_eq!(depth(&client).await.unwrap(), 0);
        // The promise itself too.
        let answer = inner.inner_request().send().promise.await.unwrap();
        assert_eq!(depth(&answer.get().unwrap().get_workshop().unwrap()).await.unwrap(), 21);
    });
}

#[test]
fn calls_arrive_in_order() {
    with_workshop(&small(), |client, _| async move {
        let calls: Vec<_> = (0..500).map(|_| client.count_request().send().promise).collect();
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().get().unwrap().get_number(), number as u64);
        }
    });
}

#[test]
fn capabilities_go_both_ways() {
    with_workshop(&small(), |client, _| async move {
        let mine = workshop();
        for len in [10, 10_000] {
            let mut request = client.through_request();
            request.get().set_workshop(mine.clone());
            request.get().set_payload(&pattern(3, len));
            let answer = request.send().promise.await.unwrap();
            assert_eq!(answer.get().unwrap().get_payload().unwrap(), pattern(3, len));
        }
        // There and back it is what it was: calls on it do not leave the process any more.
        let mut request = client.keep_request();
        request.get().set_workshop(mine.clone());
        request.send().promise.await.unwrap();
        let back = client.kept_request().send().pipeline.get_workshop();
        for number in 0..3 {
            let answer = back.count_request().send().promise.await.unwrap();
            assert_eq!(answer.get().unwrap().get_number(), number);
        }
        let answer = mine.count_request().send().promise.await.unwrap();
        assert_eq!(answer.get().unwrap().get_number(), 3);
    });
}

#[test]
fn an_exception_comes_back_with_its_kind_and_reason() {
    with_workshop(&Config::new(), |client, _| async move {
        let kinds =
            [ErrorKind::Failed, ErrorKind::Overloaded, ErrorKind::Disconnected, ErrorKind::Unimplemented];
        for (number, kind) in kinds.into_iter().enumerate() {
            let mut request = client.fail_request();
            request.get().set_kind(number as u16);
            request.get().set_reason("as you wished");
            let error = request.send().promise.await.map(drop).unwrap_err();
            assert_eq!(error.kind, kind);
            assert!(error.extra.contains("as you wished"), "{error}");
        }
        // Of a promise it comes to those who called on it.
        let mut request = client.through_request();
        request.get().set_workshop(client.kept_request().send().pipeline.get_workshop());
        let error = request.send().promise.await.map(drop).unwrap_err();
        assert!(error.extra.contains("nothing is kept"), "{error}");
        assert_eq!(echo(&client, b"on we go").await.unwrap(), b"on we go");
    });
}

#[test]
fn a_call_that_is_dropped_is_canceled() {
    with_workshop(&small(), |client, _| async move {
        let canceled = |client: Client| async move {
            let answer = client.canceled_request().send().promise.await.unwrap();
            answer.get().unwrap().get_count()
        };
        let mine = workshop();
        let hang = |_| {
            let mut request = client.hang_request();
            request.get().set_witness(mine.clone());
            request.send()
        };
        let calls: Vec<_> = (0..30).map(hang).collect();
        assert_eq!(canceled(client.clone()).await, 0);
        drop(calls);
        while canceled(client.clone()).await < 30 {}
        assert_eq!(echo(&client, b"on we go").await.unwrap(), b"on we go");
    });
}

#[test]
fn streams_are_held_up_by_flow_control() {
    with_workshop(&small(), |client, _| async move {
        let (count, size) = (200_u64, 3000_usize);
        let payload = pattern(9, size);
        for _ in 0..count {
            let mut request = client.piece_request();
            request.get().set_payload(&payload);
            request.send().await.unwrap();
        }
        let answer = client.pieces_request().send().promise.await.unwrap();
        let answer = answer.get().unwrap();
        assert_eq!((answer.get_count(), answer.get_bytes()), (count, count * size as u64));
        // The same in the other direction.
        let mine = workshop();
        let mut request = client.send_request();
        request.get().set_workshop(mine.clone());
        request.get().set_count(count as u32);
        request.get().set_size(size as u32);
        request.send().promise.await.unwrap();
        let answer = mine.pieces_request().send().promise.await.unwrap();
        let answer = answer.get().unwrap();
        assert_eq!((answer.get_count(), answer.get_bytes()), (count, count * size as u64));
        // A piece that fails ends its stream.
        let send = |payload: &'static [u8]| {
            let mut request = client.piece_request();
            request.get().set_payload(payload);
            request.send()
        };
        let _ = send(b"broken").await;
        let mut error = None;
        while error.is_none() {
            error = send(b"sound").await.err();
        }
        assert!(error.unwrap().extra.contains("this piece is broken"));
    });
}

#[test]
fn ten_thousand_calls_are_in_flight() {
    with_workshop(&small(), |client, _| async move {
        let calls: Vec<_> = (0..10_000)
            .map(|number: u32| {
                let mut request = client.echo_request();
                request.get().set_payload(&number.to_le_bytes());
                request.send().promise
            })
            .collect();
        for (number, call) in (0_u32..).zip(calls) {
            let answer = call.await.unwrap();
            assert_eq!(answer.get().unwrap().get_payload().unwrap(), number.to_le_bytes());
        }
    });
}

#[test]
fn both_sides_flood_each_other() {
    with_workshop(&small(), |client, _| async move {
        let mine = workshop();
        let payload = pattern(1, 20_000);
        let calls: Vec<_> = (0..500)
            .map(|_| {
                let mut request = client.through_request();
                request.get().set_workshop(mine.clone());
                request.get().set_payload(&payload);
                request.send().promise
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap().get().unwrap().get_payload().unwrap(), payload);
        }
    });
}
