//! Two parties over one channel, as capnp-rpc sees them.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, ready};

use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use capnp::{Error, any_pointer};
use capnp_rpc::rpc_twoparty_capnp::Side;

use super::fault::ended;
use super::inbox::Inbox;
use super::outbox::{Message, Outbox};
use crate::transport::Transport;

/// A channel, used by one connection.
struct Link {
    side: Side,
    inbox: RefCell<Inbox>,
    outbox: RefCell<Outbox>,
}

/// Two parties, a client and a server, over one channel: a [`capnp_rpc::VatNetwork`] for [`capnp_rpc::RpcSystem`].
///
/// It has the transport to itself. No message sent before, on either side, may be in the rings any more.
pub struct VatNetwork {
    link: Rc<Link>,
    users: Weak<Users>,
    /// Until it is accepted.
    connection: Option<Connection>,
}

impl VatNetwork {
    /// `side` says which party this is: a client asks for the bootstrap capability of [`Side::Server`], and a server for
    /// that of [`Side::Client`], if at all. It has nothing to do with who created the channel. `options` limit what is
    /// read of each message that comes in.
    pub fn new(transport: Transport, side: Side, options: ReaderOptions) -> Self {
        let (producer, consumer) = transport.split();
        let inbox = RefCell::new(Inbox::new(consumer, options));
        let link = Rc::new(Link { side, inbox, outbox: RefCell::new(Outbox::new(producer)) });
        let users = Rc::new(Users(Rc::clone(&link)));
        Self { link, users: Rc::downgrade(&users), connection: Some(Connection { users }) }
    }
}

impl capnp_rpc::VatNetwork<Side> for VatNetwork {
    fn connect(&mut self, host: Side) -> Option<Box<dyn capnp_rpc::Connection<Side>>> {
        if host == self.link.side {
            return None;
        }
        // After its end there is one that has ended: every call over it says so.
        let users = self.users.upgrade().unwrap_or_else(|| Rc::new(Users(Rc::clone(&self.link))));
        Some(Box::new(Connection { users }))
    }

    fn accept(&mut self) -> Promise<Box<dyn capnp_rpc::Connection<Side>>, Error> {
        match self.connection.take() {
            Some(connection) => Promise::ok(Box::new(connection)),
            None => Promise::from_future(std::future::pending()),
        }
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), Error> {
        let driver = Driver(Rc::clone(&self.link));
        Promise::from_future(poll_fn(move |cx| driver.0.outbox.borrow_mut().poll_end(cx)))
    }
}

/// Sends the waiting messages. Without it the connection has ended, so that the peer learns of it.
struct Driver(Rc<Link>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.inbox.borrow_mut().close();
        self.0.outbox.borrow_mut().close(Err(ended()));
    }
}

/// The users of the connection.
struct Users(Rc<Link>);

impl Drop for Users {
    fn drop(&mut self) {
        self.0.inbox.borrow_mut().close();
        self.0.outbox.borrow_mut().abandon();
    }
}

struct Connection {
    users: Rc<Users>,
}

impl capnp_rpc::Connection<Side> for Connection {
    fn get_peer_vat_id(&self) -> Side {
        match self.users.0.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    fn new_outgoing_message(&mut self, first_segment_words: u32) -> Box<dyn capnp_rpc::OutgoingMessage> {
        let allocator = HeapAllocator::new().first_segment_words(first_segment_words);
        Box::new(Outgoing { message: Builder::new(allocator), link: Rc::clone(&self.users.0) })
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn capnp_rpc::IncomingMessage>>, Error> {
        let link = Rc::clone(&self.users.0);
        Promise::from_future(poll_fn(move |cx| {
            // A client always reads, so that what waits here goes on.
            if link.side == Side::Server {
                ready!(link.outbox.borrow_mut().poll_uncongested(cx));
            }
            Poll::Ready(match ready!(link.inbox.borrow_mut().poll_message(cx))? {
                Some(message) => Ok(Some(Box::new(message) as Box<_>)),
                // After this side has shut down, capnp-rpc does not want to hear of the other's end.
                None if link.outbox.borrow().is_shut_down() => Err(ended()),
                None => Ok(None),
            })
        }))
    }

    fn shutdown(&mut self, result: capnp::Result<()>) -> Promise<(), Error> {
        self.users.0.outbox.borrow_mut().shut_down(result)
    }
}

struct Outgoing {
    message: Builder<HeapAllocator>,
    link: Rc<Link>,
}

impl capnp_rpc::OutgoingMessage for Outgoing {
    fn get_body(&mut self) -> capnp::Result<any_pointer::Builder<'_>> {
        self.message.get_root()
    }

    fn get_body_as_reader(&self) -> capnp::Result<any_pointer::Reader<'_>> {
        self.message.get_root_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), Error>, Message) {
        let Self { message, link } = *self;
        let message = Rc::new(message);
        let sent = link.outbox.borrow_mut().send(&message);
        (sent, message)
    }

    fn take(self: Box<Self>) -> Builder<HeapAllocator> {
        self.message
    }

    fn size_in_words(&self) -> usize {
        self.message.size_in_words()
    }
}
