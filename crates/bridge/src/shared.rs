//! What all threads of a bridge know: its options, and the sessions that it has.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use capnproto_shm_transport::{Side, StatsHandle};
use globset::GlobSet;

use crate::ending::Ending;
use crate::error::{BridgeError, Refusal};
use crate::figures::Figures;
use crate::hello::Lane;
use crate::link::Link;
use crate::options::{Names, Options, set_of};

/// What happened to one channel.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Nobody has answered for a second. The other bridge is looked for as long as the channel stands.
    Alone,
    /// A bridge stands for the other side; the program there has not come yet.
    Waits,
    /// Both programs are there: messages pass.
    Bridged,
    /// This generation ended. The next is bridged by itself.
    Ended(Ending),
    /// It cannot be bridged now. It is tried again.
    Refused(Refusal),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str(
                "no other bridge answers yet; it is looked for. It needs the same key, and a way here: --connect or \
                 --listen, unless both find each other by multicast",
            ),
            Self::Waits => f.write_str("waits for the other program"),
            Self::Bridged => f.write_str("bridged"),
            Self::Ended(ending) => write!(f, "ended: {ending}"),
            Self::Refused(refusal) => write!(f, "not bridged: {refusal}"),
        }
    }
}

/// Takes what happens, from any thread.
pub type Report = Box<dyn Fn(&str, &Event) + Send + Sync>;

/// What all threads of a bridge know.
pub(crate) struct Shared {
    pub(crate) zenoh: zenoh::Session,
    pub(crate) options: Options,
    patterns: Option<GlobSet>,
    pub(crate) leave: AtomicBool,
    live: Mutex<HashMap<u64, Live>>,
    next: AtomicU64,
    report: Report,
}

/// One session.
struct Live {
    name: String,
    side: Side,
    bridged: bool,
    link: Option<Arc<Link>>,
    stats: Option<StatsHandle>,
}

/// A place among the sessions, given back when dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    id: u64,
    pub(crate) name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.live().remove(&self.id);
    }
}

impl Place {
    /// Shows what carries this session.
    pub(crate) fn show(&self, link: &Arc<Link>) {
        if let Some(live) = self.shared.live().get_mut(&self.id) {
            live.link = Some(Arc::clone(link));
        }
    }

    pub(crate) fn bridged(&self, stats: StatsHandle) {
        if let Some(live) = self.shared.live().get_mut(&self.id) {
            (live.bridged, live.stats) = (true, Some(stats));
        }
        self.shared.report(&self.name, &Event::Bridged);
    }
}

impl Shared {
    pub(crate) fn new(zenoh: zenoh::Session, options: Options, report: Report) -> Result<Self, BridgeError> {
        let patterns = match &options.names {
            Names::Matching(patterns) => Some(set_of(patterns)?),
            _ => None,
        };
        let (leave, live, next) = (AtomicBool::new(false), Mutex::default(), AtomicU64::new(0));
        Ok(Self { zenoh, options, patterns, leave, live, next, report })
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self, name: &str, event: &Event) {
        (self.report)(name, event);
    }

    pub(crate) fn leaves(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }

    /// The key of one channel.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{}", self.options.key, escaped(name))
    }

    /// Where hellos to this bridge come.
    pub(crate) fn hello_key(&self) -> String {
        match &self.options.names {
            Names::One(name) => format!("{}/hello", self.key(name)),
            _ => format!("{}/*/hello", self.options.key),
        }
    }

    pub(crate) fn takes(&self, name: &str) -> bool {
        match &self.options.names {
            Names::One(one) => one == name,
            Names::Matching(_) => self.patterns.as_ref().is_some_and(|patterns| patterns.is_match(name)),
            Names::All => true,
        }
    }

    /// Slots that may be on their way in a direction like this.
    pub(crate) fn window(&self, lane: &Lane) -> u64 {
        let slots = lane.slot_count as u64;
        self.options.window.unwrap_or((4 << 20) / lane.slot_size.max(1) as u64).max(slots)
    }

    /// Which side this bridge is in the channel's session, if it has one.
    pub(crate) fn side_of(&self, name: &str) -> Option<Side> {
        self.live().values().find(|live| live.name == name).map(|live| live.side)
    }

    /// Sessions that other bridges asked for.
    pub(crate) fn answers(&self) -> usize {
        let side = self.answering_side();
        self.live().values().filter(|live| live.side == side).count()
    }

    /// Which side this bridge is in the sessions that other bridges asked for.
    pub(crate) fn answering_side(&self) -> Side {
        if self.options.server { Side::B } else { Side::A }
    }

    /// Of all sessions, in the order of the names.
    pub(crate) fn figures(&self) -> Vec<Figures> {
        let mut figures: Vec<_> = self.live().values().map(figures_of).collect();
        figures.sort_by(|a, b| a.name.cmp(&b.name));
        figures
    }

    /// A place for a session. None if the channel has one already.
    pub(crate) fn place(self: &Arc<Self>, name: &str, side: Side) -> Option<Place> {
        let mut live = self.live();
        if !self.options.server && live.values().any(|live| live.name == name) {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        live.insert(id, Live { name: name.to_owned(), side, bridged: false, link: None, stats: None });
        drop(live);
        Some(Place { shared: Arc::clone(self), id, name: name.to_owned() })
    }
}

fn figures_of(live: &Live) -> Figures {
    let mut figures = Figures {
        name: live.name.clone(),
        state: if live.bridged { "bridged" } else { "waiting" },
        side: if live.side == Side::A { "a" } else { "b" },
        ..Figures::default()
    };
    if let Some(link) = &live.link {
        link.inbox.counters.fill(&mut figures);
        figures.lag_frames = link.outbox.on_their_way() as u64;
        figures.queued_bytes = link.inbox.queued_bytes();
    }
    if let Some(stats) = &live.stats {
        figures.lag_slots = stats.get().rx.used_slots as u64;
    }
    figures
}

/// Reports how a session ended; `false` if there was none.
pub(crate) fn tell(shared: &Shared, name: &str, done: Result<Option<Ending>, Refusal>) -> bool {
    match done {
        Ok(Some(ending)) => shared.report(name, &Event::Ended(ending)),
        Ok(None) => {}
        Err(refusal) => {
            shared.report(name, &Event::Refused(refusal));
            return false;
        }
    }
    true
}

pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, BridgeError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(BridgeError::Thread)
}

/// A number that no other session has.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A name as one part of a key: what means something to Zenoh stands as its number.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '*' | '$' | '?' | '#' | '/' | '@' | '%' => escaped.push_str(&format!("%{:02X}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}
