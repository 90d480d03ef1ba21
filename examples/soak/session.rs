//! One generation of the channel, from one side: two threads send and receive until either side leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Consumer, PollControl, Producer, RecvError, SendError, Transport};

use crate::dice::Dice;
use crate::message::{HEAD, check, write};
use crate::side::{any_mode, count, finishing};

/// The state that both threads of a session share.
struct Session {
    /// When this side leaves, if the other has not by then.
    until: Instant,
    /// The other side has left, or has come to its end.
    over: AtomicBool,
    /// This side has sent its last message, or cannot.
    sent: AtomicBool,
    control: PollControl,
}

const STEP: Duration = Duration::from_millis(20);

/// Works until the end. Gives the transport back if it was the other side's end.
pub fn run(mut transport: Transport, dice: &mut Dice) -> Result<Option<Transport>, String> {
    let session = Session {
        until: Instant::now() + Duration::from_millis(dice.below(500)),
        over: AtomicBool::new(false),
        sent: AtomicBool::new(false),
        control: transport.poll_control(),
    };
    let dices = (Dice::new(dice.next()), Dice::new(dice.next()));
    if dice.once_in(2) {
        // Halves that each thread owns: each is closed as soon as its thread is done.
        let (tx, rx) = transport.split();
        work(
            &session,
            tx,
            rx,
            dices,
            |mut tx, dice| session.send(&mut tx, dice),
            |mut rx, dice| session.receive(&mut rx, dice, true),
        )?;
        return Ok(None);
    }
    let (tx, rx) = transport.halves();
    let left = work(
        &session,
        tx,
        rx,
        dices,
        |tx, dice| session.send(tx, dice),
        |rx, dice| session.receive(rx, dice, false),
    )?;
    Ok((!left).then_some(transport))
}

/// Runs both threads, and judges how they ended. Returns whether this side left first.
fn work<T: Send, R: Send>(
    session: &Session,
    tx: T,
    rx: R,
    (tx_dice, rx_dice): (Dice, Dice),
    send: impl FnOnce(T, Dice) -> Result<(), SendError> + Send,
    receive: impl FnOnce(R, Dice) -> Result<Option<RecvError>, String>,
) -> Result<bool, String> {
    let (sent, received) = thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let sent = send(tx, tx_dice);
            session.sent.store(true, Ordering::Relaxed);
            sent
        });
        let received = receive(rx, rx_dice);
        session.over.store(true, Ordering::Relaxed);
        (sender.join(), received)
    });
    let sent = sent.map_err(|_| "the sender panicked")?;
    let received = received?;
    if let Some(RecvError::Closed) = received {
        count("closes", 1);
    }
    if matches!(sent, Err(SendError::Superseded)) || matches!(received, Some(RecvError::Superseded)) {
        count("superseded", 1);
    } else if matches!(sent, Err(SendError::PeerDead)) || matches!(received, Some(RecvError::PeerDead)) {
        count("deaths", 1);
    }
    match sent {
        Ok(()) | Err(SendError::Closed | SendError::PeerDead | SendError::Superseded) => {
            Ok(received.is_none())
        }
        Err(e) => Err(format!("send: {e}")),
    }
}

impl Session {
    fn leaving(&self) -> bool {
        finishing() || self.over.load(Ordering::Relaxed) || Instant::now() >= self.until
    }

    /// A stall or a change of mode, seldom.
    fn disturb(&self, dice: &mut Dice) {
        if dice.once_in(3_000) {
            count("stalls", 1);
            thread::sleep(Duration::from_micros(dice.below(30_000)));
        }
        if dice.once_in(1_000) {
            count("modes", 1);
            let mode = any_mode(dice);
            if dice.once_in(2) { self.control.set_local(mode) } else { self.control.set_remote(mode) }
        }
    }

    /// Sends in every way until this side leaves, then one last message.
    fn send(&self, tx: &mut Producer, mut dice: Dice) -> Result<(), SendError> {
        let mut sequence = 0;
        let mut scratch = Vec::new();
        while !self.leaving() {
            self.disturb(&mut dice);
            match send_some(tx, &mut dice, sequence, &mut scratch) {
                Ok(messages) => sequence += messages,
                Err(SendError::Full | SendError::Timeout) => {}
                Err(end) => return Err(end),
            }
        }
        loop {
            match tx.reserve_timeout(STEP) {
                Ok(mut slot) => {
                    write(&mut slot[..HEAD], sequence, true);
                    slot.commit(HEAD);
                    return Ok(());
                }
                Err(SendError::Timeout) => {}
                Err(end) => return Err(end),
            }
        }
    }

    /// Receives in every way until the other side's end; or, unless it is to be `patient`, until this side
    /// has sent its last message: then there is no end to tell.
    fn receive(&self, rx: &mut Consumer, mut dice: Dice, patient: bool) -> Result<Option<RecvError>, String> {
        let mut inbox = Inbox::default();
        loop {
            self.disturb(&mut dice);
            let result = receive_some(rx, &mut dice, &mut inbox);
            if let Some(wrong) = inbox.wrong.take() {
                return Err(wrong);
            }
            match result {
                Ok(()) | Err(RecvError::Empty | RecvError::Timeout) => {}
                Err(RecvError::Corrupt(lie)) => return Err(format!("receive: {lie}")),
                Err(RecvError::Closed) if !inbox.last => {
                    return Err(format!("closed after message {}, which was not the last", inbox.next));
                }
                Err(end) => return Ok(Some(end)),
            }
            if !patient && self.sent.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
    }
}

/// Sends one message or a batch. Returns how many messages that was.
fn send_some(
    tx: &mut Producer,
    dice: &mut Dice,
    sequence: u64,
    scratch: &mut Vec<u8>,
) -> Result<u64, SendError> {
    let length = |most: usize, dice: &mut Dice| HEAD + dice.below((most - HEAD + 1) as u64) as usize;
    match dice.below(10) {
        0 => {
            let (most, messages) = (tx.slot_size(), 1 + dice.below(2 * tx.slot_count() as u64));
            let mut batch = tx.batch();
            let mut gathered = 0;
            while gathered < messages {
                let mut slot = match batch.try_reserve() {
                    Ok(slot) => slot,
                    Err(_) if gathered > 0 => break,
                    Err(end) => return Err(end),
                };
                let len = length(most, dice);
                write(&mut slot[..len], sequence + gathered, false);
                slot.commit(len);
                gathered += 1;
            }
            // Fewer or more than were committed would be found out by the receiver.
            Ok(batch.publish() as u64)
        }
        1 | 2 => {
            let most = if dice.once_in(20) { tx.max_message_size() } else { tx.max_message_size() / 4 };
            let len = length(most.max(HEAD), dice);
            let mut slot = tx.reserve_span_timeout(len, STEP)?;
            write(&mut slot, sequence, false);
            if dice.once_in(10) {
                return Ok(0); // aborted: the number comes again
            }
            slot.commit(len);
            Ok(1)
        }
        way @ 3..=5 => {
            scratch.resize(length(tx.slot_size(), dice), 0);
            write(scratch, sequence, false);
            match way {
                3 => tx.try_send(scratch)?,
                4 => tx.send(scratch)?,
                _ => tx.send_timeout(scratch, STEP)?,
            }
            Ok(1)
        }
        way => {
            let len = length(tx.slot_size(), dice);
            let mut slot = if way == 6 { tx.try_reserve()? } else { tx.reserve()? };
            write(&mut slot[..len], sequence, false);
            slot.commit(len);
            Ok(1)
        }
    }
}

/// The messages that have come so far.
#[derive(Default)]
struct Inbox {
    next: u64,
    last: bool,
    wrong: Option<String>,
    copy: Vec<u8>,
}

impl Inbox {
    fn take(&mut self, message: &[u8]) {
        match check(message, self.next) {
            Ok(_) if self.last => self.wrong = Some(format!("message {} after the last", self.next)),
            Ok(last) => self.last = last,
            Err(wrong) => self.wrong = self.wrong.take().or(Some(wrong)),
        }
        self.next += 1;
        count("messages", 1);
        count("bytes", message.len() as u64);
    }
}

fn receive_some(rx: &mut Consumer, dice: &mut Dice, inbox: &mut Inbox) -> Result<(), RecvError> {
    match dice.below(8) {
        0 => inbox.take(&rx.try_recv()?),
        1 => inbox.take(&rx.recv()?),
        2 => inbox.take(&rx.recv_timeout(Duration::from_micros(dice.below(3_000)))?),
        way @ 3..=4 => {
            let mut copy = std::mem::take(&mut inbox.copy);
            let received = if way == 3 { rx.recv_copied(&mut copy) } else { rx.try_recv_copied(&mut copy) };
            if received.is_ok() {
                inbox.take(&copy);
            }
            inbox.copy = copy;
            received?;
        }
        _ => {
            rx.drain(1 + dice.below(200) as usize, |message| inbox.take(message))?;
        }
    }
    Ok(())
}
