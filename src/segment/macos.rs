//! macOS: files in the user's temporary directory, for this user alone.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use memmap2::MmapRaw;

pub(crate) use super::portable::sweep;
pub(super) use super::portable::{
    Staged, allocate, directory, is_locked, keep_space, try_claim, try_lock, unlock,
};
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
}

pub(super) fn advise(_header: &MmapRaw, _body: &MmapRaw, mapping: Mapping) -> Result<(), MapError> {
    super::portable::only_plain_memory(mapping).map_err(MapError::Config)
}
