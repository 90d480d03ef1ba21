use bytemuck::{Pod, Zeroable};
use capnproto_shm_transport::{Channel, Config};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Nothing;

fn main() {
    let _ = Channel::<u64, Nothing>::create("zero-sized", &Config::new());
}
