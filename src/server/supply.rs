//! The channels that a server gives to its clients, one of them made ahead.

use std::path::Path;
use std::sync::Arc;

use super::handshake::{Handed, Offer};
use super::limits::{Limits, Taken};
use crate::config::Config;
use crate::error::{ConfigError, CreateError, Failure};
use crate::segment::{Events, HostEvent, Segment, SideGuard};
use crate::transport::{Payloads, bytes, create_anonymous};

/// A channel that nobody has yet: the server's side, and the part for its client.
pub(super) struct Made {
    pub(super) guard: Arc<SideGuard>,
    pub(super) handed: Handed,
}

/// Makes channels within a server's limits.
///
/// To make one takes as long as all the rest of a handshake. So the next one is made while a client joins the one before.
pub(super) struct Supply {
    pub(super) config: Config,
    pub(super) payloads: Payloads,
    /// The bytes that each client's segments take.
    bytes: u64,
    taken: Arc<Taken>,
    /// It has its part of what is taken, but is no client.
    ahead: Option<Made>,
    /// Whose channel `ahead` is.
    process: u32,
}

impl Drop for Supply {
    fn drop(&mut self) {
        self.forget_parents();
    }
}

impl Supply {
    pub(super) fn new(config: &Config, payloads: Payloads) -> Result<Self, ConfigError> {
        let bytes = bytes(config, payloads)?;
        Ok(Self {
            config: config.clone(),
            payloads,
            bytes,
            taken: Arc::default(),
            ahead: None,
            process: std::process::id(),
        })
    }

    /// The payloads that the server exchanges.
    pub(super) fn offer(&self) -> Offer {
        Offer::new(self.payloads, Some(self.config.tag.as_deref().unwrap_or("")))
    }

    /// A channel; `None` if the limits leave no room for another client.
    pub(super) fn take(&mut self, limits: &Limits) -> Result<Option<Made>, CreateError> {
        self.forget_parents();
        match self.ahead.take() {
            None => self.make(limits),
            made => Ok(made),
        }
    }

    /// Makes the next client's channel, if there is room. `take` tries again after an error now, and reports it.
    pub(super) fn prepare(&mut self, limits: &Limits) {
        self.forget_parents();
        let at_once = self.config.memory.is_taken_at_once() || Segment::is_claimed_at_once();
        if self.ahead.is_none() && !at_once {
            self.ahead = self.make(limits).unwrap_or_default();
        }
    }

    /// The same within other limits.
    pub(super) fn renew(&mut self, limits: &Limits) {
        self.forget_parents();
        self.ahead = None;
        self.prepare(limits);
    }

    pub(super) fn clients(&self) -> usize {
        self.taken.clients() - usize::from(self.ahead.is_some())
    }

    /// A forked child has all this too, but not the memory of its parent's channels.
    fn forget_parents(&mut self) {
        let process = std::process::id();
        if self.process != process {
            std::mem::forget(self.ahead.take());
            (self.taken, self.process) = (Arc::default(), process);
        }
    }

    fn make(&self, limits: &Limits) -> Result<Option<Made>, CreateError> {
        let Some(part) = self.taken.take(self.bytes, limits) else { return Ok(None) };
        let at = Path::new("(anonymous)");
        let event =
            || HostEvent::shared(self.config.permissions).map_err(Failure::at("make an event for", at));
        let ((a, a_again), (b, b_again)) = (event()?, event()?);
        let ((c, c_again), (d, d_again)) = (event()?, event()?);
        let (own, peer, events) = ([a, b], [c, d], [a_again, b_again, c_again, d_again]);
        let events_handed = Events::handed(own, peer);
        let guard = create_anonymous(&self.config, self.payloads, events_handed, Some(Box::new(part)))?;
        let segment = |segment: &Segment| segment.descriptor().map_err(Failure::at("open again", at));
        let segments = [segment(&guard.pair.tx)?, segment(&guard.pair.rx)?];
        Ok(Some(Made { guard, handed: Handed { segments, events } }))
    }
}
