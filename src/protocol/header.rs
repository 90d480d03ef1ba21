//! The fixed half of a segment's header. It is written once, before the segment has a name, and parsed from bytes
//! that nobody trusts.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::geometry::{Geometry, HEADER_BYTES};
use crate::error::{ConfigError, SegmentError};

/// First eight bytes of every segment.
const MAGIC: [u8; 8] = *b"CPSHMTR\n";
/// Changes whenever a byte of the layout changes its meaning.
const VERSION: u32 = 2;
/// Reads as `0x0403_0201` to a machine of the other byte order.
const ENDIAN: u32 = 0x0102_0304;
/// Where the words begin that change while the channel lives.
pub(crate) const WORDS_OFFSET: usize = 256;
/// Longest tag, in bytes.
const MAX_TAG_BYTES: usize = 64;

/// One of the two directions of a channel, each a ring of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Side A sends, side B receives.
    AToB,
    /// Side B sends, side A receives.
    BToA,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AToB => "A to B",
            Self::BToA => "B to A",
        })
    }
}

/// The facts about a direction's messages that the two ends must agree on, beyond their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// 0 raw bytes, 1 `Pod` values, 2 Cap'n Proto frames.
    pub(crate) kind: u32,
    pub(crate) align: u32,
    pub(crate) size: u64,
    /// The Cap'n Proto type id, else 0.
    pub(crate) type_id: u64,
}

impl Identity {
    /// Kind of the messages of a `Channel`: each fills its slot.
    pub(crate) const POD: u32 = 1;
    /// Kind of the messages of a `CapnpChannel`: frames of the standard stream framing.
    pub(crate) const CAPNP: u32 = 2;
    /// Bytes.
    pub(crate) const RAW: Self = Self { kind: 0, align: 0, size: 0, type_id: 0 };
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            0 => f.write_str("raw bytes"),
            Self::POD => write!(f, "a Pod type of {} bytes, aligned to {}", self.size, self.align),
            Self::CAPNP => write!(f, "the Cap'n Proto type @{:#018x}", self.type_id),
            kind => write!(f, "messages of unknown kind {kind}"),
        }
    }
}

/// The fixed part, byte for byte, in the byte order of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Fixed {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    pub(crate) endian: u32,
    pub(crate) header_bytes: u32,
    pub(crate) direction: u32,
    pub(crate) generation: u64,
    pub(crate) file_bytes: u64,
    pub(crate) slot_size: u32,
    pub(crate) slot_count: u32,
    pub(crate) slot_stride: u32,
    pub(crate) creator_pid: u32,
    pub(crate) lengths_offset: u64,
    pub(crate) slots_offset: u64,
    pub(crate) payload_kind: u32,
    pub(crate) payload_align: u32,
    pub(crate) payload_size: u64,
    pub(crate) payload_type_id: u64,
    pub(crate) tag_bytes: u32,
    /// Features that an opener must know beyond this version: none yet.
    pub(crate) required: u32,
    pub(crate) tag: [u8; MAX_TAG_BYTES],
    /// Nanoseconds since 1970, for people who look.
    pub(crate) created_at: u64,
    pub(crate) unused: [u8; 80],
}

const _: () = assert!(size_of::<Fixed>() == WORDS_OFFSET);

impl Fixed {
    pub(crate) fn new(
        geometry: &Geometry,
        direction: Direction,
        generation: u64,
        identity: Identity,
        tag: &str,
    ) -> Result<Self, ConfigError> {
        let mut tag_field = [0; MAX_TAG_BYTES];
        let field = tag_field.get_mut(..tag.len());
        let field = field.ok_or(ConfigError::Tag { bytes: tag.len(), allowed: MAX_TAG_BYTES })?;
        field.copy_from_slice(tag.as_bytes());
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            magic: MAGIC,
            version: VERSION,
            endian: ENDIAN,
            header_bytes: HEADER_BYTES as u32,
            direction: direction as u32,
            generation,
            file_bytes: geometry.file_bytes as u64,
            slot_size: geometry.slot_size as u32,
            slot_count: geometry.slot_count as u32,
            slot_stride: geometry.stride as u32,
            creator_pid: std::process::id(),
            lengths_offset: HEADER_BYTES as u64,
            slots_offset: geometry.slots_offset as u64,
            payload_kind: identity.kind,
            payload_align: identity.align,
            payload_size: identity.size,
            payload_type_id: identity.type_id,
            tag_bytes: tag.len() as u32,
            required: 0,
            tag: tag_field,
            created_at: age.as_nanos() as u64,
            unused: [0; 80],
        })
    }

    /// Reads and checks the first bytes of a file of `file_bytes` bytes.
    pub(crate) fn parse(
        bytes: &[u8],
        file_bytes: u64,
        direction: Direction,
    ) -> Result<(Self, Geometry), SegmentError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(SegmentError::Foreign);
        }
        let truncated = |expected| SegmentError::Truncated { expected, found: file_bytes };
        let (fixed, _) = Self::read_from_prefix(bytes).map_err(|_| truncated(HEADER_BYTES as u64))?;
        if fixed.endian != ENDIAN {
            return Err(SegmentError::Endianness { found: fixed.endian });
        }
        if fixed.version != VERSION {
            return Err(SegmentError::Version { found: fixed.version, supported: VERSION });
        }
        let geometry = Geometry::new(fixed.slot_size as usize, fixed.slot_count as usize)
            .map_err(|_| SegmentError::Geometry)?;
        let claimed = Self {
            payload_kind: fixed.payload_kind,
            payload_align: fixed.payload_align,
            payload_size: fixed.payload_size,
            payload_type_id: fixed.payload_type_id,
            creator_pid: fixed.creator_pid,
            created_at: fixed.created_at,
            tag_bytes: fixed.tag_bytes,
            tag: fixed.tag,
            ..Self::new(&geometry, direction, fixed.generation, Identity::RAW, "")
                .map_err(|_| SegmentError::Geometry)?
        };
        // A value fills its slot.
        let fills = fixed.payload_kind != Identity::POD || fixed.payload_size == u64::from(fixed.slot_size);
        if claimed != fixed || fixed.tag_bytes as usize > MAX_TAG_BYTES || !fills {
            return Err(SegmentError::Geometry);
        }
        if file_bytes != fixed.file_bytes {
            return Err(truncated(fixed.file_bytes));
        }
        Ok((fixed, geometry))
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            kind: self.payload_kind,
            align: self.payload_align,
            size: self.payload_size,
            type_id: self.payload_type_id,
        }
    }

    /// The tag, as far as it is text.
    pub(crate) fn tag(&self) -> String {
        let bytes = self.tag.get(..self.tag_bytes as usize).unwrap_or(&[]);
        String::from_utf8_lossy(bytes).into_owned()
    }
}
