//! The sending half of a connection.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use capnp::Error;
use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator};
use futures_channel::oneshot;

use super::fault::{ended, sending};
use super::frame::Frame;
use crate::error::SendError;
use crate::ring::{Producer, Waiting};

/// Bytes that may wait to be sent before a server takes in no more calls.
const CONGESTED: usize = 4 << 20;

pub(super) type Message = Rc<Builder<HeapAllocator>>;

/// Sends messages in order: at once while there is room and nothing waits, else as the peer makes room.
pub(super) struct Outbox {
    /// `None` once the connection has ended.
    producer: Option<Producer>,
    waiting: Waiting,
    queue: VecDeque<Queued>,
    /// The task that waits until everything is sent, and how the connection ends then.
    closing: Option<(capnp::Result<()>, oneshot::Sender<()>)>,
    /// How the connection has ended.
    end: capnp::Result<()>,
    /// Whether nobody uses the connection any more.
    abandoned: bool,
    writer: Option<Waker>,
    /// Bytes that wait, and the reader that waits until they are fewer.
    queued: usize,
    reader: Option<Waker>,
}

struct Queued {
    message: Message,
    /// Bytes of its frame, and how many of them are sent.
    len: usize,
    sent: usize,
    done: oneshot::Sender<()>,
}

impl Outbox {
    pub(super) fn new(producer: Producer) -> Self {
        Self {
            producer: Some(producer),
            waiting: Waiting::new(1),
            queue: VecDeque::new(),
            closing: None,
            end: Ok(()),
            abandoned: false,
            writer: None,
            queued: 0,
            reader: None,
        }
    }

    /// Sends a message after those that wait. The promise is kept when it is in the ring.
    pub(super) fn send(&mut self, message: &Message) -> Promise<(), Error> {
        let Some(producer) = &mut self.producer else { return Promise::err(self.why()) };
        let mut sent = 0;
        if self.queue.is_empty() {
            match send_parts(producer, message, &mut sent) {
                Ok(true) => return Promise::ok(()),
                Ok(false) => {}
                Err(error) => return Promise::err(self.fail(&error)),
            }
        }
        let (done, sent_all) = oneshot::channel();
        let len = Frame::of(message).len();
        self.queue.push_back(Queued { message: Rc::clone(message), len, sent, done });
        self.queued += len;
        self.wake();
        Promise::from_future(async { sent_all.await.map_err(|_| ended()) })
    }

    /// Ends the connection once everything is sent. The promise is kept then.
    pub(super) fn shut_down(&mut self, end: capnp::Result<()>) -> Promise<(), Error> {
        if self.producer.is_none() {
            return Promise::err(self.why());
        }
        if self.queue.is_empty() {
            self.close(end);
            return Promise::ok(());
        }
        let (done, sent_all) = oneshot::channel();
        self.closing = Some((end, done));
        self.wake();
        Promise::from_future(async { sent_all.await.map_err(|_| ended()) })
    }

    /// Whether only the waiting messages are still to be sent.
    pub(super) fn is_shut_down(&self) -> bool {
        self.closing.is_some() || self.producer.is_none()
    }

    /// Sends the waiting messages. Ready with how the connection ended when it has ended and nobody uses it any more.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<capnp::Result<()>> {
        self.writer = Some(cx.waker().clone());
        if ready!(self.poll_sent(cx)) {
            match self.closing.take() {
                Some((end, done)) => {
                    self.close(end);
                    // The waiting task may have gone.
                    let _ = done.send(());
                }
                None if self.abandoned => self.close(Ok(())),
                None => {}
            }
        }
        match self.producer {
            None if self.abandoned => Poll::Ready(self.end.clone()),
            _ => Poll::Pending,
        }
    }

    /// Whether all is sent; else the connection has ended.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while let (Some(producer), Some(next)) = (&mut self.producer, self.queue.front_mut()) {
            let ready = ready!(producer.poll_part(next.len - next.sent, &mut self.waiting, cx));
            let error = match ready.and_then(|()| send_parts(producer, &next.message, &mut next.sent)) {
                Ok(true) => {
                    if let Some(Queued { len, done, .. }) = self.queue.pop_front() {
                        let _ = done.send(());
                        self.queued -= len;
                        self.wake_reader();
                    }
                    continue;
                }
                Ok(false) => continue,
                Err(error) => error,
            };
            self.fail(&error);
        }
        Poll::Ready(self.producer.is_some())
    }

    /// Whether few enough bytes wait that more may be caused.
    pub(super) fn poll_uncongested(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.queued <= CONGESTED {
            return Poll::Ready(());
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wake_reader(&mut self) {
        if self.queued <= CONGESTED {
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    /// Nobody uses the connection any more.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
        self.wake();
    }

    /// Sends no more, and lets go of the channel.
    pub(super) fn close(&mut self, end: capnp::Result<()>) {
        if self.producer.take().is_some() {
            self.end = end;
            self.queue.clear();
            self.queued = 0;
            // The rest is not sent. Dropping this tells the waiting task.
            self.closing = None;
            self.wake();
            self.wake_reader();
        }
    }

    fn fail(&mut self, error: &SendError) -> Error {
        let error = sending(error);
        self.close(Err(error.clone()));
        error
    }

    fn why(&self) -> Error {
        self.end.clone().err().unwrap_or_else(ended)
    }

    fn wake(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

/// Sends a message from its byte `sent` on as far as there is room. Returns whether all of it is sent.
#[inline]
fn send_parts(producer: &mut Producer, message: &Message, sent: &mut usize) -> Result<bool, SendError> {
    let frame = Frame::of(message);
    while *sent < frame.len() {
        let mut part = match producer.try_reserve_part(frame.len() - *sent) {
            Ok(part) => part,
            Err(SendError::Full) => return Ok(false),
            Err(error) => return Err(error),
        };
        let copied = frame.copy(*sent, &mut part);
        part.commit(copied);
        *sent += copied;
    }
    Ok(true)
}
