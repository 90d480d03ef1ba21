//! What wakes a thread that sleeps in `poll`, as an event loop does: ours with its descriptor, and a bare eventfd.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use capnproto_shm_transport::{Config, Consumer, Producer, RecvError, Transport, WaitSet};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{FdFlags, fcntl_setfd};

use super::ours::{self, InPlace};
use super::shared::{self, Mailbox};
use crate::contender::{Contender, Receiver, Sender, Spec};

/// Sleeps until a descriptor is readable.
fn await_readable(fd: impl AsFd) {
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).expect("poll");
}

/// `arm`, `poll`, `try_recv`.
pub struct Armed(Consumer);

impl Receiver for Armed {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        loop {
            match self.0.try_recv() {
                Ok(message) => return read(&message[..size]),
                Err(RecvError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
            if self.0.arm().expect("arm") {
                await_readable(self.0.wait_fd().expect("descriptor"));
            }
        }
    }
}

fn halves(channel: Transport) -> (InPlace, Armed) {
    let (tx, rx) = channel.split();
    (InPlace(tx), Armed(rx))
}

/// A channel with a name: its peer notifies the descriptor.
pub struct Named;

impl Contender for Named {
    type Tx = InPlace;
    type Rx = Armed;
    type Offer = (InPlace, Armed);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        Ok((halves(Transport::create(&spec.name, &ours::config(spec))?), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(InPlace, Armed)> {
        let own = Config::new().poll(ours::poll(spec));
        Ok(halves(Transport::open_with(&spec.name, ours::PATIENCE, &own)?))
    }

    fn accept(offer: Self::Offer) -> Result<(InPlace, Armed)> {
        Ok(offer)
    }
}

/// An anonymous channel: a thread of the receiver's process notifies the descriptor.
pub struct Anonymous;

impl Contender for Anonymous {
    type Tx = InPlace;
    type Rx = Armed;
    type Offer = (InPlace, Armed);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let (channel, descriptors) = Transport::pair(&ours::config(spec))?;
        Ok((halves(channel), bequeath(descriptors)?))
    }

    fn join(spec: &Spec, token: &str) -> Result<(InPlace, Armed)> {
        let own = Config::new().poll(ours::poll(spec));
        Ok(halves(Transport::from_fds(inherit(token)?, &own)?))
    }

    fn accept(offer: Self::Offer) -> Result<(InPlace, Armed)> {
        Ok(offer)
    }
}

/// Leaves descriptors to the processes that this one starts, with a word for them. For ever: a benchmark has few.
fn bequeath(descriptors: [OwnedFd; 2]) -> Result<String> {
    let [a, b] = &descriptors;
    for fd in &descriptors {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let token = format!("{} {}", a.as_raw_fd(), b.as_raw_fd());
    std::mem::forget(descriptors);
    Ok(token)
}

fn inherit(token: &str) -> Result<[OwnedFd; 2]> {
    let (a, b) = token.split_once(' ').context("token")?;
    let (a, b) = (a.parse()?, b.parse()?);
    // SAFETY: the process that started this one left both open for it, and nothing here owns them.
    Ok([a, b].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// An eventfd for each direction, and shared memory for the message. No flow control, so it can only answer, or send
/// seldom.
pub struct Eventfd;

pub struct Half {
    mailbox: Mailbox,
    event: OwnedFd,
}

impl Sender for Half {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        self.mailbox.put(size, fill);
        rustix::io::write(&self.event, &1u64.to_ne_bytes()).expect("write");
    }
}

impl Receiver for Half {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        while self.mailbox.is_empty() {
            await_readable(&self.event);
            rustix::io::read(&self.event, &mut [0; 8]).expect("read");
        }
        self.mailbox.take(size, read);
    }
}

impl Contender for Eventfd {
    type Tx = Half;
    type Rx = Half;
    type Offer = (Half, Half);

    fn offer(_: &Spec) -> Result<(Self::Offer, String)> {
        let (lanes, token) = shared::offer(64)?;
        let [out, back] = lanes.map(Mailbox::new);
        let made = || eventfd(0, EventfdFlags::CLOEXEC);
        let events = [made()?, made()?];
        let (to, from) = (events[0].try_clone()?, events[1].try_clone()?);
        let ends = (Half { mailbox: out, event: to }, Half { mailbox: back, event: from });
        Ok((ends, format!("{} {token}", bequeath(events)?)))
    }

    fn join(_: &Spec, token: &str) -> Result<(Half, Half)> {
        let mut words = token.splitn(3, ' ');
        let mut word = || words.next().context("token");
        let [from, to] = inherit(&format!("{} {}", word()?, word()?))?;
        let [out, back] = shared::join(word()?)?.map(Mailbox::new);
        Ok((Half { mailbox: back, event: to }, Half { mailbox: out, event: from }))
    }

    fn accept(offer: Self::Offer) -> Result<(Half, Half)> {
        Ok(offer)
    }
}

/// Many channels in one wait set; one of them gets messages.
pub struct Set;

/// The one in the middle is used, and the others are held.
pub struct Middle(Vec<Producer>);

pub struct Any {
    channels: Vec<Consumer>,
    set: WaitSet,
}

impl Sender for Middle {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        let middle = self.0.len() / 2;
        let mut slot = self.0[middle].reserve().expect("reserve");
        fill(&mut slot[..size]);
        slot.commit(size);
    }
}

impl Receiver for Any {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        loop {
            if let Some(&key) = self.set.wait(None).expect("wait").first() {
                let message = self.channels[key as usize].try_recv().expect("receive");
                return read(&message[..size]);
            }
        }
    }
}

impl Set {
    fn ends(channels: Vec<Transport>) -> Result<(Middle, Any)> {
        let (senders, mut channels): (_, Vec<Consumer>) = channels.into_iter().map(Transport::split).unzip();
        let mut set = WaitSet::new()?;
        for (key, channel) in (0..).zip(&mut channels) {
            set.insert(key, channel)?;
        }
        Ok((Middle(senders), Any { channels, set }))
    }
}

impl Contender for Set {
    type Tx = Middle;
    type Rx = Any;
    type Offer = Vec<Transport>;

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        Ok((ours::create(spec)?, String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Middle, Any)> {
        Self::ends(ours::open(spec)?)
    }

    fn accept(channels: Self::Offer) -> Result<(Middle, Any)> {
        Self::ends(channels)
    }
}
