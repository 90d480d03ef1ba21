//! One side of RPC with a C++ program, in Rust: see `rpc.cpp`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use futures::executor::block_on;
use futures::future::{Either, join_all, select};
use schemas::workshop_capnp::workshop::*;
use transport::capnp::{Error, ErrorKind};
use transport::{Config, Server as Clients, capnp_rpc, rpc};

const PATIENCE: Duration = Duration::from_secs(60);
/// More than a ring holds.
const LARGE: usize = 1 << 20;

/// A workshop, so deep in others.
#[derive(Default)]
struct Workshop {
    depth: u32,
    counted: Cell<u64>,
    pieces: Cell<(u64, u64)>,
}

impl Server for Workshop {
    async fn echo(self: Rc<Self>, params: EchoParams, mut results: EchoResults) -> Result<(), Error> {
        results.get().set_payload(params.get()?.get_payload()?);
        Ok(())
    }

    async fn inner(self: Rc<Self>, _: InnerParams, mut results: InnerResults) -> Result<(), Error> {
        let inner = Self { depth: self.depth + 1, ..Self::default() };
        results.get().set_workshop(capnp_rpc::new_client(inner));
        Ok(())
    }

    async fn depth(self: Rc<Self>, _: DepthParams, mut results: DepthResults) -> Result<(), Error> {
        results.get().set_depth(self.depth);
        Ok(())
    }

    async fn fail(self: Rc<Self>, params: FailParams, _: FailResults) -> Result<(), Error> {
        let params = params.get()?;
        let kinds =
            [ErrorKind::Failed, ErrorKind::Overloaded, ErrorKind::Disconnected, ErrorKind::Unimplemented];
        Err(Error { kind: kinds[usize::from(params.get_kind())], extra: params.get_reason()?.to_string()? })
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

    async fn piece(self: Rc<Self>, params: PieceParams) -> Result<(), Error> {
        let (count, bytes) = self.pieces.get();
        self.pieces.set((count + 1, bytes + params.get()?.get_payload()?.len() as u64));
        Ok(())
    }

    async fn pieces(self: Rc<Self>, _: PiecesParams, mut results: PiecesResults) -> Result<(), Error> {
        let (count, bytes) = self.pieces.take();
        results.get().set_count(count);
        results.get().set_bytes(bytes);
        Ok(())
    }

    async fn count(self: Rc<Self>, _: CountParams, mut results: CountResults) -> Result<(), Error> {
        results.get().set_number(self.counted.replace(self.counted.get() + 1));
        Ok(())
    }

    async fn send(self: Rc<Self>, params: SendParams, _: SendResults) -> Result<(), Error> {
        let params = params.get()?;
        let (to, payload) = (params.get_workshop()?, vec![7; params.get_size() as usize]);
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

fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + size) as u8).collect()
}

async fn call_all(workshop: Client) -> Result<(), Error> {
    // Pipelined: each call is on what the one before will return.
    let mut inner = workshop.clone();
    for _ in 0..3 {
        inner = inner.inner_request().send().pipeline.get_workshop();
    }
    assert_eq!(inner.depth_request().send().promise.await?.get()?.get_depth(), 3);

    for size in [0, 5, 240, 241, 4000, LARGE] {
        let mut request = workshop.echo_request();
        request.get().set_payload(&payload(size));
        assert_eq!(request.send().promise.await?.get()?.get_payload()?, payload(size), "{size} bytes");
    }

    // The server calls back.
    let own: Client = capnp_rpc::new_client(Workshop::default());
    let mut request = workshop.through_request();
    request.get().set_workshop(own.clone());
    request.get().set_payload(&payload(100_000));
    assert_eq!(request.send().promise.await?.get()?.get_payload()?, payload(100_000));

    for (kind, wanted) in [(0, ErrorKind::Failed), (1, ErrorKind::Overloaded), (3, ErrorKind::Unimplemented)]
    {
        let mut request = workshop.fail_request();
        request.get().set_kind(kind);
        request.get().set_reason("out of wood");
        let error = request.send().promise.await.map(drop).unwrap_err();
        assert!(error.kind == wanted && error.extra.contains("out of wood"), "{error}");
    }

    // Streams, there and back.
    for _ in 0..200 {
        let mut request = workshop.piece_request();
        request.get().set_payload(&payload(1000));
        request.send().await?;
    }
    let counted = workshop.pieces_request().send().promise.await?;
    assert_eq!((counted.get()?.get_count(), counted.get()?.get_bytes()), (200, 200_000));
    let mut request = workshop.send_request();
    request.get().set_workshop(own.clone());
    request.get().set_count(200);
    request.get().set_size(1000);
    request.send().promise.await?;
    let counted = own.pieces_request().send().promise.await?;
    assert_eq!((counted.get()?.get_count(), counted.get()?.get_bytes()), (200, 200_000));

    // Many at once, in order.
    let calls = (0..500).map(|_| workshop.count_request().send().promise);
    for (number, answer) in (0..).zip(join_all(calls).await) {
        assert_eq!(answer?.get()?.get_number(), number);
    }
    Ok(())
}

fn call(name: &str, last: bool) {
    block_on(async {
        let (workshop, system) = rpc::connect::<Client>(name, PATIENCE).await.unwrap();
        let disconnector = system.get_disconnector();
        let calls = async {
            call_all(workshop.clone()).await.unwrap();
            if last {
                let error = workshop.die_request().send().promise.await.map(drop).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Disconnected, "{error}");
            } else {
                disconnector.await.unwrap();
            }
        };
        match select(Box::pin(calls), system).await {
            Either::Left(((), _)) => {}
            Either::Right((ended, calls)) => {
                ended.unwrap();
                calls.await;
            }
        }
    });
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // For ever: `die` ends it.
        ["serve", name] => {
            let server = Clients::bind(name, &Config::new().slot_size(256).slot_count(16)).unwrap();
            let fresh = |_: &_| capnp_rpc::new_client::<Client, _>(Workshop::default());
            block_on(rpc::serve_with(server, fresh, |error| panic!("{error}")).map(drop));
        }
        ["call", name] => {
            call(name, false);
            call(name, true);
            println!("rpc: ok");
        }
        _ => panic!("rpc serve|call NAME"),
    }
}
