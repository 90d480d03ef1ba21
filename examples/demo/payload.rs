//! The contents of a message: when it was sent, which one it is, and a pattern to the slot's last byte.

const WORD: usize = 8;

/// Smallest message: the time and the number.
pub const MIN_BYTES: usize = 2 * WORD;

/// Fills the whole slot.
pub fn write(slot: &mut [u8], number: u64, sent: u64) {
    let (stamp, rest) = slot.split_at_mut(WORD);
    stamp.copy_from_slice(&sent.to_le_bytes());
    let mut words = rest.chunks_exact_mut(WORD);
    for (index, word) in (&mut words).enumerate() {
        word.copy_from_slice(&pattern(number, index).to_le_bytes());
    }
    words.into_remainder().fill(number as u8);
}

/// Reads the whole slot. When it was sent, or nothing if it is not message `number`, whole.
pub fn read(slot: &[u8], number: u64) -> Option<u64> {
    let (stamp, rest) = slot.split_first_chunk()?;
    let words = rest.chunks_exact(WORD);
    let tail = words.remainder().iter().all(|&byte| byte == number as u8);
    let body = words.enumerate().all(|(index, word)| word == pattern(number, index).to_le_bytes());
    (body && tail).then(|| u64::from_le_bytes(*stamp))
}

/// The number first, then words that differ from slot to slot and from lap to lap.
fn pattern(number: u64, index: usize) -> u64 {
    number.wrapping_add((index as u64) << 48)
}
