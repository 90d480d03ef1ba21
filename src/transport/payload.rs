//! What the two sides exchange, and whether they agree on it.

use crate::config::Config;
use crate::error::OpenError;
use crate::segment::{Identity, Segment};

/// What one direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) slot_size: usize,
    pub(crate) identity: Identity,
}

/// What a side sends and what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payloads {
    pub(crate) out: Payload,
    pub(crate) back: Payload,
}

impl Payloads {
    /// Bytes, the same in both directions.
    pub(crate) fn raw(config: &Config) -> Self {
        let payload = Payload { slot_size: config.slot_size, identity: Identity::RAW };
        Self { out: payload, back: payload }
    }
}

/// Both sides speak the same protocol and exchange the same types.
pub(super) fn agree(
    name: &str,
    config: &Config,
    expected: Option<Payloads>,
    tx: &Segment,
    rx: &Segment,
) -> Result<(), OpenError> {
    if let Some(tag) = config.tag.as_ref().filter(|&tag| *tag != rx.fixed.tag()) {
        return Err(OpenError::Tag { name: name.to_owned(), found: rx.fixed.tag(), expected: tag.clone() });
    }
    let Some(expected) = expected else { return Ok(()) };
    for (direction, segment, payload) in [("sending", tx, expected.out), ("receiving", rx, expected.back)] {
        let found = segment.identity();
        if found != payload.identity {
            return Err(OpenError::Type {
                name: name.to_owned(),
                direction,
                found: found.to_string(),
                expected: payload.identity.to_string(),
            });
        }
    }
    Ok(())
}
