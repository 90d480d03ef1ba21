//! The part of a kind of channel that a server needs, and the process on its other side.

use std::sync::Arc;

use super::payload::Payloads;
use crate::config::Config;
use crate::error::ConfigError;
use crate::segment::SideGuard;

/// A channel of some kind of message, which a server gives its clients: [`Transport`](crate::Transport),
/// [`Channel`](crate::Channel) or `CapnpChannel`.
pub trait Kind: Sized {
    #[doc(hidden)]
    fn declared(config: &Config) -> Result<Declared, ConfigError>;
    #[doc(hidden)]
    fn from_side(side: NewSide) -> Self;
    #[doc(hidden)]
    fn peer_attached(&self) -> bool;
    /// Whether the peer has died. Asks the system.
    #[doc(hidden)]
    fn peer_is_gone(&self) -> bool;
}

/// The kinds of message that a kind of channel exchanges.
#[derive(Clone, Copy, Debug)]
pub struct Declared(pub(crate) Payloads);

/// A side that was made for it.
#[derive(Debug)]
pub struct NewSide {
    pub(crate) guard: Arc<SideGuard>,
    pub(crate) config: Config,
    pub(crate) payloads: Payloads,
    pub(crate) peer: Option<Peer>,
}

/// The process on the other side of a channel, as the system attests it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The process's number, as this side's pid namespace knows it; 0 if it does not.
    pub pid: u32,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}
