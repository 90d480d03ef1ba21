//! Segments without a name: sealed memory files, handed over as descriptors (Linux).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use zerocopy::IntoBytes;

use super::file::{Access, SegmentFile};
use super::region::{Segment, check_file_size, claim_space};
use crate::error::{CreateError, Failure, FileError, SegmentError};
use crate::protocol::{Direction, Fixed, Geometry, file_name};
use crate::system::{Host, MemoryOptions, System};

/// Whether this system promises no more memory than it has (`vm.overcommit_memory` is 2): only then does claiming memory
/// that no file system counts keep a later access from failing. It takes as long as writing to all of it.
fn counts_strictly() -> bool {
    static STRICTLY: OnceLock<bool> = OnceLock::new();
    *STRICTLY.get_or_init(|| {
        let policy = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
        policy.map_or(true, |policy| policy.trim() == "2")
    })
}

/// After these nobody, its maker included, can change the file's length: no mapping of it can fault.
fn seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL
}

impl Segment {
    /// Whether a segment without a name takes all its memory when it is made.
    pub(crate) fn is_claimed_at_once() -> bool {
        counts_strictly()
    }

    /// Builds a sealed segment, locked for its writer if that is this side.
    pub(crate) fn create_anonymous(
        direction: Direction,
        fixed: Fixed,
        geometry: Geometry,
        access: Access,
        options: MemoryOptions,
    ) -> Result<Self, CreateError> {
        let path = SegmentFile::no_name();
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file: File = memfd_create(file_name("channel", direction), flags)
            .map_err(io::Error::from)
            .map_err(Failure::at("create", &path))?
            .into();
        check_file_size(geometry)?;
        if counts_strictly() {
            claim_space(&file, &path, geometry)?;
        } else {
            file.set_len(geometry.file_bytes as u64).map_err(Failure::at("allocate", &path))?;
        }
        Host::write_prefix(&file, fixed.as_bytes()).map_err(Failure::at("write", &path))?;
        fcntl_add_seals(&file, seals()).map_err(io::Error::from).map_err(Failure::at("seal", &path))?;
        let file = SegmentFile::new(file, None, fixed, geometry);
        let segment = file.map(access, options).map_err(Failure::at("map", &path))?;
        if access == Access::Write {
            segment.try_lock().map_err(Failure::at("lock", &path))?;
        }
        Ok(segment)
    }
}

impl SegmentFile {
    /// A descriptor for the other side: of a description of its own, so that it carries no lock of ours.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(open_again(&self.file)?.into())
    }

    /// Checks a sealed segment that was handed over.
    pub(crate) fn from_descriptor(descriptor: OwnedFd, direction: Direction) -> Result<Self, FileError> {
        let handed = File::from(descriptor);
        // A file that cannot be sealed counts as unsealed.
        if !fcntl_get_seals(&handed).is_ok_and(|found| found.contains(seals())) {
            return Err(SegmentError::NotSealed.into());
        }
        // The lock we take must fall with us, whoever else holds a copy of the descriptor.
        Self::from_file(open_again(&handed)?, None, direction)
    }
}

/// The same file, opened again.
fn open_again(file: &File) -> io::Result<File> {
    let entry = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(entry)
}
