//! Code that macOS and Windows share: files have a name of their own until they are whole, and the kernel does little for them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::random;

/// Extension of a file that is not whole yet.
pub(super) const NEW: &str = "new";
/// Extension of a file that is removed, as soon as nobody has it mapped.
pub(super) const OLD: &str = "old";

/// A file under an exclusive name, removed when this is dropped; [`sweep`] removes files that a crash leaves.
pub(crate) struct Aside {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Aside {
    pub(super) fn create(options: &mut OpenOptions, path: &Path) -> io::Result<Self> {
        let path = aside(path, NEW);
        let file = options.read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { file, path })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // It may have its own name by now.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A name beside the one given that nobody else has.
pub(super) fn aside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.{extension}", random()));
    PathBuf::from(name)
}

/// Removes files beside `path`: half-made ones of a crashed side A, and those that could not be deleted while
/// they were mapped. The next sweep tries again if one still cannot be. A side A that is at work on its file begins anew.
pub(super) fn sweep(path: &Path) {
    sweep_all(path, &[NEW, OLD]);
}

pub(super) fn sweep_all(path: &Path, extensions: &[&str]) {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return };
    let prefix = format!("{}.", name.to_string_lossy());
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        let rest = found.strip_prefix(&prefix).and_then(|rest| rest.split_once('.'));
        if rest.is_some_and(|(_, extension)| extensions.contains(&extension)) {
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

/// Time since this was first asked.
pub(super) fn coarse_now() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

/// The methods that macOS and Windows share of [`System`](super::System).
macro_rules! portable_system {
    () => {
        fn directory() -> PathBuf {
            std::env::temp_dir()
        }

        fn allocate(file: &File, bytes: u64) -> io::Result<()> {
            $crate::system::portable::allocate(file, bytes)
        }

        /// There is no way to claim space without writing, and the bytes there are not ours to write.
        fn keep_space(_file: &File, _bytes: u64) -> io::Result<()> {
            Ok(())
        }

        fn sweep(path: &Path) {
            $crate::system::portable::sweep(path);
        }

        fn advise(header: &MmapRaw, body: &MmapRaw, options: MemoryOptions) -> Result<(), FileError> {
            only_plain_memory(options)?;
            Ok(lock_memory([header, body], options)?)
        }

        fn has_barrier() -> bool {
            false
        }

        fn coarse_now() -> Duration {
            $crate::system::portable::coarse_now()
        }

        fn can_watch() -> bool {
            false
        }

        fn sleep_while_all(own: (&AtomicU32, u32), _others: &[(*const AtomicU32, u32)], time: Duration) {
            <Self as $crate::protocol::Kernel>::sleep_while(own.0, own.1, None, time);
        }

        fn scheduling() -> Scheduling {
            Scheduling::default()
        }

        fn watch_life(_file: &File, _half: Half) -> Option<LifeMark> {
            None
        }
    };
}
pub(super) use portable_system;
