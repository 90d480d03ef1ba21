//! Windows: files in the user's temporary directory, whose access list is the directory's.

#![allow(unsafe_code)]

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Duration;

use memmap2::MmapRaw;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_FILE_EXISTS, ERROR_FILE_NOT_FOUND, ERROR_IO_PENDING,
    ERROR_LOCK_VIOLATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_ATTRIBUTE_REPARSE_POINT, FILE_FLAG_OPEN_REPARSE_POINT,
    GetFileInformationByHandle, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, MoveFileExW,
    UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

use super::local;
use super::named_event::NamedEvent;
use super::portable::{Aside, OLD, aside, portable_system, sweep_all};
use super::{Host, LifeMark, MemoryOptions, Scheduling, Staged, System, lock_memory, only_plain_memory};
use crate::error::{FileError, SegmentError};
use crate::protocol::{Half, Kernel};

impl Staged for Aside {
    fn new(path: &Path, _mode: u32) -> io::Result<Self> {
        Self::create(&mut OpenOptions::new(), path)
    }

    fn file(&self) -> &File {
        &self.file
    }

    /// Fails also if the file was swept away.
    fn publish(&self, path: &Path) -> io::Result<bool> {
        let (from, to) = (wide(&self.path)?, wide(path)?);
        // SAFETY: both strings end with zero and live through the call.
        if unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), 0) } != 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error().map(|code| code as u32) {
            Some(ERROR_ALREADY_EXISTS | ERROR_FILE_EXISTS | ERROR_FILE_NOT_FOUND) => Ok(false),
            // A file that is swept while it is open is there no more, but denies access until it is closed.
            Some(ERROR_ACCESS_DENIED) if std::fs::symlink_metadata(&self.path).is_err() => Ok(false),
            _ => Err(error),
        }
    }
}

/// A path as the system takes it, of any length: std does the same for its own calls.
fn wide(path: &Path) -> io::Result<Vec<u16>> {
    let directory = path.parent().unwrap_or(path).canonicalize()?;
    let whole = directory.join(path.file_name().unwrap_or_default());
    Ok(whole.as_os_str().encode_wide().chain([0]).collect())
}

/// The byte whose lock is the writer's life. Locks are mandatory here, so it lies beyond the end of any file.
const WRITER: u64 = 1 << 40;
/// The byte whose lock is the right to remove a dead writer's files: a remover is no writer.
const REMOVER: u64 = WRITER + 1;

fn place(byte: u64) -> OVERLAPPED {
    let mut place = OVERLAPPED::default();
    place.Anonymous.Anonymous.Offset = byte as u32;
    place.Anonymous.Anonymous.OffsetHigh = (byte >> 32) as u32;
    place
}

/// Takes a lock of one byte that belongs to the open file: two ends in one process exclude each other, and it
/// falls with the last handle. `false` if somebody else's stands against it.
fn lock(file: &File, byte: u64, kind: u32) -> io::Result<bool> {
    let mut place = place(byte);
    let flags = LOCKFILE_FAIL_IMMEDIATELY | kind;
    // SAFETY: the handle is open for the call, which returns at once, and `place` lives as long.
    if unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut place) } != 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING) => Ok(false),
        _ => Err(error),
    }
}

fn release(file: &File, byte: u64) {
    let mut place = place(byte);
    // Unlocking what is locked or not cannot fail otherwise; closing the file would unlock it too.
    // SAFETY: as for `lock`.
    unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut place) };
}

/// The file's number, which no other file of the directory's volume has while it is open.
fn identity(file: &File) -> Option<(u32, u32)> {
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open for the call, and `found` lives as long.
    let known = unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) } != 0;
    known.then_some((found.nFileIndexHigh, found.nFileIndexLow))
}

impl System for Host {
    type Staged = Aside;
    type Event = NamedEvent;

    const CLAIM_IS_APART: bool = true;

    portable_system!();

    fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        thread::Builder::new().name(name.to_owned()).stack_size(64 * 1024).spawn(work).map(drop)
    }

    /// There are none: the access list decides.
    fn mode(_file: &File) -> u32 {
        0o600
    }

    /// A wait on an address here knows of no other process.
    fn shares_futex() -> bool {
        false
    }

    fn open(path: &Path, write: bool) -> Result<File, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).write(write).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
        options.open(path).map_err(|e| match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => SegmentError::NotAFile.into(),
            _ => e.into(),
        })
    }

    /// The temporary directory is the user's own; what is left to refuse is a link.
    fn check_owner(metadata: &Metadata, _group_mode: Option<u32>) -> Result<(), SegmentError> {
        if metadata.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
            return Err(SegmentError::NotAFile);
        }
        Ok(())
    }

    /// Reads what there is of the first bytes.
    fn read_prefix(file: &File, file_bytes: u64, prefix: &mut [u8]) -> io::Result<usize> {
        let bytes = prefix.len().min(usize::try_from(file_bytes).unwrap_or(usize::MAX));
        let mut read = 0;
        while read < bytes {
            match file.seek_read(&mut prefix[read..bytes], read as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
        }
        Ok(bytes)
    }

    fn write_prefix(file: &File, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match file.seek_write(&bytes[written..], written as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => written += more,
            }
        }
        Ok(())
    }

    fn file_size_limit() -> Option<u64> {
        None
    }

    fn available_bytes(_file: &File) -> u64 {
        0
    }

    fn same_file(file: &File, path: &Path) -> bool {
        let named = OpenOptions::new().access_mode(0).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(path);
        named.is_ok_and(|named| matches!((identity(file), identity(&named)), (Some(a), Some(b)) if a == b))
    }

    /// Takes the name away. A file that anybody has mapped cannot be deleted, so it gets another name first, and
    /// is swept by the process that unmaps it last, or by the next `create`.
    fn remove(path: &Path) -> io::Result<()> {
        let aside = aside(path, OLD);
        match std::fs::rename(path, &aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => {
                let _ = std::fs::remove_file(&aside);
                Ok(())
            }
        }
    }

    /// Removes files that could not be deleted while mapped. A file still mapped is left to the process that maps it.
    fn sweep_removed(path: &Path) {
        sweep_all(path, &[OLD]);
    }

    /// A probe may hold the lock for an instant, so being refused once is not being refused.
    fn try_lock(file: &File) -> io::Result<bool> {
        for pause in [1, 2, 4, 8] {
            if lock(file, WRITER, LOCKFILE_EXCLUSIVE_LOCK)? {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(pause));
        }
        lock(file, WRITER, LOCKFILE_EXCLUSIVE_LOCK)
    }

    fn try_claim(file: &File) -> io::Result<bool> {
        lock(file, REMOVER, LOCKFILE_EXCLUSIVE_LOCK)
    }

    fn unlock(file: &File) {
        release(file, WRITER);
    }

    /// Without a way to ask, the probe takes a shared lock for an instant. Not for a file that this side has locked:
    /// the same handle may hold both locks, and the first to go is the exclusive one.
    fn is_locked(file: &File) -> io::Result<bool> {
        let free = lock(file, WRITER, 0)?;
        if free {
            release(file, WRITER);
        }
        Ok(!free)
    }
}

impl Kernel for Host {
    fn barrier() {}

    fn sleep_while(word: &AtomicU32, value: u32, _other: Option<(&AtomicU32, u32)>, time: Duration) {
        local::sleep_while(word, value, time);
    }

    fn wake(_word: &AtomicU32) {
        local::wake();
    }

    /// The performance counter, which all processes share.
    fn now() -> u64 {
        static FREQUENCY: OnceLock<i64> = OnceLock::new();
        let frequency = *FREQUENCY.get_or_init(|| {
            let mut frequency = 1;
            // SAFETY: `frequency` is writable; no system that is left has no counter.
            unsafe { QueryPerformanceFrequency(&raw mut frequency) };
            frequency.max(1)
        });
        let mut count = 0;
        // SAFETY: `count` is writable.
        unsafe { QueryPerformanceCounter(&raw mut count) };
        (i128::from(count) * 1_000_000_000 / i128::from(frequency)) as u64
    }

    fn processor() -> Option<u32> {
        None
    }
}
