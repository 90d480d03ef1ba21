//! What macOS and Windows share: files with a name of their own until they are whole, and std's locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::link::random;
use crate::config::Mapping;
use crate::error::ConfigError;

/// Extension of a file that is not whole yet, or whole no longer.
const ASIDE: &str = "aside";

pub(super) fn directory() -> PathBuf {
    std::env::temp_dir()
}

/// A file under an exclusive name, removed when this is dropped; [`sweep`] removes what a crash leaves.
pub(super) struct Staged {
    file: File,
    path: PathBuf,
}

impl Staged {
    pub(super) fn create(options: &mut OpenOptions, path: &Path) -> io::Result<Self> {
        let path = aside(path);
        let file = options.read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { file, path })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, unless something stands there or a new owner of the name swept it away.
    pub(super) fn publish(self, path: &Path) -> io::Result<bool> {
        match std::fs::hard_link(&self.path, path) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A name beside the one given that nobody else has.
pub(super) fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.{ASIDE}", random()));
    PathBuf::from(name)
}

/// Removes what stands beside `path`: what a crashed side A left half made, what could not be deleted while it
/// was mapped. What still cannot be is left for the next time.
pub(crate) fn sweep(path: &Path) {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return };
    let prefix = format!("{}.", name.to_string_lossy());
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found.strip_prefix(&prefix).is_some_and(|rest| rest.ends_with(&format!(".{ASIDE}"))) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes every byte, so that a full file system is an error now.
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = [0; 64 * 1024];
    let mut file = file;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(zeros.len() as u64);
        file.write_all(&zeros[..now as usize])?;
        left -= now;
    }
    Ok(())
}

/// There is no way to claim space without writing, and what is there is not ours to write.
pub(super) fn keep_space(_file: &File, _bytes: u64) -> io::Result<()> {
    Ok(())
}

/// A probe may hold the lock for an instant, so being refused once is not being refused.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    for attempt in 0..5 {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if attempt < 4 => {
                std::thread::sleep(std::time::Duration::from_millis(1 << attempt));
            }
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(false)
}

/// There is one lock a file, so a remover looks like the writer for an instant.
pub(super) fn try_claim(file: &File) -> io::Result<bool> {
    try_lock(file)
}

pub(super) fn unlock(file: &File) {
    // Unlocking what is locked or not cannot fail; closing the file would unlock it too.
    let _ = file.unlock();
}

/// Without a way to ask, the probe takes a shared lock for an instant.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Refuses what only Linux has.
pub(super) fn only_plain_memory(mapping: Mapping) -> Result<(), ConfigError> {
    let refused = |option| Err(ConfigError::Unsupported { option, reason: "Linux only".to_owned() });
    if mapping.huge_pages {
        return refused("huge_pages");
    }
    if mapping.numa_node.is_some() {
        return refused("numa_node");
    }
    Ok(())
}
