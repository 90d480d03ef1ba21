//! macOS: files in the user's temporary directory, for this user alone.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use memmap2::MmapRaw;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::local;
use super::os_sync::{OsSync, Wait, Wake};
use super::portable::{Aside, portable_system};
use super::unix::{clock, unix_files};
use super::{Host, LifeMark, MemoryOptions, Scheduling, Staged, System, lock_memory, only_plain_memory};
use crate::error::{FileError, SegmentError};
use crate::protocol::{Half, Kernel};

impl Staged for Aside {
    fn new(path: &Path, mode: u32) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let staged = Self::create(&mut options, path)?;
        // Not subject to the umask.
        staged.file.set_permissions(Permissions::from_mode(mode))?;
        Ok(staged)
    }

    fn file(&self) -> &File {
        &self.file
    }

    /// Fails also if the file was swept away.
    fn publish(&self, path: &Path) -> io::Result<bool> {
        match std::fs::hard_link(&self.path, path) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Asks for a lock of the whole file, which belongs to the open file; `false` if another has it.
fn lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The futex that works between processes, since macOS 14.4.
fn os_sync() -> Option<OsSync> {
    static FOUND: OnceLock<Option<OsSync>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let find = |name: &CStr| -> *mut c_void {
            // SAFETY: the name ends with zero and lives through the call.
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
        };
        let wait = find(c"os_sync_wait_on_address_with_timeout");
        let wake = find(c"os_sync_wake_by_address_any");
        // SAFETY: null, which is `None`, or the system's function of this name, which is of this type.
        let wait = unsafe { std::mem::transmute::<*mut c_void, Option<Wait>>(wait) };
        // SAFETY: as above.
        let wake = unsafe { std::mem::transmute::<*mut c_void, Option<Wake>>(wake) };
        // SAFETY: as above.
        unsafe { OsSync::new(wait, wake) }
    })
}

impl System for Host {
    type Staged = Aside;
    type Event = super::event::FileEvent;

    /// There is one lock a file, so a remover looks like the writer for an instant.
    const CLAIM_IS_APART: bool = false;

    unix_files!();
    portable_system!();

    fn shares_futex() -> bool {
        os_sync().is_some()
    }

    /// A file that is removed is gone.
    fn sweep_removed(_path: &Path) {}

    /// A probe may hold the lock for an instant, so being refused once is not being refused.
    fn try_lock(file: &File) -> io::Result<bool> {
        for pause in [1, 2, 4, 8] {
            if lock(file, FlockOperation::NonBlockingLockExclusive)? {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(pause));
        }
        lock(file, FlockOperation::NonBlockingLockExclusive)
    }

    fn try_claim(file: &File) -> io::Result<bool> {
        Self::try_lock(file)
    }

    fn unlock(file: &File) {
        // Unlocking cannot fail, locked or not; closing the file would unlock it too.
        let _ = lock(file, FlockOperation::Unlock);
    }

    /// Without a way to ask, the probe takes a shared lock for an instant.
    fn is_locked(file: &File) -> io::Result<bool> {
        let free = lock(file, FlockOperation::NonBlockingLockShared)?;
        if free {
            Self::unlock(file);
        }
        Ok(!free)
    }
}

impl Kernel for Host {
    fn barrier() {}

    fn sleep_while(word: &AtomicU32, value: u32, _other: Option<(&AtomicU32, u32)>, time: Duration) {
        match os_sync() {
            Some(calls) => calls.sleep_while(word, value, time),
            None => local::sleep_while(word, value, time),
        }
    }

    fn wake(word: &AtomicU32) {
        match os_sync() {
            Some(calls) => calls.wake(word),
            None => local::wake(),
        }
    }

    fn now() -> u64 {
        clock(libc::CLOCK_UPTIME_RAW).as_nanos() as u64
    }

    fn processor() -> Option<u32> {
        None
    }
}
