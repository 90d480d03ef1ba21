//! The memory of a channel in the hands of a peer that keeps to no protocol.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::MmapRaw;

/// Slots of the channels that are lied to.
pub const SLOTS: usize = 4;
/// Bytes of each.
pub const SLOT: usize = 64;

/// Where the words of `docs/layout.md` lie.
pub mod at {
    pub const POLL: [usize; 2] = [256, 264];
    pub const BARRIER: [usize; 2] = [272, 276];
    pub const ATTACHED: usize = 280;
    pub const TAIL: usize = 384;
    pub const HEAD: usize = 512;
    pub const PRODUCER_PARKED: usize = 640;
    pub const PRODUCER_END: usize = 644;
    pub const CONSUMER_PARKED: usize = 768;
    pub const CONSUMER_END: usize = 772;
    pub const COUNTERS: [usize; 10] = [896, 904, 912, 920, 928, 936, 944, 1024, 1032, 1040];
    pub const LENGTHS: usize = 4096;
    pub const SLOTS: usize = 8192;
}

/// Numbers that stand at some limit, around what stands there now.
pub fn nasty(now: u64) -> Vec<u64> {
    let count = SLOTS as u64;
    let mut values = vec![0, 1, 2, 3, count - 1, count, count + 1, SLOT as u64, SLOT as u64 + 1];
    values.extend([
        now.wrapping_sub(1),
        now.wrapping_add(1),
        now.wrapping_add(count),
        now.wrapping_sub(count),
    ]);
    values.extend([31, 32, 63].map(|bit| 1 << bit));
    values.extend([u64::from(u32::MAX) - 1, u64::from(u32::MAX), u64::MAX - 1, u64::MAX]);
    values.extend([255, 256, 257, 0x0101_0101_0101_0101, 0x8080_8080_8080_8080]);
    values
}

/// A second, writable mapping of a segment: the hand of a peer that keeps to no protocol.
pub struct Memory(MmapRaw);

#[allow(unsafe_code)]
impl Memory {
    pub fn of(file: &Path) -> Self {
        let file: File = OpenOptions::new().read(true).write(true).open(file).unwrap();
        Self(MmapRaw::map_raw(&file).unwrap())
    }

    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at % 8 == 0 && at + 8 <= self.0.len());
        // SAFETY: within the mapping, checked above.
        let word = unsafe { self.0.as_mut_ptr().add(at) };
        // SAFETY: aligned, and mapped for writing as long as `self` lives; everybody uses atomics there.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    pub fn half(&self, at: usize) -> &AtomicU32 {
        assert!(at % 4 == 0 && at + 4 <= self.0.len());
        // SAFETY: within the mapping, checked above.
        let half = unsafe { self.0.as_mut_ptr().add(at) };
        // SAFETY: aligned, and mapped for writing as long as `self` lives; everybody uses atomics there.
        unsafe { AtomicU32::from_ptr(half.cast()) }
    }

    pub fn get(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::SeqCst)
    }

    pub fn put(&self, at: usize, value: u64) {
        self.word(at).store(value, Ordering::SeqCst);
    }

    pub fn put_half(&self, at: usize, value: u32) {
        self.half(at).store(value, Ordering::SeqCst);
    }

    pub fn length(&self, slot: usize, value: u32) {
        self.put_half(at::LENGTHS + 4 * slot, value);
    }
}
