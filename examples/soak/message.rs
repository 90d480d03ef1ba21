//! A message that says what it should be: its number, whether it is the last, and a checksum of the rest.

use crate::dice::Dice;

/// Bytes before the body: number, last or not, checksum.
pub const HEAD: usize = 24;

/// Builds a message in place.
pub fn write(message: &mut [u8], sequence: u64, last: bool) {
    let (head, body) = message.split_at_mut(HEAD);
    let mut bytes = Dice::new(sequence);
    for chunk in body.chunks_mut(8) {
        let word = bytes.next().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    head[..8].copy_from_slice(&sequence.to_le_bytes());
    head[8..16].copy_from_slice(&u64::from(last).to_le_bytes());
    head[16..].copy_from_slice(&checksum(body).to_le_bytes());
}

/// Checks a message that should have this number; says whether it is the last, or what is wrong with it.
pub fn check(message: &[u8], sequence: u64) -> Result<bool, String> {
    let word = |at: usize| {
        let bytes = message.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or_else(|| format!("message {sequence} has {} bytes", message.len()))
    };
    if word(0)? != sequence {
        return Err(format!("message {} came where {sequence} was next", word(0)?));
    }
    if word(16)? != checksum(&message[HEAD..]) {
        return Err(format!("message {sequence} of {} bytes is torn", message.len()));
    }
    Ok(word(8)? != 0)
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut sum = bytes.len() as u64;
    let mut mix = |word: u64| sum = (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    for chunk in chunks.by_ref() {
        mix(chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    mix(chunks.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    sum
}
