//! The handshake of docs/layout.md, byte by byte: clients and servers that say and hand over what they like.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};

use crate::common::directory;

pub const BYTES: usize = 136;
pub const JOINED: &[u8] = b"joined\n\0";
pub const ANY: u32 = u32::MAX;
/// Most that this side sends beside a packet.
const MOST: usize = 250;

/// A hello of a raw side with any tag, or a raw server's answer without a tag.
pub fn packet(tag_bytes: u32, verdict: u32) -> [u8; BYTES] {
    let mut packet = [0; BYTES];
    packet[..8].copy_from_slice(b"CPSHMSV\n");
    packet[8..12].copy_from_slice(&1u32.to_ne_bytes());
    packet[12..16].copy_from_slice(&0x0102_0304_u32.to_ne_bytes());
    packet[64..68].copy_from_slice(&tag_bytes.to_ne_bytes());
    packet[68..72].copy_from_slice(&verdict.to_ne_bytes());
    packet
}

pub fn hello() -> [u8; BYTES] {
    packet(ANY, 0)
}

pub fn welcome() -> [u8; BYTES] {
    packet(0, 0)
}

pub fn path(name: &str) -> PathBuf {
    directory().join(format!("{name}.fs.socket"))
}

/// A packet socket.
pub struct Raw(OwnedFd);

fn socket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

impl Raw {
    pub fn connect(name: &str) -> Self {
        let socket = socket();
        connect(&socket, &SocketAddrUnix::new(path(name)).unwrap()).unwrap();
        Self(socket)
    }

    pub fn listen(name: &str) -> Self {
        let socket = socket();
        bind(&socket, &SocketAddrUnix::new(path(name)).unwrap()).unwrap();
        std::fs::set_permissions(path(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        listen(&socket, 16).unwrap();
        Self(socket)
    }

    pub fn accept(&self) -> Self {
        Self(accept_with(&self.0, SocketFlags::CLOEXEC).unwrap())
    }

    /// Whether it was sent: the other end may be gone.
    pub fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(beside.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        sendmsg(&self.0, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL).is_ok()
    }

    /// The next packet and what is beside it; none if the other end is closed.
    pub fn receive(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut packet = vec![0; 4096];
        let received =
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut packet)], &mut beside, RecvFlags::CMSG_CLOEXEC);
        let bytes = received.map_or(0, |received| received.bytes);
        packet.truncate(bytes);
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                descriptors.extend(given);
            }
        }
        (bytes > 0).then_some((packet, descriptors))
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
