//! Cap'n Proto messages that contenders build and read.

use anyhow::Result;
use capnp::traits::Owned;

pub type Builder<'a, M> = <<M as Message>::Root as Owned>::Builder<'a>;
pub type Reader<'a, M> = <<M as Message>::Root as Owned>::Reader<'a>;

/// A kind of message. The harness's word travels in one of its fields.
pub trait Message: 'static {
    type Root: Owned;

    /// Writes every field; `parts` says how large it is, where it has no size of its own.
    fn write(message: Builder<'_, Self>, word: u64, parts: usize);

    /// Reads every field, and gives the word if all the others are as written.
    fn read(message: Reader<'_, Self>, parts: usize) -> Result<u64>;
}

/// The word that the harness wants to send.
#[inline(always)]
pub fn word(fill: impl FnOnce(&mut [u8])) -> u64 {
    let mut word = [0; 8];
    fill(&mut word);
    u64::from_ne_bytes(word)
}
