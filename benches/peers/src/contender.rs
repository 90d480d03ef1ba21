//! What can be measured: two ends, each with a sending and a receiving half.

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// How one connection is set up; both ends get the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Unique to this connection: names files, sockets and services.
    pub name: String,
    pub size: usize,
    pub slots: usize,
    /// Parallel channels, used in turn. Only ours has more than one.
    pub channels: usize,
    /// How large a Cap'n Proto message is, in parts of its own.
    pub parts: usize,
    /// How ours waits.
    pub poll: Poll,
}

/// The poll modes of ours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Poll {
    Spin,
    Interval,
    Park,
}

/// The sending half of one end.
pub trait Sender {
    /// Sends `size` bytes which `fill` writes, in place where the contender allows it. Waits for room.
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8]));

    /// Sends `count` messages as fast as it can.
    #[inline(always)]
    fn stream(&mut self, size: usize, count: u64, mut fill: impl FnMut(u64, &mut [u8])) {
        for i in 0..count {
            self.send(size, |bytes| fill(i, bytes));
        }
    }
}

/// The receiving half of one end.
pub trait Receiver {
    /// Waits for one message of `size` bytes and shows it, in place where the contender allows it.
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8]));

    /// Receives `count` messages as fast as it can.
    #[inline(always)]
    fn stream(&mut self, size: usize, count: u64, mut read: impl FnMut(&[u8])) {
        for _ in 0..count {
            self.recv(size, |bytes| read(bytes));
        }
    }
}

/// Something that can be measured.
pub trait Contender {
    type Tx: Sender;
    type Rx: Receiver;
    /// What the leader holds before the follower is there.
    type Offer;

    /// The follower is a thread of the leader's process.
    const THREADS: bool = false;

    /// The leader prepares the connection, with a word for the follower where to find it;
    fn offer(spec: &Spec) -> Result<(Self::Offer, String)>;
    /// the follower takes it up,
    fn join(spec: &Spec, token: &str) -> Result<(Self::Tx, Self::Rx)>;
    /// and the leader has its end too.
    fn accept(offer: Self::Offer) -> Result<(Self::Tx, Self::Rx)>;
}

/// Writes every word of a message.
#[inline(always)]
pub fn fill(bytes: &mut [u8], word: u64) {
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
}

/// Reads every word of a message.
#[inline(always)]
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0, |sum, chunk| sum.wrapping_add(word(chunk)))
}

/// The first word of a message.
#[inline(always)]
pub fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_ne_bytes(word)
}
