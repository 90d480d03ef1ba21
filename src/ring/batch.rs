//! Messages that become visible together.

use super::producer::Producer;
use super::slot::WriteSlot;
use super::totals::WINDOW;
use crate::error::SendError;

impl Producer {
    /// Begins to gather messages that become visible together.
    ///
    /// ```
    /// # use capnproto_shm_transport::{Config, Transport};
    /// # let name = format!("doc-batch-{}", std::process::id());
    /// # let mut a = Transport::create(&name, &Config::new())?;
    /// let mut batch = a.batch();
    /// batch.try_send(b"one")?;
    /// batch.try_send(b"two")?;
    /// assert_eq!(batch.publish(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch(&mut self) -> Batch<'_> {
        Batch::new(self)
    }
}

/// Gathers commits and makes them visible at once: one publication, at most one wake.
///
/// Dropping a batch publishes its committed messages, like [`publish`](Self::publish). A forgotten batch is
/// published together with the next message.
#[derive(Debug)]
#[must_use = "a batch publishes when it is dropped"]
pub struct Batch<'a> {
    producer: &'a mut Producer,
    /// Where the batch began; each of its messages takes one slot.
    before: u64,
}

impl<'a> Batch<'a> {
    fn new(producer: &'a mut Producer) -> Self {
        producer.gather();
        let before = producer.tail();
        Self { producer, before }
    }

    /// Reserves the next slot. Its `commit` counts as gathered.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if every slot is taken, by this batch among others: publish it, and the peer can
    /// make room. [`SendError::Closed`], [`PeerDead`](SendError::PeerDead),
    /// [`Superseded`](SendError::Superseded), [`Corrupt`](SendError::Corrupt) as for
    /// [`Producer::try_reserve`].
    #[inline(always)]
    pub fn try_reserve(&mut self) -> Result<WriteSlot<'_>, SendError> {
        self.producer.reserve_gathered()
    }

    /// Copies one message into the next slot.
    ///
    /// # Errors
    ///
    /// As [`try_reserve`](Self::try_reserve), and [`SendError::TooLarge`] for more than a slot holds.
    #[inline(always)]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.producer.fits_slot(message.len())?;
        let mut slot = self.producer.reserve_gathered()?;
        slot[..message.len()].copy_from_slice(message);
        slot.commit(message.len());
        Ok(())
    }

    /// Makes everything gathered visible and returns how many messages that was.
    pub fn publish(self) -> usize {
        (self.producer.tail() - self.before) as usize
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.producer.publish();
        // Others add up what was published since it was counted, but not for ever.
        if self.producer.tail() - self.before > WINDOW {
            self.producer.count();
        }
    }
}
