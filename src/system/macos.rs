//! macOS: files in the user's temporary directory, for this user alone.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use memmap2::MmapRaw;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::portable::{self, Aside};
use super::{
    Host, LifeMark, MemoryOptions, Scheduling, Staged, StatusAt, System, lock_memory, only_plain_memory, unix,
};
use crate::error::{FileError, SegmentError};
use crate::protocol::Kernel;

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

impl System for Host {
    type Staged = Aside;

    /// There is one lock a file, so a remover looks like the writer for an instant.
    const CLAIM_IS_APART: bool = false;

    fn directory() -> PathBuf {
        std::env::temp_dir()
    }

    fn open(path: &Path, write: bool) -> Result<File, FileError> {
        unix::open(path, write)
    }

    fn check_owner(metadata: &Metadata, group_mode: Option<u32>) -> Result<(), SegmentError> {
        unix::check_owner(metadata, group_mode)
    }

    fn read_prefix(file: &File, file_bytes: u64, prefix: &mut [u8]) -> io::Result<usize> {
        unix::read_prefix(file, file_bytes, prefix)
    }

    fn write_prefix(file: &File, bytes: &[u8]) -> io::Result<()> {
        unix::write_prefix(file, bytes)
    }

    fn file_size_limit() -> Option<u64> {
        unix::file_size_limit()
    }

    fn allocate(file: &File, bytes: u64) -> io::Result<()> {
        portable::allocate(file, bytes)
    }

    /// There is no way to claim space without writing, and what is there is not ours to write.
    fn keep_space(_file: &File, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn available_bytes(file: &File) -> u64 {
        unix::available_bytes(file)
    }

    fn same_file(file: &File, path: &Path) -> bool {
        unix::same_file(file, path)
    }

    fn remove(path: &Path) -> io::Result<()> {
        unix::remove(path)
    }

    fn sweep(path: &Path) {
        portable::sweep(path);
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

    fn advise(header: &MmapRaw, body: &MmapRaw, options: MemoryOptions) -> Result<(), FileError> {
        only_plain_memory(options)?;
        Ok(lock_memory([header, body], options)?)
    }

    fn has_barrier() -> bool {
        false
    }

    fn coarse_now() -> Duration {
        portable::coarse_now()
    }

    fn can_watch() -> bool {
        false
    }

    fn scheduling() -> Scheduling {
        Scheduling::default()
    }

    fn watch_life(_file: &File, _status: StatusAt) -> Option<LifeMark> {
        None
    }
}

impl Kernel for Host {
    fn barrier() {}

    fn sleep_while(word: &AtomicU32, value: u32, _other: Option<(&AtomicU32, u32)>, time: Duration) {
        portable::sleep_while(word, value, time);
    }

    fn wake(_word: &AtomicU32) {}

    /// Nobody is woken, so nobody asks when.
    fn now() -> u64 {
        0
    }

    fn processor() -> Option<u32> {
        None
    }
}
