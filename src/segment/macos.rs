//! macOS: files in the user's temporary directory, for this user alone.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use memmap2::MmapRaw;

pub(crate) use super::portable::sweep;
pub(super) use super::portable::{Staged, allocate, directory, keep_space};
use super::region::MapError;
pub(super) use super::unix::{
    available_bytes, check_owner, open, read_prefix, remove, same_file, write_prefix,
};
use crate::config::Mapping;

impl Staged {
    pub(super) fn new(path: &Path, mode: u32) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let staged = Self::create(&mut options, path)?;
        // Not subject to the umask.
        staged.file().set_permissions(Permissions::from_mode(mode))?;
        Ok(staged)
    }

    /// Gives the file its name, unless something stands there or the file was swept away.
    pub(super) fn publish(&self, path: &Path) -> io::Result<bool> {
        match std::fs::hard_link(&self.path, path) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// What is removed is gone.
pub(super) fn sweep_removed(_path: &Path) {}

/// There is one lock a file, so a remover looks like the writer for an instant.
pub(crate) const CLAIM_IS_APART: bool = false;

/// A probe may hold the lock for an instant, so being refused once is not being refused.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    for attempt in 0..5 {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if attempt < 4 => {
                std::thread::sleep(std::time::Duration::from_millis(1 << attempt));
            }
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(false)
}

pub(super) fn try_claim(file: &File) -> io::Result<bool> {
    try_lock(file)
}

pub(super) fn unlock(file: &File) {
    // Unlocking what is locked or not cannot fail; closing the file would unlock it too.
    let _ = file.unlock();
}

/// Without a way to ask, the probe takes a shared lock for an instant.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

pub(super) fn advise(_header: &MmapRaw, _body: &MmapRaw, mapping: Mapping) -> Result<(), MapError> {
    super::portable::only_plain_memory(mapping).map_err(MapError::Config)
}
