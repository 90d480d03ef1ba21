//! What the two sides exchange, and whether they agree on it.

use crate::config::{Config, Slots};
use crate::error::{ConfigError, OpenError};
use crate::protocol::Identity;
use crate::segment::SegmentFile;

/// What one direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) identity: Identity,
    /// The slot size that follows from it, if one does: else the configuration says.
    pub(crate) slot_size: Option<usize>,
    /// Bytes of the smallest message.
    pub(crate) least: usize,
}

impl Payload {
    pub(crate) const RAW: Self = Self { identity: Identity::RAW, slot_size: None, least: 1 };

    /// The slots of a direction that carries this.
    pub(super) fn slots(&self, configured: Slots) -> Result<Slots, ConfigError> {
        let size = self.slot_size.unwrap_or(configured.size);
        if size < self.least {
            return Err(ConfigError::SlotSize { asked: size, least: self.least });
        }
        Ok(Slots { size, ..configured })
    }
}

/// What a side sends and what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payloads {
    pub(crate) tx: Payload,
    pub(crate) rx: Payload,
}

/// Whether a side B that expects `expected` takes what side A declares.
pub(crate) fn fits(expected: Identity, found: Identity) -> bool {
    expected == Identity::RAW || expected == found
}

/// Both sides speak the same protocol and exchange the same types. A raw side takes any type for the bytes that it is.
pub(super) fn agree(
    name: &str,
    config: &Config,
    expected: Payloads,
    tx: &SegmentFile,
    rx: &SegmentFile,
) -> Result<(), OpenError> {
    if let Some(tag) = config.tag.as_ref().filter(|&tag| *tag != rx.fixed.tag()) {
        return Err(OpenError::Tag { name: name.to_owned(), found: rx.fixed.tag(), expected: tag.clone() });
    }
    for (direction, segment, payload) in [("sending", tx, expected.tx), ("receiving", rx, expected.rx)] {
        let found = segment.identity();
        if !fits(payload.identity, found) {
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
