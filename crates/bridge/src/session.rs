//! One generation of one channel, carried: what the program here sends goes out, what comes in is placed, and each end is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::ending::Ending;
use crate::error::BridgeError;
use crate::frame::{End, Frame, Kind, most_bytes};
use crate::hello::slots_for;
use crate::link::{Beat, Link};
use crate::options::Options;
use crate::place::{Misfit, length_at, misfit};
use crate::queue::Piece;
use crate::work::Stop;
use capnproto_shm_transport::{Consumer, Interrupter, Producer, RecvError, SendError, Transport};

/// Bytes of messages that travel together, at most one message more. Each frame costs four wakes: of the program that waits
/// for room, of Zenoh's thread here, of the one there, and of the program that receives.
const FRAME_BYTES: usize = 512 * 1024;
/// How long a wait for room lasts before everything else has its turn.
const SLICE: Duration = Duration::from_millis(20);
/// How often it is asked whether a half of the channel has ended, once the other half has.
const TICK: Duration = Duration::from_millis(50);
/// How long a session that has ended waits for the other bridge to know.
const LINGER: Duration = Duration::from_secs(2);

/// Carries messages both ways until both directions have ended. `window`: slots that the other bridge takes before it has
/// placed any.
pub(crate) fn carry(
    transport: Transport,
    link: &Link,
    window: u64,
    options: &Options,
    leave: &AtomicBool,
) -> Result<Ending, BridgeError> {
    let timeout = options.timeout;
    let interrupter = transport.interrupter();
    let (producer, consumer) = transport.split();
    let bounds = Bounds::new(window, consumer.slot_size(), consumer.slot_count(), options.memory);
    link.inbox.lend(producer);
    thread::scope(|scope| {
        let sender = thread::Builder::new()
            .name("bridge: send".into())
            .spawn_scoped(scope, || {
                let ended = send(consumer, link, bounds);
                link.inbox.look();
                ended
            })
            .map_err(BridgeError::Thread);
        let sender = match sender {
            Ok(sender) => sender,
            Err(error) => {
                link.inbox.borrow().into_iter().for_each(Producer::abandon);
                return Err(error);
            }
        };
        let mut keeper =
            Keeper { link, beat: Beat::new(timeout), leave, receives: true, ending: None, since: None };
        let kept = keeper.keep(&interrupter, || sender.is_finished());
        if kept.is_err() {
            link.inbox.stop(Stop::There(End::Died));
            interrupter.interrupt();
            link.inbox.borrow().into_iter().for_each(Producer::abandon);
        }
        let sent = match sender.join() {
            Ok(sent) => sent,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        kept?;
        if sent? == Some(End::Died) {
            keeper.ending.get_or_insert(Ending::Died);
        }
        if let Some(what) = link.inbox.wrong().filter(|_| keeper.ending == Some(Ending::Died)) {
            keeper.ending = Some(Ending::Broken(what));
        }
        keeper.linger()?;
        Ok(keeper.ending.unwrap_or(Ending::Closed))
    })
}

/// How far this bridge goes with what the other one says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    /// Slots that are sent beyond those that the other bridge has placed.
    window: u64,
    /// Bytes that are kept until the other bridge has them.
    kept: u64,
}

impl Bounds {
    /// For a ring of these slots; a window that is larger than the memory is not used up.
    fn new(window: u64, slot_size: usize, slot_count: usize, memory: u64) -> Self {
        let (slots, each) = (slot_count as u64, most_bytes(slot_size as u64));
        let window = window.min((memory / each).max(slots));
        // A frame tells first what came, then what was placed: what is placed in between comes on top, a window at most.
        let most = window.saturating_add(slots).saturating_mul(2);
        let kept = most.saturating_mul(each).saturating_add(FRAME_BYTES as u64);
        Self { window, kept }
    }
}

/// What the program here sends goes out. Returns how it ended, unless it was told to stop.
fn send(
    mut consumer: Consumer,
    link: &Link,
    Bounds { window, kept }: Bounds,
) -> Result<Option<End>, BridgeError> {
    let (inbox, slot_size) = (&link.inbox, consumer.slot_size());
    let mut hint = 0;
    loop {
        let credit = match inbox.wait_for_credit(window) {
            Ok(credit) => credit,
            Err(Stop::There(end)) => {
                leave(consumer, end);
                return Ok(None);
            }
            Err(Stop::Here(end)) => {
                leave(consumer, end);
                link.outbox.send_end(Kind::SenderEnded, end)?;
                return Ok(None);
            }
        };
        // The next frame is probably about as long as this one.
        let mut frame = Frame::with_capacity(hint);
        let (mut slots, mut bytes) = (0, 0);
        let mut push = |frame: &mut Frame, message: &[u8]| {
            frame.push(message);
            bytes += message.len() as u64;
            slots += slots_for(message.len(), slot_size);
            slots < credit && frame.len() < FRAME_BYTES
        };
        let more = match consumer.recv() {
            Ok(message) => push(&mut frame, &message),
            Err(RecvError::Interrupted) => continue,
            Err(error) => {
                let end = if matches!(error, RecvError::Closed) { End::Closed } else { End::Died };
                link.outbox.send_end(Kind::SenderEnded, end)?;
                return Ok(Some(end));
            }
        };
        if more {
            // What is wrong with the ring is found by the next wait.
            let _ = consumer.drain_while(usize::MAX, |message| {
                if push(&mut frame, message) {
                    std::ops::ControlFlow::Continue(())
                } else {
                    std::ops::ControlFlow::Break(())
                }
            });
        }
        inbox.credit.use_up(slots);
        hint = frame.len();
        inbox.counters.sent(frame.messages, bytes);
        inbox.counters.credit.store(inbox.credit.left(window), Ordering::Relaxed);
        if let Err(error) = link.outbox.send(Kind::Data, frame) {
            // What was received from the program here is lost with it.
            consumer.abandon();
            return Err(error);
        }
        if link.outbox.kept_bytes() > kept {
            inbox.unacknowledged();
        }
    }
}

fn leave(consumer: Consumer, end: End) {
    match end {
        End::Closed => drop(consumer),
        End::Died => consumer.abandon(),
    }
}

/// The session's own thread: places what could not be placed at once, keeps the other bridge informed, tells of ends.
struct Keeper<'a> {
    link: &'a Link,
    beat: Beat,
    leave: &'a AtomicBool,
    /// Whether the program here may still receive.
    receives: bool,
    ending: Option<Ending>,
    /// Since when this bridge leaves.
    since: Option<Instant>,
}

impl Keeper<'_> {
    fn keep(
        &mut self,
        interrupter: &Interrupter,
        sender_is_done: impl Fn() -> bool,
    ) -> Result<(), BridgeError> {
        let inbox = &self.link.inbox;
        loop {
            let done = sender_is_done();
            if done && !self.receives {
                return Ok(());
            }
            let one_ended = done || !self.receives || self.since.is_some();
            let tick = if one_ended { TICK } else { self.beat.every() };
            let work = inbox.wait(self.beat.next.min(Instant::now() + tick));
            if work.again {
                self.link.send_again()?;
            }
            if work.ask || work.credit || self.beat.is_due() {
                self.link.outbox.note(work.ask)?;
            }
            self.look_for_the_end()?;
            if inbox.stopped().is_some() && !done {
                interrupter.interrupt();
            }
            if self.receives {
                self.place()?;
                // The other bridge may wait for just this, and send nothing until it is told.
                inbox.look_at_credit();
            }
        }
    }

    fn look_for_the_end(&mut self) -> Result<(), BridgeError> {
        let inbox = &self.link.inbox;
        if self.leave.load(Ordering::Relaxed) && self.since.is_none() {
            self.since = Some(Instant::now());
            self.ending.get_or_insert(Ending::Left);
            inbox.stop(Stop::Here(End::Closed));
            inbox.end_behind(End::Closed);
            self.link.outbox.send_end(Kind::ReceiverEnded, End::Closed)?;
        }
        if self.since.is_some_and(|since| since.elapsed() > self.beat.timeout) && self.receives {
            // The program here does not receive what it has got.
            inbox.clear();
            inbox.end_behind(End::Died);
        }
        let told = inbox.sender_ended.load(Ordering::Relaxed) && inbox.stopped().is_some();
        if !told
            && !matches!(self.ending, Some(Ending::BridgeGone | Ending::NetworkGone))
            && let Some(lost) = self.link.lost(self.beat.timeout)
        {
            self.ending = Some(lost);
            inbox.stop(Stop::There(End::Died));
            inbox.end_behind(End::Died);
        }
        Ok(())
    }

    /// Places what waits, until the ring is full or something else is due.
    fn place(&mut self) -> Result<(), BridgeError> {
        let inbox = &self.link.inbox;
        let Some(mut producer) = inbox.borrow() else { return Ok(()) };
        loop {
            let Some(piece) = inbox.next() else {
                // Whether the program here is still there, which it tells only who asks.
                return match producer.try_reserve().map(drop) {
                    Ok(()) | Err(SendError::Full) => {
                        inbox.lend(producer);
                        Ok(())
                    }
                    Err(error) => self.receiver_ended(producer, misfit(&error)),
                };
            };
            let (payload, mut at) = match piece {
                Piece::Messages { payload, at } => (payload, at),
                Piece::End(end) => {
                    self.receives = false;
                    inbox.end();
                    match end {
                        End::Closed => drop(producer),
                        End::Died => {
                            self.ending.get_or_insert(Ending::Died);
                            producer.abandon();
                        }
                    }
                    return Ok(());
                }
            };
            match inbox.place(&mut producer, &payload, &mut at) {
                Ok(true) => inbox.placed_whole(&payload),
                Ok(false) => {
                    let bytes = length_at(&payload, at);
                    inbox.put_back(Piece::Messages { payload, at });
                    let room = match bytes {
                        Some(bytes) if bytes > producer.slot_size() => {
                            producer.reserve_span_timeout(bytes, SLICE).map(drop)
                        }
                        _ => producer.reserve_timeout(SLICE).map(drop),
                    };
                    match room {
                        Ok(()) if !inbox.credit.is_due() => {}
                        Ok(()) | Err(SendError::Timeout | SendError::NoPeer) => {
                            inbox.lend(producer);
                            return Ok(());
                        }
                        Err(error) => return self.receiver_ended(producer, misfit(&error)),
                    }
                }
                Err(misfit) => return self.receiver_ended(producer, misfit),
            }
        }
    }

    /// Nothing more can be placed here: the other bridge is to know.
    fn receiver_ended(&mut self, producer: Producer, misfit: Misfit) -> Result<(), BridgeError> {
        self.receives = false;
        let inbox = &self.link.inbox;
        inbox.end();
        let end = match misfit {
            Misfit::Ended(end) => {
                drop(producer);
                end
            }
            Misfit::Wrong(what) => {
                self.ending = Some(Ending::Broken(format!("the other bridge breaks the protocol: {what}")));
                producer.abandon();
                inbox.stop(Stop::Here(End::Died));
                End::Died
            }
        };
        if end == End::Died {
            self.ending.get_or_insert(Ending::Died);
        }
        self.link.outbox.send_end(Kind::ReceiverEnded, end)
    }

    /// Both directions have ended: waits until the other bridge knows of it.
    fn linger(&mut self) -> Result<(), BridgeError> {
        if matches!(self.ending, Some(Ending::BridgeGone | Ending::NetworkGone)) {
            return Ok(());
        }
        let (inbox, outbox) = (&self.link.inbox, &self.link.outbox);
        let until = Instant::now() + LINGER.min(self.beat.timeout);
        outbox.note(false)?;
        while !outbox.is_empty() && inbox.gone_for().is_none() && Instant::now() < until {
            let work = inbox.wait(Instant::now() + TICK);
            if work.again {
                self.link.send_again()?;
            }
            outbox.note(work.ask)?;
        }
        outbox.note(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_used_up_to_the_memory_here_and_for_a_ring_at_least() {
        let each = most_bytes(64);
        let window = |window, memory| Bounds::new(window, 64, 16, memory).window;
        assert_eq!(window(100, 1000 * each), 100);
        assert_eq!(window(u64::MAX, 1000 * each), 1000);
        assert_eq!(window(u64::MAX, 1), 16);
        assert!(Bounds::new(u64::MAX, 64, 16, 1 << 20).kept < 3 << 20);
        assert_eq!(Bounds::new(u64::MAX, 64, 16, u64::MAX).window, u64::MAX / each);
    }
}
