//! Channels without a name: sealed memory handed to a child.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "a descriptor is inherited by its number")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use capnproto_shm_transport::{Config, OpenError, RecvError, SegmentError, Transport};
use common::{LONG, hold, play, say, spawn};
use rustix::io::{FdFlags, fcntl_setfd};

#[test]
fn child() {
    play(&[("echo", |args| echo(args)), ("hang", |args| hang(args))]);
}

/// The transport whose descriptors the parent let us inherit.
fn inherited(args: &[String]) -> Transport {
    let descriptor = |text: &String| {
        // SAFETY: the parent passed the numbers of two descriptors that it made inheritable for us alone.
        unsafe { OwnedFd::from_raw_fd(text.parse().unwrap()) }
    };
    Transport::from_fds([descriptor(&args[0]), descriptor(&args[1])], &Config::new()).unwrap()
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
    for fd in &fds {
        fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    let numbers = fds.each_ref().map(|fd| fd.as_raw_fd().to_string());
    let peer = spawn(role, &[&numbers[0], &numbers[1]]);
    (a, peer)
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
