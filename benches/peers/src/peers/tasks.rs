//! Two tasks: ours, each way to use it, and the kernel's byte streams as tokio has them.

use std::marker::PhantomData;
use std::os::unix::net::UnixListener;

use anyhow::Result;
use capnproto_shm_transport::{ByteReader, ByteWriter, Config, Consumer, Producer, SendError, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::ours::{self, BATCH};
use super::{pipe, stream};
use crate::contender::Spec;
use crate::task::{TaskContender, TaskReceiver, TaskSender};

/// A channel of ours, used in one of these ways.
pub struct Ours<S>(PhantomData<S>);

/// What a program makes of a channel.
pub trait Style: TaskSender + Sized {
    type Rx: TaskReceiver;
    fn ends(channel: Transport, size: usize) -> (Self, Self::Rx);
}

impl<S: Style> TaskContender for Ours<S> {
    type Tx = S;
    type Rx = S::Rx;
    type Offer = (S, S::Rx);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let channel = Transport::create(&spec.name, &ours::config(spec))?;
        Ok((S::ends(channel, spec.size), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(S, S::Rx)> {
        let own = Config::new().poll(ours::poll(spec));
        Ok(S::ends(Transport::open_with(&spec.name, ours::PATIENCE, &own)?, spec.size))
    }

    fn accept(offer: Self::Offer) -> Result<(S, S::Rx)> {
        Ok(offer)
    }
}

/// `reserve_async`, fill, `commit`; `recv_async`, look, drop.
pub struct InPlace(Producer);
/// `send_async` of bytes that lie elsewhere; `recv_async`.
pub struct Copied(Producer, Vec<u8>);
/// `batch` and `drain` between awaits.
pub struct Batched(Producer);
pub struct One(Consumer);
pub struct Drained(Consumer);

async fn send_in_place(to: &mut Producer, size: usize, fill: impl FnOnce(&mut [u8])) {
    let mut slot = to.reserve_async().await.expect("reserve");
    fill(&mut slot[..size]);
    slot.commit(size);
}

// A program that streams awaits the library's own futures in a loop: so do these, without one of the harness between.

impl TaskSender for InPlace {
    async fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8]) + Send) {
        send_in_place(&mut self.0, size, fill).await;
    }

    async fn stream(&mut self, size: usize, count: u64, mut fill: impl FnMut(u64, &mut [u8]) + Send) {
        for i in 0..count {
            let mut slot = self.0.reserve_async().await.expect("reserve");
            fill(i, &mut slot[..size]);
            slot.commit(size);
        }
    }
}

impl TaskSender for Copied {
    async fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8]) + Send) {
        fill(&mut self.1[..size]);
        self.0.send_async(&self.1[..size]).await.expect("send");
    }

    async fn stream(&mut self, size: usize, count: u64, mut fill: impl FnMut(u64, &mut [u8]) + Send) {
        for i in 0..count {
            fill(i, &mut self.1[..size]);
            self.0.send_async(&self.1[..size]).await.expect("send");
        }
    }
}

impl TaskSender for Batched {
    async fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8]) + Send) {
        send_in_place(&mut self.0, size, fill).await;
    }

    async fn stream(&mut self, size: usize, count: u64, mut fill: impl FnMut(u64, &mut [u8]) + Send) {
        let mut sent = 0;
        while sent < count {
            drop(self.0.reserve_async().await.expect("room"));
            let mut batch = self.0.batch();
            let end = count.min(sent + BATCH);
            while sent < end {
                match batch.try_reserve() {
                    Ok(mut slot) => {
                        fill(sent, &mut slot[..size]);
                        slot.commit(size);
                        sent += 1;
                    }
                    Err(SendError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            batch.publish();
        }
    }
}

impl TaskReceiver for One {
    async fn recv(&mut self, size: usize, read: impl FnOnce(&[u8]) + Send) {
        read(&self.0.recv_async().await.expect("receive")[..size]);
    }

    async fn stream(&mut self, size: usize, count: u64, mut read: impl FnMut(&[u8]) + Send) {
        for _ in 0..count {
            read(&self.0.recv_async().await.expect("receive")[..size]);
        }
    }
}

impl TaskReceiver for Drained {
    async fn recv(&mut self, size: usize, read: impl FnOnce(&[u8]) + Send) {
        read(&self.0.recv_async().await.expect("receive")[..size]);
    }

    async fn stream(&mut self, size: usize, count: u64, mut read: impl FnMut(&[u8]) + Send) {
        let mut received = 0;
        while received < count {
            read(&self.0.recv_async().await.expect("receive")[..size]);
            received += 1;
            let most = (count - received) as usize;
            received += self.0.drain(most, |message| read(&message[..size])).expect("drain") as u64;
        }
    }
}

impl Style for InPlace {
    type Rx = One;
    fn ends(channel: Transport, _: usize) -> (Self, One) {
        let (tx, rx) = channel.split();
        (Self(tx), One(rx))
    }
}

impl Style for Copied {
    type Rx = One;
    fn ends(channel: Transport, size: usize) -> (Self, One) {
        let (tx, rx) = channel.split();
        (Self(tx, vec![0; size]), One(rx))
    }
}

impl Style for Batched {
    type Rx = Drained;
    fn ends(channel: Transport, _: usize) -> (Self, Drained) {
        let (tx, rx) = channel.split();
        (Self(tx), Drained(rx))
    }
}

/// `into_io`: the channel as a stream of bytes. Its ring is as the entry says if it is `SIZED`, else the default.
pub struct Bytes<const SIZED: bool>;

impl<const SIZED: bool> TaskContender for Bytes<SIZED> {
    type Tx = Tx<ByteWriter>;
    type Rx = Rx<ByteReader>;
    type Offer = (Self::Tx, Self::Rx);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let config = Config::new().poll(ours::poll(spec));
        let config = if SIZED { config.slot_size(spec.size).slot_count(spec.slots) } else { config };
        let (from, to) = Transport::create(&spec.name, &config)?.into_io().into_split();
        Ok((ends(to, from, spec), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Self::Tx, Self::Rx)> {
        let own = Config::new().poll(ours::poll(spec));
        let (from, to) = Transport::open_with(&spec.name, ours::PATIENCE, &own)?.into_io().into_split();
        Ok(ends(to, from, spec))
    }

    fn accept(offer: Self::Offer) -> Result<(Self::Tx, Self::Rx)> {
        Ok(offer)
    }
}

/// The sending end of a byte stream: a message is written at once,
pub struct Tx<W> {
    to: W,
    message: Vec<u8>,
}

/// and read through a buffer.
pub struct Rx<R> {
    from: BufReader<R>,
    message: Vec<u8>,
}

fn ends<W, R: AsyncRead>(to: W, from: R, spec: &Spec) -> (Tx<W>, Rx<R>) {
    let from = BufReader::with_capacity(64 * 1024, from);
    (Tx { to, message: vec![0; spec.size] }, Rx { from, message: vec![0; spec.size] })
}

impl<W: AsyncWrite + Unpin + Send + 'static> TaskSender for Tx<W> {
    async fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8]) + Send) {
        fill(&mut self.message[..size]);
        self.to.write_all(&self.message[..size]).await.expect("write");
    }
}

impl<R: AsyncRead + Unpin + Send + 'static> TaskReceiver for Rx<R> {
    async fn recv(&mut self, size: usize, read: impl FnOnce(&[u8]) + Send) {
        self.from.read_exact(&mut self.message[..size]).await.expect("read");
        read(&self.message[..size]);
    }
}

/// A Unix stream socket.
pub struct Socket;

fn socket_ends(
    socket: std::os::unix::net::UnixStream,
    spec: &Spec,
) -> Result<(Tx<OwnedWriteHalf>, Rx<OwnedReadHalf>)> {
    socket.set_nonblocking(true)?;
    let (from, to) = UnixStream::from_std(socket)?.into_split();
    Ok(ends(to, from, spec))
}

impl TaskContender for Socket {
    type Tx = Tx<OwnedWriteHalf>;
    type Rx = Rx<OwnedReadHalf>;
    type Offer = (UnixListener, Spec);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        Ok(((UnixListener::bind_addr(&stream::address(spec)?)?, spec.clone()), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Self::Tx, Self::Rx)> {
        socket_ends(std::os::unix::net::UnixStream::connect_addr(&stream::address(spec)?)?, spec)
    }

    fn accept((listener, spec): Self::Offer) -> Result<(Self::Tx, Self::Rx)> {
        socket_ends(listener.accept()?.0, &spec)
    }
}

/// Two pipes.
pub struct Pipe;

fn pipe_ends(files: pipe::Files, spec: &Spec) -> Result<(Tx<Sender>, Rx<Receiver>)> {
    Ok(ends(Sender::from_file(files.to)?, Receiver::from_file(files.from)?, spec))
}

impl TaskContender for Pipe {
    type Tx = Tx<Sender>;
    type Rx = Rx<Receiver>;
    type Offer = (Tx<Sender>, Rx<Receiver>, pipe::Files);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let ([ours, theirs], token) = pipe::make()?;
        let (tx, rx) = pipe_ends(ours, spec)?;
        Ok(((tx, rx, theirs), token))
    }

    fn join(spec: &Spec, token: &str) -> Result<(Self::Tx, Self::Rx)> {
        pipe_ends(pipe::open(token)?, spec)
    }

    fn accept((tx, rx, _theirs): Self::Offer) -> Result<(Self::Tx, Self::Rx)> {
        Ok((tx, rx))
    }
}
