//! The receiving half of a connection.

use std::cell::RefCell;
use std::mem;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use capnp::message::{self, ReaderOptions};
use capnp::{Error, any_pointer};

use super::fault::{ended, malformed, receiving};
use crate::capnp_channel::{Frame, announced};
use crate::error::RecvError;
use crate::ring::{Consumer, Waiting};

/// Words of the longest table of segment lengths.
const MOST_TABLE_WORDS: usize = 256;
/// Buffers that are kept to be used again, and words that they have in all.
const SPARE_BUFFERS: usize = 64;
const SPARE_WORDS: usize = (4 << 20) / 8;

/// Receives messages, each copied once, into memory that is used again.
pub(super) struct Inbox {
    /// `None` once the connection has ended.
    consumer: Option<Consumer>,
    waiting: Waiting,
    options: ReaderOptions,
    /// The message that is on its way: its first bytes, how many they are, and how many there must be to tell more.
    words: Vec<u64>,
    filled: usize,
    needed: usize,
    spare: Rc<Spare>,
}

impl Inbox {
    pub(super) fn new(consumer: Consumer, options: ReaderOptions) -> Self {
        let (words, spare) = (Vec::new(), Rc::default());
        Self {
            consumer: Some(consumer),
            waiting: Waiting::polite(1),
            options,
            words,
            filled: 0,
            needed: 0,
            spare,
        }
    }

    /// The next message; `None` after the last if the peer closed in order.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<capnp::Result<Option<Incoming>>> {
        if let Some(consumer) = &mut self.consumer {
            ready!(consumer.poll_turn(cx));
        }
        let polled = self.poll_parts(cx);
        if let Poll::Ready(Err(_) | Ok(None)) = polled {
            self.close();
        }
        polled
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>) -> Poll<capnp::Result<Option<Incoming>>> {
        loop {
            let Some(consumer) = &mut self.consumer else { return Poll::Ready(Err(ended())) };
            let part = match ready!(consumer.poll_message(&mut self.waiting, cx)) {
                Ok(()) => consumer.try_append(&mut self.words, self.filled),
                Err(error) => Err(error),
            };
            match part {
                Ok(len) => {
                    if let Some(message) = self.complete(len)? {
                        return Poll::Ready(Ok(Some(message)));
                    }
                }
                Err(RecvError::Empty) => {}
                Err(RecvError::Closed) if self.filled == 0 => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(receiving(&error, self.filled))),
            }
        }
    }

    /// The message that is whole with the `len` bytes that came last, if it is.
    fn complete(&mut self, len: usize) -> capnp::Result<Option<Incoming>> {
        if len == 0 {
            return Err(malformed("a part has no bytes"));
        }
        self.filled += len;
        if self.filled < self.needed {
            return Ok(None);
        }
        let bytes = &bytemuck::cast_slice(&self.words)[..self.filled];
        self.needed = announced(bytes).map_err(Error::from_kind)?;
        self.check_limit()?;
        if self.needed > self.filled {
            return self.make_room().map(|()| None);
        }
        if self.needed < self.filled {
            let (needed, extra) = (self.needed, self.filled - self.needed);
            return Err(malformed(&format!("{extra} bytes follow a message of {needed}")));
        }
        let words = mem::replace(&mut self.words, self.spare.take());
        let bytes = Buffer { words, len: self.filled, spare: Rc::clone(&self.spare) };
        (self.filled, self.needed) = (0, 0);
        Ok(Some(Incoming(message::Reader::new(Frame::owned(bytes), self.options))))
    }

    /// A message that no reader would go through is not taken in.
    fn check_limit(&self) -> capnp::Result<()> {
        let words = self.needed / 8;
        match self.options.traversal_limit_in_words {
            Some(limit) if words > limit.saturating_add(MOST_TABLE_WORDS) => Err(Error::failed(format!(
                "a message of {words} words is too large for the {limit} words that the reader options of this side \
                 allow to traverse"
            ))),
            _ => Ok(()),
        }
    }

    /// Room for the whole message that has begun. The system gives the memory when it is written.
    fn make_room(&mut self) -> capnp::Result<()> {
        let more = self.needed.div_ceil(8).saturating_sub(self.words.len());
        let refused = |_| Error::overloaded(format!("no memory for a message of {} bytes", self.needed));
        self.words.try_reserve_exact(more).map_err(refused)
    }

    /// Receives no more.
    pub(super) fn close(&mut self) {
        self.consumer = None;
        self.words = Vec::new();
    }
}

/// A message that came in, in memory of its own, for as long as somebody looks at it.
pub(super) struct Incoming(message::Reader<Frame<Buffer, Vec<Range<usize>>>>);

impl capnp_rpc::IncomingMessage for Incoming {
    fn get_body(&self) -> capnp::Result<any_pointer::Reader<'_>> {
        self.0.get_root()
    }
}

/// The bytes of a message: the first `len` of `words`.
struct Buffer {
    words: Vec<u64>,
    len: usize,
    spare: Rc<Spare>,
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.spare.give(mem::take(&mut self.words));
    }
}

/// Buffers to be used again.
#[derive(Default)]
struct Spare(RefCell<Vec<Vec<u64>>>);

impl Spare {
    fn take(&self) -> Vec<u64> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    fn give(&self, words: Vec<u64>) {
        let mut spare = self.0.borrow_mut();
        let kept = |spare: &[Vec<u64>]| spare.iter().map(Vec::capacity).sum::<usize>();
        if spare.len() < SPARE_BUFFERS && kept(&spare) + words.capacity() <= SPARE_WORDS {
            spare.push(words);
        }
    }
}
