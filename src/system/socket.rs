//! Sockets by which a server and a client agree on a channel (Linux): packets, descriptors beside them, and who is on
//! the other side.

#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};

/// Most descriptors that come with one packet.
pub(crate) const MOST_DESCRIPTORS: usize = 8;
/// Whether a socket takes descriptors, of the kernel's asm/socket.h; from Linux 6.16 on.
const SO_PASSRIGHTS: libc::c_int =
    if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) { 0x5c } else { 83 };
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A packet socket. Nothing that is done with it waits, but for [`wait`](Self::wait).
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// The process at the other end, in the numbers of this side's namespaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A socket's address holds 107 bytes. The directory, which may be longer, is named by a descriptor.
fn address(path: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = path.file_name().unwrap_or_default();
    let address = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let address = SocketAddrUnix::new(&address)?;
    Ok((directory, address))
}

/// Whether a file of this name can be a socket's, wherever it lies.
pub(crate) fn fits_address(file_name: &str) -> Result<(), usize> {
    const ALLOWED: usize = 107 - "/proc/self/fd/1048576/".len();
    if file_name.len() <= ALLOWED { Ok(()) } else { Err(ALLOWED) }
}

impl Socket {
    fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?))
    }

    /// Listens under a name that does not exist yet. A client cannot hand over descriptors, where the system knows
    /// of that.
    pub(crate) fn listening(path: &Path) -> io::Result<Self> {
        let socket = Self::new()?;
        socket.refuse_descriptors();
        let (_directory, address) = address(path)?;
        bind(&socket.0, &address)?;
        listen(&socket.0, BACKLOG)?;
        Ok(socket)
    }

    /// Has the system refuse what is handed over on this socket, and on those that it accepts. A descriptor that is handed
    /// over has to be closed here, and that may take as long as its sender likes: a TCP socket that lingers, a file of a file
    /// system that the sender serves.
    fn refuse_descriptors(&self) {
        let no: libc::c_int = 0;
        let bytes = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the descriptor is open, and `no` is as long as is said. A system that does not know the option says so.
        unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PASSRIGHTS,
                (&raw const no).cast(),
                bytes,
            )
        };
    }

    /// Connects to the listener there. [`io::ErrorKind::WouldBlock`] if too many wait already.
    pub(crate) fn connected(path: &Path) -> io::Result<Self> {
        let socket = Self::new()?;
        let (_directory, address) = address(path)?;
        connect(&socket.0, &address)?;
        Ok(socket)
    }

    /// The next connection, if there is one.
    pub(crate) fn accept(&self) -> io::Result<Option<Self>> {
        match accept_with(&self.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => Ok(Some(Self(socket))),
            // It has connected, and gone.
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends one packet.
    pub(crate) fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(packet)], &mut beside, flags)?;
        Ok(())
    }

    /// The next packet and what came beside it; 0 bytes if the other end is closed. [`io::ErrorKind::WouldBlock`] if
    /// there is none. A packet that is longer than `packet` is cut; of further descriptors than
    /// [`MOST_DESCRIPTORS`] nothing is seen.
    ///
    /// It is an error if there was no room for a descriptor in this process.
    pub(crate) fn receive(&self, packet: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(packet)], &mut beside, flags)?;
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                descriptors.extend(given);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) && descriptors.len() < MOST_DESCRIPTORS {
            return Err(Errno::MFILE.into());
        }
        Ok((received.bytes, descriptors))
    }

    /// Waits until there is something to receive, or the other end is closed; `false` if that was not in time.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let limit = Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The process at the other end: the one that connected or listened. Its number is 0 if it has none here.
    pub(crate) fn peer(&self) -> io::Result<Credentials> {
        let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
        let to = (&raw mut found).cast();
        // SAFETY: the descriptor is open, `to` has room for so many bytes, and any bytes are a valid `ucred`.
        let failed = unsafe {
            libc::getsockopt(self.0.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, to, &raw mut bytes)
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        let pid = u32::try_from(found.pid).unwrap_or(0);
        Ok(Credentials { pid, uid: found.uid, gid: found.gid })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
