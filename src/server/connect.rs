//! The client: asks a server for a channel, and joins it.

use std::io;
#[cfg(feature = "async")]
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::handshake::{Answer, Handed, Hello, JOINED, Offer, PACKET_BYTES, Unreadable, VERSION, Verdict};
use super::name::Paths;
#[cfg(feature = "async")]
use super::task::Waiting;
use crate::config::Config;
use crate::crash::step;
use crate::error::{Failure, FileError, Missing, OpenError, SegmentError};
#[cfg(feature = "async")]
use crate::poll::Pause;
use crate::protocol::Identity;
use crate::segment::{Events, HostEvent};
#[cfg(feature = "async")]
use crate::system::Poller;
use crate::system::{Credentials, Host, Socket, System};
use crate::transport::{Kind, NewSide, Payloads, Peer, fits, open_anonymous};

/// How long a client looks for its answer before it sleeps: a server that is free takes less, and a sleep would cost as much
/// again.
const SOON: Duration = Duration::from_micros(100);

/// How long a client waits for its answer before it asks whether to go on.
const TURN: Duration = Duration::from_millis(50);

/// Done, not yet, or never.
type Tried<T> = Result<Result<T, Missing>, OpenError>;

/// A client that asks for a channel.
struct Client<'a> {
    name: &'a str,
    path: &'a Path,
    config: &'a Config,
    payloads: Payloads,
}

/// A socket on which a server was asked, and who listens there.
struct Asked {
    socket: Socket,
    server: Peer,
}

impl Client<'_> {
    fn failed<E: Into<FileError>>(&self, action: &'static str) -> impl FnOnce(E) -> OpenError {
        let failed = Failure::at(action, self.path);
        move |error| failed(error).into()
    }

    fn unreadable(&self, Unreadable(found): Unreadable) -> OpenError {
        OpenError::Handshake { name: self.name.to_owned(), found, supported: VERSION }
    }

    /// Connects, and says what this side exchanges.
    fn ask(&self) -> Tried<Asked> {
        let socket = match Socket::connected(self.path) {
            Ok(socket) => socket,
            Err(error) if nobody_listens(&error) => return Ok(Err(Missing::Server)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Err(Missing::Place)),
            Err(error) => return Err(self.failed("connect to")(error)),
        };
        step("connect: connected");
        let Credentials { pid, uid, gid } = socket.peer().map_err(self.failed("ask who listens at"))?;
        self.check_server(uid)?;
        let hello = Hello::packet(&Offer::new(self.payloads, self.config.tag.as_deref()));
        let sent = socket.send(&hello, &[]);
        step("connect: asked");
        Ok(sent.map(|()| Asked { socket, server: Peer { pid, uid, gid } }).map_err(|_| Missing::Server))
    }

    /// The server is this user's, or serves a group as both sides asked.
    fn check_server(&self, user: u32) -> Result<(), OpenError> {
        // It may have closed since.
        let Ok(metadata) = std::fs::symlink_metadata(self.path) else { return Ok(()) };
        Host::check_owner(&metadata, Some(self.config.permissions)).map_err(self.failed("open"))?;
        let expected = std::os::unix::fs::MetadataExt::uid(&metadata);
        if user == expected {
            return Ok(());
        }
        Err(self.failed("open")(SegmentError::Owner { found: user, expected }))
    }

    /// Joins the channel that the server has given, if it has answered; `None` if it has not yet.
    fn join(&self, asked: &Asked) -> Tried<Option<NewSide>> {
        let mut packet = [0; PACKET_BYTES + 1];
        let (bytes, descriptors) = match asked.socket.receive(&mut packet) {
            // It is gone, or has waited long enough for this side.
            Ok((0, _)) => return Ok(Err(Missing::Place)),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Ok(None)),
            Err(error) if no_room(&error) => return Err(self.failed("take what is handed over at")(error)),
            Err(_) => return Ok(Err(Missing::Server)),
        };
        let answer = Answer::parse(&packet[..bytes]);
        let (offer, verdict) = answer.map_err(|unreadable| self.unreadable(unreadable))?;
        match verdict {
            Verdict::Welcome => {}
            Verdict::Full => return Ok(Err(Missing::Place)),
            refusal => return Err(self.refusal(refusal, offer)),
        }
        let foreign = || self.failed("join")(SegmentError::Foreign);
        let Handed { segments, events } = Handed::parse(descriptors).ok_or_else(foreign)?;
        let [a_room, a_message, b_room, b_message] = events.map(HostEvent::handed);
        let checked = |event: io::Result<HostEvent>| event.map_err(|_| foreign());
        let peer_events = [checked(a_room)?, checked(a_message)?];
        let events = Events::handed([checked(b_room)?, checked(b_message)?], peer_events);
        step("connect: answered");
        let guard = match open_anonymous(self.name, segments, self.config, self.payloads, events) {
            // The server is gone already.
            Err(OpenError::Timeout { .. }) => return Ok(Err(Missing::Server)),
            opened => opened?,
        };
        step("connect: joined");
        if asked.socket.send(JOINED, &[]).is_err() {
            return Ok(Err(Missing::Server));
        }
        let (config, payloads) = (self.config.clone(), self.payloads);
        Ok(Ok(Some(NewSide { guard, config, payloads, peer: Some(asked.server) })))
    }

    fn refusal(&self, verdict: Verdict, offer: Offer) -> OpenError {
        let name = self.name.to_owned();
        let kind = |direction, found: Identity, expected: Identity| OpenError::Type {
            name: self.name.to_owned(),
            direction,
            found: found.to_string(),
            expected: expected.to_string(),
        };
        let Payloads { tx, rx } = self.payloads;
        match verdict {
            Verdict::Refused => OpenError::Refused { name },
            Verdict::Tag => OpenError::Tag {
                name,
                found: offer.tag.unwrap_or_default(),
                expected: self.config.tag.clone().unwrap_or_default(),
            },
            Verdict::Type if !fits(tx.identity, offer.receives) => {
                kind("sending", offer.receives, tx.identity)
            }
            Verdict::Type => kind("receiving", offer.sends, rx.identity),
            Verdict::Version | Verdict::Full | Verdict::Welcome => self.unreadable(Unreadable(VERSION)),
        }
    }

    /// One try that waits at most so long for the answer, and only as long as it is to go on.
    fn try_once(&self, left: impl Fn() -> Duration, go_on: &mut impl FnMut() -> bool) -> Tried<NewSide> {
        let asked = match self.ask()? {
            Ok(asked) => asked,
            Err(missing) => return Ok(Err(missing)),
        };
        let began = Instant::now();
        loop {
            match self.join(&asked)? {
                Ok(Some(side)) => return Ok(Ok(side)),
                Err(missing) => return Ok(Err(missing)),
                Ok(None) if began.elapsed() < SOON => thread::yield_now(),
                Ok(None) if left().is_zero() || !go_on() => return Ok(Err(Missing::Place)),
                Ok(None) => {
                    asked.socket.wait(left().min(TURN)).map_err(self.failed("wait at"))?;
                }
            }
        }
    }

    /// The same in a task.
    #[cfg(feature = "async")]
    async fn try_once_async(&self, deadline: Option<Instant>) -> Tried<NewSide> {
        let asked = match self.ask()? {
            Ok(asked) => asked,
            Err(missing) => return Ok(Err(missing)),
        };
        let poller = Poller::new().and_then(|poller| poller.add(&asked.socket, 0).map(|()| poller));
        let (poller, mut waiting) = (poller.map_err(self.failed("wait at"))?, Waiting::default());
        loop {
            match self.join(&asked)? {
                Ok(Some(side)) => return Ok(Ok(side)),
                Err(missing) => return Ok(Err(missing)),
                Ok(None) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return Ok(Err(Missing::Place));
                }
                Ok(None) => {}
            }
            let answered = std::future::poll_fn(|cx| waiting.poll(poller.as_fd(), deadline, cx));
            answered.await.map_err(self.failed("wait at"))?;
        }
    }
}

/// Tries until the server has given a channel, at most `wait`.
struct Tries {
    wait: Duration,
    deadline: Option<Instant>,
    pause: Duration,
}

impl Tries {
    fn new(wait: Duration) -> Self {
        // A time that the clock cannot reach has no end.
        Self { wait, deadline: Instant::now().checked_add(wait), pause: Duration::from_micros(50) }
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// How long to wait before the next try, if there is to be one.
    fn next(&mut self, name: &str, missing: Missing) -> Result<Duration, OpenError> {
        let (left, pause) = (self.left(), self.pause);
        self.pause = (pause * 2).min(Duration::from_millis(5));
        if left.is_zero() { Err(self.over(name, missing)) } else { Ok(pause.min(left)) }
    }

    fn over(&self, name: &str, missing: Missing) -> OpenError {
        OpenError::Timeout { name: name.to_owned(), waited: self.wait, missing }
    }
}

pub(super) fn connect<C: Kind>(
    name: &str,
    wait: Duration,
    config: &Config,
    mut go_on: impl FnMut() -> bool,
) -> Result<C, OpenError> {
    let paths = Paths::of(name, config)?;
    config.permissions_checked()?;
    let client = Client { name, path: &paths.socket, config, payloads: C::declared(config)?.0 };
    let mut tries = Tries::new(wait);
    // A server that has refused once is not asked again.
    let mut over = false;
    let mut go_on = || {
        over = over || !go_on();
        !over
    };
    loop {
        match client.try_once(|| tries.left(), &mut go_on)? {
            Ok(side) => return Ok(C::from_side(side)),
            Err(missing) if !go_on() => return Err(tries.over(name, missing)),
            Err(missing) => thread::sleep(tries.next(name, missing)?),
        }
    }
}

#[cfg(feature = "async")]
pub(super) async fn connect_async<C: Kind>(
    name: &str,
    wait: Duration,
    config: &Config,
) -> Result<C, OpenError> {
    let paths = Paths::of(name, config)?;
    config.permissions_checked()?;
    let client = Client { name, path: &paths.socket, config, payloads: C::declared(config)?.0 };
    let mut tries = Tries::new(wait);
    loop {
        match client.try_once_async(tries.deadline).await? {
            Ok(side) => return Ok(C::from_side(side)),
            Err(missing) => {
                let pause = tries.next(name, missing)?;
                Pause::of(pause).await;
            }
        }
    }
}

/// Whether this process, or the system, has no room for another descriptor.
fn no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether nobody listens.
fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}
