//! One side of a duplex channel of any kind of message: both halves, from creation to the end.
//!
//! A kind of message is a pair of halves around a [`Producer`] and a [`Consumer`]. It says what its messages are
//! ([`Payload`]) and how they are built and read; everything else about a channel stands here, once. To add a kind:
//! write its two halves, implement [`SendHalf`], [`ReceiveHalf`] and [`Carries`] for them, wrap a [`Duplex`] of them
//! in a public type, and give that type its methods by the macros in `methods.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::kind::{NewSide, Peer};
use super::lifecycle;
use super::payload::{Payload, Payloads};
use super::stats::{Stats, StatsHandle};
use crate::config::Config;
use crate::error::{ConfigError, CreateError, OpenError, RecvError, SendError};
use crate::protocol::Side;
use crate::ring::{Consumer, Producer};
use crate::segment::SideGuard;

/// A sending half.
pub trait SendHalf {
    #[doc(hidden)]
    fn new(producer: Producer) -> Self;
    #[doc(hidden)]
    fn producer(&self) -> &Producer;
    #[doc(hidden)]
    fn producer_mut(&mut self) -> &mut Producer;
}

/// A receiving half.
pub trait ReceiveHalf {
    #[doc(hidden)]
    fn new(consumer: Consumer) -> Self;
    #[doc(hidden)]
    fn consumer(&self) -> &Consumer;
    #[doc(hidden)]
    fn consumer_mut(&mut self) -> &mut Consumer;
    /// Takes over the settings of the half that this one replaces.
    #[doc(hidden)]
    fn succeed(&mut self, _former: &Self) {}
}

/// The kind of a half's messages.
pub(crate) trait Carries {
    fn payload() -> Payload;
}

pub(crate) struct Duplex<S, R> {
    // The order matters: a peer that waits for us first sees the direction end that it reads from.
    pub(crate) sender: S,
    pub(crate) receiver: R,
    /// None if the channel is anonymous.
    name: Option<String>,
    config: Config,
    /// The process on the other side, if the system has named it.
    peer: Option<Peer>,
}

impl<S: SendHalf + Carries, R: ReceiveHalf + Carries> Duplex<S, R> {
    pub(crate) fn payloads(config: &Config) -> Result<Payloads, ConfigError> {
        Payloads::new(S::payload(), R::payload(), config)
    }

    pub(crate) fn create(name: &str, config: &Config) -> Result<Self, CreateError> {
        let payloads = Self::payloads(config)?;
        let guard = lifecycle::create(name, config, payloads, None)?;
        Ok(Self::new(guard, Some(name), config, payloads))
    }

    pub(crate) fn open(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError> {
        let payloads = Self::payloads(config)?;
        let guard = lifecycle::open(name, wait, config, payloads, None)?;
        Ok(Self::new(guard, Some(name), config, payloads))
    }

    pub(crate) fn reopen(&mut self, wait: Duration) -> Result<(), OpenError> {
        let pair = &self.sender.producer().guard().pair;
        if pair.side == Side::A {
            return Err(OpenError::WrongSide);
        }
        let name = self.name.as_deref().ok_or(OpenError::NoName)?;
        // How this side waits may have been changed since it was configured.
        let config = self.config.clone().poll(self.sender.producer().poll_control().local());
        let payloads = Self::payloads(&config)?;
        let guard = lifecycle::open(name, wait, &config, payloads, Some(pair.rx.fixed.generation))?;
        let mut next = Self::new(guard, Some(name), &config, payloads);
        next.receiver.consumer_mut().succeed(self.receiver.consumer());
        next.receiver.succeed(&self.receiver);
        *self = next;
        Ok(())
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pair(config: &Config) -> Result<(Self, [std::os::fd::OwnedFd; 2]), CreateError> {
        let (payloads, events) = (Self::payloads(config)?, crate::segment::Events::default());
        let guard = lifecycle::create_anonymous(config, payloads, events, None)?;
        let descriptor = |segment: &crate::segment::Segment| {
            let path = std::path::Path::new("/proc/self/fd");
            segment.descriptor().map_err(crate::error::Failure::at("open again", path))
        };
        let descriptors = [descriptor(&guard.pair.tx)?, descriptor(&guard.pair.rx)?];
        Ok((Self::new(guard, None, config, payloads), descriptors))
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn from_fds(
        descriptors: [std::os::fd::OwnedFd; 2],
        config: &Config,
    ) -> Result<Self, OpenError> {
        let (payloads, events) = (Self::payloads(config)?, crate::segment::Events::default());
        let guard = lifecycle::open_anonymous("(anonymous)", descriptors, config, payloads, events)?;
        Ok(Self::new(guard, None, config, payloads))
    }
}

impl<S: SendHalf, R: ReceiveHalf> Duplex<S, R> {
    fn new(guard: Arc<SideGuard>, name: Option<&str>, config: &Config, payloads: Payloads) -> Self {
        let (producer, mut consumer) = (Producer::new(Arc::clone(&guard)), Consumer::new(guard));
        if payloads.rx.fills_slot() {
            consumer.expect_full_slots();
        }
        Self {
            sender: S::new(producer),
            receiver: R::new(consumer),
            name: name.map(str::to_owned),
            config: config.clone(),
            peer: None,
        }
    }

    pub(crate) fn from_side(side: NewSide) -> Self {
        Self { peer: side.peer, ..Self::new(side.guard, None, &side.config, side.payloads) }
    }

    pub(crate) fn peer(&self) -> Option<Peer> {
        self.peer
    }

    pub(crate) fn peer_attached(&self) -> bool {
        self.sender.producer().guard().pair.peer_attached()
    }

    pub(crate) fn peer_is_gone(&self) -> bool {
        self.sender.producer().guard().pair.peer_is_gone()
    }

    pub(crate) fn wait_for_peer(&mut self, wait: Duration) -> Result<(), RecvError> {
        self.receiver.consumer_mut().wait_for_peer(wait)
    }

    pub(crate) fn finish(&mut self, wait: Duration) -> Result<(), SendError> {
        self.sender.producer_mut().finish(wait)
    }

    pub(crate) fn abandon(mut self) {
        self.sender.producer_mut().die();
        self.receiver.consumer_mut().die();
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::of_pair(&self.sender.producer().guard().pair)
    }

    pub(crate) fn stats_handle(&self) -> StatsHandle {
        StatsHandle::new(Arc::clone(&self.sender.producer().guard().pair))
    }

    pub(crate) fn fmt(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(kind)
            .field("name", &self.name)
            .field("sender", self.sender.producer())
            .field("receiver", self.receiver.consumer())
            .finish()
    }
}
