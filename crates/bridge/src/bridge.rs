//! The bridge itself: finds channels here, answers for those over there, and runs a session for each.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capnproto_shm_transport::{ChannelInfo, Channels, Config, Life, Side, StatsHandle};
use globset::{Glob, GlobSet, GlobSetBuilder};
use zenoh::Wait;
use zenoh::query::{ConsolidationMode, Query, QueryTarget};
use zenoh::sample::Locality;

use crate::error::{BridgeError, Refusal};
use crate::figures::Figures;
use crate::hello::{Answer, Hello, Lane, Wish};
use crate::session::{Ending, Link};
use crate::{channel, server};

/// How often channels are looked for, of one name and of many.
const LOOK_FOR_ONE: Duration = Duration::from_millis(100);
const LOOK_FOR_MANY: Duration = Duration::from_millis(500);
/// A look at very many takes long. The pause behind it is so many times as long, but no longer than the second.
const LOOK_PAUSE: u32 = 300;
const LOOK_PAUSE_MOST: Duration = Duration::from_secs(5);
/// How long a channel that was refused is left alone.
const REST: Duration = Duration::from_secs(2);
/// How long the bridge sleeps between two looks at whether it is to end.
const TICK: Duration = Duration::from_millis(100);
/// Hellos that may wait to be read.
const HELLOS: usize = 256;

/// Which channels a bridge takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Names {
    /// This one.
    One(String),
    /// Those whose names match one of these patterns, with `*`, `?` and `[a-z]`.
    Matching(Vec<String>),
    /// All.
    All,
}

/// What a bridge does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where the two bridges meet: a key expression of Zenoh without wildcards. Each channel has keys of its own below.
    pub key: String,
    /// Which channels.
    pub names: Names,
    /// Which side the bridge is here: A creates the channel, for a side B here; B joins the one that a side A here has
    /// created. None: whichever comes.
    pub side: Option<Side>,
    /// Bridges each client of a server, instead of channels.
    pub server: bool,
    /// How channels are looked for and made here: directory, permissions, poll mode.
    pub config: Config,
    /// How long nothing may be heard of the other bridge before the network is taken to be gone.
    pub timeout: Duration,
    /// Slots that may be on their way in each direction; by default what 4 MiB hold, and at least a ring.
    pub window: Option<u64>,
    /// Bytes of memory that one channel may take here.
    pub memory: u64,
}

impl Options {
    /// Bridges the channel `name` under `key`, whichever side is here; five seconds of timeout, 1 GiB of memory.
    pub fn new(name: &str, key: &str) -> Self {
        Self {
            key: key.to_owned(),
            names: Names::One(name.to_owned()),
            side: None,
            server: false,
            config: Config::new(),
            timeout: Duration::from_secs(5),
            window: None,
            memory: 1 << 30,
        }
    }
}

/// What happened to one channel.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
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
            Self::Waits => f.write_str("waits for the other program"),
            Self::Bridged => f.write_str("bridged"),
            Self::Ended(ending) => write!(f, "ended: {ending}"),
            Self::Refused(refusal) => write!(f, "not bridged: {refusal}"),
        }
    }
}

/// Takes what happens, from any thread.
pub type Report = Box<dyn Fn(&str, &Event) + Send + Sync>;

/// A bridge that runs until it is stopped.
///
/// ```no_run
/// use capnp_shm_bridge::{Bridge, Options};
///
/// // On each of the two machines:
/// let zenoh = capnp_shm_bridge::open(None, &[], &["tcp/[::]:7447".into()])?;
/// let bridge = Bridge::start(zenoh, Options::new("ticks", "plant"), Box::new(|name, event| println!("{name}: {event}")))?;
/// std::thread::sleep(std::time::Duration::from_secs(60));
/// bridge.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Bridge {
    shared: Arc<Shared>,
    supervisor: JoinHandle<Result<(), BridgeError>>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

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

impl Bridge {
    /// Begins to bridge. `report` is called with the channel's name for all that happens.
    ///
    /// # Errors
    ///
    /// If the key or a pattern is refused, if Zenoh refuses, or if the system gives no thread.
    pub fn start(zenoh: zenoh::Session, options: Options, report: Report) -> Result<Self, BridgeError> {
        check(&options)?;
        let patterns = match &options.names {
            Names::Matching(patterns) => Some(set_of(patterns)?),
            _ => None,
        };
        let shared = Arc::new(Shared {
            zenoh,
            options,
            patterns,
            leave: AtomicBool::new(false),
            live: Mutex::default(),
            next: AtomicU64::new(0),
            report,
        });
        let (sender, hellos) = flume::bounded(HELLOS);
        let queryable = shared
            .zenoh
            .declare_queryable(shared.hello_key())
            // What does not fit goes without an answer, and comes again.
            .callback(move |query| drop(sender.try_send(query)))
            .wait()
            .map_err(BridgeError::zenoh("answer hellos"))?;
        let supervisor = spawn("bridge", {
            let shared = Arc::clone(&shared);
            move || {
                let done = supervise(&shared, &hellos);
                drop(queryable);
                done
            }
        })?;
        Ok(Self { shared, supervisor })
    }

    /// Figures of every channel that is bridged or about to be, in the order of the names.
    pub fn figures(&self) -> Vec<Figures> {
        let live = self.shared.live();
        let mut figures: Vec<_> = live.values().map(figures_of).collect();
        figures.sort_by(|a, b| a.name.cmp(&b.name));
        figures
    }

    /// Whether it has stopped by itself, which it does only because of an error that [`stop`](Self::stop) tells.
    pub fn has_stopped(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// Ends in order: what has come is delivered, then both programs of each channel learn that it is closed. Takes no longer
    /// than twice the timeout.
    ///
    /// # Errors
    ///
    /// What ended it before.
    pub fn stop(self) -> Result<(), BridgeError> {
        self.shared.leave.store(true, Ordering::Relaxed);
        match self.supervisor.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
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

fn check(options: &Options) -> Result<(), BridgeError> {
    let refused = |reason: String| BridgeError::Key { key: options.key.clone(), reason };
    let key = zenoh::key_expr::KeyExpr::new(options.key.clone()).map_err(|e| refused(e.to_string()))?;
    if key.is_wild() {
        return Err(refused("a wildcard names no place".to_owned()));
    }
    if options.timeout < Duration::from_millis(100) {
        return Err(BridgeError::Option("the timeout must be at least 0.1 seconds".to_owned()));
    }
    if options.server && !matches!(options.names, Names::One(_)) {
        return Err(BridgeError::Option("a bridge of a server takes one name".to_owned()));
    }
    Ok(())
}

fn set_of(patterns: &[String]) -> Result<GlobSet, BridgeError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let refused = |e: globset::Error| BridgeError::Pattern {
            pattern: pattern.clone(),
            reason: e.kind().to_string(),
        };
        set.add(Glob::new(pattern).map_err(refused)?);
    }
    set.build().map_err(|e| BridgeError::Pattern { pattern: patterns.join(" "), reason: e.to_string() })
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

impl Shared {
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

    fn hello_key(&self) -> String {
        match &self.options.names {
            Names::One(name) => format!("{}/hello", self.key(name)),
            _ => format!("{}/*/hello", self.options.key),
        }
    }

    fn takes(&self, name: &str) -> bool {
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

    /// Asks whoever stands at the other side. None: nobody does.
    pub(crate) fn say_hello(&self, hello: &Hello) -> Result<Option<Answer>, Refusal> {
        let text = serde_json::to_vec(hello).map_err(|e| Refusal::Here(e.to_string()))?;
        let replies = self
            .zenoh
            .get(format!("{}/hello", self.key(&hello.name)))
            .payload(text)
            .target(QueryTarget::All)
            .consolidation(ConsolidationMode::None)
            // This bridge itself answers hellos too.
            .allowed_destination(Locality::Remote)
            .timeout(self.options.timeout)
            .wait()
            .map_err(BridgeError::zenoh("say hello"))?;
        let (mut good, mut refused) = (Vec::new(), None);
        while let Ok(reply) = replies.recv() {
            let Ok(sample) = reply.result() else { continue };
            match serde_json::from_slice(&sample.payload().to_bytes()) {
                Ok(answer @ Answer::Refused { .. }) => refused = Some(answer),
                Ok(answer) => good.push(answer),
                Err(e) => return Err(Refusal::Foreign(format!("its answer cannot be read ({e})"))),
            }
        }
        match good.len() {
            0 => Ok(refused),
            1 => Ok(good.pop()),
            bridges => Err(Refusal::Several(bridges)),
        }
    }
}

/// Says what became of a hello.
pub(crate) fn answer(query: &Query, answer: &Answer) -> Result<(), Refusal> {
    let text = serde_json::to_vec(answer).map_err(|e| Refusal::Here(e.to_string()))?;
    query.reply(query.key_expr().clone(), text).wait().map_err(BridgeError::zenoh("answer a hello"))?;
    Ok(())
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

fn supervise(shared: &Arc<Shared>, hellos: &flume::Receiver<Query>) -> Result<(), BridgeError> {
    let mut threads = Vec::new();
    // Channels that were refused, and since when.
    let rests: Arc<Mutex<HashMap<(String, u64), Instant>>> = Arc::default();
    if shared.options.server && shared.options.side != Some(Side::B) {
        threads.push(spawn("bridge: server", {
            let shared = Arc::clone(shared);
            move || server::stand_in(&shared)
        })?);
    }
    let mut look = Instant::now();
    let every = if matches!(shared.options.names, Names::One(_)) { LOOK_FOR_ONE } else { LOOK_FOR_MANY };
    while !shared.leaves() {
        match hellos.recv_timeout(TICK) {
            Ok(query) => threads.extend(take_hello(shared, query)?),
            Err(flume::RecvTimeoutError::Timeout) => {}
            Err(flume::RecvTimeoutError::Disconnected) => break,
        }
        threads.retain(|thread| !thread.is_finished());
        let now = Instant::now();
        if now < look {
            continue;
        }
        look = now + every;
        if shared.options.server || shared.options.side == Some(Side::A) {
            continue;
        }
        let lock = || rests.lock().unwrap_or_else(PoisonError::into_inner);
        lock().retain(|_, since| since.elapsed() < REST);
        let found = channels_here(shared);
        look = look.max(now + (now.elapsed() * LOOK_PAUSE).min(LOOK_PAUSE_MOST));
        for info in found {
            let generation = info.generation.unwrap_or_default();
            if lock().contains_key(&(info.name.clone(), generation)) {
                continue;
            }
            let Some(place) = shared.place(&info.name, Side::B) else { continue };
            let (shared, rests) = (Arc::clone(shared), Arc::clone(&rests));
            threads.push(spawn("bridge: channel", move || {
                let name = info.name.clone();
                if !tell(&shared, &name, channel::ask(&shared, &place, &info)) {
                    let mut rests = rests.lock().unwrap_or_else(PoisonError::into_inner);
                    rests.insert((name, generation), Instant::now());
                }
            })?);
        }
    }
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
    Ok(())
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

/// Channels whose side A is here and alone.
fn channels_here(shared: &Shared) -> Vec<ChannelInfo> {
    let config = &shared.options.config;
    let found = match &shared.options.names {
        Names::One(name) => {
            if shared.live().values().any(|live| live.name == *name) {
                return Vec::new();
            }
            ChannelInfo::of_with(name, config).ok().into_iter().collect()
        }
        _ => Channels::list_with(config).unwrap_or_default(),
    };
    let alone = |info: &ChannelInfo| {
        info.problem.is_none()
            && info.a.life == Life::Alive
            && info.b.life == Life::Absent
            && shared.takes(&info.name)
    };
    found.into_iter().filter(alone).collect()
}

/// Reads a hello, and answers it in a thread of its own.
fn take_hello(shared: &Arc<Shared>, query: Query) -> Result<Option<JoinHandle<()>>, BridgeError> {
    let bytes = query.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
    let refuse = |name: &str, reason: String, for_good| {
        let refusal = Refusal::Here(reason.clone());
        if for_good {
            shared.report(name, &Event::Refused(refusal));
        }
        // Whoever asked may have gone.
        let _ = answer(&query, &Answer::Refused { reason, for_good });
        Ok(None)
    };
    let key = query.key_expr().as_str().to_owned();
    let hello = match Hello::read(&bytes) {
        Ok(hello) => hello,
        Err(reason) => return refuse(&key, reason, true),
    };
    if key != format!("{}/hello", shared.key(&hello.name)) {
        return refuse(&key, format!("a hello for {:?} does not belong under this key", hello.name), true);
    }
    if !shared.takes(&hello.name) {
        return refuse(&hello.name, "this bridge does not take this channel".to_owned(), false);
    }
    let of_server = !matches!(hello.wish, Wish::Channel { .. });
    if of_server != shared.options.server {
        let (there, here) = if of_server { ("a server", "a channel") } else { ("a channel", "a server") };
        let reason = format!(
            "{:?} is bridged as {there} there and as {here} here; give --server to both or to none",
            hello.name
        );
        return refuse(&hello.name, reason, true);
    }
    if of_server {
        if shared.options.side == Some(Side::A) {
            return Ok(None);
        }
    } else if shared.options.side == Some(Side::B) {
        return refuse(
            &hello.name,
            "both bridges were told to join it as side B (--as b); side A must be at one machine only"
                .to_owned(),
            true,
        );
    }
    let side = if of_server { Side::B } else { Side::A };
    let Some(place) = shared.place(&hello.name, side) else {
        let reason =
            "a channel of this name is bridged or created at both machines; end one of the two".to_owned();
        return refuse(&hello.name, reason, false);
    };
    let shared = Arc::clone(shared);
    spawn("bridge: channel", move || {
        let done = if of_server {
            server::answer_client(&shared, &place, &hello, query)
        } else {
            channel::answer(&shared, &place, &hello, query)
        };
        tell(&shared, &hello.name, done);
    })
    .map(Some)
}
