//! Looking at channels from outside: figures and listings.

use std::time::UNIX_EPOCH;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use transport::PollMode;

use crate::config::Options;
use crate::errors::of_open;

/// Figures of one ring. Each is true of some recent moment.
#[pyclass(frozen, get_all, module = "capnproto_shm_transport")]
#[derive(Clone)]
pub struct RingStats {
    /// Payload bytes of a slot.
    pub slot_size: usize,
    /// Slots of the ring.
    pub slot_count: usize,
    /// Slots published and not yet released.
    pub used_slots: usize,
    /// Messages published.
    pub messages: u64,
    /// Payload bytes published.
    pub bytes: u64,
    /// Times the sender found the ring full.
    pub full_waits: u64,
    /// Times either end went to sleep.
    pub parks: u64,
    /// Times either end woke the other.
    pub wakes: u64,
    /// Whether either end has closed, died or been superseded.
    pub closed: bool,
}

/// Both rings of a channel: `tx` is the one that this side sends into, or from side A to side B.
#[pyclass(frozen, get_all, module = "capnproto_shm_transport")]
#[derive(Clone)]
pub struct Stats {
    /// The ring that this side sends into.
    pub tx: RingStats,
    /// The ring that this side receives from.
    pub rx: RingStats,
}

/// The process on the other side, as the system attests it.
#[pyclass(frozen, get_all, name = "Peer", module = "capnproto_shm_transport")]
pub struct PeerId {
    pid: u32,
    uid: u32,
    gid: u32,
}

/// One side of a channel, seen from outside.
#[pyclass(frozen, get_all, module = "capnproto_shm_transport")]
#[derive(Clone)]
pub struct SideInfo {
    /// "alive", "absent", "closed", "dead" or "unknown".
    life: String,
    pid: Option<u32>,
    /// "spin", "park", seconds between two looks, or None.
    poll: Option<String>,
}

/// A channel, seen from outside.
#[pyclass(frozen, get_all, module = "capnproto_shm_transport")]
pub struct ChannelInfo {
    name: String,
    directory: String,
    generation: Option<u64>,
    /// When side A created it, in seconds since 1970.
    created: Option<f64>,
    tag: Option<String>,
    a: SideInfo,
    b: SideInfo,
    /// The kind of the messages from side A to side B.
    a_to_b: Option<String>,
    /// The kind of the messages from side B to side A.
    b_to_a: Option<String>,
    /// `tx` is the ring from A to B.
    stats: Option<Stats>,
    /// Its fault, or None.
    problem: Option<String>,
}

/// A server, seen from outside.
#[pyclass(frozen, get_all, module = "capnproto_shm_transport")]
pub struct ServerInfo {
    name: String,
    directory: String,
    /// "alive", "dead" or "unknown".
    life: String,
    problem: Option<String>,
}

impl From<transport::RingStats> for RingStats {
    fn from(ring: transport::RingStats) -> Self {
        Self {
            slot_size: ring.slot_size,
            slot_count: ring.slot_count,
            used_slots: ring.used_slots,
            messages: ring.messages,
            bytes: ring.bytes,
            full_waits: ring.full_waits,
            parks: ring.parks,
            wakes: ring.wakes,
            closed: ring.closed,
        }
    }
}

impl From<transport::Stats> for Stats {
    fn from(stats: transport::Stats) -> Self {
        Self { tx: stats.tx.into(), rx: stats.rx.into() }
    }
}

impl From<transport::Peer> for PeerId {
    fn from(peer: transport::Peer) -> Self {
        Self { pid: peer.pid, uid: peer.uid, gid: peer.gid }
    }
}

impl From<transport::SideInfo> for SideInfo {
    fn from(side: transport::SideInfo) -> Self {
        let poll = side.poll.map(|mode| match mode {
            PollMode::Spin => "spin".to_owned(),
            PollMode::Interval(time) => time.as_secs_f64().to_string(),
            _ => "park".to_owned(),
        });
        Self { life: side.life.to_string(), pid: side.pid, poll }
    }
}

impl From<transport::ChannelInfo> for ChannelInfo {
    fn from(info: transport::ChannelInfo) -> Self {
        let created = info.created.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let stats = match (info.a_to_b, info.b_to_a) {
            (Some(a_to_b), Some(b_to_a)) => Some(Stats { tx: a_to_b.stats.into(), rx: b_to_a.stats.into() }),
            _ => None,
        };
        Self {
            name: info.name,
            directory: info.directory.display().to_string(),
            generation: info.generation,
            created: created.map(|time| time.as_secs_f64()),
            tag: info.tag,
            a: info.a.into(),
            b: info.b.into(),
            a_to_b: info.a_to_b.map(|ring| ring.kind.to_string()),
            b_to_a: info.b_to_a.map(|ring| ring.kind.to_string()),
            stats,
            problem: info.problem.map(|problem| problem.to_string()),
        }
    }
}

impl From<transport::ServerInfo> for ServerInfo {
    fn from(info: transport::ServerInfo) -> Self {
        Self {
            name: info.name,
            directory: info.directory.display().to_string(),
            life: info.life.to_string(),
            problem: info.problem.map(|problem| problem.to_string()),
        }
    }
}

macro_rules! reprs {
    ($($class:ident ($($field:ident),*);)*) => {$(
        #[pymethods]
        impl $class {
            fn __repr__(&self) -> String {
                let fields = [$(format!(concat!(stringify!($field), "={:?}"), self.$field)),*];
                format!(concat!(stringify!($class), "({})"), fields.join(", "))
            }
        }
    )*};
}

reprs! {
    RingStats(slot_size, slot_count, used_slots, messages, bytes, full_waits, parks, wakes, closed);
    SideInfo(life, pid, poll);
    ServerInfo(name, life, problem);
    ChannelInfo(name, tag, a_to_b, b_to_a, problem);
}

impl std::fmt::Debug for RingStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.__repr__())
    }
}

#[pymethods]
impl Stats {
    fn __repr__(&self) -> String {
        format!("Stats(tx={:?}, rx={:?})", self.tx, self.rx)
    }
}

#[pymethods]
impl PeerId {
    fn __repr__(&self) -> String {
        format!("Peer(pid={}, uid={}, gid={})", self.pid, self.uid, self.gid)
    }
}

/// Every channel that has a name.
#[pyfunction]
#[pyo3(signature = (**options))]
fn ls(options: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<ChannelInfo>> {
    let found = transport::Channels::list_with(&Options::of(options)?.config)?;
    Ok(found.into_iter().map(ChannelInfo::from).collect())
}

/// Every server.
#[pyfunction]
#[pyo3(signature = (**options))]
fn servers(options: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<ServerInfo>> {
    let found = transport::Channels::servers_with(&Options::of(options)?.config)?;
    Ok(found.into_iter().map(ServerInfo::from).collect())
}

/// The channel `name`, seen from outside. TimeoutError if there is none.
#[pyfunction]
#[pyo3(signature = (name, **options))]
fn info(name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<ChannelInfo> {
    transport::ChannelInfo::of_with(name, &Options::of(options)?.config)
        .map(ChannelInfo::from)
        .map_err(of_open)
}

/// Figures of the channel `name`, seen from outside. TimeoutError if there is none.
#[pyfunction]
#[pyo3(signature = (name, **options))]
fn stats(name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Stats> {
    transport::Stats::of_with(name, &Options::of(options)?.config).map(Stats::from).map_err(of_open)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RingStats>()?;
    module.add_class::<Stats>()?;
    module.add_class::<PeerId>()?;
    module.add_class::<SideInfo>()?;
    module.add_class::<ChannelInfo>()?;
    module.add_class::<ServerInfo>()?;
    module.add_function(wrap_pyfunction!(ls, module)?)?;
    module.add_function(wrap_pyfunction!(servers, module)?)?;
    module.add_function(wrap_pyfunction!(info, module)?)?;
    module.add_function(wrap_pyfunction!(stats, module)?)
}
