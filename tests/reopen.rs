//! Side B, generation after generation, while what it had of the last one still lives.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod kinds;

use std::time::Duration;

use capnproto_shm_transport::{Config, Missing, OpenError, PollMode, RecvError};
use common::*;
use kinds::*;

#[test]
fn child() {
    play(&[("generations", |args| {
        let rounds = args[2].parse().unwrap();
        of_kind!(&*args[1], generations(&args[0], rounds));
    })]);
}

fn config() -> Config {
    Config::new().slot_size(32).slot_count(4)
}

/// Side A of one generation after the other: each sends its number and goes.
fn generations<K: Kind>(name: &str, rounds: u16) {
    for round in 0..rounds {
        let mut a = K::create(name, &config()).unwrap();
        a.wait_for_peer(LONG).unwrap();
        a.put(round, LONG).unwrap();
    }
}

fn joins_every_generation<K: Kind>() {
    const ROUNDS: u16 = 300;
    let name = named("generations");
    let peer = spawn("generations", &[&name, K::NAME, &ROUNDS.to_string()]);
    let mut b = K::open_with(&name, LONG, &Config::new()).unwrap();
    for round in 0..ROUNDS {
        if round > 0 {
            // The last generation may be half gone, gone, or the next one half made or there.
            b.reopen(LONG).unwrap_or_else(|error| panic!("{}, round {round}: {error}", K::NAME));
        }
        assert_eq!(b.take(LONG).unwrap(), round, "{}", K::NAME);
        let end = b.take(LONG).unwrap_err();
        assert!(matches!(end, RecvError::Closed), "{}, round {round}: {end}", K::NAME);
    }
    peer.join();
    drop(b);
    assert_eq!(name.left().len(), 0);
}

#[test]
fn a_side_b_that_reopens_after_each_end_misses_no_generation() {
    each_kind!(joins_every_generation());
}

fn waits_for_the_next<K: Kind>() {
    let name = named("not-in-use");
    let a = K::create(&name, &config()).unwrap();
    let mut b = K::open_with(&name, LONG, &Config::new()).unwrap();
    // The generation lives, and this very side B is in it.
    let left = b.reopen(Duration::from_millis(5)).unwrap_err();
    assert!(matches!(left, OpenError::Timeout { missing: Missing::FreshGeneration, .. }), "{left}");
    drop(a);
    assert!(matches!(b.take(LONG), Err(RecvError::Closed)));
    let none = b.reopen(Duration::ZERO).unwrap_err();
    assert!(matches!(none, OpenError::Timeout { missing: Missing::Channel, .. }), "{none}");
    // It waits for one that comes later, from another thread.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            b.reopen(LONG).unwrap();
            b.take(LONG).unwrap()
        });
        let mut a = K::create(&name, &config()).unwrap();
        a.put(7, LONG).unwrap();
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn reopen_waits_for_the_next_generation_and_is_never_in_its_own_way() {
    each_kind!(waits_for_the_next());
}

fn keeps_its_mode<K: Kind>() {
    let name = named("mode-stays");
    let chosen = PollMode::Interval(Duration::from_micros(300));
    let a = K::create(&name, &config()).unwrap();
    let mut b = K::open_with(&name, LONG, &Config::new().poll(PollMode::Park)).unwrap();
    b.poll_control().set_local(chosen);
    drop(a);
    let a = K::create(&name, &config()).unwrap();
    b.reopen(LONG).unwrap();
    assert_eq!((b.poll_control().local(), a.poll_control().remote()), (chosen, chosen), "{}", K::NAME);
    // Also what the other side asked of it.
    a.poll_control().set_remote(PollMode::Spin);
    drop(a);
    let a = K::create(&name, &config()).unwrap();
    b.reopen(LONG).unwrap();
    assert_eq!((b.poll_control().local(), a.poll_control().remote()), (PollMode::Spin, PollMode::Spin));
}

#[test]
fn how_side_b_waits_survives_a_reopen() {
    each_kind!(keeps_its_mode());
}
