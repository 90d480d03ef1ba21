//! The server: clients one after the other, each with a channel of its own.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(feature = "async")]
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::handshake::{Answer, Hello, JOINED, PACKET_BYTES, Verdict};
use super::limits::Limits;
use super::name::{Held, hold};
use super::supply::{Made, Supply};
#[cfg(feature = "async")]
use super::task::Waiting;
use crate::config::Config;
use crate::crash::step;
use crate::error::{AcceptError, CreateError, Failure};
use crate::system::{Alarm, Credentials, Poller, Socket};
use crate::transport::{Kind, NewSide, Peer, Transport, fits};

/// Gives each client that connects a duplex channel of its own, of which it is side A.
///
/// The channel lies in sealed memory without a name, which is handed over on a Unix socket. So a crash leaves nothing of
/// it, and nothing that one client does touches another. What both sides exchange, the tag, the filter and the limits
/// are checked before any memory is made. A client that connects and says nothing holds nobody up.
///
/// A server's end does not end its clients' channels.
///
/// ```
/// use capnproto_shm_transport::{Config, Server, Transport};
/// use std::time::Duration;
///
/// # let name = format!("doc-server-{}", std::process::id());
/// # let name = name.as_str();
/// let mut server = Server::<Transport>::bind(name, &Config::new())?;    // one process
/// # let client_name = name.to_owned();
/// # let client = std::thread::spawn(move || {
/// # let name = client_name.as_str();
/// let mut client = Transport::connect(name, Duration::from_secs(1))?;   // each of the others
/// client.send(b"hello")?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # });
///
/// let mut channel = server.accept()?;
/// assert_eq!(&*channel.recv()?, b"hello");
/// assert_eq!(channel.peer().map(|peer| peer.pid), Some(std::process::id()));
/// # client.join().unwrap().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<C = Transport> {
    held: Held,
    supply: Supply,
    limits: Limits,
    filter: Option<Filter>,
    poller: Poller,
    /// Set to when somebody will have taken too long, or the server has rested.
    alarm: Alarm,
    /// Whether the poller tells of those who connect.
    listens: bool,
    /// Until when it does not, for want of what the system refused.
    rests: Option<Instant>,
    pending: HashMap<u64, Pending<C>>,
    next: u64,
    told: Vec<u64>,
    #[cfg(feature = "async")]
    waiting: Waiting,
}

/// Says whether a client may connect.
type Filter = Box<dyn FnMut(&Peer) -> bool + Send>;

/// The poller's key of the listening socket.
const LISTENER: u64 = 0;
/// The poller's key of the alarm.
const ALARM: u64 = 1;
/// How long a server that may take no further client, for want of descriptors for example, does not try again.
const REST: Duration = Duration::from_millis(50);
/// Clients that one turn takes, at most.
const ADMITTED: usize = 64;
/// Turns of a call that does not wait, at most.
const LOOKS: usize = 16;

/// What came of a turn.
enum Turn<C> {
    /// A client's channel.
    Joined(C),
    /// Something was done; there may be more to do.
    Something,
    /// There was nothing to do.
    Nothing,
}

/// A client whose handshake is not over.
struct Pending<C> {
    socket: Socket,
    peer: Peer,
    /// When it will have taken too long.
    until: Option<Instant>,
    /// Its channel, once it was welcomed. Should it join too late, it finds that closed.
    channel: Option<C>,
}

impl<C: Kind> Server<C> {
    /// Takes the name and listens. What a dead server left under it is reclaimed. Each client's channel has the geometry,
    /// the tag, the memory options and the poll mode of `config`.
    ///
    /// # Errors
    ///
    /// [`CreateError::Config`] for an invalid name, size or option; a server's name has at most 59 bytes.
    /// [`CreateError::InUse`] if a live server holds the name, [`CreateError::Segment`] if a file is in the way that is
    /// not a leftover of ours, [`CreateError::Io`] if the system refuses.
    pub fn bind(name: &str, config: &Config) -> Result<Self, CreateError> {
        let (limits, mut supply) = (Limits::default(), Supply::new(config, C::declared(config)?.0)?);
        let held = hold(name, config)?;
        let watch = || -> io::Result<_> {
            let (poller, alarm) = (Poller::new()?, Alarm::new()?);
            poller.add(&held.socket, LISTENER)?;
            poller.add(&alarm, ALARM)?;
            Ok((poller, alarm))
        };
        let (poller, alarm) = watch().map_err(Failure::at("watch", &held.paths.socket))?;
        supply.prepare(&limits);
        Ok(Self {
            poller,
            held,
            supply,
            limits,
            filter: None,
            alarm,
            listens: true,
            rests: None,
            pending: HashMap::new(),
            next: ALARM + 1,
            told: Vec::new(),
            #[cfg(feature = "async")]
            waiting: Waiting::default(),
        })
    }

    /// The next client's channel, as soon as a client has joined.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Create`] if a channel could not be made: that client is refused. [`AcceptError::Io`] if the system
    /// refuses, for want of descriptors for example. The server goes on after either.
    pub fn accept(&mut self) -> Result<C, AcceptError> {
        self.accept_until(None)
    }

    /// The same, if a client has joined already.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`AcceptError::Empty`] if none has.
    pub fn try_accept(&mut self) -> Result<C, AcceptError> {
        match self.look()? {
            Turn::Joined(channel) => Ok(channel),
            Turn::Something | Turn::Nothing => Err(AcceptError::Empty),
        }
    }

    /// The same within `wait`.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`AcceptError::Timeout`] if no client joined in time.
    pub fn accept_timeout(&mut self, wait: Duration) -> Result<C, AcceptError> {
        // A time that the clock cannot reach has no end.
        self.accept_until(Instant::now().checked_add(wait))
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
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    #[cfg(feature = "async")]
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<C, AcceptError>> {
        loop {
            match self.look()? {
                Turn::Joined(channel) => return Poll::Ready(Ok(channel)),
                Turn::Nothing => {}
                Turn::Something => {
                    // Other tasks first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            ready!(self.waiting.poll(self.poller.as_fd(), None, cx)).map_err(refused("wait"))?;
        }
    }

    fn accept_until(&mut self, deadline: Option<Instant>) -> Result<C, AcceptError> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.turn(left)? {
                Turn::Joined(channel) => return Ok(channel),
                Turn::Nothing | Turn::Something if left == Some(Duration::ZERO) => {
                    return Err(AcceptError::Timeout);
                }
                Turn::Nothing | Turn::Something => {}
            }
        }
    }

    /// Does what there is to do, but not for ever if there is always something.
    fn look(&mut self) -> Result<Turn<C>, AcceptError> {
        for _ in 0..LOOKS {
            match self.turn(Some(Duration::ZERO))? {
                Turn::Something => {}
                done => return Ok(done),
            }
        }
        Ok(Turn::Something)
    }

    /// Changes what clients may take. Clients that are there stay.
    pub fn limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.supply.renew(&self.limits);
        // What the system refuses now is tried again, and told, by whoever accepts.
        let _ = self.listen_if_free();
    }

    /// Says who may connect, by what the system attests of a client. Everybody may otherwise who can reach the socket: the
    /// same user, unless [`Config::permissions`] opens it to a group.
    pub fn filter(&mut self, filter: impl FnMut(&Peer) -> bool + Send + 'static) {
        self.filter = Some(Box::new(filter));
    }

    /// How many clients have a channel now, those included whose handshake is not over.
    pub fn clients(&self) -> usize {
        self.supply.clients()
    }

    /// A descriptor that is readable as long as [`try_accept`](Self::try_accept) has something to do, for event loops and
    /// for [`WaitSet::insert_fd`](crate::WaitSet::insert_fd).
    pub fn wait_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    /// Waits for something to do, so long, and does it until a client has joined.
    fn turn(&mut self, limit: Option<Duration>) -> Result<Turn<C>, AcceptError> {
        self.listen_if_free().map_err(refused("watch the socket"))?;
        let mut told = std::mem::take(&mut self.told);
        told.clear();
        match self.poller.wait(limit, &mut told) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(refused("wait")(error)),
            _ => {}
        }
        let mut done = Ok(if told.is_empty() { Turn::Nothing } else { Turn::Something });
        for &key in &told {
            done = match key {
                LISTENER => self.admit().map(|()| Turn::Something),
                ALARM => continue,
                key => self.go_on(key).map(|channel| channel.map_or(Turn::Something, Turn::Joined)),
            };
            // What is left is told again.
            if !matches!(done, Ok(Turn::Something)) {
                break;
            }
        }
        self.told = told;
        if !matches!(done, Ok(Turn::Joined(_))) {
            // Only now, when all that was said is heard.
            let now = Instant::now();
            self.pending.retain(|_, client| client.until.is_none_or(|until| until > now));
        }
        // Whoever waits for the descriptor waits from here on. What is refused now is told by the next turn.
        let _ = self.listen_if_free();
        done
    }

    /// Listens unless there are too many who have not joined yet, and sets the alarm for the first who is late.
    fn listen_if_free(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.rests = self.rests.filter(|&rests| rests > now);
        let listens = self.rests.is_none() && (!self.is_full() || self.dispensable().is_some());
        if listens && !self.listens {
            self.poller.add(&self.held.socket, LISTENER)?;
        } else if !listens && self.listens {
            self.poller.remove(&self.held.socket);
        }
        self.listens = listens;
        let times = self.pending.values().filter_map(|client| client.until).chain(self.rests);
        self.alarm.set(times.min())
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= self.limits.handshakes.max(1)
    }

    /// The oldest client of the process that has the most, if it has more than one.
    fn dispensable(&self) -> Option<u64> {
        let mut processes = HashMap::new();
        for (&key, client) in &self.pending {
            let (clients, oldest) = processes.entry(client.peer.pid).or_insert((0, key));
            (*clients, *oldest) = (*clients + 1, key.min(*oldest));
        }
        let (clients, oldest) = processes.into_values().max()?;
        (clients > 1).then_some(oldest)
    }

    /// Takes those who have connected.
    fn admit(&mut self) -> Result<(), AcceptError> {
        for _ in 0..ADMITTED {
            if self.is_full() && self.dispensable().is_none() {
                break;
            }
            let socket = match self.held.socket.accept() {
                Ok(Some(socket)) => socket,
                Ok(None) => break,
                Err(error) => {
                    // It would be told again at once.
                    self.rests = Some(Instant::now() + REST);
                    return Err(refused("accept")(error));
                }
            };
            step("accept: connected");
            let Ok(Credentials { pid, uid, gid }) = socket.peer() else { continue };
            if let Some(oldest) = self.dispensable().filter(|_| self.is_full()) {
                self.pending.remove(&oldest);
            }
            // A time that the clock cannot reach has no end.
            let until = Instant::now().checked_add(self.limits.handshake_time);
            let client = Pending { socket, peer: Peer { pid, uid, gid }, until, channel: None };
            let key = self.next;
            self.poller.add(&client.socket, key).map_err(refused("watch a client"))?;
            self.next += 1;
            self.pending.insert(key, client);
        }
        Ok(())
    }

    /// Goes on with a client that has said something, or is gone.
    fn go_on(&mut self, key: u64) -> Result<Option<C>, AcceptError> {
        let Some(mut client) = self.pending.remove(&key) else { return Ok(None) };
        // More than a packet, so that a longer one is known.
        let mut packet = [0; PACKET_BYTES + 1];
        let packet = match client.socket.receive(&mut packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pending.insert(key, client);
                return Ok(None);
            }
            Ok((1.., surprising)) if !surprising.is_empty() => return Ok(None),
            Ok((bytes @ 1.., _)) => &packet[..bytes],
            // It is gone.
            Ok(_) | Err(_) => return Ok(None),
        };
        match client.channel.take() {
            None => self.welcome(key, client, packet).map(|()| None),
            Some(channel) if packet == JOINED && channel.peer_attached() => {
                step("accept: joined");
                Ok(Some(channel))
            }
            Some(_) => Ok(None),
        }
    }

    /// Answers a hello, with a channel if all is well.
    fn welcome(&mut self, key: u64, mut client: Pending<C>, packet: &[u8]) -> Result<(), AcceptError> {
        let offer = self.supply.offer();
        let refuse = |client: &Pending<C>, verdict| {
            // It may be gone.
            let _ = client.socket.send(&Answer::packet(&offer, verdict), &[]);
        };
        let verdict = match Hello::parse(packet) {
            Err(_) => Verdict::Version,
            Ok(hello) if hello.tag.is_some() && hello.tag != offer.tag => Verdict::Tag,
            Ok(hello) if !fits(hello.sends, offer.receives) || !fits(hello.receives, offer.sends) => {
                Verdict::Type
            }
            Ok(_) if self.filter.as_mut().is_some_and(|filter| !filter(&client.peer)) => Verdict::Refused,
            Ok(_) => Verdict::Welcome,
        };
        if verdict != Verdict::Welcome {
            refuse(&client, verdict);
            return Ok(());
        }
        let made = self.supply.take(&self.limits).inspect_err(|_| refuse(&client, Verdict::Full))?;
        let Some(Made { guard, handed }) = made else {
            refuse(&client, Verdict::Full);
            return Ok(());
        };
        step("accept: made");
        let sent = client.socket.send(&Answer::packet(&offer, Verdict::Welcome), &handed.descriptors());
        step("accept: answered");
        if sent.is_ok() {
            let (config, payloads) = (self.supply.config.clone(), self.supply.payloads);
            let side = NewSide { guard, config, payloads, peer: Some(client.peer) };
            client.channel = Some(C::from_side(side));
            self.pending.insert(key, client);
        }
        drop(handed);
        // The client joins meanwhile.
        self.supply.prepare(&self.limits);
        Ok(())
    }
}

fn refused(action: &'static str) -> impl FnOnce(io::Error) -> AcceptError {
    move |source| AcceptError::Io { action, source }
}

impl<C> fmt::Debug for Server<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("held", &self.held)
            .field("limits", &self.limits)
            .field("clients", &self.supply.clients())
            .finish_non_exhaustive()
    }
}
