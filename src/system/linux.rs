//! Linux: files in /dev/shm that have no name until they are whole, locks that belong to an open file, futexes and
//! `membarrier`.

#![allow(unsafe_code)]

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use std::{io, iter};

use memmap2::{Advice, MmapRaw};
use rustix::fs::{AtFlags, CWD, FallocateFlags, fallocate, linkat};
use rustix::thread::{MembarrierCommand, MembarrierQuery, futex, membarrier, membarrier_query};
use rustix::time::ClockId;

use super::unix::{clock, unix_files};
use super::{Host, LifeMark, MemoryOptions, Scheduling, Staged, System, lock_memory};
use crate::error::{ConfigError, FileError, SegmentError};
use crate::protocol::{Half, Kernel};

/// A file without a name: if this process dies now, nothing is left.
pub(crate) struct Unnamed(File);

impl Staged for Unnamed {
    fn new(path: &Path, mode: u32) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
            .open(directory)?;
        // Not subject to the umask.
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(Self(file))
    }

    fn file(&self) -> &File {
        &self.0
    }

    fn publish(&self, path: &Path) -> io::Result<bool> {
        let named = linkat(&self.0, "", CWD, path, AtFlags::EMPTY_PATH).or_else(|e| match e {
            // Without the capability to link a descriptor, its entry in /proc does.
            rustix::io::Errno::NOENT | rustix::io::Errno::PERM => {
                let entry = format!("/proc/self/fd/{}", self.0.as_raw_fd());
                linkat(CWD, entry, CWD, path, AtFlags::SYMLINK_FOLLOW)
            }
            e => Err(e),
        });
        match named {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

impl System for Host {
    type Staged = Unnamed;
    type Event = super::event::FileEvent;

    const CLAIM_IS_APART: bool = true;

    unix_files!();

    fn directory() -> PathBuf {
        PathBuf::from("/dev/shm")
    }

    fn allocate(file: &File, bytes: u64) -> io::Result<()> {
        Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?)
    }

    fn keep_space(file: &File, bytes: u64) -> io::Result<()> {
        Self::allocate(file, bytes)
    }

    /// Nothing half made has a name.
    fn sweep(_path: &Path) {}

    /// A file that is removed is gone.
    fn sweep_removed(_path: &Path) {}

    fn try_lock(file: &File) -> io::Result<bool> {
        take(file, WRITER)
    }

    fn try_claim(file: &File) -> io::Result<bool> {
        take(file, REMOVER)
    }

    fn unlock(file: &File) {
        // Unlocking cannot fail, locked or not; closing the file would unlock it too.
        for byte in [WRITER, REMOVER] {
            let _ = lock(file, byte, libc::F_OFD_SETLK, libc::F_UNLCK);
        }
    }

    fn is_locked(file: &File) -> io::Result<bool> {
        lock(file, WRITER, libc::F_OFD_GETLK, libc::F_WRLCK)
            .map(|found| found.l_type != libc::F_UNLCK as libc::c_short)
    }

    fn advise(header: &MmapRaw, body: &MmapRaw, options: MemoryOptions) -> Result<(), FileError> {
        header.advise(Advice::DontFork)?;
        body.advise(Advice::DontFork)?;
        if options.huge_pages {
            huge_pages_possible()?;
            body.advise(Advice::HugePage)?;
        }
        if let Some(node) = options.numa_node {
            bind(body, node)?;
        }
        Ok(lock_memory([header, body], options)?)
    }

    /// Registers this process once; whether the kernel (and a sandbox) lets it pass barriers for all others.
    fn has_barrier() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| {
            let wanted = MembarrierQuery::GLOBAL_EXPEDITED | MembarrierQuery::REGISTER_GLOBAL_EXPEDITED;
            membarrier_query().contains(wanted)
                && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
                && membarrier(MembarrierCommand::GlobalExpedited).is_ok()
        })
    }

    #[inline]
    fn coarse_now() -> Duration {
        clock(libc::CLOCK_MONOTONIC_COARSE)
    }

    /// Built with `--cfg sleep_on_events`, this system does without, as an old macOS has to: for tests.
    #[inline]
    fn shares_futex() -> bool {
        !cfg!(sleep_on_events)
    }

    fn can_watch() -> bool {
        Self::shares_futex() && can_wait_for_several()
    }

    fn sleep_while_all(own: (&AtomicU32, u32), others: &[(*const AtomicU32, u32)], time: Duration) {
        if !Self::can_watch() {
            return Self::sleep_while(own.0, own.1, None, time);
        }
        let own = while_holds(own.0, own.1);
        let others = others.iter().map(|(word, value)| while_holds(*word, *value));
        sleep_while_all(&iter::once(own).chain(others).collect::<Vec<_>>(), time);
    }

    fn scheduling() -> Scheduling {
        scheduling()
    }

    fn watch_life(file: &File, status: Half) -> Option<LifeMark> {
        LifeMark::new(file, status)
    }
}

impl Kernel for Host {
    fn barrier() {
        if Self::has_barrier() {
            // It succeeded when it was tried, and has no other way to fail.
            let _ = membarrier(MembarrierCommand::GlobalExpedited);
        }
    }

    fn sleep_while(word: &AtomicU32, value: u32, other: Option<(&AtomicU32, u32)>, time: Duration) {
        if let Some(other) = other.filter(|_| Self::can_watch()) {
            let (word, other) = (while_holds(word, value), while_holds(other.0, other.1));
            return sleep_while_all(&[word, other], time);
        }
        let time = futex::Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // Woken, timed out, interrupted, changed before: the caller looks again in each case. The futex is not
        // private: the word is shared between processes.
        let _ = futex::wait(word, futex::Flags::empty(), value, Some(&time));
    }

    fn wake(word: &AtomicU32) {
        // Everybody: the peer may sleep there too, whatever for. Waking nobody is no failure.
        let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
    }

    fn now() -> u64 {
        clock(libc::CLOCK_MONOTONIC).as_nanos() as u64
    }

    fn processor() -> Option<u32> {
        // SAFETY: takes no argument.
        u32::try_from(unsafe { libc::sched_getcpu() }).ok()
    }
}

/// The argument of `futex_waitv` for one word.
fn while_holds(word: *const AtomicU32, value: u32) -> futex::Wait {
    let mut wait = futex::Wait::new();
    wait.val = value.into();
    wait.uaddr = futex::WaitPtr::new(word.cast_mut().cast());
    wait.flags = futex::WaitFlags::SIZE_U32;
    wait
}

/// Sleeps until one of the words changes or is woken (Linux 5.16).
fn sleep_while_all(waits: &[futex::Wait], time: Duration) {
    let until = clock(libc::CLOCK_MONOTONIC).saturating_add(time);
    let until = futex::Timespec {
        tv_sec: until.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: until.subsec_nanos().into(),
    };
    // As for one word: the caller looks again in each case.
    let _ = futex::waitv(waits, futex::WaitvFlags::empty(), Some(&until), ClockId::Monotonic);
}

/// Whether the kernel (and a sandbox) has `futex_waitv`.
fn can_wait_for_several() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let word = AtomicU32::new(0);
        let wait = while_holds(&word, 1);
        // The value differs, so a kernel that has the call refuses to sleep.
        let refused = futex::waitv(&[wait], futex::WaitvFlags::empty(), None, ClockId::Monotonic);
        refused == Err(rustix::io::Errno::AGAIN)
    })
}

fn scheduling() -> Scheduling {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is writable and large enough for a `rusage`.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) } != 0;
    if failed {
        return Scheduling::default();
    }
    // SAFETY: zeroed is a valid `rusage`, and the call has filled it.
    let usage = unsafe { usage.assume_init() };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    Scheduling {
        ran: time(usage.ru_utime) + time(usage.ru_stime),
        waited: usage.ru_nvcsw as u64,
        preempted: usage.ru_nivcsw as u64,
    }
}

/// The byte whose lock is the writer's life.
const WRITER: libc::off_t = 0;
/// The byte whose lock is the right to remove a dead writer's files: a remover is no writer.
const REMOVER: libc::off_t = 1;

/// Asks for, or about, a lock of one byte that belongs to the open file description: not to the process,
/// so two ends in one process exclude each other, and it falls with the last descriptor.
fn lock(file: &File, byte: libc::off_t, command: libc::c_int, kind: libc::c_int) -> io::Result<libc::flock> {
    let mut request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for the call, and `request` is a valid `flock` that only this call
    // reads and writes, as F_OFD_SETLK and F_OFD_GETLK ask.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(request),
    }
}

fn take(file: &File, byte: libc::off_t) -> io::Result<bool> {
    match lock(file, byte, libc::F_OFD_SETLK, libc::F_WRLCK) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

fn huge_pages_possible() -> Result<(), ConfigError> {
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let setting = std::fs::read_to_string(path).unwrap_or_default();
    if ["[always]", "[within_size]", "[advise]", "[force]"].iter().any(|word| setting.contains(word)) {
        return Ok(());
    }
    let reason = format!("{path} says {:?}; write `advise` there", setting.trim());
    Err(ConfigError::Unsupported { option: "huge_pages", reason })
}

fn bind(body: &MmapRaw, node: u32) -> Result<(), ConfigError> {
    const BITS: u32 = 1024;
    /// `MPOL_MF_MOVE` of linux/mempolicy.h: pages that exist already move too.
    const MOVE_WHAT_IS_THERE: libc::c_uint = 2;
    let refused = |reason| ConfigError::Unsupported { option: "numa_node", reason };
    if node >= BITS {
        return Err(refused(format!("node {node} is above the largest, {}", BITS - 1)));
    }
    let mut mask = [0 as libc::c_ulong; (BITS / libc::c_ulong::BITS) as usize];
    mask[(node / libc::c_ulong::BITS) as usize] |= 1 << (node % libc::c_ulong::BITS);
    // The kernel asks for a page-aligned start, and maps whole pages.
    let offset = body.as_ptr() as usize % 4096;
    let start = body.as_ptr() as usize - offset;
    // SAFETY: mbind changes where pages lie, never what they hold; the range is this mapping, which
    // outlives the call, and the mask has as many bits as the call is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start,
            body.len() + offset,
            libc::MPOL_BIND,
            mask.as_ptr(),
            libc::c_ulong::from(BITS),
            MOVE_WHAT_IS_THERE,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(refused(format!("mbind to node {node}: {}", io::Error::last_os_error())))
}
