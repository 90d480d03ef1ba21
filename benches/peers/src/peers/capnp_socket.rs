//! Cap'n Proto messages over a Unix stream socket, the usual way.

use std::io::{BufReader, BufWriter, Write};
use std::marker::PhantomData;
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::Result;
use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use capnp::serialize;

use super::message::{self, Message};
use super::stream::address;
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct CapnpSocket<M>(PhantomData<M>);

pub struct Tx<M>(BufWriter<UnixStream>, usize, PhantomData<M>);
pub struct Rx<M>(BufReader<UnixStream>, usize, PhantomData<M>);

impl<M: Message> Sender for Tx<M> {
    #[inline(always)]
    fn send(&mut self, _: usize, fill: impl FnOnce(&mut [u8])) {
        let mut builder = Builder::new(HeapAllocator::new().first_segment_words(64));
        M::write(builder.init_root(), message::word(fill), self.1);
        serialize::write_message(&mut self.0, &builder).expect("write");
        self.0.flush().expect("write");
    }
}

impl<M: Message> Receiver for Rx<M> {
    #[inline(always)]
    fn recv(&mut self, _: usize, read: impl FnOnce(&[u8])) {
        let reader = serialize::read_message(&mut self.0, ReaderOptions::new()).expect("read");
        let word = M::read(reader.get_root().expect("root"), self.1).expect("message");
        read(&word.to_ne_bytes());
    }
}

fn ends<M>(socket: UnixStream, parts: usize) -> Result<(Tx<M>, Rx<M>)> {
    let tx = Tx(BufWriter::new(socket.try_clone()?), parts, PhantomData);
    Ok((tx, Rx(BufReader::new(socket), parts, PhantomData)))
}

impl<M: Message> Contender for CapnpSocket<M> {
    type Tx = Tx<M>;
    type Rx = Rx<M>;
    type Offer = (UnixListener, usize);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        Ok(((UnixListener::bind_addr(&address(spec)?)?, spec.parts), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Tx<M>, Rx<M>)> {
        ends(UnixStream::connect_addr(&address(spec)?)?, spec.parts)
    }

    fn accept((listener, parts): Self::Offer) -> Result<(Tx<M>, Rx<M>)> {
        ends(listener.accept()?.0, parts)
    }
}
