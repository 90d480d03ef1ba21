//! Death at every step, for tests: compiled with `--cfg crash_points` each named step of each operation counts
//! itself, and the process kills itself without warning at the one it was armed for. Otherwise the steps are
//! nothing.

#[cfg(crash_points)]
mod armed {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock};

    /// Steps left to live; 0 is for ever.
    static LEFT: AtomicU64 = AtomicU64::new(0);
    static RECORDING: AtomicBool = AtomicBool::new(false);
    static SEEN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    static LAST_WORDS: OnceLock<fn(&[&'static str])> = OnceLock::new();

    pub(crate) fn step(name: &'static str) {
        if RECORDING.load(Ordering::Relaxed) {
            SEEN.lock().unwrap_or_else(|e| e.into_inner()).push(name);
        }
        if LEFT.load(Ordering::Relaxed) != 0 && LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
            if let Some(say) = LAST_WORDS.get() {
                say(&seen());
            }
            kill();
        }
    }

    /// Dies now, without warning.
    #[cfg(unix)]
    pub fn kill() -> ! {
        use rustix::process::{Signal, getpid, kill_process};
        let _ = kill_process(getpid(), Signal::KILL);
        // The signal is on its way; no step follows this one.
        loop {
            std::thread::park();
        }
    }

    /// Dies now, without warning.
    #[cfg(windows)]
    #[allow(unsafe_code)]
    pub fn kill() -> ! {
        use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};
        // SAFETY: takes no argument, and gives what stands for this process.
        let this = unsafe { GetCurrentProcess() };
        // SAFETY: the handle is valid, and nothing of this process is used afterwards.
        unsafe { TerminateProcess(this, 9) };
        loop {
            std::thread::park();
        }
    }

    /// Dies at the `step`-th step from now on, counted from 1. 0 disarms.
    pub fn arm(step: u64) {
        LEFT.store(step, Ordering::Relaxed);
    }

    /// Has this called with the names of the steps passed, the last of which is the one to die at.
    pub fn last_words(say: fn(&[&'static str])) {
        LAST_WORDS.get_or_init(|| say);
    }

    /// The names of the steps passed since the last call; the first call only begins to record.
    pub fn seen() -> Vec<&'static str> {
        RECORDING.store(true, Ordering::Relaxed);
        std::mem::take(&mut *SEEN.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

#[cfg(crash_points)]
pub(crate) use armed::step;
#[cfg(crash_points)]
pub use armed::{arm, kill, last_words, seen};

/// A named step.
#[cfg(not(crash_points))]
#[inline(always)]
pub(crate) fn step(_name: &'static str) {}
