//! The futex of macOS 14.4, which works between processes. Its header is `os/os_sync_wait_on_address.h`.
//!
//! Older systems lack it, so it is looked up at run time and tried once. On Linux the tests run all of this over a model
//! of the two calls.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Duration;

/// `os_sync_wait_on_address_with_timeout`: address, value, bytes of the value, flags, clock, relative nanoseconds. A
/// value that differs is no error.
pub(super) type Wait = unsafe extern "C" fn(*mut c_void, u64, usize, u32, u32, u64) -> c_int;
/// `os_sync_wake_by_address_any`: address, bytes of the value, flags.
pub(super) type Wake = unsafe extern "C" fn(*mut c_void, usize, u32) -> c_int;

/// `OS_SYNC_WAIT_ON_ADDRESS_SHARED` and `OS_SYNC_WAKE_BY_ADDRESS_SHARED`.
const SHARED: u32 = 1;
/// `OS_CLOCK_MACH_ABSOLUTE_TIME`.
const MACH_ABSOLUTE_TIME: u32 = 32;
/// The longest sleep asked for: the caller looks again. The system refuses times that it cannot count.
const LONGEST: Duration = Duration::from_secs(3600);
/// The sleep in place of a call that the system refuses, so that nobody asks without end.
const REFUSED: Duration = Duration::from_millis(1);

/// The two calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct OsSync {
    wait: Wait,
    wake: Wake,
}

impl OsSync {
    /// The two as they were looked up; `None` if the system lacks one, or refuses it.
    ///
    /// # Safety
    ///
    /// They are the system's functions of these names.
    pub(super) unsafe fn new(wait: Option<Wait>, wake: Option<Wake>) -> Option<Self> {
        let found = Self { wait: wait?, wake: wake? };
        let word = AtomicU32::new(0);
        let works = found.try_sleep(&word, 1, LONGEST).is_ok()
            && found.try_sleep(&word, 0, Duration::ZERO).is_ok()
            && found.try_wake(&word).is_ok();
        works.then_some(found)
    }

    /// Sleeps while `word` holds `value`, at most `time`. May return early.
    pub(super) fn sleep_while(self, word: &AtomicU32, value: u32, time: Duration) {
        if self.try_sleep(word, value, time).is_err() {
            thread::sleep(time.min(REFUSED));
        }
    }

    /// Wakes one who sleeps on `word`, in whichever process.
    pub(super) fn wake(self, word: &AtomicU32) {
        // Waking nobody is no failure, and no sleeper sleeps for ever.
        let _ = self.try_wake(word);
    }

    fn try_sleep(self, word: &AtomicU32, value: u32, time: Duration) -> io::Result<()> {
        // No time at all is refused.
        let nanoseconds = (time.min(LONGEST).as_nanos() as u64).max(1);
        let (address, bytes) = (word.as_ptr().cast(), size_of::<AtomicU32>());
        // SAFETY: the address is a live, aligned word of as many bytes, which the system only reads.
        let left =
            unsafe { (self.wait)(address, value.into(), bytes, SHARED, MACH_ABSOLUTE_TIME, nanoseconds) };
        answer(left)
    }

    fn try_wake(self, word: &AtomicU32) -> io::Result<()> {
        // SAFETY: as above; the system takes the address for a name.
        answer(unsafe { (self.wake)(word.as_ptr().cast(), size_of::<AtomicU32>(), SHARED) })
    }
}

/// Woken, another value, timed out, interrupted, nobody there: all of that is as it should be.
fn answer(result: c_int) -> io::Result<()> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        _ if result >= 0 => Ok(()),
        Some(libc::ETIMEDOUT | libc::EINTR | libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}

/// The system's calls, as its header and its users describe them, made of Linux's futex.
#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::ptr::{self, NonNull};
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use memmap2::{MmapOptions, MmapRaw};

    use crate::protocol::{EndpointStatus, Fence, Kernel};

    thread_local! {
        /// Calls of this thread so far, and which of them an interruption ends: each n-th, or none.
        static CALLS: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }

    fn fail(errno: c_int) -> c_int {
        // SAFETY: takes no argument.
        let place = unsafe { libc::__errno_location() };
        // SAFETY: the C library's own place for this thread's error.
        unsafe { *place = errno };
        -1
    }

    fn futex(address: *mut c_void, operation: c_int, value: u32, time: Option<libc::timespec>) -> c_int {
        let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the caller's word is live, and the time, if there is one, outlives the call.
        unsafe { libc::syscall(libc::SYS_futex, address, operation, value, time) as c_int }
    }

    unsafe extern "C" fn wait(
        address: *mut c_void,
        value: u64,
        bytes: usize,
        flags: u32,
        clock: u32,
        time: u64,
    ) -> c_int {
        if bytes != 4 || flags != SHARED || clock != MACH_ABSOLUTE_TIME || time == 0 || time > u64::MAX / 64 {
            return fail(libc::EINVAL);
        }
        let (calls, nth) = CALLS.get();
        CALLS.set((calls + 1, nth));
        if nth != 0 && calls % nth == 0 {
            return fail(libc::EINTR);
        }
        let time = libc::timespec {
            tv_sec: (time / 1_000_000_000) as libc::time_t,
            tv_nsec: (time % 1_000_000_000) as libc::c_long,
        };
        let slept = futex(address, libc::FUTEX_WAIT, value as u32, Some(time));
        let differs = slept < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
        if differs { 0 } else { slept }
    }

    unsafe extern "C" fn wake(address: *mut c_void, bytes: usize, flags: u32) -> c_int {
        if bytes != 4 || flags != SHARED {
            return fail(libc::EINVAL);
        }
        match futex(address, libc::FUTEX_WAKE, 1, None) {
            0 => fail(libc::ENOENT),
            _ => 0,
        }
    }

    unsafe extern "C" fn refusing_wait(_: *mut c_void, _: u64, _: usize, _: u32, _: u32, _: u64) -> c_int {
        fail(libc::ENOTSUP)
    }

    unsafe extern "C" fn refusing_wake(_: *mut c_void, _: usize, _: u32) -> c_int {
        fail(libc::EINVAL)
    }

    fn made(wait: Option<Wait>, wake: Option<Wake>) -> Option<OsSync> {
        // SAFETY: models of the system's functions, which ask for no more than those.
        unsafe { OsSync::new(wait, wake) }
    }

    fn model() -> OsSync {
        static MODEL: OnceLock<OsSync> = OnceLock::new();
        *MODEL.get_or_init(|| made(Some(wait), Some(wake)).unwrap())
    }

    #[test]
    fn a_system_that_lacks_or_refuses_either_call_has_none() {
        assert!(made(None, Some(wake)).is_none(), "before 14.4");
        assert!(made(Some(wait), None).is_none());
        assert!(made(Some(refusing_wait), Some(wake)).is_none());
        assert!(made(Some(wait), Some(refusing_wake)).is_none());
        assert!(made(Some(wait), Some(wake)).is_some());
    }

    #[test]
    fn a_word_that_differs_is_not_slept_on_and_time_ends_the_sleep() {
        let (word, began) = (AtomicU32::new(7), Instant::now());
        model().try_sleep(&word, 6, Duration::MAX).unwrap();
        for time in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(2)] {
            model().try_sleep(&word, 7, time).unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(2));
    }

    #[test]
    fn a_refused_sleep_is_a_short_one() {
        let broken = OsSync { wait: refusing_wait, wake: refusing_wake };
        let (word, began) = (AtomicU32::new(0), Instant::now());
        broken.sleep_while(&word, 0, Duration::MAX);
        assert!(began.elapsed() >= REFUSED, "nobody asks without end");
        broken.wake(&word);
    }

    /// As every futex of this kind: found by the memory, not by the address.
    #[test]
    fn a_wake_through_one_mapping_ends_a_sleep_through_another() {
        let name = format!("os-sync-{}", std::process::id());
        let memory = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, 4096).unwrap();
        let maps: [MmapRaw; 2] = [(); 2].map(|()| MmapOptions::new().len(4096).map_raw(&memory).unwrap());
        let [ours, theirs] = maps.each_ref().map(|map| {
            let word = NonNull::new(map.as_mut_ptr()).unwrap().cast::<AtomicU32>();
            // SAFETY: a page of zeros, mapped until the end of the test, and accessed by atomics alone.
            unsafe { word.as_ref() }
        });
        thread::scope(|scope| {
            let asleep = scope.spawn(|| {
                while ours.load(Ordering::Acquire) == 0 {
                    model().sleep_while(ours, 0, LONGEST);
                }
            });
            theirs.store(1, Ordering::Release);
            model().wake(theirs);
            asleep.join().unwrap();
        });
    }

    /// What macOS makes of it.
    struct Mac;

    impl Kernel for Mac {
        fn barrier() {}

        fn sleep_while(word: &AtomicU32, value: u32, _other: Option<(&AtomicU32, u32)>, time: Duration) {
            model().sleep_while(word, value, time);
        }

        fn wake(word: &AtomicU32) {
            model().wake(word);
        }

        fn now() -> u64 {
            1
        }

        fn processor() -> Option<u32> {
            None
        }
    }

    /// Two that take turns, each asleep meanwhile. A lost wake would be an hour's sleep.
    #[test]
    fn no_wake_is_lost_also_where_sleeps_end_for_no_reason() {
        const TURNS: u32 = 5_000;
        for nth in [0, 3, 1] {
            let (ball, ends) = (AtomicU32::new(0), [EndpointStatus::default(), EndpointStatus::default()]);
            thread::scope(|scope| {
                for player in 0..2u32 {
                    let (ball, ends) = (&ball, &ends);
                    scope.spawn(move || {
                        CALLS.set((0, nth));
                        let (own, other) = (&ends[player as usize], &ends[1 - player as usize]);
                        for turn in (player..TURNS).step_by(2) {
                            let ready = || ball.load(Ordering::Acquire) == turn;
                            while !ready() {
                                own.park::<Mac>(other, true, LONGEST, ready);
                            }
                            ball.store(turn + 1, Ordering::Release);
                            other.wake::<Mac>(Fence::Full, Some(own), || {
                                panic!("nobody sleeps on a descriptor")
                            });
                        }
                    });
                }
            });
            assert_eq!(ball.into_inner(), TURNS);
        }
    }
}
