//! Memory that two processes share, for the minimal contenders: two halves, one a direction.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

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
