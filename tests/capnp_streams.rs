//! Cap'n Proto messages as a stream: owned, of any size, and readable when everything else is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use capnproto_shm_transport::{CapnpChannel, Config, OwnedMessage, RecvError, Transport};
use common::*;
use futures_lite::StreamExt;
use futures_lite::future::block_on;
use schemas::blob_capnp::blob;

type Blobs = CapnpChannel<blob::Owned>;

#[test]
fn child() {
    play(&[("send", send), ("raw", raw)]);
}

fn config() -> Config {
    Config::new().slot_size(128).slot_count(16)
}

/// From less than a slot to almost the whole ring.
fn len(sequence: usize) -> usize {
    sequence * 37 % 1500
}

/// Sends so many blobs, then says so and waits to be killed, or closes.
fn send(args: &[String]) {
    let mut b = Blobs::open(&args[0], LONG).unwrap();
    for sequence in 0..args[1].parse().unwrap() {
        let mut message = b.reserve_with_capacity(len(sequence) + 64).unwrap();
        let mut root = message.init_root();
        root.set_sequence(sequence as u64);
        root.set_data(&pattern(sequence, len(sequence)));
        message.commit().unwrap();
    }
    if args[2] == "close" {
        b.finish(LONG).unwrap();
    } else {
        say("sent");
        hold();
    }
}

fn check(message: &OwnedMessage<blob::Owned>, sequence: usize) {
    let root = message.get().unwrap();
    assert_eq!(root.get_sequence(), sequence as u64);
    assert_eq!(root.get_data().unwrap(), pattern(sequence, len(sequence)));
}

#[test]
fn messages_of_any_size_outlive_their_channel() {
    let name = named("owned");
    let (_, receiver) = Blobs::create(&name, &config()).unwrap().split();
    let peer = spawn("send", &[&name, "200", "close"]);
    let all: Vec<_> = block_on(receiver.into_stream().try_collect()).unwrap();
    peer.join();
    assert!(name.is_free(), "{:?}", name.left());
    assert_eq!(all.len(), 200);
    // In another thread, too.
    std::thread::spawn(move || all.iter().enumerate().for_each(|(at, message)| check(message, at)))
        .join()
        .unwrap();
}

#[test]
fn a_sender_that_dies_is_the_last_item() {
    let name = named("dies");
    let (_, receiver) = Blobs::create(&name, &config()).unwrap().split();
    let mut peer = spawn("send", &[&name, "3", "stay"]);
    let mut stream = receiver.into_stream();
    peer.wait_for("sent");
    peer.kill();
    block_on(async {
        for sequence in 0..3 {
            check(&stream.next().await.unwrap().unwrap(), sequence);
        }
        assert!(matches!(stream.next().await, Some(Err(RecvError::PeerDead))));
        assert!(stream.next().await.is_none());
    });
}

/// Sends bytes that are no message, between two that are.
fn raw(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    let whole =
        [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for message in [&whole[..], b"", b"nonsense that is not a frame", &whole[..9], &whole[..]] {
        b.send(message).unwrap();
    }
    b.finish(LONG).unwrap();
}

#[test]
fn what_is_no_message_is_an_item_that_cannot_be_read() {
    let name = named("raw");
    let (_, receiver) = Blobs::create(&name, &config()).unwrap().split();
    let peer = spawn("raw", &[&name]);
    let all: Vec<_> = block_on(receiver.into_stream().try_collect()).unwrap();
    peer.join();
    let sequences: Vec<_> = all.iter().map(|message| Some(message.get().ok()?.get_sequence())).collect();
    assert_eq!(sequences, [Some(7), None, None, None, Some(7)]);
}
