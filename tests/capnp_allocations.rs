//! In steady state a message costs no allocation, built in place, read in place or copied out.
#![cfg(feature = "capnp")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use capnp::schema_capnp::node;
use capnproto_shm_transport::{CapnpChannel, Config};
use common::{LONG, unique};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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

/// Allocations of this thread during `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn build(mut node: node::Builder<'_>) -> capnp::Result<()> {
    node.set_id(7);
    node.set_display_name("a name of some length");
    let mut nested = node.init_nested_nodes(3);
    for at in 0..3 {
        nested.reborrow().get(at).set_name("nested");
    }
    Ok(())
}

fn look(node: node::Reader<'_>) {
    assert_eq!(node.get_id(), 7);
    assert_eq!(node.get_nested_nodes().unwrap().iter().filter(|n| n.has_name()).count(), 3);
}

#[test]
fn a_message_that_fits_costs_none() {
    let name = unique("allocations");
    let config = Config::new().slot_size(512).slot_count(8);
    let mut a = CapnpChannel::<node::Owned>::create(&name, &config).unwrap();
    let mut b = CapnpChannel::<node::Owned>::open(&name, LONG).unwrap();
    let mut around = || {
        a.send(build).unwrap();
        look(b.recv().unwrap().get().unwrap());

        let mut message = a.reserve().unwrap();
        build(message.init_root()).unwrap();
        message.commit().unwrap();
        look(b.recv_copied().unwrap().get().unwrap());

        let mut message = a.reserve_with_capacity(1500).unwrap();
        build(message.init_root()).unwrap();
        message.commit().unwrap();
        assert_eq!(b.drain(8, |message| look(message.get().unwrap())).unwrap(), 1);

        a.send(build).unwrap();
        let message = b.recv().unwrap();
        let _ = a.send_reader(message.get().unwrap());
        drop(message);
        look(b.recv().unwrap().get().unwrap());

        let mut batch = a.batch();
        batch.try_send(build).unwrap();
        batch.try_send(build).unwrap();
        assert_eq!(batch.publish(), 2);
        let mut window = b.window();
        window.wait_for(2).unwrap();
        for held in 0..2 {
            look(window.get(held).unwrap().get().unwrap());
        }
        window.release(1);
        a.send(build).unwrap();
        window.wait_for(2).unwrap();
        drop(window);
        a.send(build).unwrap();
        look(b.recv_latest().unwrap().get().unwrap());
    };
    // The buffer for copies and the list of a window grow once.
    around();
    assert_eq!(allocations(|| (0..100).for_each(|_| around())), 0);
}

#[test]
fn a_message_of_several_segments_costs_its_receiver_none() {
    let name = unique("segments");
    let config = Config::new().slot_size(64).slot_count(64);
    let mut a = CapnpChannel::<node::Owned>::create(&name, &config).unwrap();
    let mut b = CapnpChannel::<node::Owned>::open(&name, LONG).unwrap();
    for round in 0..20 {
        assert!(allocations(|| a.send(build).unwrap()) > 0, "it did not spill");
        let received = allocations(|| look(b.recv().unwrap().get().unwrap()));
        assert!(round == 0 || received == 0, "{received} allocations");
    }
}
