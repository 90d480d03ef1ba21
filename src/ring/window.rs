//! Several messages held at once.

use std::collections::VecDeque;
use std::ops::Index;
#[cfg(feature = "async")]
use std::task::{Poll, ready};

#[cfg(feature = "async")]
use super::call::Polling;
use super::consumer::Consumer;
use super::view::Message;
use super::wait_limit::{WaitLimit, waiting_forms};
use crate::error::RecvError;

impl Consumer {
    /// A window on the ring, which holds several messages at once.
    ///
    /// ```
    /// # use capnproto_shm_transport::{Config, Transport};
    /// # let name = format!("doc-window-{}", std::process::id());
    /// # let mut a = Transport::create(&name, &Config::new())?;
    /// # let mut b = Transport::open(&name, std::time::Duration::from_secs(1))?;
    /// # for frame in [b"one", b"two", b"six"] { a.send(frame)?; }
    /// let mut frames = b.window();
    /// frames.wait_for(3)?;                    // three messages, in their slots
    /// assert_eq!(&frames[2], b"six");
    /// frames.release(1);                      // the oldest goes back to the sender
    /// assert_eq!((frames.len(), &frames[0]), (2, &b"two"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn window(&mut self) -> Window<'_> {
        Window::new(self)
    }
}

/// Holds received messages, oldest first, each in the slot it arrived in: `window[0]` to `window[len() - 1]`.
///
/// [`wait_for`](Self::wait_for) receives more, [`release`](Self::release) gives the oldest back, dropping the window
/// gives back all. Messages that are held take slots: the sender goes on while others are free, and waits then. A
/// window of `n` messages needs a ring that holds `n` messages and whatever the sender shall have ready meanwhile. It
/// trusts the peer to leave committed slots alone, as a [`ReadSlot`](crate::ReadSlot) does.
#[derive(Debug)]
#[must_use = "dropping a window releases its messages"]
pub struct Window<'a> {
    consumer: &'a mut Consumer,
    held: VecDeque<Message>,
}

impl<'a> Window<'a> {
    fn new(consumer: &'a mut Consumer) -> Self {
        // Slots that a forgotten guard or window holds are nobody's.
        consumer.release();
        let held = std::mem::take(&mut consumer.spare);
        Self { consumer, held }
    }

    waiting_forms! {
        /// Receives messages until the window holds `count`, or more if it does already. Those that came before an
        /// error stay.
        #[errors("[`WindowTooLarge`](RecvError::WindowTooLarge) if `count` exceeds the slots of the ring.")]
        try_wait_for, wait_for, wait_for_timeout, wait_for_async(count: usize) -> (), RecvError
            = |window, limit| window.fill(count, limit), ready |polling| window.poll_filled(count, polling);
    }

    /// Whether `count` messages are held, or a call that does not wait gets an error.
    #[cfg(feature = "async")]
    pub(crate) fn poll_filled(
        &mut self,
        count: usize,
        polling: &mut Polling<'_, '_>,
    ) -> Poll<Result<(), RecvError>> {
        while self.held.len() < count.min(self.consumer.slot_count()) {
            ready!(self.holding(|consumer| consumer.poll_received(polling)))?;
            self.fill(self.held.len() + 1, WaitLimit::None)?;
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn fill(&mut self, count: usize, limit: WaitLimit) -> Result<(), RecvError> {
        let slots = self.consumer.slot_count();
        if count > slots {
            return Err(RecvError::WindowTooLarge { asked: count, slots });
        }
        let deadline = limit.started();
        while self.held.len() < count {
            let message = self.holding(|consumer| consumer.message(deadline.left()))?;
            self.held.push_back(message);
        }
        Ok(())
    }

    /// Does `receive`, in which nothing that is held is released.
    fn holding<T>(&mut self, receive: impl FnOnce(&mut Consumer) -> T) -> T {
        match self.held.front() {
            Some(oldest) => self.consumer.hold(oldest.sequence(), receive),
            // Nothing is held: a sender may wait for what is skipped before the first message.
            None => receive(self.consumer),
        }
    }

    /// The first sequence that is not released.
    fn first(&self) -> u64 {
        self.held.front().map_or(self.consumer.next_sequence(), Message::sequence)
    }

    /// Messages that are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// A message that is held, counted from the oldest.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.held.get(index).map(|message| self.consumer.endpoint.view.message_bytes(message))
    }

    /// The messages that are held, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.held.iter().map(|message| self.consumer.endpoint.view.message_bytes(message))
    }

    /// Gives the `count` oldest messages back to the sender, all if there are no more.
    pub fn release(&mut self, count: usize) {
        self.held.drain(..count.min(self.held.len()));
        let first = self.first();
        self.consumer.release_before(first);
    }

    /// Ends the window and releases nothing: what it holds is received again. For a binding whose call is to hold a number of
    /// messages or none.
    #[doc(hidden)]
    pub fn put_back(self) {
        let first = self.first();
        self.consumer.go_back(first);
    }
}

/// A message that is held, counted from the oldest.
///
/// # Panics
///
/// If there are not so many.
impl Index<usize> for Window<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        self.consumer.endpoint.view.message_bytes(&self.held[index])
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.held.clear();
        self.consumer.spare = std::mem::take(&mut self.held);
        self.consumer.release();
    }
}
