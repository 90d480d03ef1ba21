//! A channel and its halves have the same calls for every kind of message.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod kinds;

use std::time::Duration;

use capnproto_shm_transport::{Channel, Config, Interrupter, RecvError, RemoveError, SendError, Transport};
use common::*;
use kinds::*;

/// Checks one kind, whose messages take slots of so many bytes.
macro_rules! check {
    ($kind:ty, $slot_size:expr) => {{
        type K = $kind;
        let name = named("one-duplex");
        let config = Config::new().slot_size(64).slot_count(4).message_tag("numbers/1");
        assert!(matches!(K::remove(&name), Err(RemoveError::NotFound { .. })));
        let mut a = K::create(&name, &config).unwrap();
        let mut b = K::open(&name, LONG).unwrap();
        assert!(matches!(K::remove_with(&name, &config), Err(RemoveError::InUse { .. })));
        assert_eq!((a.message_tag(), b.message_tag()), ("numbers/1".to_owned(), "numbers/1".to_owned()));
        assert_eq!(a.generation(), b.generation());
        assert_eq!((a.slot_size(), a.slot_count()), ($slot_size, 4));
        a.put(1, LONG).unwrap();
        assert_eq!(Kind::take(&mut b, LONG).unwrap(), 1);

        let (mut to_b, mut from_b) = a.split();
        let (mut to_a, mut from_a) = b.split();
        assert_eq!((to_b.slot_size(), from_a.slot_size()), ($slot_size, $slot_size));
        from_b.wait_for_peer(LONG).unwrap();
        let interrupter: Interrupter = from_b.interrupter();
        interrupter.interrupt();
        assert!(matches!(from_b.recv(), Err(RecvError::Interrupted)));
        to_b.finish(LONG).unwrap();
        assert!(matches!(from_a.recv(), Err(RecvError::Closed)));
        to_b.finish(LONG).unwrap();
        to_a.finish(Duration::ZERO).unwrap();
        assert!(matches!(from_b.recv(), Err(RecvError::Closed)));
        drop((to_a, from_a));
        drop((to_b, from_b));

        // A half leaves as if its process had died.
        let (to_b, from_b) = K::create(&name, &config).unwrap().split();
        let (mut to_a, mut from_a) = K::open(&name, LONG).unwrap().split();
        to_b.abandon();
        assert!(matches!(from_a.recv(), Err(RecvError::PeerDead)));
        from_b.abandon();
        assert!(matches!(to_a.reserve().map(drop), Err(SendError::PeerDead)));
    }};
}

#[test]
fn every_kind_and_its_halves_answer_the_same_questions() {
    check!(Transport, 64);
    check!(Channel<u16>, 2);
    #[cfg(feature = "capnp")]
    check!(Versions, 64);
}
