//! One writer, and every client gets every message.

use std::fmt;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use super::Server;
use crate::channel::Channel;
use crate::error::{AcceptError, SendError};
use crate::transport::{Kind, Transport};

/// How often clients are asked whether they live still. One that has room looks like one that reads.
const ASKED: Duration = Duration::from_millis(100);

/// The treatment of a client that has no room for the next message, because it has not read those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slow {
    /// It misses that message, and goes on with the first one for which it has room again. It is not told: number the
    /// messages if it is to know.
    Skip,
    /// It loses its channel: it receives the messages sent before, then [`RecvError::Closed`](crate::RecvError::Closed). It
    /// may connect again.
    Drop,
}

/// Sends each message to every client, and waits for none of them.
///
/// Each message is written once for each client, into the slot that the client reads. The clients are those of a
/// [`Server`], or any others whose channel this process has.
///
/// ```
/// use capnproto_shm_transport::{Broadcast, Config, Server, Slow, Transport};
/// use std::time::Duration;
///
/// # let name = format!("doc-broadcast-{}", std::process::id());
/// # let name = name.as_str();
/// let mut server = Server::<Transport>::bind(name, &Config::new())?;
/// let mut broadcast = Broadcast::new(Slow::Skip);
/// # let client = std::thread::spawn({
/// #     let name = name.to_owned();
/// #     move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// #         let name = name.as_str();
/// let mut client = Transport::connect(name, Duration::from_secs(5))?;  // in another process
/// assert_eq!(&*client.recv()?, b"hello, all");
/// #         Ok(())
/// #     }
/// # });
///
/// while broadcast.is_empty() {
///     broadcast.admit(&mut server)?;      // the clients that have joined
/// }
/// let sent = broadcast.send(b"hello, all")?;
/// assert_eq!((sent.delivered, sent.skipped), (1, 0));
/// # client.join().unwrap().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Broadcast<C = Transport> {
    clients: Vec<C>,
    slow: Slow,
    asked: Instant,
}

/// The outcome of sending one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Clients that have it.
    pub delivered: usize,
    /// Clients that had no room, and miss it.
    pub skipped: usize,
    /// Clients that had no room, and lost their channel.
    pub dropped: usize,
    /// Clients that are gone: they have closed, died or lied. Their channels are dropped.
    pub gone: usize,
}

impl<C: Kind> Broadcast<C> {
    /// No clients yet.
    pub fn new(slow: Slow) -> Self {
        Self { clients: Vec::new(), slow, asked: Instant::now() }
    }

    /// One more client. It gets the messages sent from now on.
    pub fn add(&mut self, client: C) {
        self.clients.push(client);
    }

    /// Adds all that have joined `server`, without waiting for any. Returns how many.
    ///
    /// # Errors
    ///
    /// As [`Server::accept`]. Those that were added before stay.
    pub fn admit(&mut self, server: &mut Server<C>) -> Result<usize, AcceptError> {
        for added in 0.. {
            match server.try_accept() {
                Ok(client) => self.add(client),
                Err(AcceptError::Empty) => return Ok(added),
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }

    /// Sends by a call of the user's, one for each client. It should not wait: one client's wait is everybody's.
    ///
    /// # Errors
    ///
    /// The first error that is the message's own fault: [`SendError::TooLarge`], `SendError::Capnp`. Then those after that
    /// client do not have the message.
    pub fn send_with(
        &mut self,
        mut send: impl FnMut(&mut C) -> Result<(), SendError>,
    ) -> Result<Sent, SendError> {
        let mut sent = Sent { gone: self.forget_dead(), ..Sent::default() };
        let mut next = 0;
        while let Some(client) = self.clients.get_mut(next) {
            let (count, stays) = match send(client) {
                Ok(()) => (&mut sent.delivered, true),
                Err(SendError::Full | SendError::Timeout | SendError::NoPeer) => match self.slow {
                    Slow::Skip => (&mut sent.skipped, true),
                    Slow::Drop => (&mut sent.dropped, false),
                },
                Err(SendError::Closed | SendError::PeerDead | SendError::Superseded) => {
                    (&mut sent.gone, false)
                }
                Err(SendError::Corrupt(_) | SendError::NoDescriptor { .. }) => (&mut sent.gone, false),
                Err(fault) => return Err(fault),
            };
            *count += 1;
            if stays {
                next += 1;
            } else {
                self.clients.swap_remove(next);
            }
        }
        Ok(sent)
    }

    /// The clients' channels, in no order, for what they say to the writer.
    pub fn clients(&mut self) -> &mut [C] {
        &mut self.clients
    }

    /// How many clients there are, as far as is known.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Drops clients that have died, now and then. Returns how many.
    fn forget_dead(&mut self) -> usize {
        if self.asked.elapsed() < ASKED {
            return 0;
        }
        self.asked = Instant::now();
        let before = self.clients.len();
        self.clients.retain(|client| !client.peer_is_gone());
        before - self.clients.len()
    }
}

impl Broadcast<Transport> {
    /// Sends a message to every client, as a span of slots if it does not fit one.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if it exceeds [`max_message_size`](Transport::max_message_size).
    pub fn send(&mut self, message: &[u8]) -> Result<Sent, SendError> {
        self.send_with(|client| {
            if message.len() <= client.slot_size() {
                return client.try_send(message);
            }
            let mut span = client.try_reserve_span(message.len())?;
            span[..message.len()].copy_from_slice(message);
            span.commit(message.len());
            Ok(())
        })
    }
}

impl<T: Pod, R: Pod> Broadcast<Channel<T, R>> {
    /// Sends a value to every client.
    ///
    /// # Errors
    ///
    /// None that is the value's own fault.
    pub fn send(&mut self, value: &T) -> Result<Sent, SendError> {
        self.send_with(|client| client.try_send(value))
    }
}

#[cfg(feature = "capnp")]
mod capnp_messages {
    use ::capnp::traits::{HasTypeId, Owned};

    use super::*;
    use crate::capnp_channel::CapnpChannel;

    impl<M: Owned, R: Owned> Broadcast<CapnpChannel<M, R>>
    where
        M::Reader<'static>: HasTypeId,
        R::Reader<'static>: HasTypeId,
    {
        /// Builds a message for every client, each in its slot.
        ///
        /// # Errors
        ///
        /// [`SendError::Capnp`] with the error that `build` returned, [`SendError::TooLarge`] if the message exceeds
        /// [`max_message_size`](CapnpChannel::max_message_size).
        pub fn send(
            &mut self,
            build: impl for<'b> Fn(M::Builder<'b>) -> ::capnp::Result<()>,
        ) -> Result<Sent, SendError> {
            self.send_with(|client| client.try_send(&build))
        }

        /// Sends a frame that was stored, or built once for all; see
        /// [`send_frame`](crate::CapnpSender::send_frame).
        ///
        /// # Errors
        ///
        /// [`SendError::Capnp`] if the bytes are not exactly one frame, [`SendError::TooLarge`] if they exceed
        /// [`max_message_size`](CapnpChannel::max_message_size).
        pub fn send_frame(&mut self, frame: &[u8]) -> Result<Sent, SendError> {
            self.send_with(|client| client.try_send_frame(frame))
        }
    }
}

impl<C> fmt::Debug for Broadcast<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.clients.len();
        f.debug_struct("Broadcast")
            .field("clients", &clients)
            .field("slow", &self.slow)
            .finish_non_exhaustive()
    }
}
