//! Cap'n Proto RPC over a channel, for capnp-rpc (feature `rpc`).
//!
//! [`VatNetwork`] takes the place of `capnp_rpc::twoparty::VatNetwork`; [`connect`] and [`serve`] make it a line on each
//! side, [`client`] and [`serve_on`] over a channel that is there. All that runs over twoparty runs over this: pipelining,
//! capabilities both ways, exceptions, cancellation, streaming, messages of any size. It runs on any executor that capnp-rpc runs on: tokio's `LocalSet` (feature `tokio`: one wake, not
//! two), futures' `LocalPool`, smol's `LocalExecutor`.
//!
//! ```
//! use capnproto_shm_transport::capnp_rpc::rpc_twoparty_capnp::Side;
//! use capnproto_shm_transport::{Config, Transport, capnp, rpc};
//! use futures::FutureExt;
//!
//! # let name = format!("doc-rpc-{}", std::process::id());
//! # let bootstrap: capnp::capability::Client = capnproto_shm_transport::capnp_rpc::new_broken_cap(
//! #     capnp::Error::unimplemented("an example has no methods".to_owned()));
//! let a = Transport::create(&name, &Config::new())?;
//! let b = Transport::open(&name, std::time::Duration::from_secs(1))?;
//!
//! // In one process: serve a capability, made by `capnp_rpc::new_client`, until the other side goes.
//! let server = rpc::serve_on(a, bootstrap);
//!
//! // In the other: a client of it. The system is spawned as a local task, or polled beside the calls.
//! let (client, system) = rpc::client::<capnp::capability::Client>(b);
//! let disconnector = system.get_disconnector();
//! futures::executor::block_on(async {
//!     let calls = async {
//!         let call = client.new_call::<capnp::any_pointer::Owned, capnp::any_pointer::Owned>(1, 0, None);
//!         let error = call.send().promise.await.map(drop).unwrap_err();
//!         assert!(error.extra.contains("an example has no methods"));
//!         disconnector.await
//!     };
//!     let (called, served, ended) = futures::join!(calls, server, system);
//!     called.and(served).and(ended)
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Copies and memory
//!
//! A message goes out with one copy, straight into the ring, if it fits there now and none waits before it. Else it waits in
//! a queue, and `RpcSystem` sends it, part by part, as the other side makes room. A message that comes in is copied once, into
//! memory that is used again: at most 64 buffers and 4 MiB are kept. It is copied by atomic loads, so the other side need not
//! be trusted to leave it alone.
//!
//! # Backpressure
//!
//! capnp-rpc sends a call when it is made and does not wait for room, so the queue holds what the caller has in flight: a call
//! that nobody has answered yet. Bound that, or use streaming methods (`-> stream`), whose callers wait when 64 KiB are on
//! their way. A *server* takes in no more calls while more than 4 MiB of its own messages wait: a client that calls and does
//! not read cannot fill the server's memory. A client always reads, so both go on. A message larger than the reader options
//! allow to traverse is refused when its first bytes come.
//!
//! # Ends
//!
//! | what happened | calls in flight and later ones | the `RpcSystem` |
//! |---|---|---|
//! | the peer disconnected or dropped its system | `Disconnected` | `Ok` |
//! | the peer died, or was superseded | `Disconnected` | `Ok` |
//! | the peer sent an invalid message, or is corrupt | `Failed` | `Err` |
//!
//! [`Disconnector`](capnp_rpc::Disconnector) ends a connection in order: everything is sent, then the channel closes. The
//! channel is free as soon as the connection has ended, although clients of it may live on. An
//! [`Interrupter`](crate::Interrupter) of the channel ends the connection with `Failed`. As over twoparty, a call on a client
//! whose `RpcSystem` nobody polls never returns.

mod fault;
mod frame;
mod inbox;
mod network;
mod outbox;
mod party;

pub use network::VatNetwork;
pub use party::{client, connect, serve, serve_on, serve_with};
