//! A call over a channel allocates no more than one over capnp-rpc's twoparty.
#![cfg(all(feature = "rpc", feature = "tokio", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod workshop;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use capnproto_shm_transport::capnp::message::ReaderOptions;
use capnproto_shm_transport::capnp_rpc::rpc_twoparty_capnp::Side;
use capnproto_shm_transport::capnp_rpc::{RpcSystem, twoparty};
use capnproto_shm_transport::{Config, Transport, rpc};
use common::*;
use futures::FutureExt;
use schemas::workshop_capnp::workshop::Client;
use workshop::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as u64);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CALLS: u64 = 1000;

/// Allocations of both sides for each call, and their bytes, with both in this thread.
async fn allocations(client: &Client, payload: &[u8]) -> (f64, f64) {
    for _ in 0..100 {
        echo(client, payload).await.unwrap();
    }
    let before = (ALLOCATIONS.get(), BYTES.get());
    for _ in 0..CALLS {
        echo(client, payload).await.unwrap();
    }
    let each = |now: u64, before: u64| (now - before) as f64 / CALLS as f64;
    (each(ALLOCATIONS.get(), before.0), each(BYTES.get(), before.1))
}

#[test]
fn a_call_allocates_no_more_than_over_twoparty() {
    run(&EXECUTORS[0], |spawn| async move {
        let name = named("rpc-allocations");
        let a = Transport::create(&name, &Config::new()).unwrap();
        let b = Transport::open(&name, LONG).unwrap();
        spawn(Box::pin(rpc::serve_on(b, workshop()).map(drop)));
        let (ours, system) = rpc::client::<Client>(a);
        spawn(Box::pin(system.map(drop)));

        let (client, server) = tokio::net::UnixStream::pair().unwrap();
        let network = |socket, side| {
            let (read, write) = futures::io::AsyncReadExt::split(Compat(socket));
            Box::new(twoparty::VatNetwork::new(read, write, side, ReaderOptions::new()))
        };
        let bootstrap = workshop().client;
        spawn(Box::pin(RpcSystem::new(network(server, Side::Server), Some(bootstrap)).map(drop)));
        let mut system = RpcSystem::new(network(client, Side::Client), None);
        let theirs: Client = system.bootstrap(Side::Server);
        spawn(Box::pin(system.map(drop)));

        for len in [8, 500, 100_000] {
            let payload = pattern(1, len);
            let (ours, theirs) = (allocations(&ours, &payload).await, allocations(&theirs, &payload).await);
            println!("{len} bytes: {ours:?} allocations and bytes a call, {theirs:?} over twoparty");
            assert!(
                ours.0 <= theirs.0,
                "{len} bytes: {} allocations a call, {} over twoparty",
                ours.0,
                theirs.0
            );
        }
    });
}

/// A tokio socket with the traits of futures.
struct Compat(tokio::net::UnixStream);

impl futures::io::AsyncRead for Compat {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        out: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let mut buffer = tokio::io::ReadBuf::new(out);
        let read = tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut self.0), cx, &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }
}

impl futures::io::AsyncWrite for Compat {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        tokio::io::AsyncWrite::poll_write(std::pin::Pin::new(&mut self.0), cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        tokio::io::AsyncWrite::poll_flush(std::pin::Pin::new(&mut self.0), cx)
    }

    fn poll_close(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(std::pin::Pin::new(&mut self.0), cx)
    }
}
