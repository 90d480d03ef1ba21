//! One clock for two processes, and the processor time of the thread that works.

use std::time::Duration;

/// Nanoseconds since some moment that is the same for every process of this machine: `CLOCK_MONOTONIC`.
#[cfg(unix)]
pub fn now() -> u64 {
    nanos(rustix::time::ClockId::Monotonic)
}

/// Nanoseconds since 1970. The monotonic clock of std has no zero that two processes share, so a correction
/// of the system's clock in mid-run shows up as latency here.
#[cfg(not(unix))]
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_nanos() as u64)
}

/// Processor time that the calling thread has used, where the system tells.
#[cfg(unix)]
pub fn cpu() -> Option<Duration> {
    Some(Duration::from_nanos(nanos(rustix::time::ClockId::ThreadCPUTime)))
}

#[cfg(not(unix))]
pub fn cpu() -> Option<Duration> {
    None
}

#[cfg(unix)]
fn nanos(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
