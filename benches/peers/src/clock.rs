//! Time stamps that two processes can compare: the processor's counter where it is one clock for all cores,
//! else the system's monotonic clock.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the system's monotonic clock.
pub fn monotonic() -> u64 {
    nanos(ClockId::Monotonic)
}

/// Nanoseconds of processor time that this process has used.
pub fn process_cpu() -> u64 {
    nanos(ClockId::ProcessCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Now, in ticks.
#[inline(always)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if *steady() {
        // SAFETY: reads a counter.
        return unsafe { core::arch::x86_64::_rdtsc() };
    }
    monotonic()
}

fn steady() -> &'static bool {
    static STEADY: OnceLock<bool> = OnceLock::new();
    STEADY.get_or_init(|| {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        cpu.contains("constant_tsc")
            && cpu.contains("nonstop_tsc")
            && std::fs::read_to_string(clock).is_ok_and(|c| c.trim() == "tsc")
    })
}

/// Ticks in a nanosecond; measured once.
pub fn ticks_per_nano() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        if !steady() {
            return 1.0;
        }
        let (time, tick) = (monotonic(), ticks());
        std::thread::sleep(Duration::from_millis(50));
        (ticks() - tick) as f64 / (monotonic() - time) as f64
    })
}

pub fn to_nanos(ticks: u64) -> u64 {
    (ticks as f64 / ticks_per_nano()) as u64
}

pub fn to_ticks(nanos: f64) -> u64 {
    (nanos * ticks_per_nano()) as u64
}
