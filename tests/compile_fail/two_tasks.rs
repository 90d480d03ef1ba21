use capnproto_shm_transport::{Config, Transport};

async fn both(mut transport: Transport) {
    let (_, receiver) = transport.halves();
    let first = receiver.recv_async();
    let second = receiver.recv_async();
    let _ = (first.await, second.await);
}

fn main() {
    let _ = both(Transport::create("two-tasks", &Config::new()).unwrap());
}
