//! A channel as it is printed: the stable JSON form, and the parts of the tables. `README.md` documents it.

use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::Context;
use capnproto_shm_transport::{
    ChannelInfo, Channels, Life, Missing, OpenError, PollMode, RingInfo, ServerInfo, SideInfo,
};
use serde::Serialize;

use crate::args::Place;
use crate::messages::Messages;
use crate::process::{Process, Processes, number};
use crate::rates::{Look, Rate};
use crate::schema::Schemas;
use crate::text;

/// Counts up when a field changes its meaning or goes. New fields may come at any time.
pub const FORMAT: u32 = 1;

/// The output of `ls --json`.
#[derive(Debug, Serialize)]
pub struct Listing {
    pub format: u32,
    pub channels: Vec<Channel>,
    pub servers: Vec<Server>,
}

/// A name that clients connect to.
#[derive(Debug, Serialize)]
pub struct Server {
    pub name: String,
    pub directory: String,
    /// alive, dead, unknown.
    pub life: String,
    pub stopped: bool,
    pub pid: Option<u32>,
    pub program: Option<String>,
    /// Since it took the name.
    pub age_s: Option<f64>,
    /// The fault and its remedy.
    pub problem: Option<String>,
}

impl Server {
    fn of(info: &ServerInfo) -> Self {
        let file = |end: &str| info.directory.join(format!("{}.fs.{end}", info.name));
        let process = (info.life == Life::Alive).then(|| Process::that_holds(&file("server"))).flatten();
        // Each server makes a socket of its own.
        let made = std::fs::symlink_metadata(file("socket")).and_then(|metadata| metadata.modified());
        let left = || {
            let name = text::quoted(&info.name);
            (info.life == Life::Dead)
                .then(|| format!("it is dead; remove what it left with `capnp-shm rm {name}`"))
        };
        Self {
            name: info.name.clone(),
            directory: info.directory.display().to_string(),
            life: info.life.to_string(),
            stopped: process.as_ref().is_some_and(|process| process.stopped),
            pid: process.as_ref().map(|process| process.pid),
            program: process.and_then(|process| process.program),
            age_s: made.ok().and_then(|made| made.elapsed().ok()).map(|age| age.as_secs_f64()),
            problem: info.problem.as_ref().map(ToString::to_string).or_else(left),
        }
    }

    /// Life, process number and program, in a few characters.
    pub fn short(&self) -> String {
        short(&self.life, self.stopped, self.pid, self.program.as_deref())
    }

    pub fn age(&self) -> String {
        age(self.age_s)
    }
}

/// Every server, now.
pub fn servers(place: &Place) -> anyhow::Result<Vec<Server>> {
    Ok(servers_there(place)?.iter().map(Server::of).collect())
}

/// Life, process number and program of a side or a server.
fn short(life: &str, stopped: bool, pid: Option<u32>, program: Option<&str>) -> String {
    let life = if stopped { "stopped" } else { life };
    match (pid, program) {
        (Some(pid), Some(program)) => format!("{life} {pid} {}", text::printable(program)),
        (Some(pid), None) => format!("{life} {pid}"),
        _ => life.to_owned(),
    }
}

fn age(seconds: Option<f64>) -> String {
    let age = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    age.map_or_else(|| "-".to_owned(), text::age)
}

/// The output of `stat --json` for a channel.
#[derive(Debug, Serialize)]
pub struct Single {
    pub format: u32,
    pub channel: Channel,
}

/// The output of `stat --json` for a server.
#[derive(Debug, Serialize)]
pub struct SingleServer {
    pub format: u32,
    pub server: Server,
}

#[derive(Debug, Serialize)]
pub struct Channel {
    pub name: String,
    pub directory: String,
    pub state: State,
    pub generation: Option<String>,
    pub created_unix_ns: Option<u64>,
    pub age_s: Option<f64>,
    pub tag: Option<String>,
    pub a: Side,
    pub b: Side,
    pub a_to_b: Option<Ring>,
    pub b_to_a: Option<Ring>,
    /// The fault and its remedy.
    pub problem: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Both sides live.
    Live,
    /// Side A lives, and side B has not come yet.
    Waiting,
    /// Side A lives, and side B is gone.
    Abandoned,
    /// Side A is gone: the name is free.
    Leftover,
    /// It is being made, or was when its maker died.
    HalfMade,
    /// It cannot be looked at: of another user, another version, no segment.
    Refused,
}

impl State {
    fn of(info: &ChannelInfo) -> Self {
        match &info.problem {
            _ if info.is_leftover() => Self::Leftover,
            Some(OpenError::Timeout { missing: Missing::Ready, .. }) => Self::HalfMade,
            Some(_) => Self::Refused,
            None => match info.b.life {
                Life::Alive => Self::Live,
                Life::Absent => Self::Waiting,
                _ => Self::Abandoned,
            },
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Waiting => "waiting",
            Self::Abandoned => "abandoned",
            Self::Leftover => "leftover",
            Self::HalfMade => "half-made",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Side {
    /// alive, absent, closed, dead, unknown.
    pub life: String,
    pub stopped: bool,
    pub pid: Option<u32>,
    pub program: Option<String>,
    /// spin, park, or an interval as "interval 1000ns".
    pub poll: Option<String>,
    pub awaits_room: bool,
    pub awaits_message: bool,
}

#[derive(Debug, Serialize)]
pub struct Ring {
    #[serde(flatten)]
    pub carries: Messages,
    pub slot_size: usize,
    pub slot_count: usize,
    pub file_bytes: u64,
    pub used_slots: usize,
    pub closed: bool,
    pub messages: u64,
    pub bytes: u64,
    pub full_waits: u64,
    pub parks: u64,
    pub wakes: u64,
    pub messages_per_s: Option<f64>,
    pub bytes_per_s: Option<f64>,
    pub full_waits_per_s: Option<f64>,
    pub parks_per_s: Option<f64>,
}

impl Ring {
    fn of(info: &RingInfo, rate: Option<Rate>, schemas: &Schemas) -> Self {
        let stats = &info.stats;
        Self {
            carries: Messages::of(info.kind, |type_id| schemas.name(type_id).map(str::to_owned)),
            slot_size: stats.slot_size,
            slot_count: stats.slot_count,
            file_bytes: info.file_bytes,
            used_slots: stats.used_slots,
            closed: stats.closed,
            messages: stats.messages,
            bytes: stats.bytes,
            full_waits: stats.full_waits,
            parks: stats.parks,
            wakes: stats.wakes,
            messages_per_s: rate.map(|rate| rate.messages),
            bytes_per_s: rate.map(|rate| rate.bytes),
            full_waits_per_s: rate.map(|rate| rate.full_waits),
            parks_per_s: rate.map(|rate| rate.parks),
        }
    }

    pub fn fill(&self) -> f64 {
        self.used_slots as f64 / self.slot_count.max(1) as f64
    }

    pub fn is_full(&self) -> bool {
        self.used_slots >= self.slot_count
    }
}

impl Side {
    fn of(info: &SideInfo, files: &[u64], processes: &mut Processes) -> Self {
        let alive = info.life == Life::Alive;
        let process = info.pid.map(|pid| {
            if alive { processes.of(pid, files) } else { Process { pid, program: None, stopped: false } }
        });
        Self {
            life: info.life.to_string(),
            stopped: process.as_ref().is_some_and(|process| process.stopped),
            pid: process.as_ref().map(|process| process.pid),
            program: process.and_then(|process| process.program),
            poll: info.poll.map(poll),
            awaits_room: info.awaits_room,
            awaits_message: info.awaits_message,
        }
    }

    /// Life, process number and program, in a few characters.
    pub fn short(&self) -> String {
        short(&self.life, self.stopped, self.pid, self.program.as_deref())
    }
}

/// A poll mode as it is printed.
pub fn poll(mode: PollMode) -> String {
    match mode {
        PollMode::Spin => "spin".to_owned(),
        PollMode::Park => "park".to_owned(),
        PollMode::Interval(time) => format!("interval {}ns", time.as_nanos()),
        _ => "unknown".to_owned(),
    }
}

impl Channel {
    pub fn of(
        info: &ChannelInfo,
        rates: [Option<Rate>; 2],
        schemas: &Schemas,
        processes: &mut Processes,
    ) -> Self {
        let files = ["a2b", "b2a"].map(|end| number(&info.directory.join(format!("{}.fs.{end}", info.name))));
        let files: Vec<u64> = files.into_iter().flatten().collect();
        let ring = |ring: &Option<RingInfo>, rate| ring.as_ref().map(|ring| Ring::of(ring, rate, schemas));
        let unix = |created: std::time::SystemTime| {
            let since = created.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        };
        let state = State::of(info);
        let leftover = (state == State::Leftover).then(|| {
            let name = text::quoted(&info.name);
            match info.a.life {
                // There is no file of its own.
                Life::Unknown => format!("its side A is gone; remove it with `capnp-shm rm {name}`"),
                life => format!("its side A is {life}; remove it with `capnp-shm rm {name}`"),
            }
        });
        Self {
            name: info.name.clone(),
            directory: info.directory.display().to_string(),
            state,
            generation: info.generation.map(|number| format!("{number:016x}")),
            created_unix_ns: info.created.map(unix),
            age_s: info.age().map(|age| age.as_secs_f64()),
            tag: info.tag.clone(),
            a: Side::of(&info.a, &files, processes),
            b: Side::of(&info.b, &files, processes),
            a_to_b: ring(&info.a_to_b, rates[0]),
            b_to_a: ring(&info.b_to_a, rates[1]),
            problem: leftover.or_else(|| info.problem.as_ref().map(ToString::to_string)),
        }
    }

    pub fn age(&self) -> String {
        age(self.age_s)
    }

    pub fn rings(&self) -> [(&'static str, Option<&Ring>); 2] {
        [("A to B", self.a_to_b.as_ref()), ("B to A", self.b_to_a.as_ref())]
    }
}

/// Every channel, now.
pub fn look(place: &Place) -> anyhow::Result<Look> {
    Ok(Look::new(channels_there(place)?))
}

pub fn channels_there(place: &Place) -> anyhow::Result<Vec<ChannelInfo>> {
    Channels::list_with(&place.config()).with_context(|| unreadable(place))
}

pub fn servers_there(place: &Place) -> anyhow::Result<Vec<ServerInfo>> {
    Channels::servers_with(&place.config()).with_context(|| unreadable(place))
}

fn unreadable(place: &Place) -> String {
    format!("cannot read the directory of the channels, {}", place.directory().display())
}

/// All channels of a look as they are printed, with the rates since an earlier one.
pub fn describe(now: &Look, before: &Look, schemas: &Schemas) -> Vec<Channel> {
    let mut processes = Processes::default();
    let describe = |info| Channel::of(info, before.rates(info, now.at), schemas, &mut processes);
    now.channels.iter().map(describe).collect()
}

/// Sleeps until an instant, or until the user asks for the end.
pub fn sleep_until(until: Instant) {
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if crate::interrupt::asked() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
