//! Servers of RPC that are killed at random moments, in calls and in transfers: every call returns or is disconnected, and
//! the next server is found.
//!
//! `RPC_KILLS` says how many (30 if it does not).
#![cfg(all(feature = "rpc", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod workshop;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use capnproto_shm_transport::capnp::{Error, ErrorKind};
use capnproto_shm_transport::{Config, Transport, rpc};
use common::*;
use futures::FutureExt;
use schemas::workshop_capnp::workshop::Client;
use workshop::*;

#[test]
fn child() {
    play(&[("serve", serve), ("call", call)]);
}

fn config() -> Config {
    Config::new().slot_size(256).slot_count(16)
}

/// Serves until it is killed.
fn serve(args: &[String]) {
    let transport = Transport::create(&args[0], &config()).unwrap();
    say("here");
    run(&EXECUTORS[args[1].parse::<usize>().unwrap()], |_| async {
        let _ = rpc::serve_on(transport, workshop()).await;
    });
}

/// Calls until it is killed.
fn call(args: &[String]) {
    let transport = Transport::open(&args[0], LONG).unwrap();
    run(&EXECUTORS[args[1].parse::<usize>().unwrap()], |spawn| async move {
        let (client, system) = rpc::client::<Client>(transport);
        spawn(Box::pin(system.map(drop)));
        say("here");
        while calls(&client).await.is_ok() {}
    });
}

/// Small calls, large ones, calls back.
async fn calls(client: &Client) -> Result<(), Error> {
    let mine = workshop();
    for len in [0, 100, 20_000] {
        let payload = pattern(len, len);
        let mut through = client.through_request();
        through.get().set_workshop(mine.clone());
        through.get().set_payload(&payload);
        let through = through.send().promise;
        let (one, two) = futures::join!(echo(client, &payload), echo(client, b"small"));
        assert!(one? == payload && two? == b"small");
        assert!(through.await?.get()?.get_payload()? == payload);
    }
    Ok(())
}

fn kills() -> u32 {
    std::env::var("RPC_KILLS").map_or(30, |count| count.parse().unwrap())
}

/// Descriptors and mappings of channels that this process has.
fn held() -> (usize, usize) {
    let links = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().path().read_link().ok());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ours = |text: &str| text.contains("t-rpc-kill");
    (
        links.filter(|link| ours(&link.to_string_lossy())).count(),
        maps.lines().filter(|line| ours(line)).count(),
    )
}

/// Some microseconds that follow from a number, as if by chance.
fn moment(number: u32) -> Duration {
    Duration::from_micros(u64::from(number.wrapping_mul(2_654_435_761) >> 18))
}

#[test]
fn whoever_dies_the_other_side_is_disconnected_and_holds_nothing() {
    let name = named("rpc-kill");
    for number in 0..kills() {
        let executor = &EXECUTORS[number as usize % EXECUTORS.len()];
        let other = (number as usize / 3 % EXECUTORS.len()).to_string();
        let serves = number % 2 == 0;
        let transport = if serves { Some(Transport::create(&name, &config()).unwrap()) } else { None };
        let mut peer = spawn(if serves { "call" } else { "serve" }, &[&name, &other]);
        peer.wait_for("here");
        let transport = transport.unwrap_or_else(|| Transport::open(&name, LONG).unwrap());
        let killer = std::thread::spawn(move || {
            std::thread::sleep(moment(number));
            peer.kill();
        });
        run(executor, move |spawn| async move {
            if serves {
                rpc::serve_on(transport, workshop()).await.unwrap();
                return;
            }
            let (client, system) = rpc::client::<Client>(transport);
            let ended = Rc::new(Cell::new(false));
            let end = Rc::clone(&ended);
            spawn(Box::pin(async move {
                system.await.unwrap();
                end.set(true);
            }));
            let error = loop {
                if let Err(error) = calls(&client).await {
                    break error;
                }
            };
            assert_eq!(error.kind, ErrorKind::Disconnected, "{error}");
            while !ended.get() {
                turn().await;
            }
        });
        killer.join().unwrap();
        // The watcher may hold a half for a moment, while it looks after it.
        eventually("nothing is held after a kill", || held() == (0, 0));
    }
    let _ = Transport::remove(&name);
    assert!(name.is_free(), "{:?}", name.left());
}
