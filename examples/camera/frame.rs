//! The messages of the channel.

use bytemuck::{Pod, Zeroable};

use crate::Failure;

/// Both sides name it, so that neither takes another channel's bytes for frames.
pub const TAG: &str = "camera/1";

/// Stands at the front of a slot; the pixels follow, one byte each, line by line.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// Frames sent before this one.
    pub number: u64,
    /// Frames that were due before this one, when no slot was free.
    pub dropped: u64,
    /// When it was whole, by [`now`].
    pub taken_at: u64,
    pub width: u32,
    pub height: u32,
    /// By which settings it was taken.
    pub exposure_us: u32,
    pub gain: f32,
    /// The pixels begin on a cache line.
    reserved: [u64; 3],
}

impl Header {
    pub const BYTES: usize = size_of::<Self>();

    pub fn new(number: u64, dropped: u64, [width, height]: [u32; 2], control: &Control) -> Self {
        let Control { exposure_us, gain, .. } = *control;
        Self { number, dropped, taken_at: now(), width, height, exposure_us, gain, reserved: [0; 3] }
    }
}

const _: () = assert!(Header::BYTES == 64);

/// A frame where it lies.
pub struct Frame<'a> {
    pub header: &'a Header,
    pub pixels: &'a [u8],
}

impl<'a> Frame<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, Failure> {
        let (header, pixels) = message.split_at_checked(Header::BYTES).ok_or("a frame without a header")?;
        let header: &Header = bytemuck::try_from_bytes(header).map_err(|_| "a header that is not aligned")?;
        if pixels.len() as u64 != u64::from(header.width) * u64::from(header.height) {
            return Err(format!(
                "{} pixels in a frame of {} x {}",
                pixels.len(),
                header.width,
                header.height
            )
            .into());
        }
        Ok(Self { header, pixels })
    }
}

/// A command of the viewer. Each command says everything, so the newest is enough.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Control {
    pub exposure_us: u32,
    pub gain: f32,
    /// Not 0: no further frame.
    pub stop: u32,
}

impl Control {
    /// The camera's first setting: far too dark.
    pub const FIRST: Self = Self { exposure_us: 1000, gain: 1.0, stop: 0 };
}

/// Nanoseconds since some moment that is the same for every process of this machine: `CLOCK_MONOTONIC`.
#[cfg(unix)]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds since 1970: the monotonic clock of std has no zero that two processes share.
#[cfg(not(unix))]
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_nanos() as u64)
}
