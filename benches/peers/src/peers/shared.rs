//! Memory that two processes share, for the minimal contenders: two halves, one a direction.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result};
use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, memfd_create};

/// Keeps lines of one index away from the next line, which the processor may fetch along.
pub const APART: usize = 128;

/// One direction's bytes, zero at first.
#[derive(Clone)]
pub struct Lane {
    map: Arc<MmapRaw>,
    start: usize,
    len: usize,
}

/// Memory for two lanes of `len` bytes, with the word by which the other process finds it.
pub fn offer(len: usize) -> Result<([Lane; 2], String)> {
    let len = len.next_multiple_of(4096);
    let file = File::from(memfd_create("bench", MemfdFlags::CLOEXEC)?);
    file.set_len(2 * len as u64)?;
    let token = format!("{} {} {len}", std::process::id(), file.as_raw_fd());
    let lanes = lanes(&file, len)?;
    // The follower opens it while we hold it: for ever, a benchmark has few.
    std::mem::forget(file);
    Ok((lanes, token))
}

/// The same memory in the other process; the lanes in the same order.
pub fn join(token: &str) -> Result<[Lane; 2]> {
    let mut words = token.split(' ');
    let mut word = || words.next().context("token");
    let path = format!("/proc/{}/fd/{}", word()?, word()?);
    let file = File::options().read(true).write(true).open(&path).with_context(|| path)?;
    lanes(&file, word()?.parse()?)
}

fn lanes(file: &File, len: usize) -> Result<[Lane; 2]> {
    let map = Arc::new(MmapRaw::map_raw(file)?);
    Ok([0, len].map(|start| Lane { map: Arc::clone(&map), start, len }))
}

impl Lane {
    /// The word at an offset.
    #[inline(always)]
    pub fn word(&self, offset: usize) -> *const AtomicU64 {
        self.bytes(offset).cast::<AtomicU64>().cast_const()
    }

    /// The bytes from an offset on.
    #[inline(always)]
    pub fn bytes(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.len);
        self.map.as_mut_ptr().wrapping_add(self.start + offset)
    }
}

/// One message in a lane, and a word that says which. No flow control: a message that was not read in time is gone, and
/// the next is read in its place.
pub struct Mailbox {
    lane: Lane,
    next: u32,
}

impl Mailbox {
    pub fn new(lane: Lane) -> Self {
        Self { lane, next: 0 }
    }

    /// The number of the last message.
    pub fn turn(&self) -> &AtomicU32 {
        // SAFETY: aligned, within the lane, mapped as long as `self` lives, and only ever used as an atomic.
        unsafe { &*self.lane.word(0).cast() }
    }

    #[inline(always)]
    pub fn put(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        // SAFETY: within the lane; the other side looks only after the store below.
        fill(unsafe { std::slice::from_raw_parts_mut(self.lane.bytes(8), size) });
        self.next = self.next.wrapping_add(1);
        self.turn().store(self.next, Ordering::Release);
    }

    /// What the turn is as long as the next message is not there.
    pub fn before(&self) -> u32 {
        self.next
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.turn().load(Ordering::Acquire) == self.next
    }

    /// The next message, which is there.
    #[inline(always)]
    pub fn take(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        self.next = self.next.wrapping_add(1);
        // SAFETY: within the lane, and published.
        read(unsafe { std::slice::from_raw_parts(self.lane.bytes(8), size) });
    }
}
