//! What can be measured between two tasks: as [`contender`](crate::contender), but a half that waits lets other tasks run.
//! A round runs in a task of a tokio runtime of one thread, on each side.

use std::marker::PhantomData;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

use crate::contender::Spec;
use crate::jobs::{Round, tasks};
use crate::pair::Connection;
use crate::sample::Sample;

/// The sending half of one end.
pub trait TaskSender: Send + 'static {
    /// As [`Sender::send`](crate::contender::Sender::send).
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8]) + Send) -> impl Future<Output = ()> + Send;

    /// As [`Sender::stream`](crate::contender::Sender::stream).
    fn stream(
        &mut self,
        size: usize,
        count: u64,
        mut fill: impl FnMut(u64, &mut [u8]) + Send,
    ) -> impl Future<Output = ()> + Send {
        async move {
            for i in 0..count {
                self.send(size, |bytes| fill(i, bytes)).await;
            }
        }
    }
}

/// The receiving half of one end.
pub trait TaskReceiver: Send + 'static {
    /// As [`Receiver::recv`](crate::contender::Receiver::recv).
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8]) + Send) -> impl Future<Output = ()> + Send;

    /// As [`Receiver::stream`](crate::contender::Receiver::stream).
    fn stream(
        &mut self,
        size: usize,
        count: u64,
        mut read: impl FnMut(&[u8]) + Send,
    ) -> impl Future<Output = ()> + Send {
        async move {
            for _ in 0..count {
                self.recv(size, &mut read).await;
            }
        }
    }
}

/// Something that can be measured in tasks. Both sides call it within their runtime.
pub trait TaskContender {
    type Tx: TaskSender;
    type Rx: TaskReceiver;
    type Offer;

    /// The three steps of a [`Contender`](crate::contender::Contender).
    fn offer(spec: &Spec) -> Result<(Self::Offer, String)>;
    fn join(spec: &Spec, token: &str) -> Result<(Self::Tx, Self::Rx)>;
    fn accept(offer: Self::Offer) -> Result<(Self::Tx, Self::Rx)>;
}

/// The same as a connection.
pub struct Tasks<C>(PhantomData<C>);

/// One end. While a round runs, its task has the halves.
pub struct End<Tx, Rx> {
    halves: Option<(Tx, Rx)>,
    runtime: Runtime,
}

impl<C: TaskContender> Connection for Tasks<C> {
    type End = End<C::Tx, C::Rx>;
    type Offer = (C::Offer, Runtime);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (offer, token) = within(&runtime, || C::offer(spec))?;
        Ok(((offer, runtime), token))
    }

    fn join(spec: &Spec, token: &str) -> Result<Self::End> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let halves = Some(within(&runtime, || C::join(spec, token))?);
        Ok(End { halves, runtime })
    }

    fn accept((offer, runtime): Self::Offer) -> Result<Self::End> {
        let halves = Some(within(&runtime, || C::accept(offer))?);
        Ok(End { halves, runtime })
    }

    fn lead(end: &mut Self::End, &round: &Round) -> Result<Sample> {
        end.run(|mut tx, mut rx| async move { (tasks::lead(&mut tx, &mut rx, &round).await, tx, rx) })?
    }

    fn follow(end: &mut Self::End, &round: &Round) -> Result<()> {
        end.run(|mut tx, mut rx| async move { (tasks::follow(&mut tx, &mut rx, &round).await, tx, rx) })?
    }
}

fn within<T>(runtime: &Runtime, work: impl FnOnce() -> T) -> T {
    let _entered = runtime.enter();
    work()
}

impl<Tx, Rx> End<Tx, Rx> {
    /// Runs a round in a task, which gives the halves back.
    fn run<T, F>(&mut self, round: impl FnOnce(Tx, Rx) -> F) -> Result<T>
    where
        T: Send + 'static,
        Tx: Send + 'static,
        Rx: Send + 'static,
        F: Future<Output = (T, Tx, Rx)> + Send + 'static,
    {
        let (tx, rx) = self.halves.take().context("an earlier round failed")?;
        let (result, tx, rx) = self.runtime.block_on(self.runtime.spawn(round(tx, rx)))?;
        self.halves = Some((tx, rx));
        Ok(result)
    }
}
