//! Channels without a name: sealed memory handed to a child.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "a descriptor is inherited by its number")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use capnproto_shm_transport::{
    Channel, Config, OpenError, RecvError, SegmentError, SendError, Stats, Transport,
};
use common::{LONG, hold, play, say, spawn};
use rustix::io::{FdFlags, fcntl_setfd};

#[test]
fn child() {
    play(&[
        ("echo", |args| echo(args)),
        ("hang", |args| hang(args)),
        ("sum", |args| sum(args)),
        #[cfg(feature = "capnp")]
        ("versions", |args| capnp::versions(args)),
    ]);
}

/// The descriptors that the parent let us inherit.
fn handed_over(args: &[String]) -> [OwnedFd; 2] {
    [&args[0], &args[1]].map(|text| {
        // SAFETY: the parent passed the numbers of two descriptors that it made inheritable for us alone.
        unsafe { OwnedFd::from_raw_fd(text.parse().unwrap()) }
    })
}

/// The transport whose descriptors the parent let us inherit.
fn inherited(args: &[String]) -> Transport {
    Transport::from_fds(handed_over(args), &Config::new()).unwrap()
}

fn echo(args: &[String]) {
    let mut b = inherited(args);
    let (tx, rx) = b.halves();
    loop {
        match rx.recv() {
            Ok(message) => tx.send(&message).unwrap(),
            Err(RecvError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn hang(args: &[String]) {
    let mut b = inherited(args);
    b.send(b"last words").unwrap();
    say("sent");
    hold();
}

/// Side A, and a child that plays `role` as side B.
fn with_child(role: &str) -> (Transport, common::Peer) {
    let (a, fds) = Transport::pair(&Config::new()).unwrap();
    (a, child_with(role, fds))
}

/// A child that plays `role` and inherits these.
fn child_with(role: &str, fds: [OwnedFd; 2]) -> common::Peer {
    for fd in &fds {
        fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    let numbers = fds.each_ref().map(|fd| fd.as_raw_fd().to_string());
    spawn(role, &[&numbers[0], &numbers[1]])
}

#[test]
fn a_child_inherits_its_end() {
    let (mut a, peer) = with_child("echo");
    for i in 0..5000u32 {
        a.send(&i.to_le_bytes()).unwrap();
        assert_eq!(*a.recv().unwrap(), i.to_le_bytes());
    }
    drop(a);
    peer.join();
}

#[test]
fn the_death_of_the_child_is_seen_although_we_hold_its_descriptors() {
    let (a, fds) = Transport::pair(&Config::new()).unwrap();
    for fd in &fds {
        fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    let numbers = fds.each_ref().map(|fd| fd.as_raw_fd().to_string());
    let mut peer = spawn("hang", &[&numbers[0], &numbers[1]]);
    peer.wait_for("sent");
    peer.kill();
    let mut a = a;
    assert_eq!(&*a.recv().unwrap(), b"last words");
    assert!(matches!(a.recv_timeout(LONG), Err(RecvError::PeerDead)));
    drop(fds);
}

#[test]
fn nobody_can_shorten_it() {
    let (mut a, fds) = Transport::pair(&Config::new()).unwrap();
    for fd in &fds {
        let file = File::from(fd.try_clone().unwrap());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 30).is_err());
    }
    a.send(b"still there").unwrap();
}

#[test]
fn a_second_side_b_is_refused_and_so_is_one_after_the_first() {
    let (_a, fds) = Transport::pair(&Config::new()).unwrap();
    let copy = || fds.each_ref().map(|fd| fd.try_clone().unwrap());
    let b = Transport::from_fds(copy(), &Config::new()).unwrap();
    assert!(matches!(Transport::from_fds(copy(), &Config::new()), Err(OpenError::InUse { .. })));
    drop(b);
    assert!(matches!(Transport::from_fds(copy(), &Config::new()), Err(OpenError::Timeout { .. })));
}

#[test]
fn descriptors_that_are_no_sealed_segments_are_refused() {
    let (_a, [a2b, b2a]) = Transport::pair(&Config::new()).unwrap();
    let swapped = Transport::from_fds([b2a, a2b], &Config::new()).unwrap_err();
    assert!(matches!(swapped, OpenError::Segment { source: SegmentError::Geometry, .. }), "{swapped}");

    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let refused = Transport::from_fds([null(), null()], &Config::new()).unwrap_err();
    assert!(matches!(refused, OpenError::Segment { source: SegmentError::NotSealed, .. }), "{refused}");
}

#[test]
fn a_tag_is_checked_and_there_is_nothing_to_reopen() {
    let (a, fds) = Transport::pair(&Config::new().message_tag("one")).unwrap();
    let copy = || fds.each_ref().map(|fd| fd.try_clone().unwrap());
    let other = Transport::from_fds(copy(), &Config::new().message_tag("two"));
    assert!(matches!(other, Err(OpenError::Tag { .. })));
    let mut b = Transport::from_fds(copy(), &Config::new().message_tag("one")).unwrap();
    drop(a);
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    assert!(matches!(b.reopen(Duration::ZERO), Err(OpenError::NoName)));
}

/// Copies of both descriptors.
fn copies(fds: &[OwnedFd; 2]) -> [OwnedFd; 2] {
    fds.each_ref().map(|fd| fd.try_clone().unwrap())
}

#[test]
fn descriptors_of_two_pairs_make_no_channel() {
    let (mut a, one) = Transport::pair(&Config::new()).unwrap();
    let (_other, two) = Transport::pair(&Config::new()).unwrap();
    let ([one_a2b, one_b2a], [two_a2b, two_b2a]) = (copies(&one), copies(&two));
    for mixed in [[one_a2b, two_b2a], [two_a2b, one_b2a]] {
        let error = Transport::from_fds(mixed, &Config::new()).unwrap_err();
        assert!(matches!(error, OpenError::Segment { source: SegmentError::Geometry, .. }), "{error}");
    }
    // One that is given twice is of one direction.
    let [a2b, _] = copies(&one);
    let error = Transport::from_fds([a2b.try_clone().unwrap(), a2b], &Config::new()).unwrap_err();
    assert!(matches!(error, OpenError::Segment { .. }), "{error}");
    // Nothing came of it: side B has not been there.
    assert!(!a.peer_attached());
    let mut b = Transport::from_fds(one, &Config::new()).unwrap();
    a.send(b"whole").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"whole");
}

#[test]
fn each_direction_has_slots_of_its_own() {
    let (a, fds) = Transport::pair(&Config::new().a_to_b(5000, 2).b_to_a(7, 64)).unwrap();
    let b = Transport::from_fds(fds, &Config::new()).unwrap();
    assert_eq!((a.slot_size(), a.slot_count()), (5000, 2));
    assert_eq!((b.slot_size(), b.slot_count()), (7, 64));
    let Stats { tx, rx, .. } = a.stats();
    assert_eq!((tx.slot_size, tx.slot_count, rx.slot_size, rx.slot_count), (5000, 2, 7, 64));
    // A value fills its slot, so only the numbers matter there.
    let config = Config::new().a_to_b(1, 2).b_to_a(1, 64);
    let (a, fds) = Channel::<u64, u16>::pair(&config).unwrap();
    let b = Channel::<u16, u64>::from_fds(fds, &config).unwrap();
    assert_eq!((a.slot_count(), b.slot_count()), (2, 64));
    let Stats { tx, rx, .. } = a.stats();
    assert_eq!((tx.slot_size, rx.slot_size), (8, 2));
}

/// Sums up what comes, until the channel is closed.
fn sum(args: &[String]) {
    let mut b = Channel::<u64, u32>::from_fds(handed_over(args), &Config::new()).unwrap();
    let mut sum = 0;
    loop {
        match b.recv() {
            Ok(value) => sum += u64::from(*value),
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    b.send(&sum).unwrap();
    say("told");
    hold();
}

#[test]
fn a_child_inherits_its_end_of_a_typed_channel() {
    let (mut a, fds) = Channel::<u32, u64>::pair(&Config::new().slot_count(8)).unwrap();
    let mut peer = child_with("sum", fds);
    (1..=1000).for_each(|value| a.send(&value).unwrap());
    a.finish(LONG).unwrap();
    assert!(matches!(a.send(&0), Err(SendError::Closed)));
    assert_eq!(*a.recv_timeout(LONG).unwrap(), 500_500);
    peer.go();
    peer.join();
}

#[test]
fn descriptors_of_other_types_are_refused_and_side_b_may_try_again() {
    let (mut a, fds) = Channel::<u32, u64>::pair(&Config::new()).unwrap();
    let refused = |error: OpenError| match error {
        OpenError::Type { direction, .. } => direction,
        other => panic!("{other}"),
    };
    let config = Config::new();
    assert_eq!(refused(Channel::<u32, u32>::from_fds(copies(&fds), &config).unwrap_err()), "sending");
    assert_eq!(refused(Channel::<u64, u64>::from_fds(copies(&fds), &config).unwrap_err()), "receiving");
    refused(Channel::<u32, u64>::from_fds(copies(&fds), &config).unwrap_err());
    // As large, and aligned less.
    refused(Channel::<u64, [u16; 2]>::from_fds(copies(&fds), &config).unwrap_err());
    assert!(!a.peer_attached());
    let mut b = Channel::<u64, u32>::from_fds(fds, &config).unwrap();
    a.send(&7).unwrap();
    assert_eq!(*b.recv().unwrap(), 7);
    // A typed side takes no raw bytes for values; a raw side takes values for bytes.
    let (_a, fds) = Transport::pair(&Config::new().slot_size(8)).unwrap();
    refused(Channel::<u64, u64>::from_fds(fds, &config).unwrap_err());
    let (mut a, fds) = Channel::<u32, u64>::pair(&Config::new()).unwrap();
    let mut b = Transport::from_fds(fds, &config).unwrap();
    a.send(&0x0403_0201).unwrap();
    assert_eq!(&*b.recv().unwrap(), 0x0403_0201_u32.to_ne_bytes());
}

#[cfg(feature = "capnp")]
mod capnp {
    use super::*;
    use capnproto_shm_transport::{
        CapnpChannel,
        capnp::schema_capnp::{capnp_version, node},
    };

    type Versions = CapnpChannel<capnp_version::Owned>;

    /// Sends each version's successor back.
    pub fn versions(args: &[String]) {
        let mut b = Versions::from_fds(handed_over(args), &Config::new()).unwrap();
        let (tx, rx) = b.halves();
        loop {
            match rx.recv() {
                Ok(message) => {
                    let major = message.get().unwrap().get_major();
                    tx.send(|mut next| {
                        next.set_major(major + 1);
                        Ok(())
                    })
                    .unwrap();
                }
                Err(RecvError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_child_inherits_its_end_of_a_capnp_channel() {
        let (mut a, fds) = Versions::pair(&Config::new().a_to_b(64, 4).b_to_a(128, 2)).unwrap();
        assert_eq!((a.slot_size(), a.slot_count(), a.max_message_size()), (64, 4, 256));
        let peer = child_with("versions", fds);
        for major in 0..500 {
            a.send(|mut version| {
                version.set_major(major);
                Ok(())
            })
            .unwrap();
            assert_eq!(a.recv_timeout(LONG).unwrap().get().unwrap().get_major(), major + 1);
        }
        drop(a);
        peer.join();
    }

    #[test]
    fn descriptors_of_other_messages_are_refused() {
        let config = Config::new();
        let (a, fds) = Versions::pair(&config).unwrap();
        let other = CapnpChannel::<node::Owned>::from_fds(copies(&fds), &config).unwrap_err();
        assert!(matches!(other, OpenError::Type { direction: "sending", .. }), "{other}");
        let half = CapnpChannel::<capnp_version::Owned, node::Owned>::from_fds(copies(&fds), &config);
        let half = half.unwrap_err();
        assert!(matches!(half, OpenError::Type { direction: "receiving", .. }), "{half}");
        let pod = Channel::<u64>::from_fds(copies(&fds), &config).unwrap_err();
        assert!(matches!(pod, OpenError::Type { .. }), "{pod}");
        assert!(!a.peer_attached());
        drop(Versions::from_fds(fds, &config).unwrap());
        let (_a, fds) = Channel::<u64>::pair(&config).unwrap();
        let values = Versions::from_fds(fds, &config).unwrap_err();
        assert!(matches!(values, OpenError::Type { .. }), "{values}");
        // Slots that hold no message are refused where they are made.
        for config in [Config::new().a_to_b(15, 4), Config::new().b_to_a(15, 4)] {
            assert!(Versions::pair(&config).is_err());
        }
    }
}
