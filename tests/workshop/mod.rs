//! A server that does everything that RPC can do, and executors to run it on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use capnproto_shm_transport::capnp::{Error, ErrorKind};
use capnproto_shm_transport::capnp_rpc;
use schemas::workshop_capnp::workshop::*;

pub type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;
/// Starts a task beside this one.
pub type Spawn = Rc<dyn Fn(LocalFuture)>;
/// Runs the task that it makes, and those that this starts, until the first has ended.
pub type Executor = (&'static str, fn(Box<dyn FnOnce(Spawn) -> LocalFuture>));

pub const EXECUTORS: [Executor; 3] = [
    ("tokio", |make| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let spawn: Spawn = Rc::new(|task| drop(tokio::task::spawn_local(task)));
        tokio::task::LocalSet::new().block_on(&runtime, async { make(spawn).await });
    }),
    ("futures", |make| {
        use futures::task::LocalSpawnExt;
        let mut pool = futures::executor::LocalPool::new();
        let spawner = pool.spawner();
        pool.run_until(make(Rc::new(move |task| spawner.spawn_local(task).unwrap())));
    }),
    ("smol", |make| {
        let executor: &smol::LocalExecutor<'static> = Box::leak(Box::default());
        smol::block_on(executor.run(make(Rc::new(|task| executor.spawn(task).detach()))));
    }),
];

/// Runs a task on an executor.
pub fn run<F: Future<Output = ()> + 'static>(executor: &Executor, make: impl FnOnce(Spawn) -> F + 'static) {
    executor.1(Box::new(|spawn| Box::pin(make(spawn))));
}

/// Lets other tasks run once.
pub async fn turn() {
    let mut polled = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The state that workshops of one process share.
#[derive(Default)]
pub struct Books {
    canceled: Cell<u32>,
    kept: RefCell<Option<Client>>,
    pieces: Cell<(u64, u64)>,
    counted: Cell<u64>,
}

#[derive(Default)]
pub struct Workshop {
    depth: u32,
    books: Rc<Books>,
}

/// A fresh workshop.
pub fn workshop() -> Client {
    capnp_rpc::new_client(Workshop::default())
}

/// Counts when it goes.
struct OnDrop(Rc<Books>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.canceled.set(self.0.canceled.get() + 1);
    }
}

impl Server for Workshop {
    async fn echo(self: Rc<Self>, params: EchoParams, mut results: EchoResults) -> Result<(), Error> {
        results.get().set_payload(params.get()?.get_payload()?);
        Ok(())
    }

    async fn inner(self: Rc<Self>, _: InnerParams, mut results: InnerResults) -> Result<(), Error> {
        let inner = Self { depth: self.depth + 1, books: Rc::clone(&self.books) };
        // Not at once: calls on it must wait meanwhile.
        turn().await;
        results.get().set_workshop(capnp_rpc::new_client(inner));
        Ok(())
    }

    async fn depth(self: Rc<Self>, _: DepthParams, mut results: DepthResults) -> Result<(), Error> {
        results.get().set_depth(self.depth);
        Ok(())
    }

    async fn fail(self: Rc<Self>, params: FailParams, _: FailResults) -> Result<(), Error> {
        let params = params.get()?;
        let extra = params.get_reason()?.to_string()?;
        let kinds =
            [ErrorKind::Failed, ErrorKind::Overloaded, ErrorKind::Disconnected, ErrorKind::Unimplemented];
        Err(Error { kind: kinds[usize::from(params.get_kind())], extra })
    }

    async fn hang(self: Rc<Self>, params: HangParams, _: HangResults) -> Result<(), Error> {
        let _witness = params.get()?.get_witness()?;
        let _counted = OnDrop(Rc::clone(&self.books));
        std::future::pending().await
    }

    async fn canceled(self: Rc<Self>, _: CanceledParams, mut results: CanceledResults) -> Result<(), Error> {
        results.get().set_count(self.books.canceled.get());
        Ok(())
    }

    async fn through(
        self: Rc<Self>,
        params: ThroughParams,
        mut results: ThroughResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let mut request = params.get_workshop()?.echo_request();
        request.get().set_payload(params.get_payload()?);
        let answer = request.send().promise.await?;
        results.get().set_payload(answer.get()?.get_payload()?);
        Ok(())
    }

    async fn keep(self: Rc<Self>, params: KeepParams, _: KeepResults) -> Result<(), Error> {
        *self.books.kept.borrow_mut() = Some(params.get()?.get_workshop()?);
        Ok(())
    }

    async fn kept(self: Rc<Self>, _: KeptParams, mut results: KeptResults) -> Result<(), Error> {
        let kept = self.books.kept.borrow().clone();
        results.get().set_workshop(kept.ok_or_else(|| Error::failed("nothing is kept".to_owned()))?);
        Ok(())
    }

    async fn piece(self: Rc<Self>, params: PieceParams) -> Result<(), Error> {
        let (count, bytes) = self.books.pieces.get();
        let payload = params.get()?.get_payload()?;
        if payload == b"broken" {
            return Err(Error::failed("this piece is broken".to_owned()));
        }
        self.books.pieces.set((count + 1, bytes + payload.len() as u64));
        Ok(())
    }

    async fn pieces(self: Rc<Self>, _: PiecesParams, mut results: PiecesResults) -> Result<(), Error> {
        let (count, bytes) = self.books.pieces.take();
        results.get().set_count(count);
        results.get().set_bytes(bytes);
        Ok(())
    }

    async fn count(self: Rc<Self>, _: CountParams, mut results: CountResults) -> Result<(), Error> {
        results.get().set_number(self.books.counted.replace(self.books.counted.get() + 1));
        Ok(())
    }

    async fn send(self: Rc<Self>, params: SendParams, _: SendResults) -> Result<(), Error> {
        let params = params.get()?;
        let to = params.get_workshop()?;
        let payload = vec![7; params.get_size() as usize];
        for _ in 0..params.get_count() {
            let mut request = to.piece_request();
            request.get().set_payload(&payload);
            request.send().await?;
        }
        Ok(())
    }

    async fn die(self: Rc<Self>, _: DieParams, _: DieResults) -> Result<(), Error> {
        std::process::abort()
    }
}

/// The echo of a workshop.
pub async fn echo(workshop: &Client, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let mut request = workshop.echo_request();
    request.get().set_payload(payload);
    let answer = request.send().promise.await?;
    Ok(answer.get()?.get_payload()?.to_vec())
}
