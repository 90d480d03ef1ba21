//! The kind of the messages of a ring or of a recording, as it is printed.

use capnproto_shm_transport::MessageKind;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Messages {
    /// bytes, pod, capnp, other.
    pub kind: &'static str,
    pub type_id: Option<String>,
    pub type_name: Option<String>,
    pub value_size: Option<usize>,
    pub value_align: Option<usize>,
}

impl Messages {
    pub fn of(kind: MessageKind, name: impl FnOnce(u64) -> Option<String>) -> Self {
        let (kind, type_id, value) = match kind {
            MessageKind::Bytes => ("bytes", None, None),
            MessageKind::Pod { size, align } => ("pod", None, Some((size, align))),
            MessageKind::Capnp { type_id } => ("capnp", Some(type_id), None),
            _ => ("other", None, None),
        };
        Self {
            kind,
            type_id: type_id.map(|id| format!("{id:#018x}")),
            type_name: type_id.and_then(name),
            value_size: value.map(|(size, _)| size),
            value_align: value.map(|(_, align)| align),
        }
    }

    /// In a word or two.
    pub fn short(&self) -> String {
        match (&self.type_name, &self.type_id, self.value_size) {
            (Some(name), _, _) => name.clone(),
            (_, Some(id), _) => format!("capnp @{id}"),
            (_, _, Some(size)) => format!("pod {size} B"),
            _ => self.kind.to_owned(),
        }
    }
}
