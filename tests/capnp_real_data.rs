//! Messages that another program wrote: the requests in `schema/`, as the `capnp` tool made them.
#![cfg(feature = "capnp")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::thread;

use capnp::message::{Reader, ReaderOptions};
use capnp::schema_capnp::code_generator_request;
use capnproto_shm_transport::{CapnpChannel, Config};
use common::{LONG, unique};

type Request = code_generator_request::Owned;
type Requests = CapnpChannel<Request>;

const REQUESTS: [&[u8]; 2] =
    [include_bytes!("../schema/schemas.cgr"), include_bytes!("../schema/order_v1.cgr")];

/// A message's canonical form, in which equal messages are equal words.
fn canonical(request: code_generator_request::Reader<'_>) -> Vec<u8> {
    // It must fit one segment.
    let segment = capnp::message::HeapAllocator::new().first_segment_words(1 << 14);
    let mut message = capnp::message::Builder::new(segment);
    message.set_root_canonical(request).unwrap();
    message.get_segments_for_output()[0].to_vec()
}

fn parse(frame: &[u8]) -> Reader<impl capnp::message::ReaderSegments> {
    capnp::serialize::read_message(frame, ReaderOptions::new()).unwrap()
}

/// Sends a request in each of the ways there are, the first one from the slot `offset` on.
fn from_offset(offset: usize, config: &Config, frame: &[u8]) {
    let name = unique("real");
    let mut a = Requests::create(&name, config).unwrap();
    let mut b = Requests::open(&name, LONG).unwrap();
    let original = parse(frame);
    let request: code_generator_request::Reader<'_> = original.get_root().unwrap();
    let expected = canonical(request);
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            for _ in 0..offset {
                assert!(!b.recv().unwrap().get().unwrap().has_nodes());
            }
            for _ in 0..2 {
                assert!(canonical(b.recv().unwrap().get().unwrap()) == expected);
            }
            assert!(canonical(b.recv_copied().unwrap().get().unwrap()) == expected);
        });
        for _ in 0..offset {
            a.send(|_| Ok(())).unwrap();
        }
        let mut message = a.reserve_with_capacity(frame.len()).unwrap();
        message.set_root(request).unwrap();
        message.commit().unwrap();
        a.send_reader(request).unwrap();
        a.send_reader(request).unwrap();
        receiver.join().unwrap();
    });
}

#[test]
fn requests_pass_whole_at_every_offset_of_every_ring() {
    for slot_size in [64, 192, 1024, 4096, 65536, 1 << 20] {
        for frame in REQUESTS {
            let slot_count = (frame.len() + 512).div_ceil(slot_size).next_power_of_two().max(2);
            let config = Config::new().slot_size(slot_size).slot_count(slot_count);
            (0..slot_count).for_each(|offset| from_offset(offset, &config, frame));
        }
    }
}

#[test]
fn frames_pass_byte_for_byte() {
    let name = unique("bytes");
    let mut a = Requests::create(&name, &Config::new().slot_size(1 << 16).slot_count(2)).unwrap();
    let mut b = capnproto_shm_transport::Transport::open(&name, LONG).unwrap();
    for frame in REQUESTS {
        b.send(frame).unwrap();
        let message = a.recv().unwrap();
        assert_eq!(message.frame_bytes(), frame);
        let request = message.get().unwrap();
        assert!(request.get_nodes().unwrap().len() > 1);
        assert!(canonical(request) == canonical(parse(frame).get_root().unwrap()));
    }
}
