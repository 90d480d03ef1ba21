use std::sync::Arc;

use capnproto_shm_transport::{Config, Transport};

fn main() {
    let transport = Transport::create("two-tasks", &Config::new()).unwrap();
    let (_, receiver) = transport.split();
    let receiver = Arc::new(receiver);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for _ in 0..2 {
        let receiver = Arc::clone(&receiver);
        runtime.spawn(async move { drop(receiver.recv_async().await) });
    }
}
