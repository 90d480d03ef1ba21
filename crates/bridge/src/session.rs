//! One generation of one channel, carried: what the program here sends goes out, what comes in is placed, and each end is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Consumer, Interrupter, Producer, RecvError, SendError, Transport};
use zenoh::Wait;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::qos::CongestionControl;
use zenoh::sample::SampleKind;

use crate::error::BridgeError;
use crate::frame::{End, Frame, Kind};
use crate::hello::{Lane, slots_for};
use crate::inbox::{Inbox, Misfit, Piece, Stop, length_at, misfit};
use crate::outbox::Outbox;

/// Bytes of messages that travel together, at most one message more. Each frame costs four wakes: of the program that waits
/// for room, of Zenoh's thread here, of the one there, and of the program that receives.
const FRAME_BYTES: usize = 512 * 1024;
/// How long a wait for room lasts before everything else has its turn.
const SLICE: Duration = Duration::from_millis(20);
/// How often it is asked whether a half of the channel has ended, once the other half has.
const TICK: Duration = Duration::from_millis(50);
/// How long the other bridge may take to come back after Zenoh has lost it, if the timeout is not shorter.
const GRACE: Duration = Duration::from_secs(2);
/// How long a session that has ended waits for the other bridge to know.
const LINGER: Duration = Duration::from_secs(2);

/// What carries one session's frames.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Arc<Inbox>,
    _subscriber: Subscriber<()>,
    _watch: Subscriber<()>,
    _token: LivelinessToken,
}

/// Who of the two said hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Asks,
    Answers,
}

impl Link {
    /// Listens and may send from now on. `lane` and `window` are of what comes in.
    pub(crate) fn open(
        zenoh: &zenoh::Session,
        key: &str,
        session: u64,
        part: Part,
        lane: Lane,
        window: u64,
    ) -> Result<Self, BridgeError> {
        let key_of =
            |part| format!("{key}/{session:016x}/{}", if part == Part::Asks { "asks" } else { "answers" });
        let (own, other) = match part {
            Part::Asks => (key_of(Part::Asks), key_of(Part::Answers)),
            Part::Answers => (key_of(Part::Answers), key_of(Part::Asks)),
        };
        let inbox = Arc::new(Inbox::new(session, lane, window));
        let subscriber = zenoh
            .declare_subscriber(other.clone())
            .callback({
                let inbox = Arc::clone(&inbox);
                move |sample| inbox.take(sample.payload())
            })
            .wait()
            .map_err(BridgeError::zenoh("subscribe"))?;
        let watch = zenoh
            .liveliness()
            .declare_subscriber(other)
            .history(true)
            .callback({
                let inbox = Arc::clone(&inbox);
                move |sample| inbox.token(sample.kind() == SampleKind::Put)
            })
            .wait()
            .map_err(BridgeError::zenoh("watch the other bridge"))?;
        let publisher = zenoh
            .declare_publisher(own.clone())
            .congestion_control(CongestionControl::Block)
            .wait()
            .map_err(BridgeError::zenoh("publish"))?;
        let token =
            zenoh.liveliness().declare_token(own).wait().map_err(BridgeError::zenoh("declare its life"))?;
        let outbox = Outbox::new(publisher, session, Arc::clone(&inbox));
        Ok(Self { outbox, inbox, _subscriber: subscriber, _watch: watch, _token: token })
    }

    /// Keeps the other bridge informed while there is nothing to carry yet. `Some`: it is gone.
    pub(crate) fn keep_up(&self, beat: &mut Beat) -> Result<Option<Ending>, BridgeError> {
        let work = self.inbox.wait(beat.next.min(Instant::now() + TICK));
        if work.again {
            self.send_again()?;
        }
        if work.ask || work.credit || beat.is_due() {
            self.outbox.note(work.ask)?;
        }
        Ok(self.lost(beat.timeout))
    }

    fn send_again(&self) -> Result<(), BridgeError> {
        let frames = self.outbox.send_again()?;
        self.inbox.counters.again.fetch_add(frames as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the other bridge is gone, or the network to it.
    pub(crate) fn lost(&self, timeout: Duration) -> Option<Ending> {
        if self.inbox.silence() > timeout {
            return Some(Ending::NetworkGone);
        }
        self.inbox.gone_for().is_some_and(|gone| gone > GRACE.min(timeout)).then_some(Ending::BridgeGone)
    }
}

/// When the other bridge is to hear of this one again.
#[derive(Debug)]
pub(crate) struct Beat {
    next: Instant,
    timeout: Duration,
}

impl Beat {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { next: Instant::now(), timeout }
    }

    /// So often that one may be late.
    fn every(&self) -> Duration {
        self.timeout / 3
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.every();
        }
        due
    }
}

/// How one generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// A program closed the channel in order, and the other one learned so.
    Closed,
    /// A program died: the other one learned `PeerDead`.
    Died,
    /// The other bridge died or was cut off: the program here learned `PeerDead`.
    BridgeGone,
    /// Nothing was heard of the other bridge for the configured time: the program here learned `PeerDead`.
    NetworkGone,
    /// The other bridge sent what no bridge sends: the program here learned `PeerDead`.
    Broken(String),
    /// This bridge was told to leave: both programs learned `Closed`.
    Left,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("closed in order"),
            Self::Died => f.write_str("a program has died"),
            Self::BridgeGone => f.write_str("the other bridge is gone"),
            Self::NetworkGone => f.write_str("the network to the other bridge is gone"),
            Self::Broken(what) => f.write_str(what),
            Self::Left => f.write_str("this bridge leaves"),
        }
    }
}

/// Carries messages both ways until both directions have ended. `window`: slots that the other bridge takes before it has
/// placed any.
pub(crate) fn carry(
    transport: Transport,
    link: &Link,
    window: u64,
    timeout: Duration,
    leave: &AtomicBool,
) -> Result<Ending, BridgeError> {
    let interrupter = transport.interrupter();
    let (producer, consumer) = transport.split();
    link.inbox.lend(producer);
    thread::scope(|scope| {
        let sender = thread::Builder::new()
            .name("bridge: send".into())
            .spawn_scoped(scope, || {
                let ended = send(consumer, link, window);
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

/// What the program here sends goes out. Returns how it ended, unless it was told to stop.
fn send(mut consumer: Consumer, link: &Link, window: u64) -> Result<Option<End>, BridgeError> {
    let (inbox, slot_size) = (&link.inbox, consumer.slot_size());
    let (mut used, mut hint) = (0, 0);
    loop {
        let credit = match inbox.wait_for_credit(used, window) {
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
        used += slots;
        hint = frame.len();
        inbox.counters.sent(frame.messages, bytes);
        inbox.counters.credit.store(inbox.credit_left(used, window), Ordering::Relaxed);
        link.outbox.send(Kind::Data, frame)?;
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
                        Ok(()) if !inbox.credit_due() => {}
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
