//! One side's part: it sends for its time and receives until the other side has sent its last.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Consumer, Producer, RecvError, SendError, Transport};

use crate::measure::Measure;
use crate::{Failure, GLANCE, clock, payload, stopped};

/// Messages sent, or received, in one go.
const BATCH: usize = 64;

/// How fast to send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the ring takes it.
    Burst,
    /// One message each 30 ms.
    Paced,
}

pub const PERIOD: Duration = Duration::from_millis(30);

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::Burst { "burst" } else { "paced" })
    }
}

/// Talks to the other side, in one thread, until both have sent their last or Ctrl-C.
pub fn exchange(transport: Transport, pace: Pace, time: Duration) -> Result<Measure, Failure> {
    let (producer, consumer) = transport.split();
    let (began, cpu) = (Instant::now(), clock::cpu());
    let mut sender = Some(Sender { producer, pace, sent: 0, due: began });
    let mut receiver = Receiver { consumer, open: true, stamps: Vec::new(), measure: Measure::default() };
    while !stopped() && (sender.is_some() || receiver.open) {
        let left = time.saturating_sub(began.elapsed());
        // Dropping the producer closes this direction: the other side takes what is there, then knows.
        sender = sender.filter(|_| !left.is_zero());
        let received = receiver.burst()?;
        let sent = sender.as_mut().map_or(Ok(0), Sender::burst).map_err(left_early)?;
        if received + sent > 0 {
            continue;
        }
        match &mut sender {
            Some(sender) => sender.idle(&mut receiver, left.min(GLANCE))?,
            None => receiver.wait(GLANCE)?,
        }
    }
    let used = clock::cpu().zip(cpu).map(|(end, start)| end - start);
    Ok(Measure { elapsed: began.elapsed(), cpu: used, ..receiver.measure })
}

/// The other side receives until we have closed; if it has not, it was interrupted.
fn left_early(error: SendError) -> Failure {
    match error {
        SendError::Closed => "the other side left before the end".into(),
        other => other.into(),
    }
}

struct Sender {
    producer: Producer,
    pace: Pace,
    sent: u64,
    /// When the next message goes.
    due: Instant,
}

impl Sender {
    /// Sends what is due and finds room; says how many messages that was.
    fn burst(&mut self) -> Result<usize, SendError> {
        let many = match self.pace {
            Pace::Burst => BATCH,
            Pace::Paced if Instant::now() >= self.due => 1,
            Pace::Paced => return Ok(0),
        };
        // Before the first is built: a latency may be too long by a batch, never too short.
        let now = clock::now();
        let mut batch = self.producer.batch();
        for _ in 0..many {
            let mut slot = match batch.try_reserve() {
                Err(SendError::Full) => break,
                other => other?,
            };
            payload::write(&mut slot, self.sent, now);
            let len = slot.len();
            slot.commit(len);
            self.sent += 1;
            self.due += PERIOD;
        }
        Ok(batch.publish())
    }

    /// There is nothing to receive, and nothing to send or no room for it.
    fn idle(&mut self, receiver: &mut Receiver, limit: Duration) -> Result<(), Failure> {
        let until_due = self.due.saturating_duration_since(Instant::now());
        if self.pace == Pace::Burst || until_due.is_zero() {
            return match self.producer.reserve_timeout(limit) {
                Ok(_) | Err(SendError::Timeout) => Ok(()),
                Err(error) => Err(left_early(error)),
            };
        }
        receiver.wait(limit.min(until_due))
    }
}

struct Receiver {
    consumer: Consumer,
    /// Whether the other side may send more.
    open: bool,
    /// When the messages of this burst were sent.
    stamps: Vec<u64>,
    measure: Measure,
}

impl Receiver {
    /// Takes what is there; says how many messages that was.
    fn burst(&mut self) -> Result<usize, Failure> {
        let Self { consumer, stamps, measure, .. } = self;
        let mut intact = true;
        let result = consumer.drain(BATCH, |message| intact &= note(message, stamps, measure));
        self.settle(result.map(|_| intact))
    }

    /// Waits for the next message, the other side's end, or `limit`.
    fn wait(&mut self, limit: Duration) -> Result<(), Failure> {
        if !self.open {
            thread::sleep(limit);
            return Ok(());
        }
        let Self { consumer, stamps, measure, .. } = self;
        let result = consumer.recv_timeout(limit).map(|message| note(&message, stamps, measure));
        self.settle(result).map(drop)
    }

    /// Takes the time of what has come, given whether it was intact; says how many messages that was.
    fn settle(&mut self, result: Result<bool, RecvError>) -> Result<usize, Failure> {
        match result {
            Ok(true) | Err(RecvError::Timeout) => {}
            Ok(false) => return Err("a message is not as it was sent".into()),
            Err(RecvError::Closed) => self.open = false,
            Err(other) => return Err(other.into()),
        }
        let received = self.stamps.len();
        if received > 0 {
            // After the last message is read: a latency may be too long by a burst, never too short.
            let now = clock::now();
            for sent in self.stamps.drain(..) {
                self.measure.latency.saturating_record(now.saturating_sub(sent));
            }
        }
        Ok(received)
    }
}

/// Reads one message to its last byte. Whether it is the next one, as it was sent.
fn note(message: &[u8], stamps: &mut Vec<u64>, measure: &mut Measure) -> bool {
    let sent = payload::read(message, measure.messages);
    stamps.extend(sent);
    measure.messages += 1;
    measure.bytes += message.len() as u64;
    sent.is_some()
}
