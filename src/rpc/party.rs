//! The two parties, in a line each.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use capnp::capability::{self, FromClientHook};
use capnp::message::ReaderOptions;
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::network::VatNetwork;
use crate::config::Config;
use crate::error::{AcceptError, OpenError};
use crate::poll::Pause;
use crate::server::Server;
use crate::transport::Transport;

/// How long a server does not accept after it could not.
const REST: Duration = Duration::from_millis(50);

/// The peer's bootstrap capability, as a client of it, and the future that drives the connection: spawn the second as a local
/// task, or poll it beside the calls. It is ready when the connection has ended.
pub fn client<C: FromClientHook>(transport: Transport) -> (C, RpcSystem<Side>) {
    let network = VatNetwork::new(transport, Side::Client, ReaderOptions::new());
    let mut system = RpcSystem::new(Box::new(network), None);
    (system.bootstrap(Side::Server), system)
}

/// Connects to the server `name`, waiting up to `wait` for it, and gives what [`client`] gives.
///
/// # Errors
///
/// As [`Transport::connect`].
pub async fn connect<C: FromClientHook>(
    name: &str,
    wait: Duration,
) -> Result<(C, RpcSystem<Side>), OpenError> {
    Ok(client(Transport::connect_async(name, wait, &Config::new()).await?))
}

/// Serves `bootstrap` to the peer: spawn it as a local task, or await it. It is ready when the connection has ended.
pub fn serve_on(transport: Transport, bootstrap: impl FromClientHook) -> RpcSystem<Side> {
    let network = VatNetwork::new(transport, Side::Server, ReaderOptions::new());
    let bootstrap = capability::Client::new(bootstrap.into_client_hook());
    RpcSystem::new(Box::new(network), Some(bootstrap))
}

/// Serves `bootstrap` to every client of a server, for ever: drop it to stop. All clients have the same capability. A client
/// that cannot be accepted is refused and learns why; only [`serve_with`] tells the server's program.
pub async fn serve(server: Server, bootstrap: impl FromClientHook) -> Infallible {
    let bootstrap = bootstrap.into_client_hook();
    serve_with(server, |_| capability::Client::new(bootstrap.add_ref()), |_| ()).await
}

/// Serves every client of a server the capability that `bootstrap` makes for it, for ever: drop it to stop.
///
/// `bootstrap` may ask who the client is ([`Transport::peer`]). A client that fails ends alone. One that cannot be
/// accepted is refused and learns why, and `refused` is told, with no descriptor left for example; the server goes on.
pub async fn serve_with<C: FromClientHook>(
    mut server: Server,
    mut bootstrap: impl FnMut(&Transport) -> C,
    mut refused: impl FnMut(AcceptError),
) -> Infallible {
    let mut clients = FuturesUnordered::new();
    loop {
        match beside(&mut clients, server.accept_async()).await {
            Ok(transport) => {
                let bootstrap = bootstrap(&transport);
                clients.push(serve_on(transport, bootstrap));
            }
            Err(error) => {
                refused(error);
                // The next try may fail as soon.
                beside(&mut clients, Pause::of(REST)).await;
            }
        }
    }
}

/// Does `work` while clients are served. The error of one client is told to that client.
async fn beside<T>(clients: &mut FuturesUnordered<RpcSystem<Side>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = clients.poll_next_unpin(cx) {}
        work.as_mut().poll(cx)
    })
    .await
}
