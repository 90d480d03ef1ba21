//! One mapped segment: its header mapped for writing by both sides, its slots for writing by the producer only.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapOptions, MmapRaw};
use zerocopy::IntoBytes;

use super::file::{Access, SegmentFile};
use crate::crash::step;
use crate::error::{CreateError, Failure, FileError};
use crate::protocol::{Direction, Fixed, Geometry, HEADER_BYTES, Half, WORDS_OFFSET, Words};
use crate::system::{Host, LifeMark, MemoryOptions, Staged, System};

/// A segment's first page, mapped.
#[derive(Debug)]
pub(crate) struct Header(MmapRaw);

impl Header {
    fn map(file: &File, access: Access) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(HEADER_BYTES);
        let mapping = match access {
            Access::Write | Access::Read => options.map_raw(file)?,
            Access::Inspect => options.map_raw_read_only(file)?,
        };
        Ok(Self(mapping))
    }

    /// The words that change while the channel lives.
    #[inline]
    pub(crate) fn words(&self) -> &Words {
        // SAFETY: the mapping is `HEADER_BYTES` long, and `WORDS_OFFSET` lies within it.
        let words = unsafe { self.0.as_mut_ptr().add(WORDS_OFFSET) }.cast::<Words>();
        // SAFETY: the mapping is page-aligned, `WORDS_OFFSET` is a multiple of `Words`' alignment and leaves room for
        // it (asserted below). Every field is an atomic, valid for any bytes, and shared memory is only ever written
        // through atomics of the same size; who maps it read-only only loads.
        unsafe { &*words }
    }
}

const _: () = assert!(WORDS_OFFSET % align_of::<Words>() == 0);
const _: () = assert!(size_of::<Words>() == 7 * 128 && WORDS_OFFSET + size_of::<Words>() <= HEADER_BYTES);

/// A mapped segment. Dropping it unmaps and closes the file; it removes nothing.
#[derive(Debug)]
pub(crate) struct Segment {
    header: Header,
    body: MmapRaw,
    /// Behind the mappings: fields are dropped in order.
    file: SegmentFile,
}

impl Deref for Segment {
    type Target = SegmentFile;

    fn deref(&self) -> &SegmentFile {
        &self.file
    }
}

impl SegmentFile {
    /// Maps the header alone, for the process that writes down a death.
    pub(crate) fn header(&self) -> io::Result<Header> {
        Header::map(&self.file, Access::Read)
    }

    /// Maps all of it.
    pub(crate) fn map(self, access: Access, options: MemoryOptions) -> Result<Segment, FileError> {
        let header = Header::map(&self.file, access)?;
        let mut body = MmapOptions::new();
        body.offset(HEADER_BYTES as u64).len(self.geometry.file_bytes - HEADER_BYTES);
        if options.prefault {
            body.populate();
        }
        let body = match access {
            Access::Write => body.map_raw(&self.file)?,
            Access::Read | Access::Inspect => body.map_raw_read_only(&self.file)?,
        };
        Host::advise(&header.0, &body, options)?;
        Ok(Segment { header, body, file: self })
    }
}

impl Segment {
    /// Opens and maps what may be a segment for somebody who takes no part. `group_mode` is as for
    /// [`SegmentFile::open`].
    pub(crate) fn inspect(
        path: &Path,
        direction: Direction,
        group_mode: Option<u32>,
    ) -> Result<Self, FileError> {
        SegmentFile::open(path, direction, Access::Inspect, group_mode)?
            .map(Access::Inspect, MemoryOptions::default())
    }

    /// Builds a segment that has no name yet, locks it for its writer if that is this side, and gives it `path` unless
    /// something stands there already: then `Ok(None)`.
    pub(crate) fn create(
        path: &Path,
        fixed: Fixed,
        geometry: Geometry,
        access: Access,
        mode: u32,
        options: MemoryOptions,
    ) -> Result<Option<Self>, CreateError> {
        step("create: begin");
        let staged = <Host as System>::Staged::new(path, mode).map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                CreateError::NoInodes { directory: path.parent().unwrap_or(path).to_owned() }
            }
            _ => Failure::at("create", path)(source).into(),
        })?;
        step("create: staged");
        claim_space(staged.file(), path, geometry)?;
        step("create: allocated");
        Host::write_prefix(staged.file(), fixed.as_bytes()).map_err(Failure::at("write", path))?;
        step("create: written");
        let file = staged.file().try_clone().map_err(Failure::at("duplicate", path))?;
        let file = SegmentFile::new(file, Some(path), fixed, geometry);
        let segment = file.map(access, options).map_err(Failure::at("map", path))?;
        step("create: mapped");
        if access == Access::Write && !segment.try_lock().map_err(Failure::at("lock", path))? {
            return Ok(None);
        }
        step("create: locked");
        let published = staged.publish(path).map_err(Failure::at("publish", path))?;
        step("create: published");
        Ok(published.then_some(segment))
    }

    /// The words that change while the channel lives.
    #[inline]
    pub(crate) fn words(&self) -> &Words {
        self.header.words()
    }

    /// The length word of every slot.
    #[inline]
    pub(crate) fn lengths(&self) -> &[AtomicU32] {
        // SAFETY: the body begins with `slot_count` words, 4-aligned because the body is page-aligned, and they end
        // before `slots_offset`. A read-only mapping is only ever loaded from: the consumer's.
        unsafe { std::slice::from_raw_parts(self.body.as_ptr().cast(), self.geometry.slot_count) }
    }

    /// The first byte of the first slot; `slot_count * stride` bytes follow, writable as the mapping is.
    #[inline]
    pub(crate) fn slots(&self) -> *mut u8 {
        // SAFETY: `slots_offset` lies in the file, after the header, and the body maps the file from there.
        unsafe { self.body.as_mut_ptr().add(self.geometry.slots_offset - HEADER_BYTES) }
    }

    /// The slots as words, `stride / 8` for each: for a reader from outside, who takes no part and so may load them at
    /// any time.
    pub(crate) fn slot_words(&self) -> &[AtomicU64] {
        let words = self.geometry.slot_count * self.geometry.stride / size_of::<AtomicU64>();
        // SAFETY: `slot_count` slots of `stride` bytes, a multiple of 8, lie in the mapping from here on, 8-aligned
        // because `slots_offset` is a multiple of the page. Every bit pattern is a word. A read-only mapping is only
        // ever loaded from: an inspector's.
        unsafe { std::slice::from_raw_parts(self.slots().cast(), words) }
    }

    /// Has the kernel mark one end's life word when this process dies.
    pub(super) fn watch_life(&self, half: Half) -> Option<LifeMark> {
        Host::watch_life(&self.file.file, half)
    }
}

/// Refuses a file size that would kill this process instead of failing.
pub(super) fn check_file_size(geometry: Geometry) -> Result<(), CreateError> {
    let needed = geometry.file_bytes as u64;
    match Host::file_size_limit().filter(|&allowed| needed > allowed) {
        Some(allowed) => Err(CreateError::FileSizeLimit { needed, allowed }),
        None => Ok(()),
    }
}

/// Claims a new segment's space.
pub(super) fn claim_space(file: &File, path: &Path, geometry: Geometry) -> Result<(), CreateError> {
    check_file_size(geometry)?;
    let needed = geometry.file_bytes as u64;
    Host::allocate(file, needed).map_err(|source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CreateError::NoSpace {
            directory: path.parent().unwrap_or(path).to_owned(),
            needed,
            available: Host::available_bytes(file),
        },
        _ => Failure::at("allocate", path)(source).into(),
    })
}
