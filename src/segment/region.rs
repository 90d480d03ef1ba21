//! One segment: a file, its header mapped for writing, its slots mapped for writing by the producer only.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;

use memmap2::{MmapOptions, MmapRaw};
use zerocopy::IntoBytes;

use super::header::{Direction, Fixed, HEADER_BYTES, Identity, WORDS_OFFSET};
use super::system;
use super::words::Words;
use crate::config::{Config, Geometry, Mapping};
use crate::crash::step;
use crate::error::{ConfigError, CreateError, SegmentError};

/// Who maps a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its producer: writes header and slots.
    Write,
    /// Its consumer: writes its words in the header, reads the slots.
    Read,
    /// Somebody else: reads.
    Inspect,
}

/// Where the segments of this system lie.
pub(crate) fn directory() -> PathBuf {
    system::directory()
}

/// The file of one direction of a channel.
pub(crate) fn path_of(name: &str, direction: Direction) -> PathBuf {
    directory().join(format!("{name}.{}", direction.suffix()))
}

/// A mapped segment. Dropping it unmaps and closes the file; it removes nothing.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) geometry: Geometry,
    pub(crate) fixed: Fixed,
    header: MmapRaw,
    body: MmapRaw,
    file: File,
    /// Behind the mappings: fields are dropped in order.
    name: Name,
}

/// Where a segment stands, if it is not anonymous. What was removed while it was mapped, and could not be deleted
/// therefore, is when this is dropped.
#[derive(Debug)]
struct Name(Option<PathBuf>);

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            system::sweep_removed(path);
        }
    }
}

impl Segment {
    /// Builds a segment that has no name yet, locks it for its writer if this is it, and gives it `path`
    /// unless something stands there already: then `Ok(None)`.
    pub(crate) fn create(
        path: &Path,
        fixed: Fixed,
        geometry: Geometry,
        access: Access,
        config: &Config,
    ) -> Result<Option<Self>, CreateError> {
        let failed = |action| move |source| CreateError::Io { action, path: path.to_owned(), source };
        step("create: begin");
        let staged = system::Staged::new(path, config.permissions).map_err(failed("create"))?;
        step("create: staged");
        system::allocate(staged.file(), geometry.file_bytes as u64).map_err(|source| {
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                CreateError::NoSpace {
                    directory: directory(),
                    needed: geometry.file_bytes as u64,
                    available: system::available_bytes(staged.file()),
                }
            } else {
                failed("allocate")(source)
            }
        })?;
        step("create: allocated");
        system::write_prefix(staged.file(), fixed.as_bytes()).map_err(failed("write"))?;
        step("create: written");
        let file = staged.file().try_clone().map_err(failed("duplicate"))?;
        let segment =
            Self::map(file, Some(path), fixed, geometry, access, config.mapping).map_err(|e| match e {
                MapError::Config(source) => CreateError::Config(source),
                MapError::Io(source) => failed("map")(source),
            })?;
        step("create: mapped");
        if access == Access::Write && !segment.try_lock().map_err(failed("lock"))? {
            return Ok(None);
        }
        step("create: locked");
        let published = staged.publish(path).map_err(failed("publish"))?;
        step("create: published");
        Ok(published.then_some(segment))
    }

    /// Opens a file that may be anything.
    pub(crate) fn open(
        path: &Path,
        direction: Direction,
        access: Access,
        group_mode: Option<u32>,
        mapping: Mapping,
    ) -> Result<Self, SegmentOpenError> {
        let file = system::open(path, access != Access::Inspect)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(SegmentError::NotAFile.into());
        }
        system::check_owner(&metadata, group_mode)?;
        let segment = Self::from_file(file, Some(path), direction, access, mapping)?;
        if access != Access::Inspect {
            // Somebody may have made the file with holes, and filled the file system since.
            system::keep_space(&segment.file, segment.fixed.file_bytes)?;
        }
        Ok(segment)
    }

    /// Maps a file whose owner is who it should be, and whose bytes may be anything.
    pub(super) fn from_file(
        file: File,
        path: Option<&Path>,
        direction: Direction,
        access: Access,
        mapping: Mapping,
    ) -> Result<Self, SegmentOpenError> {
        let file_bytes = file.metadata()?.len();
        let mut prefix = [0; WORDS_OFFSET];
        let read = system::read_prefix(&file, file_bytes, &mut prefix)?;
        let (fixed, geometry) = Fixed::parse(&prefix[..read], file_bytes, direction)?;
        Self::map(file, path, fixed, geometry, access, mapping).map_err(|e| match e {
            MapError::Config(source) => SegmentOpenError::Config(source),
            MapError::Io(source) => SegmentOpenError::Io(source),
        })
    }

    pub(super) fn map(
        file: File,
        path: Option<&Path>,
        fixed: Fixed,
        geometry: Geometry,
        access: Access,
        mapping: Mapping,
    ) -> Result<Self, MapError> {
        let mut options = MmapOptions::new();
        options.len(HEADER_BYTES);
        let header = match access {
            Access::Write | Access::Read => options.map_raw(&file)?,
            Access::Inspect => options.map_raw_read_only(&file)?,
        };
        let mut options = MmapOptions::new();
        options.offset(HEADER_BYTES as u64).len(geometry.file_bytes - HEADER_BYTES);
        if mapping.prefault {
            options.populate();
        }
        let body = match access {
            Access::Write => options.map_raw(&file)?,
            Access::Read | Access::Inspect => options.map_raw_read_only(&file)?,
        };
        system::advise(&header, &body, mapping)?;
        Ok(Self { geometry, fixed, header, body, file, name: Name(path.map(Path::to_owned)) })
    }

    /// The living words of the header.
    #[inline]
    pub(crate) fn words(&self) -> &Words {
        // SAFETY: the header mapping is `HEADER_BYTES` long and page-aligned, `WORDS_OFFSET` is a multiple
        // of `Words`' alignment and leaves room for it (asserted below). Every field is an atomic, valid
        // for any bytes, and shared memory is only ever written through atomics of the same size; who maps
        // it read-only only loads.
        let words = unsafe { self.header.as_mut_ptr().add(WORDS_OFFSET) }.cast::<Words>();
        // SAFETY: as above.
        unsafe { &*words }
    }

    /// The length word of every slot.
    #[inline]
    pub(crate) fn lengths(&self) -> &[AtomicU32] {
        // SAFETY: the body begins with `slot_count` words, 4-aligned because the body is page-aligned, and
        // they end before `slots_offset`. A read-only mapping is only ever loaded from: the consumer.
        unsafe { std::slice::from_raw_parts(self.body.as_ptr().cast(), self.geometry.slot_count) }
    }

    /// The first byte of the first slot; `slot_count * stride` bytes follow, writable as the mapping is.
    #[inline]
    pub(crate) fn slots(&self) -> *mut u8 {
        // SAFETY: `slots_offset` lies in the file, after the header, and the body maps the file from there.
        unsafe { self.body.as_mut_ptr().add(self.geometry.slots_offset - HEADER_BYTES) }
    }

    /// What the direction's messages are.
    pub(crate) fn identity(&self) -> Identity {
        self.fixed.identity()
    }

    /// Takes the writer's lock; `false` if another holds it.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        system::try_lock(&self.file)
    }

    /// Takes the right to remove what a dead writer left; `false` if another is about to. Where there is one
    /// lock a file this is the writer's own.
    pub(crate) fn try_claim(&self) -> io::Result<bool> {
        system::try_claim(&self.file)
    }

    /// Lets the writer's lock go.
    pub(crate) fn unlock(&self) {
        system::unlock(&self.file);
    }

    /// Whether anybody else holds the writer's lock. Not for a segment that this side has locked.
    pub(crate) fn is_locked(&self) -> io::Result<bool> {
        system::is_locked(&self.file)
    }

    /// Whether the name, if it has one, still stands for this very file.
    pub(crate) fn is_named(&self) -> bool {
        self.name.0.as_ref().is_none_or(|path| system::same_file(&self.file, path))
    }

    /// Removes the name if it still stands for this very file. Only for who holds the name's lock: nobody
    /// else replaces the file between the look and the removal.
    pub(crate) fn unlink(&self) -> io::Result<()> {
        match &self.name.0 {
            Some(path) if self.is_named() => system::remove(path),
            _ => Ok(()),
        }
    }

    /// For errors: the name, or that there is none.
    pub(crate) fn path(&self) -> PathBuf {
        self.name.0.clone().unwrap_or_else(Self::no_name)
    }

    /// What stands for a path in errors about anonymous segments.
    pub(super) fn no_name() -> PathBuf {
        PathBuf::from("(anonymous)")
    }

    #[cfg(target_os = "linux")]
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

const _: () = assert!(WORDS_OFFSET.is_multiple_of(align_of::<Words>()));
const _: () = assert!(WORDS_OFFSET + size_of::<Words>() <= HEADER_BYTES);

/// Why memory was not mapped as asked.
pub(super) enum MapError {
    Config(ConfigError),
    Io(io::Error),
}

impl From<io::Error> for MapError {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

/// Why a file was not opened as a segment.
#[derive(Debug)]
pub(crate) enum SegmentOpenError {
    Missing,
    Segment(SegmentError),
    Config(ConfigError),
    Io(io::Error),
}

impl From<SegmentError> for SegmentOpenError {
    fn from(source: SegmentError) -> Self {
        Self::Segment(source)
    }
}

impl From<io::Error> for SegmentOpenError {
    fn from(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(source) }
    }
}
