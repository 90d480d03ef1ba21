//! Events on Unix: a FIFO beside the segment where both sides must find it, a pipe where one hands it to the other (on
//! Linux), an eventfd where one has it alone.
//!
//! A FIFO or a pipe is opened for reading and writing by both: so it has a reader and a writer as long as either lives, opening
//! never waits, reading never finds an end, and writing raises no SIGPIPE.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use super::{Event, unix};
use crate::error::{FileError, SegmentError};

/// An eventfd, a pipe or a FIFO; a file, because both are read and written.
#[derive(Debug)]
pub(crate) struct FileEvent(File);

/// The bytes that an eventfd takes and gives. A FIFO takes any bytes.
const ONE: [u8; 8] = 1u64.to_ne_bytes();
/// A FIFO's size: a page.
const FIFO_BYTES: usize = 4096;
/// Reads until a FIFO is taken to be filled faster than it is emptied.
const READS: usize = 16;

/// The file system of pipes, `PIPEFS_MAGIC` in Linux's `magic.h`.
#[cfg(target_os = "linux")]
const PIPEFS_MAGIC: rustix::fs::FsWord = 0x5049_5045;

#[cfg(target_os = "linux")]
fn proc_entry(descriptor: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

impl FileEvent {
    /// One for both sides, and a descriptor by which the other side has it too, of this Unix mode.
    #[cfg(target_os = "linux")]
    pub(crate) fn shared(mode: u32) -> io::Result<(Self, OwnedFd)> {
        use rustix::fs::{Mode, fchmod};
        use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
        let (end, _other_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // As for a FIFO.
        let _ = fcntl_setpipe_size(&end, FIFO_BYTES);
        if mode & 0o077 != 0 {
            fchmod(&end, Mode::from_raw_mode(mode & 0o666))?;
        }
        Ok((Self::again(&end)?, end))
    }

    /// The one that somebody handed over, if it is one.
    #[cfg(target_os = "linux")]
    pub(crate) fn handed(descriptor: OwnedFd) -> io::Result<Self> {
        // A FIFO lies in the file system of its directory.
        match rustix::fs::fstatfs(&descriptor)?.f_type == PIPEFS_MAGIC {
            true => Self::again(&descriptor),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The same pipe for reading and writing, as a FIFO is opened. Whoever else has a descriptor of it shares no flag with
    /// this one: nobody can have this side wait.
    #[cfg(target_os = "linux")]
    fn again(descriptor: &OwnedFd) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        options.open(proc_entry(descriptor)).map(Self)
    }

    /// Something else that is set until there is nothing to do.
    #[cfg(all(target_os = "linux", feature = "async"))]
    pub(crate) fn watched(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// Makes a FIFO that stands for nothing else, and opens it.
    fn make(path: &Path, mode: u32) -> io::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the string ends with zero and lives through the call.
        if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let event = Self::open(path, 0o600).map_err(|error| match error {
            FileError::Io(error) => error,
            error => io::Error::other(format!("another's file replaced the FIFO: {error:?}")),
        })?;
        // Not subject to the umask.
        event.0.set_permissions(Permissions::from_mode(mode))?;
        #[cfg(target_os = "linux")]
        // A pipe holds sixteen pages otherwise, which count towards the user's limit. No matter if it is refused.
        let _ = rustix::pipe::fcntl_setpipe_size(&event.0, FIFO_BYTES);
        Ok(event)
    }

    /// Opens what may be anything.
    fn open(path: &Path, mode: u32) -> Result<Self, FileError> {
        let file = unix::open(path, true)?;
        let metadata = file.metadata()?;
        if !metadata.file_type().is_fifo() {
            return Err(SegmentError::Foreign.into());
        }
        unix::check_owner(&metadata, Some(mode))?;
        Ok(Self(file))
    }
}

impl Event for FileEvent {
    #[cfg(target_os = "linux")]
    fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(File::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> io::Result<Self> {
        let name = format!("capnproto-shm-{:016x}", super::random());
        let path = std::env::temp_dir().join(name);
        let event = Self::make(&path, 0o600);
        let _ = unix::remove(&path);
        event
    }

    fn named(path: &Path, mode: u32) -> io::Result<Self> {
        Self::make(path, mode).inspect_err(|error| {
            // A file that was there already is not ours.
            if error.kind() != io::ErrorKind::AlreadyExists {
                let _ = unix::remove(path);
            }
        })
    }

    fn take(path: &Path, mode: u32) -> Result<Self, FileError> {
        let event = Self::open(path, mode)?;
        // In a directory where only the owner may do that, the owner does it in the end.
        let _ = unix::remove(path);
        Ok(event)
    }

    fn remove(path: &Path) -> io::Result<()> {
        unix::remove(path)
    }

    fn notify(&self) {
        // A full FIFO is readable already, and so is an eventfd that would overflow.
        let _ = (&self.0).write(&ONE);
    }

    fn clear(&self) {
        let mut bytes = [0; FIFO_BYTES];
        for _ in 0..READS {
            match (&self.0).read(&mut bytes) {
                Ok(FIFO_BYTES) => {}
                // Empty, or emptied by this. An error leaves it set: a waiter looks, and comes here again.
                _ => break,
            }
        }
    }

    fn wait(&self, time: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let time = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&time)).is_ok_and(|set| set > 0)
    }
}

impl AsFd for FileEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
