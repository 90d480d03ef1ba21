//! The bridge itself: finds channels here, answers for those over there, and runs a session for each.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{ChannelInfo, Channels, Life, Side};
use zenoh::Wait;
use zenoh::query::Query;

use crate::error::{BridgeError, Refusal};
use crate::figures::Figures;
use crate::greet::answer;
use crate::hello::{Answer, Hello, Wish};
use crate::options::{Names, Options, check};
use crate::shared::{Event, Report, Shared, spawn, tell};
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

impl Bridge {
    /// Begins to bridge. `report` is called with the channel's name for all that happens.
    ///
    /// # Errors
    ///
    /// If the key or a pattern is refused, if Zenoh refuses, or if the system gives no thread.
    pub fn start(zenoh: zenoh::Session, options: Options, report: Report) -> Result<Self, BridgeError> {
        check(&options)?;
        let shared = Arc::new(Shared::new(zenoh, options, report)?);
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
        self.shared.figures()
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
            Ok(query) => threads.extend(take_hello(shared, query)),
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
            let name = info.name.clone();
            threads.extend(started(&Arc::clone(&shared), &name, move || {
                if !tell(&shared, &info.name, channel::ask(&shared, &place, &info)) {
                    let mut rests = rests.lock().unwrap_or_else(PoisonError::into_inner);
                    rests.insert((info.name, generation), Instant::now());
                }
            }));
        }
    }
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
    Ok(())
}

/// A thread for one channel. Where the system gives none, the others go on, and this one is tried again.
fn started(shared: &Shared, name: &str, run: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    spawn("bridge: channel", run).map_err(|error| shared.report(name, &Event::Refused(error.into()))).ok()
}

/// Channels whose side A is here and alone.
fn channels_here(shared: &Shared) -> Vec<ChannelInfo> {
    let config = &shared.options.config;
    let found = match &shared.options.names {
        Names::One(name) => {
            if shared.side_of(name).is_some() {
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
fn take_hello(shared: &Arc<Shared>, query: Query) -> Option<JoinHandle<()>> {
    let bytes = query.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
    let refuse = |name: &str, reason: String, for_good| {
        let refusal = Refusal::Here(reason.clone());
        if for_good {
            shared.report(name, &Event::Refused(refusal));
        }
        // Whoever asked may have gone.
        let _ = answer(&query, &Answer::Refused { reason, for_good });
        None
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
            return None;
        }
    } else if shared.options.side == Some(Side::B) {
        return refuse(
            &hello.name,
            "both bridges were told to join it as side B (--as b); side A must be at one machine only"
                .to_owned(),
            true,
        );
    }
    let Some(place) = shared.place(&hello.name, shared.answering_side()) else {
        let reason = match shared.side_of(&hello.name) {
            Some(Side::B) => "a channel of this name was created at both machines; end one of the two",
            _ => {
                "another generation of this channel is still bridged here; it is tried again, and will be bridged when \
                 that has ended, unless a third machine has it"
            }
        };
        return refuse(&hello.name, reason.to_owned(), false);
    };
    let most = shared.options.channels;
    if shared.answers() > most {
        let reason =
            format!("other bridges have all the channels here that they may have ({most}); raise --channels");
        shared.report(&hello.name, &Event::Refused(Refusal::Here(reason.clone())));
        return refuse(&hello.name, reason, false);
    }
    let (shared, name) = (Arc::clone(shared), hello.name.clone());
    started(&Arc::clone(&shared), &name, move || {
        let done = if of_server {
            server::answer_client(&shared, &place, &hello, query)
        } else {
            channel::answer(&shared, &place, &hello, query)
        };
        tell(&shared, &hello.name, done);
    })
}
