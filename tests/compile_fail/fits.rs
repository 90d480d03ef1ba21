use bytemuck::{Pod, Zeroable};
use capnproto_shm_transport::{Channel, Config};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn main() {
    let name = format!("compile-fits-{}", std::process::id());
    drop(Channel::<Line, u8>::create(&name, &Config::new()));
}
