//! The packets that a client and a server exchange before there is a channel.
//!
//! | packet | from | holds | beside it |
//! |---|---|---|---|
//! | [`Hello`] | client | what it exchanges, and the tag it expects | |
//! | [`Answer`] | server | a verdict, and what the server exchanges | if welcome: the two segments, the four events |
//! | [`JOINED`] | client | that it has joined | |
//!
//! Nobody trusts a packet: each reader checks it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::protocol::Identity;
use crate::transport::Payloads;

/// First eight bytes of each packet.
const MAGIC: [u8; 8] = *b"CPSHMSV\n";
/// Changes whenever a byte of a packet changes its meaning.
pub(super) const VERSION: u32 = 1;
/// Reads as `0x0403_0201` to a machine of the other byte order.
const ENDIAN: u32 = 0x0102_0304;
/// A tag's length that stands for any.
const ANY: u32 = u32::MAX;
const TAG_BYTES: usize = 64;

/// The client's last packet.
pub(super) const JOINED: &[u8] = b"joined\n\0";

/// The payload of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Carried {
    kind: u32,
    align: u32,
    size: u64,
    type_id: u64,
}

impl From<Identity> for Carried {
    fn from(identity: Identity) -> Self {
        let Identity { kind, align, size, type_id } = identity;
        Self { kind, align, size, type_id }
    }
}

impl From<Carried> for Identity {
    fn from(carried: Carried) -> Self {
        let Carried { kind, align, size, type_id } = carried;
        Self { kind, align, size, type_id }
    }
}

/// The beginning of both packets, seen from their sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Terms {
    magic: [u8; 8],
    version: u32,
    endian: u32,
    sends: Carried,
    receives: Carried,
    tag_bytes: u32,
    /// An answer's verdict.
    verdict: u32,
    tag: [u8; TAG_BYTES],
}

pub(super) const PACKET_BYTES: usize = size_of::<Terms>();

/// The payloads that the sender of a packet exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) sends: Identity,
    pub(super) receives: Identity,
    /// `None` if any will do.
    pub(super) tag: Option<String>,
}

impl Offer {
    pub(super) fn new(payloads: Payloads, tag: Option<&str>) -> Self {
        let (sends, receives) = (payloads.tx.identity, payloads.rx.identity);
        Self { sends, receives, tag: tag.map(str::to_owned) }
    }

    fn terms(&self, verdict: Verdict) -> Terms {
        let mut tag = [0; TAG_BYTES];
        let given = self.tag.as_deref().unwrap_or("").as_bytes();
        let bytes = given.len().min(TAG_BYTES);
        tag[..bytes].copy_from_slice(&given[..bytes]);
        Terms {
            magic: MAGIC,
            version: VERSION,
            endian: ENDIAN,
            sends: self.sends.into(),
            receives: self.receives.into(),
            tag_bytes: if self.tag.is_some() { bytes as u32 } else { ANY },
            verdict: verdict as u32,
            tag,
        }
    }
}

/// A server's answer to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Verdict {
    Welcome = 0,
    /// Another tag.
    Tag = 1,
    /// Other types.
    Type = 2,
    /// The filter says no.
    Refused = 3,
    /// There are as many clients as there may be, or no memory for another.
    Full = 4,
    /// The hello is not of this version.
    Version = 5,
}

impl Verdict {
    const ALL: [Self; 6] = [Self::Welcome, Self::Tag, Self::Type, Self::Refused, Self::Full, Self::Version];
}

/// A packet that is none of this version's, and the version that it says, 0 if it says none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) u32);

fn parse(packet: &[u8]) -> Result<(Offer, u32), Unreadable> {
    let version = |bytes: &[u8]| match bytes {
        [head @ .., a, b, c, d] if head == MAGIC => u32::from_ne_bytes([*a, *b, *c, *d]),
        _ => 0,
    };
    let spoken = packet.get(..12).map_or(0, version);
    let terms = Terms::read_from_bytes(packet).map_err(|_| Unreadable(spoken))?;
    if terms.magic != MAGIC || terms.version != VERSION || terms.endian != ENDIAN {
        return Err(Unreadable(spoken));
    }
    let tag = match terms.tag_bytes {
        ANY => None,
        bytes => {
            let bytes = terms.tag.get(..bytes as usize).ok_or(Unreadable(spoken))?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    };
    Ok((Offer { sends: terms.sends.into(), receives: terms.receives.into(), tag }, terms.verdict))
}

/// The client's first packet.
pub(super) struct Hello;

impl Hello {
    pub(super) fn packet(offer: &Offer) -> [u8; PACKET_BYTES] {
        zerocopy::transmute!(offer.terms(Verdict::Welcome))
    }

    pub(super) fn parse(packet: &[u8]) -> Result<Offer, Unreadable> {
        parse(packet).map(|(offer, _)| offer)
    }
}

/// The server's packet.
pub(super) struct Answer;

impl Answer {
    pub(super) fn packet(offer: &Offer, verdict: Verdict) -> [u8; PACKET_BYTES] {
        zerocopy::transmute!(offer.terms(verdict))
    }

    pub(super) fn parse(packet: &[u8]) -> Result<(Offer, Verdict), Unreadable> {
        let (offer, word) = parse(packet)?;
        let verdict = Verdict::ALL.into_iter().find(|verdict| *verdict as u32 == word);
        Ok((offer, verdict.ok_or(Unreadable(VERSION))?))
    }
}

/// The descriptors beside a welcome, in this order: the segments from A to B and from B to A, then side A's events for room and
/// for messages, then side B's.
pub(super) struct Handed {
    pub(super) segments: [OwnedFd; 2],
    pub(super) events: [OwnedFd; 4],
}

impl Handed {
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 6] {
        let ([a, b], [c, d, e, f]) = (&self.segments, &self.events);
        [a, b, c, d, e, f].map(AsFd::as_fd)
    }

    /// `None` if there are more or fewer.
    pub(super) fn parse(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let [a, b, c, d, e, f] = <[OwnedFd; 6]>::try_from(descriptors).ok()?;
        Some(Self { segments: [a, b], events: [c, d, e, f] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(tag: Option<&str>) -> Offer {
        let sends = Identity { kind: 1, align: 8, size: 16, type_id: 0 };
        let receives = Identity { kind: 2, align: 0, size: 0, type_id: 77 };
        Offer { sends, receives, tag: tag.map(str::to_owned) }
    }

    #[test]
    fn what_is_said_is_understood() {
        for tag in [None, Some(""), Some("quotes"), Some(&"x".repeat(TAG_BYTES)[..])] {
            assert_eq!(Hello::parse(&Hello::packet(&offer(tag))), Ok(offer(tag)));
            for verdict in Verdict::ALL {
                assert_eq!(Answer::parse(&Answer::packet(&offer(tag), verdict)), Ok((offer(tag), verdict)));
            }
        }
    }

    #[test]
    fn anything_else_is_not() {
        let packet = Hello::packet(&offer(Some("quotes")));
        for cut in 0..PACKET_BYTES {
            assert!(Hello::parse(&packet[..cut]).is_err(), "{cut}");
        }
        assert_eq!(Hello::parse(&[packet.as_slice(), &[0]].concat()), Err(Unreadable(VERSION)));
        for (at, version) in [(0, 0), (8, VERSION ^ 1), (12, VERSION)] {
            let mut changed = packet;
            changed[at] ^= 1;
            assert_eq!(Hello::parse(&changed), Err(Unreadable(version)), "byte {at}");
        }
        let mut long = packet;
        let at = std::mem::offset_of!(Terms, tag_bytes);
        long[at..at + 4].copy_from_slice(&(TAG_BYTES as u32 + 1).to_ne_bytes());
        assert_eq!(Hello::parse(&long), Err(Unreadable(VERSION)));
        let mut unknown = packet;
        let at = std::mem::offset_of!(Terms, verdict);
        unknown[at..at + 4].copy_from_slice(&99u32.to_ne_bytes());
        assert_eq!(Answer::parse(&unknown), Err(Unreadable(VERSION)));
    }
}
