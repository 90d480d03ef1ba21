//! What a bridge is told to do.

use std::time::Duration;

use capnproto_shm_transport::{Config, Side};
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::error::BridgeError;

/// Which channels a bridge takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Names {
    /// This one.
    One(String),
    /// Those whose names match one of these patterns, with `*`, `?` and `[a-z]`.
    Matching(Vec<String>),
    /// All.
    All,
}

/// What a bridge does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where the two bridges meet: a key expression of Zenoh without wildcards. Each channel has keys of its own below.
    pub key: String,
    /// Which channels.
    pub names: Names,
    /// Which side the bridge is here: A creates the channel, for a side B here; B joins the one that a side A here has
    /// created. None: whichever comes.
    pub side: Option<Side>,
    /// Bridges each client of a server, instead of channels.
    pub server: bool,
    /// How channels are looked for and made here: directory, permissions, poll mode.
    pub config: Config,
    /// How long nothing may be heard of the other bridge before the network is taken to be gone.
    pub timeout: Duration,
    /// Slots that may be on their way in each direction; by default what 4 MiB hold, and at least a ring.
    pub window: Option<u64>,
    /// Bytes of memory that one channel may take here. What the other bridge has not acknowledged is kept besides: a window, at
    /// most twice this or two rings.
    pub memory: u64,
    /// Channels that other bridges may have here at once, clients of a server too. A hello beyond them is refused.
    pub channels: usize,
}

impl Options {
    /// Bridges the channel `name` under `key`, whichever side is here; five seconds of timeout, 1 GiB of memory, 256 channels.
    pub fn new(name: &str, key: &str) -> Self {
        Self {
            key: key.to_owned(),
            names: Names::One(name.to_owned()),
            side: None,
            server: false,
            config: Config::new(),
            timeout: Duration::from_secs(5),
            window: None,
            memory: 1 << 30,
            channels: 256,
        }
    }
}

/// Whether they can be.
pub(crate) fn check(options: &Options) -> Result<(), BridgeError> {
    let refused = |reason: String| BridgeError::Key { key: options.key.clone(), reason };
    let key = zenoh::key_expr::KeyExpr::new(options.key.clone()).map_err(|e| refused(e.to_string()))?;
    if key.is_wild() {
        return Err(refused("a wildcard names no place".to_owned()));
    }
    if options.timeout < Duration::from_millis(100) {
        return Err(BridgeError::Option("the timeout must be at least 0.1 seconds".to_owned()));
    }
    if options.server && !matches!(options.names, Names::One(_)) {
        return Err(BridgeError::Option("a bridge of a server takes one name".to_owned()));
    }
    Ok(())
}

/// The names that match one of these.
pub(crate) fn set_of(patterns: &[String]) -> Result<GlobSet, BridgeError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let refused = |e: globset::Error| BridgeError::Pattern {
            pattern: pattern.clone(),
            reason: e.kind().to_string(),
        };
        set.add(Glob::new(pattern).map_err(refused)?);
    }
    set.build().map_err(|e| BridgeError::Pattern { pattern: patterns.join(" "), reason: e.to_string() })
}
