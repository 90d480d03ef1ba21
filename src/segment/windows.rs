//! Windows: files in the user's temporary directory, whose access list is the directory's.

#![allow(unsafe_code)]

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};

use super::portable::aside;
pub(crate) use super::portable::sweep;
pub(super) use super::portable::{
    Staged, allocate, directory, is_locked, keep_space, try_claim, try_lock, unlock,
};
use super::region::{MapError, SegmentOpenError};
use crate::config::Mapping;
use crate::error::SegmentError;

/// `FILE_FLAG_OPEN_REPARSE_POINT`: a symbolic link is opened, not followed.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;
/// `FILE_ATTRIBUTE_REPARSE_POINT`.
const REPARSE_POINT: u32 = 0x400;

impl Staged {
    pub(super) fn new(path: &Path, _mode: u32) -> io::Result<Self> {
        Self::create(&mut OpenOptions::new(), path)
    }
}

pub(super) fn open(path: &Path, write: bool) -> Result<File, SegmentOpenError> {
    Ok(OpenOptions::new().read(true).write(write).custom_flags(OPEN_REPARSE_POINT).open(path)?)
}

/// The temporary directory is the user's own; what is left to refuse is a link.
pub(super) fn check_owner(metadata: &Metadata, _group_mode: Option<u32>) -> Result<(), SegmentError> {
    if metadata.file_attributes() & REPARSE_POINT != 0 {
        return Err(SegmentError::NotAFile);
    }
    Ok(())
}

/// Reads through a mapping: the writer's lock, which is mandatory here, forbids reading the file.
pub(super) fn read_prefix(file: &File, file_bytes: u64, prefix: &mut [u8]) -> io::Result<usize> {
    let bytes = prefix.len().min(usize::try_from(file_bytes).unwrap_or(usize::MAX));
    if bytes == 0 {
        return Ok(0);
    }
    let map = MmapOptions::new().len(bytes).map_raw_read_only(file)?;
    for (at, byte) in prefix[..bytes].iter_mut().enumerate() {
        // SAFETY: `at` is below the mapping's length; the read is volatile because others may write.
        *byte = unsafe { map.as_ptr().add(at).read_volatile() };
    }
    Ok(bytes)
}

pub(super) fn write_prefix(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(bytes)
}

/// Takes the name away. A file that anybody has mapped cannot be deleted, so it gets another name first, and
/// is swept by whoever goes last, or by the next `create`.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let aside = aside(path);
    match std::fs::rename(path, &aside) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => {
            let _ = std::fs::remove_file(&aside);
            Ok(())
        }
    }
}

/// A file is what its creator, its times and its length say: std has no stable file index.
pub(super) fn same_file(file: &File, path: &Path) -> bool {
    let identity = |m: Metadata| (m.creation_time(), m.file_size());
    let Ok(named) = std::fs::symlink_metadata(path) else { return false };
    file.metadata().is_ok_and(|open| identity(open) == identity(named))
}

pub(super) fn available_bytes(_file: &File) -> u64 {
    0
}

pub(super) fn advise(_header: &MmapRaw, _body: &MmapRaw, mapping: Mapping) -> Result<(), MapError> {
    super::portable::only_plain_memory(mapping).map_err(MapError::Config)
}
