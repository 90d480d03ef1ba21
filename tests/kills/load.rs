//! Random traffic that can be checked: messages that carry their number and are made from it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::sync::mpsc::Sender;

use capnproto_shm_transport::{Consumer, Producer, RecvError, SendError};

/// The same in tasks.
#[cfg(all(unix, feature = "tokio"))]
#[path = "tasks.rs"]
mod tasks;

/// A generator of numbers that look random (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Bytes of a message before its body: its number and the body's checksum.
const HEAD: usize = 16;

/// Fills a message so that no byte of it can be another message's unnoticed.
fn write(message: &mut [u8], sequence: u64) {
    let (head, body) = message.split_at_mut(HEAD);
    let mut bytes = Dice::new(sequence);
    for chunk in body.chunks_mut(8) {
        let word = bytes.next().to_ne_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    head[..8].copy_from_slice(&sequence.to_ne_bytes());
    head[8..].copy_from_slice(&checksum(body).to_ne_bytes());
}

fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    });
    words.fold(bytes.len() as u64, |sum, word| Dice::new(sum ^ word).next())
}

#[track_caller]
fn check(message: &[u8], sequence: u64) {
    let (head, body) = message.split_at(HEAD);
    let found = u64::from_ne_bytes(head[..8].try_into().unwrap());
    assert_eq!(found, sequence, "lost, repeated or out of order");
    assert_eq!(head[8..], checksum(body).to_ne_bytes(), "message {sequence} is torn");
}

/// One half's share of the traffic.
pub struct Load {
    dice: Dice,
    came: Option<Sender<()>>,
}

impl Load {
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), came: None }
    }

    /// Tells when the first message has come.
    pub fn announce(self, came: Sender<()>) -> Self {
        Self { came: Some(came), ..self }
    }

    /// Sends without end, single messages, spans and batches. Before and after each publication it writes
    /// down how many messages are committed, and how many will be.
    pub fn send(mut self, tx: &mut Producer, progress: Option<&Progress>) -> SendError {
        let mut sequence = 0;
        loop {
            let operation = self.dice.below(8);
            let messages = if operation == 0 { 1 + self.dice.below(tx.slot_count() as u64 / 2) } else { 1 };
            if let Some(progress) = progress {
                progress.write(sequence, sequence + messages);
            }
            let sent = match operation {
                0 => self.batch(tx, sequence, messages),
                1 | 2 => self.one(tx, sequence, tx.max_message_size()),
                _ => self.one(tx, sequence, tx.slot_size()),
            };
            if let Err(end) = sent {
                return end;
            }
            sequence += messages;
            if let Some(progress) = progress {
                progress.write(sequence, sequence);
            }
        }
    }

    fn length(&mut self, most: usize) -> usize {
        HEAD + self.dice.below((most - HEAD + 1) as u64) as usize
    }

    fn one(&mut self, tx: &mut Producer, sequence: u64, most: usize) -> Result<(), SendError> {
        let len = self.length(most);
        let mut slot = if most > tx.slot_size() { tx.reserve_span(len)? } else { tx.reserve()? };
        if self.dice.below(16) == 0 {
            // Half written, aborted, written again.
            slot.fill(0xEE);
            drop(slot);
            return self.one(tx, sequence, most);
        }
        write(&mut slot[..len], sequence);
        slot.commit(len);
        Ok(())
    }

    /// Publishes all at once, or nothing: waits until they fit first.
    fn batch(&mut self, tx: &mut Producer, first: u64, messages: u64) -> Result<(), SendError> {
        drop(tx.reserve_span(Self::room(tx, messages))?);
        self.gather(tx, first, messages)
    }

    /// Bytes of a span that takes as many slots.
    fn room(tx: &Producer, messages: u64) -> usize {
        // A slot of these sizes takes so many bytes of a span.
        messages as usize * tx.slot_size().next_power_of_two()
    }

    fn gather(&mut self, tx: &mut Producer, first: u64, messages: u64) -> Result<(), SendError> {
        let most = tx.slot_size();
        let mut batch = tx.batch();
        for sequence in first..first + messages {
            let len = self.length(most);
            let mut slot = batch.try_reserve()?;
            write(&mut slot[..len], sequence);
            slot.commit(len);
        }
        assert_eq!(batch.publish() as u64, messages);
        Ok(())
    }

    /// Receives in every way until the end. Returns how many messages came.
    pub fn receive(mut self, rx: &mut Consumer) -> (u64, RecvError) {
        let (mut sequence, mut copy) = (0, Vec::new());
        loop {
            let way = self.dice.below(4);
            let received = match way {
                0 => rx.recv().map(|message| check(&message, sequence)).map(|()| 1),
                1 => rx.recv_copied(&mut copy).map(|_| check(&copy, sequence)).map(|()| 1),
                2 => rx.try_recv().map(|message| check(&message, sequence)).map(|()| 1),
                _ => {
                    let mut next = sequence;
                    rx.drain(1 + self.dice.below(9) as usize, |message| {
                        check(message, next);
                        next += 1;
                    })
                }
            };
            match received {
                Ok(messages) => sequence += messages as u64,
                Err(RecvError::Empty) => {}
                Err(end) => return (sequence, end),
            }
            if sequence > 0
                && let Some(came) = self.came.take()
            {
                let _ = came.send(());
            }
        }
    }
}

/// The number that a sender has committed, written where its parent can read it after its death.
pub struct Progress {
    file: File,
    path: PathBuf,
    owned: bool,
}

impl Progress {
    pub fn create(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}.progress"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        Self { file, path, owned: true }
    }

    pub fn open(path: &str) -> Self {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        Self { file, path: path.into(), owned: false }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// One write, so a kill leaves either the old pair or the new one.
    pub fn write(&self, committed: u64, intended: u64) {
        let pair = [committed.to_ne_bytes(), intended.to_ne_bytes()];
        let mut file = &self.file;
        file.rewind().unwrap();
        file.write_all(pair.as_flattened()).unwrap();
    }

    pub fn read(&self) -> (u64, u64) {
        let mut pair = [[0; 8]; 2];
        let mut file = &self.file;
        file.rewind().unwrap();
        file.read_exact(pair.as_flattened_mut()).unwrap();
        (u64::from_ne_bytes(pair[0]), u64::from_ne_bytes(pair[1]))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.owned {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
