//! The differences between Linux, macOS and Windows. This file is the whole seam: the rest of the crate calls [`Host`] and
//! nothing else of the system's own.

#[cfg(target_os = "linux")]
mod alarm;
#[cfg(unix)]
mod event;
#[cfg(target_os = "linux")]
mod life;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod local;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(windows)]
mod named_event;
#[cfg(any(target_os = "macos", all(test, target_os = "linux")))]
mod os_sync;
#[cfg(unix)]
mod poller;
#[cfg(not(target_os = "linux"))]
mod portable;
pub(crate) mod prefetch;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fs::{File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use memmap2::MmapRaw;

use crate::error::{ConfigError, FileError, SegmentError};
use crate::protocol::{Half, Kernel};

/// The system that this crate was compiled for.
#[derive(Debug)]
pub(crate) struct Host;

/// How a side wants its memory; each side decides for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryOptions {
    pub(crate) prefault: bool,
    pub(crate) lock: bool,
    pub(crate) huge_pages: bool,
    pub(crate) numa_node: Option<u32>,
}

impl MemoryOptions {
    /// Whether a segment takes all its memory when it is mapped.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_taken_at_once(self) -> bool {
        self.prefault || self.lock || self.huge_pages
    }
}

/// A file that is not whole yet. Dropping it removes what has no name of its own by then.
pub(crate) trait Staged: Sized {
    /// Makes an empty file for `path`, open for reading and writing, of this Unix mode.
    fn new(path: &Path, mode: u32) -> io::Result<Self>;
    fn file(&self) -> &File;
    /// Gives the file its name; `false` if something stands there already.
    fn publish(&self, path: &Path) -> io::Result<bool>;
}

/// Something that a program can wait for in an event loop. It stays set from a notification until it is cleared.
///
/// Nobody trusts it: a waiter looks for itself, and a notifier ignores the result.
pub(crate) trait Event: Sized {
    /// One without a name.
    fn new() -> io::Result<Self>;
    /// One that the other side finds under the name `path`, of this Unix mode.
    fn named(path: &Path, mode: u32) -> io::Result<Self>;
    /// Opens the other side's, and takes its name away: nobody else needs it.
    fn take(path: &Path, mode: u32) -> Result<Self, FileError>;
    /// Takes a name away. It may be gone already.
    fn remove(path: &Path) -> io::Result<()>;
    /// Sets it. Never waits.
    fn notify(&self);
    /// Clears it. Never waits.
    fn clear(&self);
    /// Waits until it is set, at most so long. Returns whether it is set. May return early.
    fn wait(&self, time: Duration) -> bool;
}

/// The calls that each system provides. [`Kernel`] has the sleeping and waking.
pub(crate) trait System: Kernel {
    type Staged: Staged;
    type Event: Event;

    /// Whether a remover has a lock of its own, and never looks like the writer.
    const CLAIM_IS_APART: bool;

    /// Where named segments lie unless the user says otherwise.
    fn directory() -> PathBuf;
    /// Starts a thread of this crate's own, which takes none of the program's signals.
    fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()>;
    /// Permission bits of a file, where there are any.
    fn mode(file: &File) -> u32;
    /// Opens a file that may be anything, without following a link and without waiting.
    fn open(path: &Path, write: bool) -> Result<File, FileError>;
    /// The file is this user's, or is shared as both sides asked.
    fn check_owner(metadata: &Metadata, group_mode: Option<u32>) -> Result<(), SegmentError>;
    /// Reads what there is of the first bytes.
    fn read_prefix(file: &File, file_bytes: u64, prefix: &mut [u8]) -> io::Result<usize>;
    fn write_prefix(file: &File, bytes: &[u8]) -> io::Result<()>;
    /// The largest file that this process may make, if there is a limit.
    fn file_size_limit() -> Option<u64>;
    /// Sets the length and claims the space, so that a full file system is an error now and no signal later.
    fn allocate(file: &File, bytes: u64) -> io::Result<()>;
    /// Claims what is not claimed yet of a file's own length.
    fn keep_space(file: &File, bytes: u64) -> io::Result<()>;
    /// Bytes that are free where the file lies.
    fn available_bytes(file: &File) -> u64;
    /// Whether `path` stands for this very file.
    fn same_file(file: &File, path: &Path) -> bool;
    /// Takes the name away. It may be gone already.
    fn remove(path: &Path) -> io::Result<()>;
    /// Removes half-made files of a crashed side A beside `path`, and files that could not be deleted while mapped.
    fn sweep(path: &Path);
    /// Removes files that could not be deleted while they were mapped.
    fn sweep_removed(path: &Path);

    /// Takes the writer's lock; `false` if another holds it. It belongs to the open file, and the system drops it when
    /// the last descriptor goes.
    fn try_lock(file: &File) -> io::Result<bool>;
    /// Takes the right to remove a dead writer's files; `false` if another has it.
    fn try_claim(file: &File) -> io::Result<bool>;
    /// Lets the writer's lock go, and the right to remove.
    fn unlock(file: &File);
    /// Whether anybody else holds the writer's lock. Not for a file that this side has locked.
    fn is_locked(file: &File) -> io::Result<bool>;

    /// Keeps a forked child out of these mappings, and places the body as asked.
    fn advise(header: &MmapRaw, body: &MmapRaw, options: MemoryOptions) -> Result<(), FileError>;

    /// Whether this process can pass a barrier for all others, see [`Kernel::barrier`].
    fn has_barrier() -> bool;
    /// A clock that costs next to nothing and moves every few milliseconds.
    fn coarse_now() -> Duration;
    /// Whether [`Kernel::sleep_while`] and [`Kernel::wake`] work between processes. They always do between threads.
    fn shares_futex() -> bool;
    /// Whether [`Kernel::sleep_while`] heeds its second word, and [`sleep_while_all`](Self::sleep_while_all) the others.
    fn can_watch() -> bool;
    /// Sleeps while this process's own word and each of the others hold their values, at most `time`; otherwise as
    /// [`Kernel::sleep_while`]. A word that is no longer there ends the sleep.
    fn sleep_while_all(own: (&AtomicU32, u32), others: &[(*const AtomicU32, u32)], time: Duration);
    /// How this thread was scheduled so far.
    fn scheduling() -> Scheduling;
    /// Has the kernel mark `status.life` when this process dies. `None` where it cannot.
    fn watch_life(file: &File, status: Half) -> Option<LifeMark>;
}

/// How a thread was scheduled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scheduling {
    /// Time that it ran.
    pub(crate) ran: Duration,
    /// Times that it gave its processor away to wait for something.
    pub(crate) waited: u64,
    /// Times that its processor was taken from it.
    pub(crate) preempted: u64,
}

#[cfg(target_os = "linux")]
pub(crate) use alarm::Alarm;
#[cfg(target_os = "linux")]
pub(crate) use life::LifeMark;
#[cfg(unix)]
pub(crate) use poller::Poller;
#[cfg(target_os = "linux")]
pub(crate) use socket::{Credentials, Socket, fits_address};

/// Only Linux marks a word at a process's death.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) enum LifeMark {}

/// Sixty-four bits that no other generation has.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
}

/// Refuses the options that only Linux has.
#[cfg(not(target_os = "linux"))]
fn only_plain_memory(options: MemoryOptions) -> Result<(), ConfigError> {
    let refused = |option| Err(ConfigError::Unsupported { option, reason: "Linux only".to_owned() });
    if options.huge_pages {
        return refused("huge_pages");
    }
    if options.numa_node.is_some() {
        return refused("numa_node");
    }
    Ok(())
}

/// Keeps these mappings in memory, if asked.
#[cfg(unix)]
fn lock_memory(mappings: [&MmapRaw; 2], options: MemoryOptions) -> Result<(), ConfigError> {
    let refused = |e: io::Error| ConfigError::Unsupported {
        option: "lock_memory",
        reason: format!("{e}; raise the limit (`ulimit -l`)"),
    };
    if options.lock {
        mappings.into_iter().try_for_each(|mapping| mapping.lock().map_err(refused))?;
    }
    Ok(())
}

/// Refuses the options that only Unix has.
#[cfg(not(unix))]
fn lock_memory(_mappings: [&MmapRaw; 2], options: MemoryOptions) -> Result<(), ConfigError> {
    if !options.lock {
        return Ok(());
    }
    Err(ConfigError::Unsupported { option: "lock_memory", reason: "Unix only".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    type HostEvent = <Host as System>::Event;

    const LONG: Duration = Duration::from_secs(3600);

    fn is_set(event: &HostEvent) -> bool {
        event.wait(Duration::ZERO)
    }

    #[test]
    fn an_event_stays_set_until_it_is_cleared() {
        let event = HostEvent::new().unwrap();
        assert!(!is_set(&event));
        assert!(!event.wait(Duration::from_micros(1)));
        event.clear();
        assert!(!is_set(&event));
        (0..3).for_each(|_| event.notify());
        assert!(is_set(&event) && event.wait(LONG) && event.wait(Duration::MAX));
        event.clear();
        assert!(!is_set(&event));
    }

    fn path(label: &str) -> PathBuf {
        Host::directory().join(format!("unit-{label}-{}-{:016x}", std::process::id(), random()))
    }

    #[test]
    fn two_who_know_the_name_have_one_event() {
        let path = path("named");
        let ours = HostEvent::named(&path, 0o600).unwrap();
        assert!(HostEvent::named(&path, 0o600).is_err(), "there is one");
        let theirs = HostEvent::take(&path, 0o600).unwrap();
        // A sleep that only the other one's notification ends: no time does.
        for _ in 0..100 {
            thread::scope(|scope| {
                let waiting = scope.spawn(|| while !ours.wait(LONG) {});
                theirs.notify();
                waiting.join().unwrap();
            });
            ours.clear();
            assert!(!is_set(&ours));
        }
        drop((ours, theirs));
        assert!(HostEvent::take(&path, 0o600).is_err(), "the name is gone");
        assert!(!path.exists());
        HostEvent::remove(&path).unwrap();
    }

    #[test]
    fn what_nobody_takes_is_removed() {
        let path = path("left");
        drop(HostEvent::named(&path, 0o600).unwrap());
        HostEvent::remove(&path).unwrap();
        assert!(HostEvent::take(&path, 0o600).is_err());
    }
}
