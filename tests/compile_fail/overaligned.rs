use bytemuck::{Pod, Zeroable};
use capnproto_shm_transport::Channel;
use std::time::Duration;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(128))]
struct Wide([u8; 128]);

fn main() {
    let _ = Channel::<Wide>::open("overaligned", Duration::ZERO);
}
