//! How either half ends its direction: in order, or as if its process had died.

use std::sync::Arc;
use std::time::Duration;

use super::consumer::Consumer;
use super::interrupter::Interrupter;
use super::producer::Producer;
use super::stop::Stop;
use super::wait_limit::WaitLimit;
use super::waiting::{Waits, wait_for};
use crate::crash::step;
use crate::error::SendError;
use crate::protocol::{End, Half};

impl Producer {
    /// Closes this direction in order once the peer has released everything that was sent, waiting for that at most
    /// `wait`. Later sends return [`SendError::Closed`]. On failure nothing is closed.
    ///
    /// # Errors
    ///
    /// [`SendError::Timeout`] if the peer did not receive everything in time, [`SendError::NoPeer`] if moreover nobody
    /// has attached yet. [`Closed`](SendError::Closed), [`PeerDead`](SendError::PeerDead),
    /// [`Superseded`](SendError::Superseded) and [`Corrupt`](SendError::Corrupt) as for [`reserve`](Self::reserve):
    /// then something may not have been received.
    pub fn finish(&mut self, wait: Duration) -> Result<(), SendError> {
        if let Some(corruption) = self.endpoint.corruption {
            return Err(SendError::Corrupt(corruption));
        }
        let slots = self.endpoint.view.slot_count();
        let received = |half: &Self| half.endpoint.view.words().taken(half.tail(), slots) == Ok(0);
        self.let_go();
        if !received(self) {
            wait_for(self, slots, WaitLimit::AtMost(wait).started()).or_else(|stop| match stop {
                // A peer that received everything has done what was asked, however it ended then.
                Stop::Closed | Stop::PeerDead | Stop::Superseded if received(self) => Ok(()),
                stop => Err(stop),
            })?;
        }
        self.endpoint.finished = true;
        self.give_up();
        self.close();
        Ok(())
    }

    /// Leaves this direction as if this process had died: the peer receives the committed messages, then learns
    /// [`RecvError::PeerDead`](crate::RecvError::PeerDead) and not that the channel was closed. For a process that stands
    /// in for one that has died elsewhere, such as a bridge; see [`Transport::abandon`](crate::Transport::abandon).
    pub fn abandon(mut self) {
        self.die();
    }

    pub(crate) fn die(&mut self) {
        self.let_go();
        self.stop(End::Died);
    }

    /// Closes this direction in order, now. Dropping the half does the same; a binding for another language has no half to
    /// drop.
    #[doc(hidden)]
    pub fn shut_down(&mut self) {
        if !self.endpoint.finished {
            self.let_go();
            self.endpoint.finished = true;
            self.give_up();
            self.close();
        }
    }

    /// Ends a wait of this half from another thread: the call returns [`SendError::Timeout`]. A binding for another language
    /// needs it to close a transport while a listener's callback waits for room.
    #[doc(hidden)]
    pub fn interrupter(&self) -> Interrupter {
        Interrupter::new(Arc::clone(&self.endpoint.interruption))
    }

    fn close(&self) {
        self.stop(End::Closed);
    }

    /// Tells the peer how this end stops, unless it has stopped already.
    fn stop(&self, end: End) {
        let pair = self.endpoint.view.pair();
        step("close: sending end");
        pair.tx.words().producer_status.finish(end);
        step("close: sending end said");
        pair.wake(pair.side.other(), Half::Consumer);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Consumer {
    /// Leaves this direction as if this process had died: the peer's next send returns
    /// [`SendError::PeerDead`](crate::SendError::PeerDead) and not that the channel was closed. See
    /// [`Transport::abandon`](crate::Transport::abandon).
    pub fn abandon(mut self) {
        self.die();
    }

    pub(crate) fn die(&mut self) {
        self.let_go();
        self.stop(End::Died);
    }

    /// Tells the peer how this end stops, unless it has stopped already.
    fn stop(&self, end: End) {
        let pair = self.endpoint.view.pair();
        step("close: receiving end");
        pair.rx.words().consumer_status.finish(end);
        step("close: receiving end said");
        pair.wake(pair.side.other(), Half::Producer);
        // A set may sleep for this half; it is to forget it.
        if let Some(readiness) = self.endpoint.readiness.get() {
            readiness.leave();
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop(End::Closed);
    }
}
