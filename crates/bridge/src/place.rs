//! A frame's messages placed in the ring: one copy, out of Zenoh's memory into the slot.

use std::io::{Read, Seek, SeekFrom};

use capnproto_shm_transport::{Producer, SendError};
use zenoh::bytes::ZBytes;

use crate::frame::{End, LENGTH};
use crate::hello::{Lane, slots_for};

/// Why messages were not placed.
#[derive(Debug)]
pub(crate) enum Misfit {
    /// The program here has ended.
    Ended(End),
    /// The frame is none that a bridge sends.
    Wrong(String),
}

/// What was placed, also if the frame turns out wrong behind it.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) slots: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Placed {
    fn add(&mut self, bytes: usize, slot_size: usize) {
        self.slots += slots_for(bytes, slot_size);
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// Places messages from offset `at` on, which moves on, and counts them. `false`: the ring is full.
pub(crate) fn place(
    producer: &mut Producer,
    payload: &ZBytes,
    at: &mut usize,
    placed: &mut Placed,
) -> Result<bool, Misfit> {
    let mut slices = payload.slices();
    match (slices.next(), slices.next()) {
        (Some(whole), None) => {
            place_from(producer, &whole[(*at).min(whole.len())..], payload.len(), at, placed)
        }
        _ => {
            let mut reader = payload.reader();
            let sought = reader.seek(SeekFrom::Start(*at as u64));
            sought.map_err(|e| Misfit::Wrong(format!("its frame ends early: {e}")))?;
            place_from(producer, reader, payload.len(), at, placed)
        }
    }
}

fn place_from(
    producer: &mut Producer,
    mut from: impl Read,
    end: usize,
    at: &mut usize,
    placed: &mut Placed,
) -> Result<bool, Misfit> {
    let (slot_size, most) = (producer.slot_size(), producer.max_message_size());
    // A message of several slots, whose length was read.
    let mut large = None;
    while *at < end {
        if let Some(bytes) = large.take() {
            match producer.try_reserve_span(bytes) {
                Ok(mut span) => {
                    read(&mut from, &mut span[..bytes])?;
                    span.commit(bytes);
                    *at += LENGTH + bytes;
                    placed.add(bytes, slot_size);
                }
                Err(SendError::Full) => return Ok(false),
                Err(error) => return Err(misfit(&error)),
            }
        }
        let mut batch = producer.batch();
        while *at < end {
            let bytes = length(&mut from, end - *at, most)?;
            if bytes > slot_size {
                large = Some(bytes);
                break;
            }
            match batch.try_reserve() {
                Ok(mut slot) => {
                    read(&mut from, &mut slot[..bytes])?;
                    slot.commit(bytes);
                    *at += LENGTH + bytes;
                    placed.add(bytes, slot_size);
                }
                Err(SendError::Full) => return Ok(false),
                Err(error) => return Err(misfit(&error)),
            }
        }
    }
    Ok(true)
}

/// Slots that the messages from this offset on would take.
pub(crate) fn slots_of(payload: &ZBytes, mut at: usize, lane: &Lane) -> u64 {
    let mut reader = payload.reader();
    let mut slots = 0;
    while reader.seek(SeekFrom::Start(at as u64)).is_ok() {
        let Ok(bytes) = length(&mut reader, payload.len().saturating_sub(at), usize::MAX) else { break };
        slots += lane.slots_for(bytes);
        at += LENGTH + bytes;
    }
    slots
}

/// The length of the next message, of which `left` bytes are there with it.
fn length(from: &mut impl Read, left: usize, most: usize) -> Result<usize, Misfit> {
    let mut bytes = [0; LENGTH];
    read(from, &mut bytes)?;
    let length = u32::from_le_bytes(bytes) as usize;
    if length > most {
        return Err(Misfit::Wrong(format!(
            "a message of {length} bytes does not fit this channel, which carries {most}"
        )));
    }
    if left - LENGTH < length {
        return Err(Misfit::Wrong(format!("a message of {length} bytes has {} in its frame", left - LENGTH)));
    }
    Ok(length)
}

fn read(from: &mut impl Read, to: &mut [u8]) -> Result<(), Misfit> {
    from.read_exact(to).map_err(|e| Misfit::Wrong(format!("its frame ends early: {e}")))
}

/// Why the ring takes nothing more.
pub(crate) fn misfit(error: &SendError) -> Misfit {
    match error {
        SendError::Closed => Misfit::Ended(End::Closed),
        SendError::PeerDead | SendError::Superseded | SendError::Corrupt(_) => Misfit::Ended(End::Died),
        error => Misfit::Wrong(error.to_string()),
    }
}

/// Bytes of the message at this offset, if there is one.
pub(crate) fn length_at(payload: &ZBytes, at: usize) -> Option<usize> {
    let mut reader = payload.reader();
    reader.seek(SeekFrom::Start(at as u64)).ok()?;
    length(&mut reader, payload.len().checked_sub(at)?, usize::MAX).ok()
}
