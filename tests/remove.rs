//! Somebody removes the files of a dead one while the next one comes: the next one has the name.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Barrier;
use std::thread;

use capnproto_shm_transport::{Config, RemoveError, Server, Transport};
use common::*;

const ROUNDS: usize = 500;

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4)
}

/// Has two remove what is left while one takes the name.
fn race<T: Send>(remove: impl Fn() -> Result<(), RemoveError> + Sync, take: impl Fn() -> T + Sync) -> T {
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                match remove() {
                    // The first to come has it.
                    Ok(()) | Err(RemoveError::NotFound { .. } | RemoveError::InUse { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            });
        }
        start.wait();
        take()
    })
}

#[test]
fn a_server_that_comes_while_a_dead_one_is_removed_has_the_name() {
    let name = named("bind-removed");
    let lock = directory().join(format!("{}.fs.server", &*name));
    for _ in 0..ROUNDS {
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&lock).unwrap();
        let bind = || Server::<Transport>::bind(&name, &config());
        let mut server = race(|| Server::remove(&name), bind).unwrap();
        // It is the one that clients find.
        thread::scope(|scope| {
            let client = scope.spawn(|| Transport::connect(&name, LONG).unwrap());
            server.accept_timeout(LONG).unwrap();
            client.join().unwrap();
        });
        drop(server);
        assert!(name.left().is_empty(), "{:?}", name.left());
    }
}

#[test]
fn a_side_a_that_comes_while_a_dead_one_is_removed_has_the_name() {
    let (name, original) = (named("create-removed"), named("create-original"));
    let living = Transport::create(&original, &config()).unwrap();
    for _ in 0..ROUNDS {
        // Nobody holds a lock on the copies.
        fs::copy(original.a2b(), name.a2b()).unwrap();
        fs::copy(original.b2a(), name.b2a()).unwrap();
        let mut a = race(|| Transport::remove(&name), || Transport::create(&name, &config())).unwrap();
        let mut b = Transport::open(&name, LONG).unwrap();
        a.send(b"there").unwrap();
        assert_eq!(&*b.recv_timeout(LONG).unwrap(), b"there");
        drop((a, b));
        assert!(name.left().is_empty(), "{:?}", name.left());
    }
    drop(living);
}
