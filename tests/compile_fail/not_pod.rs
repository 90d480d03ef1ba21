use capnproto_shm_transport::{Channel, Config};

#[derive(Clone, Copy)]
#[repr(C)]
struct Order {
    id: u64,
    limit: Option<u64>,
}

fn main() {
    let _ = Channel::<Order>::create("not-pod", &Config::new());
}
