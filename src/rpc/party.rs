//! The two parties, in a line each.

use capnp::capability::FromClientHook;
use capnp::message::ReaderOptions;
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;

use super::network::VatNetwork;
use crate::transport::Transport;

/// The peer's bootstrap capability, as a client of it, and what keeps the connection going: spawn the second as a local
/// task, or poll it beside the calls. It is ready when the connection has ended.
pub fn client<C: FromClientHook>(transport: Transport) -> (C, RpcSystem<Side>) {
    let network = VatNetwork::new(transport, Side::Client, ReaderOptions::new());
    let mut system = RpcSystem::new(Box::new(network), None);
    (system.bootstrap(Side::Server), system)
}

/// Serves `bootstrap` to the peer: spawn it as a local task, or await it. It is ready when the connection has ended.
pub fn serve_on(transport: Transport, bootstrap: impl FromClientHook) -> RpcSystem<Side> {
    let network = VatNetwork::new(transport, Side::Server, ReaderOptions::new());
    let bootstrap = capnp::capability::Client::new(bootstrap.into_client_hook());
    RpcSystem::new(Box::new(network), Some(bootstrap))
}
