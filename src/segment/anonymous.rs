//! Segments without a name: sealed memory files, handed over as descriptors (Linux).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use zerocopy::IntoBytes;

use super::header::{Direction, Fixed};
use super::region::{Access, MapError, Segment, SegmentOpenError};
use super::system;
use crate::config::{Config, Geometry, Mapping};
use crate::error::{CreateError, SegmentError};

/// After these nobody, its maker included, can change the file's length: no mapping of it can fault.
fn seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL
}

impl Segment {
    /// Builds a sealed segment, locked for its writer if this is it.
    pub(crate) fn create_anonymous(
        fixed: Fixed,
        geometry: Geometry,
        access: Access,
        config: &Config,
    ) -> Result<Self, CreateError> {
        let failed = |action| move |source| CreateError::Io { action, path: Self::no_name(), source };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file: File =
            memfd_create(fixed_name(&fixed), flags).map_err(|e| failed("create")(e.into()))?.into();
        system::allocate(&file, geometry.file_bytes as u64).map_err(failed("allocate"))?;
        system::write_prefix(&file, fixed.as_bytes()).map_err(failed("write"))?;
        fcntl_add_seals(&file, seals()).map_err(|e| failed("seal")(e.into()))?;
        let segment =
            Self::map(file, None, fixed, geometry, access, config.mapping).map_err(|e| match e {
                MapError::Config(source) => CreateError::Config(source),
                MapError::Io(source) => failed("map")(source),
            })?;
        if access == Access::Write {
            segment.try_lock().map_err(failed("lock"))?;
        }
        Ok(segment)
    }

    /// A descriptor for the other side: of a description of its own, so that it carries no lock of ours.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(describe_anew(self.file())?.into())
    }

    /// Maps a sealed segment that was handed over.
    pub(crate) fn from_descriptor(
        descriptor: OwnedFd,
        direction: Direction,
        access: Access,
        mapping: Mapping,
    ) -> Result<Self, SegmentOpenError> {
        let handed = File::from(descriptor);
        // What cannot be sealed is not sealed.
        if !fcntl_get_seals(&handed).is_ok_and(|found| found.contains(seals())) {
            return Err(SegmentError::NotSealed.into());
        }
        // The lock we take must fall with us, whoever else holds a copy of the descriptor.
        Self::from_file(describe_anew(&handed)?, None, direction, access, mapping)
    }
}

fn fixed_name(fixed: &Fixed) -> &'static str {
    if fixed.direction == Direction::AToB as u32 { "channel.a2b" } else { "channel.b2a" }
}

/// The same file, opened again.
fn describe_anew(file: &File) -> io::Result<File> {
    let entry = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(entry)
}
