//! The parts that must be there before side B or a client can join.

use std::fmt;
use std::time::Duration;

/// The part that was missing when side B's wait was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// No side A has created the channel.
    Channel,
    /// The channel is being created.
    Ready,
    /// The channel's side A has died or closed. The next `create` reclaims its files.
    SideA,
    /// Another side B has been there and left; side A must create the channel anew.
    FreshGeneration,
    /// No server is bound to the name.
    Server,
    /// The server has not accepted this client: its program does not call `accept`, or has as many clients as it allows.
    Place,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel => "no side A has created it",
            Self::Ready => "it is only half made",
            Self::SideA => "its side A has died or closed",
            Self::FreshGeneration => "another side B was there and left; side A must create it anew",
            Self::Server => "no server is bound to it",
            Self::Place => "the server has accepted no further client",
        })
    }
}

/// Says in whole what was waited for, how long if at all, and what to do.
pub(super) fn explain(
    name: &str,
    waited: &Duration,
    missing: &Missing,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (what, purpose, advice) = match missing {
        Missing::Server => ("server", "to connect to", "start the server"),
        Missing::Place => ("server", "with room", "let it accept more"),
        _ => ("channel", "to open", "start side A"),
    };
    write!(f, "no {what} {name:?} {purpose}")?;
    if !waited.is_zero() {
        write!(f, " after {waited:?}")?;
    }
    write!(f, ": {missing}; {advice}, or wait longer")
}
