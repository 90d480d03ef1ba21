//! Byte streams of the kernel: a message is written at once, and read through a buffer.

use std::io::{BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use anyhow::Result;

use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct Tx<W> {
    to: W,
    message: Vec<u8>,
}

pub struct Rx<R> {
    from: BufReader<R>,
    message: Vec<u8>,
}

pub fn ends<W: Write, R: Read>(to: W, from: R, size: usize) -> (Tx<W>, Rx<R>) {
    let from = BufReader::with_capacity(64 * 1024, from);
    (Tx { to, message: vec![0; size] }, Rx { from, message: vec![0; size] })
}

impl<W: Write> Sender for Tx<W> {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        fill(&mut self.message[..size]);
        self.to.write_all(&self.message[..size]).expect("write");
    }
}

impl<R: Read> Receiver for Rx<R> {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        self.from.read_exact(&mut self.message[..size]).expect("read");
        read(&self.message[..size]);
    }
}

/// A name in the kernel, not in the file system.
pub fn address(spec: &Spec) -> Result<SocketAddr> {
    Ok(SocketAddr::from_abstract_name(&spec.name)?)
}

/// A Unix stream socket.
pub struct Socket;

impl Contender for Socket {
    type Tx = Tx<UnixStream>;
    type Rx = Rx<UnixStream>;
    type Offer = (UnixListener, usize);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        Ok(((UnixListener::bind_addr(&address(spec)?)?, spec.size), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Self::Tx, Self::Rx)> {
        let socket = UnixStream::connect_addr(&address(spec)?)?;
        Ok(ends(socket.try_clone()?, socket, spec.size))
    }

    fn accept((listener, size): Self::Offer) -> Result<(Self::Tx, Self::Rx)> {
        let (socket, _) = listener.accept()?;
        Ok(ends(socket.try_clone()?, socket, size))
    }
}
