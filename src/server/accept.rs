//! The server: clients one after the other, each with a channel of its own. What it does in a turn is in `turn.rs`.

mod turn;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(feature = "async")]
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

#[cfg(feature = "async")]
use self::turn::refused;
use self::turn::{Pending, Turn};
use super::limits::Limits;
use super::name::{Held, hold};
use super::supply::Supply;
#[cfg(feature = "async")]
use super::task::Waiting;
use crate::config::Config;
use crate::error::{AcceptError, CreateError, Failure};
use crate::system::{Alarm, Poller};
use crate::transport::{Kind, Peer, Transport};

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
/// Turns of a call that does not wait, at most.
const LOOKS: usize = 16;

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
