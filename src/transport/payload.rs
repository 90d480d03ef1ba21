//! The payloads that the two sides exchange, and whether they agree on them.

use crate::config::{Config, MessageKind, Slots};
use crate::error::{ConfigError, OpenError};
use crate::protocol::{Identity, MAX_SLOT_ALIGN};
use crate::segment::SegmentFile;

/// Bytes of a Cap'n Proto word.
const WORD: usize = 8;
/// Bytes of the smallest Cap'n Proto frame: its table and a root pointer.
pub(crate) const LEAST_FRAME: usize = 2 * WORD;

/// The payload of one direction.
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

    /// Values of one type, each of which fills its slot.
    pub(crate) const fn pod(size: usize, align: usize) -> Self {
        let identity = Identity { kind: Identity::POD, align: align as u32, size: size as u64, type_id: 0 };
        Self { identity, slot_size: Some(size), least: size }
    }

    /// Frames whose root is a struct of this type id.
    pub(crate) const fn capnp(type_id: u64) -> Self {
        let identity = Identity { kind: Identity::CAPNP, align: WORD as u32, size: 0, type_id };
        Self { identity, slot_size: None, least: LEAST_FRAME }
    }

    /// The payload in a configuration, checked.
    fn of(kind: MessageKind) -> Result<Self, ConfigError> {
        match kind {
            MessageKind::Bytes => Ok(Self::RAW),
            MessageKind::Pod { size, align } => {
                let alignable = align.is_power_of_two() && align <= MAX_SLOT_ALIGN;
                if !alignable || size == 0 || size & (align - 1) != 0 {
                    return Err(ConfigError::Pod { size, align });
                }
                Ok(Self::pod(size, align))
            }
            MessageKind::Capnp { type_id } => Ok(Self::capnp(type_id)),
            MessageKind::Other(_) => Err(ConfigError::Kind {
                asked: kind.to_string(),
                carried: "bytes, Pod values or Cap'n Proto messages".to_owned(),
            }),
        }
    }

    /// The payload of a half whose type says this. If the type says [`RAW`](Self::RAW), the configuration decides.
    fn agreed(self, kind: MessageKind) -> Result<Self, ConfigError> {
        let configured = Self::of(kind)?;
        match (self.identity, configured.identity) {
            (Identity::RAW, _) => Ok(configured),
            (typed, said) if said == Identity::RAW || said == typed => Ok(self),
            (typed, said) => Err(ConfigError::Kind { asked: said.to_string(), carried: typed.to_string() }),
        }
    }

    /// Whether every message fills its slot.
    pub(super) fn fills_slot(&self) -> bool {
        self.identity.kind == Identity::POD
    }

    /// The slots of a direction that carries this.
    pub(super) fn slots(&self, configured: Slots) -> Result<Slots, ConfigError> {
        let size = self.slot_size.unwrap_or(configured.size);
        if size < self.least {
            return Err(ConfigError::SlotSize { asked: size, least: self.least });
        }
        Ok(Slots { size, ..configured })
    }
}

/// The payloads that a side sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payloads {
    pub(crate) tx: Payload,
    pub(crate) rx: Payload,
}

impl Payloads {
    /// The payloads from the types of the two halves, or from the configuration where a type leaves it open.
    pub(super) fn new(tx: Payload, rx: Payload, config: &Config) -> Result<Self, ConfigError> {
        Ok(Self { tx: tx.agreed(config.sends)?, rx: rx.agreed(config.receives)? })
    }
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
