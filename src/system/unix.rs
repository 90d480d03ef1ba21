//! Code that Linux and macOS share: owners, modes, identity of files, threads without signals, clocks.

#![allow(unsafe_code)]

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;
use std::{ptr, thread};

use rustix::process::{Resource, geteuid, getrlimit};

use crate::error::{FileError, SegmentError};

/// Opens without following a link, without waiting for a pipe's other end, and not for child programs.
pub(super) fn open(path: &Path, write: bool) -> Result<File, FileError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    OpenOptions::new().read(true).write(write).custom_flags(flags).open(path).map_err(|e| {
        match e.raw_os_error() {
            // A link, a directory, a socket.
            Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => SegmentError::NotAFile.into(),
            Some(libc::EACCES) => denied(path).map_or_else(|| e.into(), Into::into),
            _ => e.into(),
        }
    })
}

/// Says whose file it is that the system does not let us open.
fn denied(path: &Path) -> Option<SegmentError> {
    let found = std::fs::symlink_metadata(path).ok()?.uid();
    let expected = geteuid().as_raw();
    (found != expected).then_some(SegmentError::Owner { found, expected })
}

/// The file is this user's, or is shared as both sides asked.
pub(super) fn check_owner(metadata: &Metadata, group_mode: Option<u32>) -> Result<(), SegmentError> {
    let (found, expected) = (metadata.uid(), geteuid().as_raw());
    let mode = metadata.mode() & 0o7777;
    match group_mode.filter(|asked| asked & 0o077 != 0) {
        // Another user's file is joined only if both asked for the same.
        Some(asked) if mode & !asked != 0 || (found != expected && mode != asked) => {
            Err(SegmentError::Mode { found: mode, expected: asked })
        }
        None if found != expected => Err(SegmentError::Owner { found, expected }),
        // One number stands for every user that has none here, so that it may be anybody's.
        _ if stands_for_many(found) => Err(SegmentError::OwnerUnknown { overflow: found }),
        _ => Ok(()),
    }
}

/// Whether this number may stand for several users: user_namespaces(7), "Unmapped user and group IDs".
#[cfg(target_os = "linux")]
fn stands_for_many(user: u32) -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    if read("/proc/sys/kernel/overflowuid").trim().parse() != Ok(user) {
        return false;
    }
    let mapped = read("/proc/self/uid_map").lines().fold(0u64, |sum, line| {
        let count = line.split_whitespace().nth(2).and_then(|count| count.parse().ok());
        sum.saturating_add(count.unwrap_or(0))
    });
    // Every number but -1, which is no user.
    mapped < u64::from(u32::MAX)
}

#[cfg(not(target_os = "linux"))]
fn stands_for_many(_user: u32) -> bool {
    false
}

pub(super) fn file_size_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// Reads what there is of the first bytes.
pub(super) fn read_prefix(file: &File, file_bytes: u64, prefix: &mut [u8]) -> io::Result<usize> {
    let bytes = prefix.len().min(usize::try_from(file_bytes).unwrap_or(usize::MAX));
    file.read_exact_at(&mut prefix[..bytes], 0)?;
    Ok(bytes)
}

pub(super) fn write_prefix(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)
}

pub(super) fn same_file(file: &File, path: &Path) -> bool {
    let Ok(named) = std::fs::symlink_metadata(path) else { return false };
    file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (named.dev(), named.ino()))
}

pub(super) fn available_bytes(file: &File) -> u64 {
    rustix::fs::fstatvfs(file).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Starts a thread of this crate's own. It takes no signals: they are the program's.
pub(crate) fn background_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut all = std::mem::MaybeUninit::uninit();
    let mut before = std::mem::MaybeUninit::uninit();
    // SAFETY: `all` is writable, and is a valid set afterwards.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: both are valid pointers; the mask is this thread's own, and a new thread inherits it.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let started = thread::Builder::new().name(name.to_owned()).stack_size(64 * 1024).spawn(work);
    // SAFETY: the call above has filled `before`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started.map(drop)
}

/// The time of a clock. The C library's own call, which also works where there is no vDSO (under valgrind, say).
#[inline]
pub(super) fn clock(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable, and these clocks exist, so that the call fills it.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Permission bits of a file.
pub(super) fn mode(file: &File) -> u32 {
    file.metadata().map_or(0o600, |metadata| metadata.mode() & 0o777)
}

/// The methods that Linux and macOS share of [`System`](super::System).
macro_rules! unix_files {
    () => {
        fn open(path: &Path, write: bool) -> Result<File, FileError> {
            $crate::system::unix::open(path, write)
        }

        fn check_owner(metadata: &Metadata, group_mode: Option<u32>) -> Result<(), SegmentError> {
            $crate::system::unix::check_owner(metadata, group_mode)
        }

        fn read_prefix(file: &File, file_bytes: u64, prefix: &mut [u8]) -> io::Result<usize> {
            $crate::system::unix::read_prefix(file, file_bytes, prefix)
        }

        fn write_prefix(file: &File, bytes: &[u8]) -> io::Result<()> {
            $crate::system::unix::write_prefix(file, bytes)
        }

        fn file_size_limit() -> Option<u64> {
            $crate::system::unix::file_size_limit()
        }

        fn available_bytes(file: &File) -> u64 {
            $crate::system::unix::available_bytes(file)
        }

        fn same_file(file: &File, path: &Path) -> bool {
            $crate::system::unix::same_file(file, path)
        }

        fn remove(path: &Path) -> io::Result<()> {
            $crate::system::unix::remove(path)
        }

        fn mode(file: &File) -> u32 {
            $crate::system::unix::mode(file)
        }

        fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
            $crate::system::unix::background_thread(name, work)
        }
    };
}
pub(super) use unix_files;
