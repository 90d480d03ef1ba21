//! Linux: files in /dev/shm that have no name until they are whole, and locks that belong to an open file.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use memmap2::{Advice, MmapRaw};
use rustix::fs::{AtFlags, CWD, FallocateFlags, fallocate, linkat};

use super::region::MapError;
pub(super) use super::unix::{
    available_bytes, check_owner, open, read_prefix, remove, same_file, write_prefix,
};
use crate::config::Mapping;
use crate::error::ConfigError;

pub(super) fn directory() -> PathBuf {
    PathBuf::from("/dev/shm")
}

/// A file without a name: if this process dies now, nothing is left.
pub(super) struct Staged(File);

impl Staged {
    pub(super) fn new(path: &Path, mode: u32) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
            .open(directory)?;
        // Not subject to the umask.
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(Self(file))
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Gives the file its name, unless something stands there.
    pub(super) fn publish(&self, path: &Path) -> io::Result<bool> {
        let named = linkat(&self.0, "", CWD, path, AtFlags::EMPTY_PATH).or_else(|e| match e {
            // Without the capability to link a descriptor, its entry in /proc does.
            rustix::io::Errno::NOENT | rustix::io::Errno::PERM => {
                let entry = format!("/proc/self/fd/{}", self.0.as_raw_fd());
                linkat(CWD, entry, CWD, path, AtFlags::SYMLINK_FOLLOW)
            }
            e => Err(e),
        });
        match named {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// Nothing half made has a name.
pub(crate) fn sweep(_path: &Path) {}

/// What is removed is gone.
pub(super) fn sweep_removed(_path: &Path) {}

/// Whether a remover has a lock of its own, and never looks like the writer.
pub(crate) const CLAIM_IS_APART: bool = true;

/// Sets the length and claims the pages, so that a full file system is an error now and no signal later.
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

/// Claims what is not claimed yet of a file's own length.
pub(super) fn keep_space(file: &File, bytes: u64) -> io::Result<()> {
    allocate(file, bytes)
}

/// The byte whose lock is the writer's life.
const WRITER: libc::off_t = 0;
/// The byte whose lock is the right to remove what a dead writer left: a remover is no writer.
const REMOVER: libc::off_t = 1;

/// Asks for, or about, a lock of one byte that belongs to the open file description: not to the process,
/// so two ends in one process exclude each other, and it falls with the last descriptor.
fn lock(file: &File, byte: libc::off_t, command: libc::c_int, kind: libc::c_int) -> io::Result<libc::flock> {
    let mut request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for the call, and `request` is a valid `flock` that only this call
    // reads and writes, as F_OFD_SETLK and F_OFD_GETLK ask.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(request),
    }
}

pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    take(file, WRITER)
}

pub(super) fn try_claim(file: &File) -> io::Result<bool> {
    take(file, REMOVER)
}

fn take(file: &File, byte: libc::off_t) -> io::Result<bool> {
    match lock(file, byte, libc::F_OFD_SETLK, libc::F_WRLCK) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

pub(super) fn unlock(file: &File) {
    // Unlocking what is locked or not cannot fail; closing the file would unlock it too.
    let _ = lock(file, WRITER, libc::F_OFD_SETLK, libc::F_UNLCK);
}

pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    lock(file, WRITER, libc::F_OFD_GETLK, libc::F_WRLCK)
        .map(|found| found.l_type != libc::F_UNLCK as libc::c_short)
}

/// Keeps a forked child out, and places the slots as asked.
pub(super) fn advise(header: &MmapRaw, body: &MmapRaw, mapping: Mapping) -> Result<(), MapError> {
    header.advise(Advice::DontFork)?;
    body.advise(Advice::DontFork)?;
    if mapping.huge_pages {
        huge_pages_possible()?;
        body.advise(Advice::HugePage)?;
    }
    if let Some(node) = mapping.numa_node {
        bind(body, node)?;
    }
    Ok(())
}

fn huge_pages_possible() -> Result<(), MapError> {
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let setting = std::fs::read_to_string(path).unwrap_or_default();
    if ["[always]", "[within_size]", "[advise]", "[force]"].iter().any(|word| setting.contains(word)) {
        return Ok(());
    }
    let reason = format!("{path} says {:?}; write `advise` there", setting.trim());
    Err(MapError::Config(ConfigError::Unsupported { option: "huge_pages", reason }))
}

fn bind(body: &MmapRaw, node: u32) -> Result<(), MapError> {
    const BITS: u32 = 1024;
    /// `MPOL_MF_MOVE` of linux/mempolicy.h: pages that exist already move too.
    const MOVE_WHAT_IS_THERE: libc::c_uint = 2;
    let refused = |reason| MapError::Config(ConfigError::Unsupported { option: "numa_node", reason });
    if node >= BITS {
        return Err(refused(format!("node {node} is above the largest, {}", BITS - 1)));
    }
    let mut mask = [0 as libc::c_ulong; (BITS / libc::c_ulong::BITS) as usize];
    mask[(node / libc::c_ulong::BITS) as usize] |= 1 << (node % libc::c_ulong::BITS);
    // The kernel asks for a page-aligned start, and maps whole pages.
    let offset = body.as_ptr() as usize % 4096;
    let start = body.as_ptr() as usize - offset;
    // SAFETY: mbind changes where pages lie, never what they hold; the range is this mapping, which
    // outlives the call, and the mask has as many bits as the call is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start,
            body.len() + offset,
            libc::MPOL_BIND,
            mask.as_ptr(),
            libc::c_ulong::from(BITS),
            MOVE_WHAT_IS_THERE,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(refused(format!("mbind to node {node}: {}", io::Error::last_os_error())))
}
