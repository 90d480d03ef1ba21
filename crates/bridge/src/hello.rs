//! What two bridges say before they bridge: what the channel is, and whether it can be here too. JSON, once for each session.

use capnproto_shm_transport::{ChannelInfo, Config, MessageKind, RingInfo, Transport};
use serde::{Deserialize, Serialize};

/// What every hello says first, in any version.
pub(crate) const PROTOCOL: &str = "capnproto-shm-transport bridge";
/// Version of the hello, the answer, and the frames.
pub(crate) const VERSION: u32 = 1;

/// Enough to know who speaks.
#[derive(Debug, Deserialize)]
struct Preamble {
    protocol: String,
    version: u32,
}

/// What a bridge tells the other of a channel that it wants bridged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    protocol: String,
    version: u32,
    pub(crate) name: String,
    pub(crate) wish: Wish,
    /// Names the keys on which this session's frames travel.
    pub(crate) session: u64,
    /// Slots that the one who says hello takes before it has placed any.
    pub(crate) window: u64,
}

/// What is to be bridged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// The channel of this shape, which exists where the hello comes from.
    Channel { shape: Shape },
    /// What shape the channels of the server have.
    Shape,
    /// One more client of the server.
    Client { shape: Shape },
}

/// What makes a channel what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) a_to_b: Lane,
    pub(crate) b_to_a: Lane,
    pub(crate) tag: String,
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lane {
    pub(crate) slot_size: usize,
    pub(crate) slot_count: usize,
    kind: Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Identity {
    Bytes,
    Pod { size: usize, align: usize },
    Capnp { type_id: u64 },
}

/// What the other bridge says to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It bridges. `window`: as in the hello.
    Accepted { window: u64 },
    /// The shape that was asked for.
    Shape(Shape),
    /// It does not, and why. `for_good`: nothing changes that but another program.
    Refused { reason: String, for_good: bool },
}

impl Hello {
    pub(crate) fn new(name: &str, wish: Wish, session: u64, window: u64) -> Self {
        let (protocol, version) = (PROTOCOL.to_owned(), VERSION);
        Self { protocol, version, name: name.to_owned(), wish, session, window }
    }

    /// The hello in what came, or what is wrong with it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let foreign = |e: serde_json::Error| format!("this is no hello of a bridge: {e}");
        let preamble: Preamble = serde_json::from_slice(bytes).map_err(foreign)?;
        if preamble.protocol != PROTOCOL {
            return Err(format!("this is no hello of a bridge: it says {:?}", preamble.protocol));
        }
        if preamble.version != VERSION {
            return Err(format!(
                "the bridges speak version {} there and {VERSION} here; use the same on both machines",
                preamble.version
            ));
        }
        serde_json::from_slice(bytes).map_err(foreign)
    }
}

impl Lane {
    fn of(kind: MessageKind, slot_size: usize, slot_count: usize) -> Result<Self, String> {
        let kind = match kind {
            MessageKind::Bytes => Identity::Bytes,
            MessageKind::Pod { size, align } => Identity::Pod { size, align },
            MessageKind::Capnp { type_id } => Identity::Capnp { type_id },
            kind => {
                return Err(format!(
                    "messages of {kind} are not known here; use the same version on both sides"
                ));
            }
        };
        Ok(Self { slot_size, slot_count, kind })
    }

    fn of_ring(ring: &RingInfo) -> Result<Self, String> {
        Self::of(ring.kind, ring.stats.slot_size, ring.stats.slot_count)
    }

    fn kind(&self) -> MessageKind {
        match self.kind {
            Identity::Bytes => MessageKind::Bytes,
            Identity::Pod { size, align } => MessageKind::Pod { size, align },
            Identity::Capnp { type_id } => MessageKind::Capnp { type_id },
        }
    }

    /// Bytes of its slots; none if no machine has so many.
    fn bytes(&self) -> Option<u64> {
        (self.slot_size as u64).checked_next_multiple_of(64)?.checked_mul(self.slot_count as u64)
    }

    /// Slots that a message takes.
    pub(crate) fn slots_for(&self, bytes: usize) -> u64 {
        slots_for(bytes, self.slot_size)
    }
}

/// Slots that a message takes.
pub(crate) fn slots_for(bytes: usize, slot_size: usize) -> u64 {
    bytes.div_ceil(slot_size.max(1)).max(1) as u64
}

impl Shape {
    pub(crate) fn of(info: &ChannelInfo) -> Result<Option<Self>, String> {
        let (Some(a_to_b), Some(b_to_a), Some(tag)) = (&info.a_to_b, &info.b_to_a, &info.tag) else {
            return Ok(None);
        };
        Ok(Some(Self { a_to_b: Lane::of_ring(a_to_b)?, b_to_a: Lane::of_ring(b_to_a)?, tag: tag.clone() }))
    }

    /// The shape of a channel that this process has joined as side B.
    pub(crate) fn of_side_b(b: &mut Transport) -> Result<Self, String> {
        let (sends, receives, tag) = (b.sends(), b.receives(), b.message_tag());
        let (to_a, from_a) = b.halves();
        Ok(Self {
            a_to_b: Lane::of(receives, from_a.slot_size(), from_a.slot_count())?,
            b_to_a: Lane::of(sends, to_a.slot_size(), to_a.slot_count())?,
            tag,
        })
    }

    /// How side A makes such a channel, if it takes no more than `most` bytes.
    pub(crate) fn config(&self, base: &Config, most: u64) -> Result<Config, String> {
        let [a_to_b, b_to_a] = [&self.a_to_b, &self.b_to_a];
        let needed = a_to_b.bytes().zip(b_to_a.bytes()).and_then(|(a, b)| a.checked_add(b));
        if needed.is_none_or(|needed| needed > most) {
            return Err(format!(
                "the channel's slots ({} of {} bytes and {} of {}) take more than the {most} bytes that this bridge may \
                 use for one channel; raise --memory",
                a_to_b.slot_count, a_to_b.slot_size, b_to_a.slot_count, b_to_a.slot_size
            ));
        }
        let config = base
            .clone()
            .a_to_b(a_to_b.slot_size, a_to_b.slot_count)
            .b_to_a(b_to_a.slot_size, b_to_a.slot_count)
            .sends(a_to_b.kind())
            .receives(b_to_a.kind());
        Ok(if self.tag.is_empty() { config } else { config.message_tag(&self.tag) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(slot_size: usize, slot_count: usize) -> Lane {
        Lane { slot_size, slot_count, kind: Identity::Bytes }
    }

    fn hello() -> Hello {
        let shape = Shape { a_to_b: lane(64, 16), b_to_a: lane(8, 4), tag: "ticks/1".into() };
        Hello::new("ticks", Wish::Channel { shape }, 1 << 63, 16)
    }

    #[test]
    fn a_hello_is_read_as_it_was_said() {
        let hello = hello();
        assert_eq!(Hello::read(&serde_json::to_vec(&hello).unwrap()), Ok(hello));
    }

    #[test]
    fn another_version_and_another_protocol_are_told() {
        let mut other = hello();
        other.version = 2;
        let error = Hello::read(&serde_json::to_vec(&other).unwrap()).unwrap_err();
        assert!(error.contains("version 2 there and 1 here"), "{error}");
        other.protocol = "another".into();
        let error = Hello::read(&serde_json::to_vec(&other).unwrap()).unwrap_err();
        assert!(error.contains("no hello") && error.contains("another"), "{error}");
        assert!(Hello::read(b"\xff\x00").unwrap_err().contains("no hello"));
        // A later version may say anything behind the preamble.
        let later = format!(r#"{{"protocol": "{PROTOCOL}", "version": 9}}"#);
        assert!(Hello::read(later.as_bytes()).unwrap_err().contains("version 9"));
    }

    #[test]
    fn a_shape_that_takes_too_much_is_refused_by_name() {
        for (a, b) in [
            (lane(1 << 20, 1 << 20), lane(8, 8)),
            (lane(usize::MAX, 2), lane(8, 8)),
            (lane(64, 16), lane(64, usize::MAX)),
        ] {
            let shape = Shape { a_to_b: a, b_to_a: b, tag: String::new() };
            let error = shape.config(&Config::new(), 1 << 30).unwrap_err();
            assert!(error.contains("--memory") && error.contains(&a.slot_size.to_string()), "{error}");
        }
    }
}
