//! The facts about a direction of a channel that a recording keeps, and their form in the file's metadata.

use std::collections::BTreeMap;

use capnproto_shm_transport::{ChannelInfo, Direction, MessageKind, RingInfo};

/// The facts about one direction of a recorded channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The channel.
    pub name: String,
    pub direction: Direction,
    pub kind: MessageKind,
    pub slot_size: usize,
    pub slot_count: usize,
    pub tag: String,
    /// The type's name, where a schema was given.
    pub schema: Option<String>,
}

impl Stream {
    /// Both directions of a channel that is there.
    pub fn of(info: &ChannelInfo) -> Option<[Self; 2]> {
        let stream = |direction, ring: &RingInfo| Self {
            name: info.name.clone(),
            direction,
            kind: ring.kind,
            slot_size: ring.stats.slot_size,
            slot_count: ring.stats.slot_count,
            tag: info.tag.clone().unwrap_or_default(),
            schema: None,
        };
        let (a_to_b, b_to_a) = (info.a_to_b.as_ref()?, info.b_to_a.as_ref()?);
        Some([stream(Direction::AToB, a_to_b), stream(Direction::BToA, b_to_a)])
    }

    pub(super) fn topic(&self) -> String {
        format!("{}/{}", self.name, word(self.direction))
    }

    pub(super) fn encoding(&self) -> &'static str {
        match self.kind {
            MessageKind::Capnp { .. } => "capnp",
            MessageKind::Pod { .. } => "x-capnp-shm-pod",
            _ => "x-capnp-shm-bytes",
        }
    }

    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([
            ("channel".to_owned(), self.name.clone()),
            ("direction".to_owned(), word(self.direction).to_owned()),
            ("slot_size".to_owned(), self.slot_size.to_string()),
            ("slot_count".to_owned(), self.slot_count.to_string()),
            ("tag".to_owned(), self.tag.clone()),
        ]);
        let mut add = |name: &str, value: String| metadata.insert(name.to_owned(), value);
        match self.kind {
            MessageKind::Pod { size, align } => {
                add("kind", "pod".to_owned());
                add("value_size", size.to_string());
                add("value_align", align.to_string());
            }
            MessageKind::Capnp { type_id } => {
                add("kind", "capnp".to_owned());
                add("type_id", format!("{type_id:#018x}"));
            }
            _ => {
                add("kind", "bytes".to_owned());
            }
        }
        metadata
    }

    pub(super) fn read(metadata: &BTreeMap<String, String>, schema: Option<String>) -> Option<Self> {
        let get = |name: &str| metadata.get(name).map(String::as_str);
        let number = |name: &str| get(name)?.parse::<usize>().ok();
        let kind = match get("kind")? {
            "bytes" => MessageKind::Bytes,
            "pod" => MessageKind::Pod { size: number("value_size")?, align: number("value_align")? },
            "capnp" => {
                let digits = get("type_id")?.strip_prefix("0x")?;
                MessageKind::Capnp { type_id: u64::from_str_radix(digits, 16).ok()? }
            }
            _ => return None,
        };
        let direction = match get("direction")? {
            "a_to_b" => Direction::AToB,
            "b_to_a" => Direction::BToA,
            _ => return None,
        };
        Some(Self {
            name: get("channel")?.to_owned(),
            direction,
            kind,
            slot_size: number("slot_size")?,
            slot_count: number("slot_count")?,
            tag: get("tag").unwrap_or_default().to_owned(),
            schema,
        })
    }
}

pub(super) fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::AToB => "a_to_b",
        Direction::BToA => "b_to_a",
    }
}
