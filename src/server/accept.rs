//! The server: clients one after the other, each with a channel of its own. Until they have joined, they are in `joining.rs`.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(feature = "async")]
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

#[cfg(feature = "async")]
use super::joining::refused;
use super::joining::{Joining, Turn};
use super::limits::Limits;
use super::name::hold;
use super::supply::Supply;
#[cfg(feature = "async")]
use super::task::Waiting;
use crate::config::Config;
use crate::error::{AcceptError, CreateError, Failure};
use crate::transport::{Kind, Peer, Transport};

/// Gives each client that connects a duplex channel of its own, of which it is side A.
///
/// The channel lies in sealed memory without a name, which is handed over on a Unix socket. So a crash leaves nothing of
/// it, and nothing that one client does touches another. The types of both sides, the tag, the filter and the limits
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
    joining: Joining<C>,
    #[cfg(feature = "async")]
    waiting: Waiting,
}

/// Turns of a call that does not wait, at most.
const LOOKS: usize = 16;

impl<C: Kind> Server<C> {
    /// Takes the name and listens. A dead server's files are reclaimed. Each client's channel has the geometry,
    /// the tag, the memory options and the poll mode of `config`.
    ///
    /// # Errors
    ///
    /// [`CreateError::Config`] for an invalid name, size or option; a server's name has at most 59 bytes.
    /// [`CreateError::InUse`] if a live server holds the name, [`CreateError::Segment`] if a file is in the way that is
    /// not a leftover of ours, [`CreateError::Io`] if the system refuses.
    pub fn bind(name: &str, config: &Config) -> Result<Self, CreateError> {
        let supply = Supply::new(config, C::declared(config)?.0)?;
        let held = hold(name, config)?;
        let socket = held.paths.socket.clone();
        Ok(Self {
            joining: Joining::new(held, supply).map_err(Failure::at("watch", &socket))?,
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
            ready!(self.waiting.poll(self.joining.poller.as_fd(), None, cx)).map_err(refused("wait"))?;
        }
    }

    fn accept_until(&mut self, deadline: Option<Instant>) -> Result<C, AcceptError> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.joining.turn(left)? {
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
            match self.joining.turn(Some(Duration::ZERO))? {
                Turn::Something => {}
                done => return Ok(done),
            }
        }
        Ok(Turn::Something)
    }

    /// Changes the limits for clients. Clients that are there stay.
    pub fn limits(&mut self, limits: Limits) {
        self.joining.limit(limits);
    }

    /// Decides who may connect, by the system's word on a client. Otherwise everybody may who can reach the socket: the
    /// same user, unless [`Config::permissions`] opens it to a group.
    pub fn filter(&mut self, filter: impl FnMut(&Peer) -> bool + Send + 'static) {
        self.joining.filter = Some(Box::new(filter));
    }

    /// How many clients have a channel now, those included whose handshake is not over.
    pub fn clients(&self) -> usize {
        self.joining.supply.clients()
    }

    /// A descriptor that is readable as long as [`try_accept`](Self::try_accept) has something to do, for event loops and
    /// for [`WaitSet::insert_fd`](crate::WaitSet::insert_fd).
    pub fn wait_fd(&self) -> BorrowedFd<'_> {
        self.joining.poller.as_fd()
    }
}

impl<C> fmt::Debug for Server<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("held", &self.joining.held)
            .field("limits", &self.joining.limits)
            .field("clients", &self.joining.supply.clients())
            .finish_non_exhaustive()
    }
}
