//! What the targets share: files of a channel seen from outside, and values that hurt.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use arbitrary::Arbitrary;
use memmap2::{MmapOptions, MmapRaw};

/// Where the living words of the header begin.
pub const WORDS: usize = 256;
/// Where the lengths of the slots begin.
pub const LENGTHS: usize = 4096;
/// Where the slots begin, in a segment of up to 1024 of them.
pub const SLOTS: usize = 8192;

/// One file of a channel.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Which {
    AToB,
    BToA,
}

/// A channel name of this process and target.
pub fn name(target: &str) -> String {
    format!("fuzz-{target}-{}", std::process::id())
}

/// Where one of its files lies.
pub fn path(name: &str, which: Which) -> PathBuf {
    let suffix = match which {
        Which::AToB => "a2b",
        Which::BToA => "b2a",
    };
    PathBuf::from(format!("/dev/shm/{name}.fs.{suffix}"))
}

/// A number that stands at some limit, or somewhere.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Value {
    /// A step from what stands there now.
    Near(i8),
    Small(u8),
    Power(u8),
    BelowPower(u8),
    Any(u64),
    Max,
}

impl Value {
    pub fn of(self, now: u64) -> u64 {
        match self {
            Self::Near(step) => now.wrapping_add_signed(step.into()),
            Self::Small(value) => value.into(),
            Self::Power(bit) => 1 << (bit % 64),
            Self::BelowPower(bit) => (1 << (bit % 64)) - 1,
            Self::Any(value) => value,
            Self::Max => u64::MAX,
        }
    }
}

/// A number to put over `bytes` bytes (1, 2, 4 or 8) at some place.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Edit {
    at: u16,
    bytes: u8,
    value: Value,
}

impl Edit {
    /// Changes an image, not beyond its end.
    pub fn apply(self, image: &mut [u8]) {
        let width = 1 << (self.bytes % 4);
        let at = usize::from(self.at) / width * width;
        let Some(place) = image.get_mut(at..at + width) else { return };
        let mut now = [0; 8];
        now[..width].copy_from_slice(place);
        let new = self.value.of(u64::from_ne_bytes(now)).to_ne_bytes();
        place.copy_from_slice(&new[..width]);
    }
}

/// A second, writable mapping of a segment: the hand of somebody who keeps to no protocol.
pub struct Memory(MmapRaw);

impl Memory {
    pub fn of(name: &str, which: Which) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path(name, which)).unwrap();
        Self(MmapOptions::new().map_raw(&file).unwrap())
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.0.len());
        // SAFETY: checked to lie in the mapping.
        let byte = unsafe { self.0.as_mut_ptr().add(at) };
        // SAFETY: mapped for reading and writing as long as `self` lives; nobody here holds a reference to it.
        unsafe { AtomicU8::from_ptr(byte) }
    }

    /// Puts a number over the 4 or 8 bytes at `at`.
    pub fn poke(&self, at: usize, width: usize, value: Value) {
        let mut bytes = [0; 8];
        for (i, byte) in bytes[..width].iter_mut().enumerate() {
            *byte = self.byte(at + i).load(Ordering::Relaxed);
        }
        let new = value.of(u64::from_ne_bytes(bytes)).to_ne_bytes();
        self.write(at, &new[..width]);
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            self.byte(at + i).store(*byte, Ordering::Relaxed);
        }
    }
}

/// Locks a file as a live side locks the segment it writes.
pub fn lock(file: &File) {
    let mut request = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and `request` is a valid `flock` for the time of the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut request) };
    assert_eq!(done, 0);
}
