//! The server of systems that hand no memory over (macOS, Windows): it offers one channel after another under its name.
//!
//! The channel that is offered is a named one. When a client has joined, its names are taken away, so that they are free
//! for the next. Another channel, whose name ends in `.server`, is the claim to the server's name: nobody joins it.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::limits::{Limits, Taken};
use crate::config::Config;
use crate::error::{AcceptError, CreateError, Missing, OpenError, RemoveError};
use crate::inspect::{ChannelInfo, Life};
#[cfg(feature = "async")]
use crate::poll::Pause;
use crate::segment::SideGuard;
use crate::transport::{Kind, NewSide, Payloads, Transport, bytes, create, open};

/// Between two looks for a client, or for a place.
const PAUSE: Duration = Duration::from_millis(1);

/// Gives each client that connects a duplex channel of its own, of which it is side A.
///
/// On this system each channel has the server's name until its client has joined. The system attests nothing of a client:
/// [`peer`](Transport::peer) is `None`, there is no filter; access to the files lets a client connect. Clients join one after
/// the other. Waiting clients look again every few milliseconds, as the server does.
///
/// A server's end does not end its clients' channels.
pub struct Server<C = Transport> {
    name: String,
    config: Config,
    limits: Limits,
    payloads: Payloads,
    /// The bytes that each client's segments take.
    bytes: u64,
    taken: Arc<Taken>,
    offered: Option<Offered>,
    /// The claim to the name. Declared after the channel on offer.
    _claim: Arc<SideGuard>,
    kind: PhantomData<fn() -> C>,
}

/// The channel that is the claim to a server's name.
fn claim_name(name: &str) -> String {
    format!("{name}.server")
}

/// Removes a dead server's files: the channel on offer, then the claim. So this can be repeated if it fails half-way.
pub(super) fn remove(name: &str, config: &Config) -> Result<(), RemoveError> {
    let (claim, named) = (claim_name(name), || name.to_owned());
    match ChannelInfo::of_with(&claim, config) {
        Err(OpenError::Timeout { missing: Missing::Channel, .. }) => {
            return Err(RemoveError::NotFound { name: named() });
        }
        Ok(info) if info.a.life == Life::Alive => return Err(RemoveError::InUse { name: named() }),
        // An error is reported below.
        Ok(_) | Err(_) => {}
    }
    // A server that has come meanwhile lives, and keeps both.
    match Transport::remove_with(name, config) {
        Ok(()) | Err(RemoveError::NotFound { .. }) => {}
        failed => return failed,
    }
    Transport::remove_with(&claim, config).map_err(|error| match error {
        RemoveError::NotFound { .. } => RemoveError::NotFound { name: named() },
        RemoveError::InUse { .. } => RemoveError::InUse { name: named() },
        error => error,
    })
}

/// The channel for the next client.
struct Offered {
    guard: Arc<SideGuard>,
    /// Since when somebody holds it who has not joined.
    held: Option<Instant>,
}

impl<C: Kind> Server<C> {
    /// Takes the name, and offers a channel. A dead server's files are reclaimed. Each client's channel has the
    /// geometry, the tag, the memory options and the poll mode of `config`.
    ///
    /// # Errors
    ///
    /// [`CreateError::Config`] for an invalid name, size or option; a server's name has at most 193 bytes.
    /// [`CreateError::InUse`] if a live server, or a channel's live side A, holds the name. Others as for
    /// [`Transport::create`].
    pub fn bind(name: &str, config: &Config) -> Result<Self, CreateError> {
        let payloads = C::declared(config)?.0;
        let (bytes, claim) = (bytes(config, payloads)?, config.clone().slot_size(1).slot_count(1));
        let declared = Transport::declared(&claim)?.0;
        let claim = create(&claim_name(name), &claim, declared, None)?;
        let mut server = Self {
            name: name.to_owned(),
            config: config.clone(),
            limits: Limits::default(),
            payloads,
            bytes,
            taken: Arc::default(),
            offered: None,
            _claim: claim,
            kind: PhantomData,
        };
        server.offer()?;
        Ok(server)
    }

    /// The next client's channel, as soon as a client has joined.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Create`] if the next channel could not be made. [`AcceptError::Io`] if the system refuses. The server
    /// goes on after either.
    pub fn accept(&mut self) -> Result<C, AcceptError> {
        loop {
            match self.turn()? {
                Some(channel) => return Ok(channel),
                None => thread::sleep(PAUSE),
            }
        }
    }

    /// The same, if a client has joined already.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`AcceptError::Empty`] if none has.
    pub fn try_accept(&mut self) -> Result<C, AcceptError> {
        self.turn()?.ok_or(AcceptError::Empty)
    }

    /// The same within `wait`.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`AcceptError::Timeout`] if no client joined in time.
    pub fn accept_timeout(&mut self, wait: Duration) -> Result<C, AcceptError> {
        let began = Instant::now();
        loop {
            let left = wait.saturating_sub(began.elapsed());
            match self.turn()? {
                Some(channel) => return Ok(channel),
                None if left.is_zero() => return Err(AcceptError::Timeout),
                None => thread::sleep(PAUSE.min(left)),
            }
        }
    }

    /// The next client's channel, as soon as a client has joined. A future, for any executor. Dropping it before it is ready
    /// loses no client.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn accept_async(&mut self) -> Result<C, AcceptError> {
        loop {
            if let Some(channel) = self.turn()? {
                return Ok(channel);
            }
            Pause::of(PAUSE).await;
        }
    }

    /// Changes the limits for clients. Clients that are there stay, and so does the channel on offer. One handshake is made at
    /// a time on this system, whatever [`Limits::handshakes`] says.
    pub fn limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How many clients have a channel now, the one that is offered included.
    pub fn clients(&self) -> usize {
        self.taken.clients()
    }

    /// Makes a channel for the next client, if it may have one.
    fn offer(&mut self) -> Result<(), CreateError> {
        if self.offered.is_none() {
            if let Some(part) = self.taken.take(self.bytes, &self.limits) {
                let guard = create(&self.name, &self.config, self.payloads, Some(Box::new(part)))?;
                self.offered = Some(Offered { guard, held: None });
            }
        }
        Ok(())
    }

    /// Takes the client that has joined, if one has, and has a channel offered.
    fn turn(&mut self) -> Result<Option<C>, AcceptError> {
        self.offer()?;
        let Some(mut offered) = self.offered.take() else { return Ok(None) };
        let pair = Arc::clone(&offered.guard.pair);
        if pair.peer_attached() {
            let refused =
                |source: io::Error| AcceptError::Io { action: "remove the names of a channel", source };
            // In the order in which a closing side A removes them.
            let removed = pair.rx.unlink().and_then(|()| pair.tx.unlink());
            let (config, payloads) = (self.config.clone(), self.payloads);
            let side = NewSide { guard: offered.guard, config, payloads, peer: None };
            return removed.map_err(refused).map(|()| Some(C::from_side(side)));
        }
        let held = pair.rx.is_locked().unwrap_or(false);
        offered.held = held.then(|| offered.held.unwrap_or_else(Instant::now));
        // Somebody holds it and does not join: the next is for others.
        if offered.held.is_none_or(|since| since.elapsed() < self.limits.handshake_time) {
            self.offered = Some(offered);
        }
        Ok(None)
    }
}

impl<C> fmt::Debug for Server<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .field("clients", &self.taken.clients())
            .finish_non_exhaustive()
    }
}

/// One try: joined, not yet, or never.
fn try_once<C: Kind>(name: &str, config: &Config) -> Result<Result<C, Missing>, OpenError> {
    let payloads = C::declared(config)?.0;
    match open(name, Duration::ZERO, config, payloads, None) {
        Ok(guard) => Ok(Ok(C::from_side(NewSide { guard, config: config.clone(), payloads, peer: None }))),
        Err(OpenError::Timeout { missing: Missing::Channel | Missing::SideA, .. }) => {
            Ok(Err(Missing::Server))
        }
        // Another client has it, or the next is being made.
        Err(OpenError::Timeout { .. } | OpenError::InUse { .. }) => Ok(Err(Missing::Place)),
        Err(error) => Err(error),
    }
}

/// How long to wait before the next try, if there is to be one.
fn next(name: &str, began: Instant, wait: Duration, missing: Missing) -> Result<Duration, OpenError> {
    let left = wait.saturating_sub(began.elapsed());
    if left.is_zero() { Err(over(name, wait, missing)) } else { Ok(PAUSE.min(left)) }
}

fn over(name: &str, waited: Duration, missing: Missing) -> OpenError {
    OpenError::Timeout { name: name.to_owned(), waited, missing }
}

pub(super) fn connect<C: Kind>(
    name: &str,
    wait: Duration,
    config: &Config,
    mut go_on: impl FnMut() -> bool,
) -> Result<C, OpenError> {
    let began = Instant::now();
    loop {
        match try_once(name, config)? {
            Ok(channel) => return Ok(channel),
            Err(missing) if !go_on() => return Err(over(name, wait, missing)),
            Err(missing) => thread::sleep(next(name, began, wait, missing)?),
        }
    }
}

#[cfg(feature = "async")]
pub(super) async fn connect_async<C: Kind>(
    name: &str,
    wait: Duration,
    config: &Config,
) -> Result<C, OpenError> {
    let began = Instant::now();
    loop {
        match try_once(name, config)? {
            Ok(channel) => return Ok(channel),
            Err(missing) => {
                let pause = next(name, began, wait, missing)?;
                Pause::of(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const NAME: &str = "desk";

    /// A directory of the test's own.
    struct Place(PathBuf);

    impl Place {
        fn new(label: &str) -> Self {
            let path = std::env::temp_dir().join(format!("unit-portable-{label}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn config(&self) -> Config {
            Config::new().directory(&self.0).slot_size(64).slot_count(4)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        /// But for those that Windows deletes when nobody has them mapped any more.
        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut files: Vec<_> = names.filter(|name| !name.ends_with(".old")).collect();
            files.sort();
            files
        }

        /// The remains of a killed server: its files, and nobody's lock on them.
        fn dead_server(&self) {
            let living = Server::<Transport>::bind("original", &self.config()).unwrap();
            for end in ["fs.a2b", "fs.b2a", "server.fs.a2b", "server.fs.b2a"] {
                fs::copy(self.file(&format!("original.{end}")), self.file(&format!("{NAME}.{end}"))).unwrap();
            }
            drop(living);
            assert_eq!(self.files().len(), 4);
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_removal_that_fails_half_way_is_repeated() {
        let place = Place::new("repeat");
        for obstacle in ["desk.fs.a2b", "desk.fs.b2a", "desk.server.fs.a2b", "desk.server.fs.b2a"] {
            place.dead_server();
            // Something that is not ours stands in the way.
            fs::remove_file(place.file(obstacle)).unwrap();
            fs::create_dir(place.file(obstacle)).unwrap();
            for _ in 0..2 {
                let failed = remove(NAME, &place.config()).unwrap_err();
                assert!(matches!(failed, RemoveError::Segment { .. }), "{obstacle}: {failed}");
            }
            fs::remove_dir(place.file(obstacle)).unwrap();
            remove(NAME, &place.config()).unwrap();
            assert_eq!(place.files(), [""; 0], "{obstacle}");
            let nothing = remove(NAME, &place.config()).unwrap_err();
            assert!(matches!(nothing, RemoveError::NotFound { name } if name == NAME));
        }
    }

    #[test]
    fn a_live_server_keeps_its_name_and_a_dead_ones_is_taken() {
        let place = Place::new("name");
        place.dead_server();
        let server = Server::<Transport>::bind(NAME, &place.config()).unwrap();
        let files = place.files();
        assert!(matches!(remove(NAME, &place.config()), Err(RemoveError::InUse { .. })));
        let second = Server::<Transport>::bind(NAME, &place.config()).unwrap_err();
        assert!(matches!(second, CreateError::InUse { .. }), "{second}");
        assert_eq!(place.files(), files, "neither has changed anything");
        drop(server);
        assert_eq!(place.files(), [""; 0]);
    }

    #[test]
    fn clients_are_served_one_after_the_other_and_outlive_the_server() {
        const LONG: Duration = Duration::from_secs(60);
        let place = Place::new("clients");
        let config = place.config();
        let nobody = connect::<Transport>(NAME, Duration::ZERO, &config, || true).unwrap_err();
        assert!(matches!(nobody, OpenError::Timeout { missing: Missing::Server, .. }), "{nobody}");
        let mut server = Server::<Transport>::bind(NAME, &config).unwrap();
        assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
        let mut pairs = Vec::new();
        thread::scope(|scope| {
            let connect = || connect::<Transport>(NAME, LONG, &config, || true).unwrap();
            let clients: Vec<_> = (0..3).map(|_| scope.spawn(connect)).collect();
            let accepted: Vec<_> = (0..3).map(|_| server.accept_timeout(LONG).unwrap()).collect();
            pairs.extend(accepted.into_iter().zip(clients.into_iter().map(|client| client.join().unwrap())));
        });
        drop(server);
        assert_eq!(place.files(), [""; 0], "what is connected has no name");
        // In which order they came is not said.
        for (number, (a, _)) in pairs.iter_mut().enumerate() {
            a.send(&[number as u8]).unwrap();
        }
        let mut received: Vec<_> = pairs.iter_mut().map(|(_, b)| b.recv_timeout(LONG).unwrap()[0]).collect();
        received.sort();
        assert_eq!(received, [0, 1, 2]);
    }
}
