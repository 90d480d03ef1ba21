//! Cap'n Proto messages over a Unix stream socket, the usual way.

use std::io::{BufReader, BufWriter, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::Result;
use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use capnp::serialize;

use super::message;
use super::stream::address;
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct CapnpSocket;

pub struct Tx(BufWriter<UnixStream>);
pub struct Rx(BufReader<UnixStream>);

impl Sender for Tx {
    #[inline(always)]
    fn send(&mut self, _: usize, fill: impl FnOnce(&mut [u8])) {
        let mut builder = Builder::new(HeapAllocator::new().first_segment_words(64));
        message::write(builder.init_root(), message::word(fill));
        serialize::write_message(&mut self.0, &builder).expect("write");
        self.0.flush().expect("write");
    }
}

impl Receiver for Rx {
    #[inline(always)]
    fn recv(&mut self, _: usize, read: impl FnOnce(&[u8])) {
        let reader = serialize::read_message(&mut self.0, ReaderOptions::new()).expect("read");
        let word = message::read(reader.get_root().expect("root")).expect("message");
        read(&word.to_ne_bytes());
    }
}

fn ends(socket: UnixStream) -> Result<(Tx, Rx)> {
    Ok((Tx(BufWriter::new(socket.try_clone()?)), Rx(BufReader::new(socket))))
}

impl Contender for CapnpSocket {
    type Tx = Tx;
    type Rx = Rx;
    type Offer = UnixListener;

    fn offer(spec: &Spec) -> Result<(UnixListener, String)> {
        Ok((UnixListener::bind_addr(&address(spec)?)?, String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Tx, Rx)> {
        ends(UnixStream::connect_addr(&address(spec)?)?)
    }

    fn accept(listener: UnixListener) -> Result<(Tx, Rx)> {
        ends(listener.accept()?.0)
    }
}
