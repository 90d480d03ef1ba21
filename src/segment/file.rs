//! A segment's file: its name, its lock and its fixed header, before any of it is mapped.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{FileError, SegmentError};
use crate::protocol::{Direction, Fixed, Geometry, Half, Identity, Side, WORDS_OFFSET, event_name};
use crate::system::{Host, System};

/// The role of the process that maps a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its producer: writes header and slots.
    Write,
    /// Its consumer: writes its words in the header, reads the slots.
    Read,
    /// Somebody else: reads.
    Inspect,
}

/// An open file whose header was checked. Dropping it closes the file, and with it the writer's lock; it removes
/// nothing.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) geometry: Geometry,
    pub(crate) fixed: Fixed,
    pub(super) file: File,
    name: Name,
}

/// The path of a segment that is not anonymous. Where mapped files cannot be deleted, what was removed meanwhile is
/// deleted when this is dropped.
#[derive(Debug)]
struct Name(Option<PathBuf>);

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            Host::sweep_removed(path);
        }
    }
}

impl SegmentFile {
    /// A file that this side has made.
    pub(super) fn new(file: File, path: Option<&Path>, fixed: Fixed, geometry: Geometry) -> Self {
        Self { geometry, fixed, file, name: Name(path.map(Path::to_owned)) }
    }

    /// Opens a file that may be anything. `group_mode` is the mode that both sides asked for, if the channel may be
    /// another user's.
    pub(crate) fn open(
        path: &Path,
        direction: Direction,
        access: Access,
        group_mode: Option<u32>,
    ) -> Result<Self, FileError> {
        let file = Host::open(path, access != Access::Inspect)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(SegmentError::NotAFile.into());
        }
        Host::check_owner(&metadata, group_mode)?;
        Self::from_file(file, Some(path), direction)
    }

    /// Checks a file whose owner is right, and whose bytes may be anything.
    pub(super) fn from_file(
        file: File,
        path: Option<&Path>,
        direction: Direction,
    ) -> Result<Self, FileError> {
        let file_bytes = file.metadata()?.len();
        let mut prefix = [0; WORDS_OFFSET];
        let read = Host::read_prefix(&file, file_bytes, &mut prefix)?;
        let (fixed, geometry) = Fixed::parse(&prefix[..read], file_bytes, direction)?;
        Ok(Self::new(file, path, fixed, geometry))
    }

    /// The kind of the direction's messages.
    pub(crate) fn identity(&self) -> Identity {
        self.fixed.identity()
    }

    /// Takes the writer's lock; `false` if another holds it.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        Host::try_lock(&self.file)
    }

    /// Takes the right to remove a dead writer's files; `false` if another has it. Where there is one lock a file,
    /// this is the writer's own.
    pub(crate) fn try_claim(&self) -> io::Result<bool> {
        Host::try_claim(&self.file)
    }

    /// Lets the writer's lock go.
    pub(crate) fn unlock(&self) {
        Host::unlock(&self.file);
    }

    /// Whether anybody else holds the writer's lock. Not for a segment that this side has locked.
    pub(crate) fn is_locked(&self) -> io::Result<bool> {
        Host::is_locked(&self.file)
    }

    /// Claims the space of a file that somebody may have made with holes.
    pub(crate) fn keep_space(&self) -> io::Result<()> {
        Host::keep_space(&self.file, self.fixed.file_bytes)
    }

    /// Whether the name, if it has one, still stands for this very file.
    pub(crate) fn is_named(&self) -> bool {
        self.name.0.as_ref().is_none_or(|path| Host::same_file(&self.file, path))
    }

    /// Removes the name if it still stands for this very file. Only for the holder of the name's lock: nobody else
    /// replaces the file between the look and the removal.
    pub(crate) fn unlink(&self) -> io::Result<()> {
        match &self.name.0 {
            Some(path) if self.is_named() => Host::remove(path),
            _ => Ok(()),
        }
    }

    /// The path of the event that wakes one half of one side, if the segment has a name.
    pub(crate) fn event_path(&self, side: Side, half: Half) -> Option<PathBuf> {
        let path = self.name.0.as_ref()?;
        let name = event_name(path.file_name()?.to_str()?, self.fixed.generation, side, half)?;
        Some(path.with_file_name(name))
    }

    /// Permission bits of the file.
    pub(crate) fn mode(&self) -> u32 {
        Host::mode(&self.file)
    }

    /// For errors: the path, or that there is none.
    pub(crate) fn path(&self) -> PathBuf {
        self.name.0.clone().unwrap_or_else(Self::no_name)
    }

    /// In place of a path in errors about anonymous segments.
    pub(super) fn no_name() -> PathBuf {
        PathBuf::from("(anonymous)")
    }
}
