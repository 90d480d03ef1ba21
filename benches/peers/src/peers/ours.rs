//! capnproto-shm-transport, with its defaults; what differs is how a program calls it.

use std::marker::PhantomData;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use capnproto_shm_transport::{
    AcceptError, Config, Consumer, PollMode, Producer, SendError, Server, Transport,
};

use crate::contender::{Contender, Poll, Receiver, Sender, Spec};

pub struct Ours<S>(PhantomData<S>);

/// `reserve`, fill, `commit`; `recv`, look, drop.
pub struct InPlace(pub Producer);
/// `send` of bytes that lie elsewhere; `recv`.
pub struct Copied(Producer, Vec<u8>);
/// `batch` and `drain`.
pub struct Batched(Producer);
/// Many channels in turn.
pub struct Many(Vec<Producer>, usize);

impl Sender for InPlace {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        let mut slot = self.0.reserve().expect("reserve");
        fill(&mut slot[..size]);
        slot.commit(size);
    }
}

impl Sender for Copied {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        fill(&mut self.1[..size]);
        self.0.send(&self.1[..size]).expect("send");
    }
}

/// Messages that become visible together, at the most.
pub const BATCH: u64 = 32;

impl Sender for Batched {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        let mut slot = self.0.reserve().expect("reserve");
        fill(&mut slot[..size]);
        slot.commit(size);
    }

    #[inline(always)]
    fn stream(&mut self, size: usize, count: u64, mut fill: impl FnMut(u64, &mut [u8])) {
        let mut sent = 0;
        while sent < count {
            let mut batch = self.0.batch();
            let end = count.min(sent + BATCH);
            while sent < end {
                match batch.try_reserve() {
                    Ok(mut slot) => {
                        fill(sent, &mut slot[..size]);
                        slot.commit(size);
                        sent += 1;
                    }
                    Err(SendError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if batch.publish() == 0 {
                drop(self.0.reserve().expect("room"));
            }
        }
    }
}

impl Sender for Many {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        let mut slot = self.0[self.1].reserve().expect("reserve");
        fill(&mut slot[..size]);
        slot.commit(size);
        self.1 = (self.1 + 1) % self.0.len();
    }
}

pub struct One(Consumer);
pub struct Drained(Consumer);
pub struct Each(Vec<Consumer>, usize);

impl Receiver for One {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        read(&self.0.recv().expect("receive")[..size]);
    }
}

impl Receiver for Drained {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        read(&self.0.recv().expect("receive")[..size]);
    }

    #[inline(always)]
    fn stream(&mut self, size: usize, count: u64, mut read: impl FnMut(&[u8])) {
        let mut received = 0;
        while received < count {
            let most = (count - received) as usize;
            let drained = self.0.drain(most, |message| read(&message[..size])).expect("drain");
            received += drained as u64;
            if drained == 0 {
                read(&self.0.recv().expect("receive")[..size]);
                received += 1;
            }
        }
    }
}

impl Receiver for Each {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        read(&self.0[self.1].recv().expect("receive")[..size]);
        self.1 = (self.1 + 1) % self.0.len();
    }
}

/// How a program calls it.
pub trait Style {
    type Rx: Receiver;
    fn ends(channels: Vec<(Producer, Consumer)>, size: usize) -> (Self, Self::Rx)
    where
        Self: Sized;
}

impl Style for InPlace {
    type Rx = One;
    fn ends(channels: Vec<(Producer, Consumer)>, _: usize) -> (Self, One) {
        let (tx, rx) = single(channels);
        (Self(tx), One(rx))
    }
}

impl Style for Copied {
    type Rx = One;
    fn ends(channels: Vec<(Producer, Consumer)>, size: usize) -> (Self, One) {
        let (tx, rx) = single(channels);
        (Self(tx, vec![0; size]), One(rx))
    }
}

impl Style for Batched {
    type Rx = Drained;
    fn ends(channels: Vec<(Producer, Consumer)>, _: usize) -> (Self, Drained) {
        let (tx, rx) = single(channels);
        (Self(tx), Drained(rx))
    }
}

impl Style for Many {
    type Rx = Each;
    fn ends(channels: Vec<(Producer, Consumer)>, _: usize) -> (Self, Each) {
        let (tx, rx) = channels.into_iter().unzip();
        (Self(tx, 0), Each(rx, 0))
    }
}

fn single(mut channels: Vec<(Producer, Consumer)>) -> (Producer, Consumer) {
    assert_eq!(channels.len(), 1, "one channel in this style");
    channels.remove(0)
}

pub fn poll(spec: &Spec) -> PollMode {
    match spec.poll {
        Poll::Spin => PollMode::Spin,
        Poll::Interval => PollMode::Interval(Duration::from_micros(100)),
        Poll::Park => PollMode::Park,
    }
}

/// How long the follower waits for the leader.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn config(spec: &Spec) -> Config {
    Config::new().slot_size(spec.size).slot_count(spec.slots).poll(poll(spec))
}

/// Sides A of a connection's channels,
pub fn create(spec: &Spec) -> Result<Vec<Transport>> {
    let config = config(spec);
    let channels = (0..spec.channels).map(|i| Transport::create(&format!("{}-{i}", spec.name), &config));
    Ok(channels.collect::<Result<_, _>>()?)
}

/// and sides B.
pub fn open(spec: &Spec) -> Result<Vec<Transport>> {
    let own = Config::new().poll(poll(spec));
    let channels =
        (0..spec.channels).map(|i| Transport::open_with(&format!("{}-{i}", spec.name), PATIENCE, &own));
    Ok(channels.collect::<Result<_, _>>()?)
}

impl<S: Style + Sender> Contender for Ours<S> {
    type Tx = S;
    type Rx = S::Rx;
    type Offer = (S, S::Rx);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let channels = create(spec)?.into_iter().map(Transport::split);
        Ok((S::ends(channels.collect(), spec.size), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(S, S::Rx)> {
        let channels = open(spec)?.into_iter().map(Transport::split);
        Ok(S::ends(channels.collect(), spec.size))
    }

    fn accept(offer: Self::Offer) -> Result<(S, S::Rx)> {
        Ok(offer)
    }
}

/// The same over the channel that a server gives.
pub struct Served;

impl Contender for Served {
    type Tx = InPlace;
    type Rx = One;
    /// Whoever accepts, as a client joins only then.
    type Offer = JoinHandle<Result<Transport, AcceptError>>;

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let mut server = Server::bind(&spec.name, &config(spec))?;
        Ok((thread::spawn(move || server.accept_timeout(PATIENCE)), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(InPlace, One)> {
        let own = Config::new().poll(poll(spec));
        let (tx, rx) = Transport::connect_with(&spec.name, PATIENCE, &own)?.split();
        Ok((InPlace(tx), One(rx)))
    }

    fn accept(offer: Self::Offer) -> Result<(InPlace, One)> {
        let accepted = offer.join().map_err(|_| anyhow!("whoever accepts panicked"))?;
        let (tx, rx) = accepted?.split();
        Ok((InPlace(tx), One(rx)))
    }
}
