//! Hostile memory under typed messages: what is not one value, and what is no Cap'n Proto.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod memory;

use capnproto_shm_transport::{Channel, Config, OpenError, RecvError, SegmentError};
use common::*;
use memory::*;

#[test]
fn a_typed_message_of_another_length() {
    for value in nasty(8).into_iter().map(|value| value as u32).filter(|&value| value != 8) {
        for copied in [false, true] {
            let name = named("typed");
            let mut a = Channel::<u64>::create(&name, &Config::new().slot_count(SLOTS)).unwrap();
            let mut b = Channel::<u64>::open(&name, LONG).unwrap();
            let memory = Memory::of(&name.a2b());
            a.send(&1).unwrap();
            a.send(&2).unwrap();
            memory.length(1, value);
            assert_eq!(*b.recv().unwrap(), 1);
            let mut next = || if copied { b.recv_copied() } else { b.recv().map(|value| *value) };
            let first = match next() {
                Err(RecvError::Corrupt(lie)) => lie,
                other => panic!("{other:?} for {value} bytes"),
            };
            memory.length(1, 8);
            a.send(&3).unwrap();
            assert!(matches!(next(), Err(RecvError::Corrupt(lie)) if lie == first));
            assert!(matches!(b.try_recv(), Err(RecvError::Corrupt(_))));
            assert!(matches!(b.drain(9, |_| ()), Err(RecvError::Corrupt(_))));
            b.send(&4).unwrap();
            assert_eq!(*a.recv().unwrap(), 4);
        }
    }
}

/// Both headers vouch for a slot size that is not the type's.
#[test]
fn a_type_that_does_not_fill_its_slot() {
    let name = named("slot");
    let a = Channel::<u64>::create(&name, &Config::new().slot_count(1024)).unwrap();
    // 7 bytes also lie 8 apart: nothing else in the header contradicts it.
    for path in [name.a2b(), name.b2a()] {
        Memory::of(&path).put_half(40, 7);
    }
    match Channel::<u64>::open(&name, LONG) {
        Err(OpenError::Segment { source: SegmentError::Geometry, .. }) => {}
        other => panic!("{other:?}"),
    }
    drop(a);
}

#[cfg(feature = "capnp")]
mod messages {
    use std::time::Duration;

    use capnp::message::{Builder, ReaderOptions};
    use capnp::schema_capnp::node;
    use capnproto_shm_transport::CapnpChannel;

    use super::*;

    const SHORT: Duration = Duration::from_millis(3);

    type Ends = (CapnpChannel<node::Owned>, CapnpChannel<node::Owned>, Memory, Name);

    fn channel(slot_size: usize) -> Ends {
        let name = named("frames");
        let config = Config::new().slot_size(slot_size).slot_count(SLOTS);
        let a = CapnpChannel::create(&name, &config).unwrap();
        let mut b = CapnpChannel::open(&name, LONG).unwrap();
        b.reader_options(ReaderOptions { traversal_limit_in_words: Some(1 << 14), nesting_limit: 32 });
        (a, b, Memory::of(&name.a2b()), name)
    }

    /// Everything of a message, or the first error.
    fn all_of(node: node::Reader<'_>) -> capnp::Result<()> {
        node.total_size()?;
        Builder::new_default().set_root(node)?;
        let _ = node.get_display_name()?.to_str();
        for nested in node.get_nested_nodes()? {
            let _ = nested.get_name()?.to_str();
        }
        Ok(())
    }

    fn build(mut node: node::Builder<'_>) -> capnp::Result<()> {
        node.set_display_name("a name");
        node.reborrow().init_nested_nodes(2).get(1).set_name("nested");
        Ok(())
    }

    /// Each word of a good frame replaced by each bad one, as the length too: an error of capnp's or a
    /// message, in place and from the copy, and the channel goes on.
    #[test]
    fn every_word_of_a_frame() {
        let (mut a, mut b, memory, _name) = channel(256);
        let words = {
            a.send(build).unwrap();
            b.recv().unwrap().frame_bytes().len() / 8
        };
        let mut slot = 1;
        let (mut good, mut bad) = (0, 0);
        for word in 0..words {
            let pointers = (0..8).map(|kind| 1 | kind << 32 | 0x1fff_ffff << 35);
            let far = [2, 6, 2 | 1 << 32, 6 | 0xffff_ffff << 32, 0xffff_ffff, 0xffff_fffc, 1 << 48];
            for value in nasty(1).into_iter().chain(pointers).chain(far) {
                for copied in [false, true] {
                    a.send(build).unwrap();
                    memory.put(at::SLOTS + slot * 256 + word * 8, value);
                    slot = (slot + 1) % SLOTS;
                    let result = if copied {
                        b.recv_copied().unwrap().get().and_then(all_of)
                    } else {
                        b.recv().unwrap().get().and_then(all_of)
                    };
                    *(if result.is_ok() { &mut good } else { &mut bad }) += 1;
                }
            }
        }
        assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
        a.send(build).unwrap();
        b.recv_copied().unwrap().get().and_then(all_of).unwrap();
    }

    #[test]
    fn every_length_of_a_frame() {
        for value in nasty(8).into_iter().map(|value| value as u32) {
            let (mut a, mut b, memory, _name) = channel(256);
            a.send(build).unwrap();
            memory.length(0, value);
            match b.recv_copied_timeout(SHORT) {
                Ok(message) => {
                    assert_eq!(message.frame_bytes().len(), value as usize);
                    assert_eq!(message.get().and_then(all_of).is_ok(), value >= 200);
                }
                Err(RecvError::Corrupt(lie)) => {
                    assert!(value > 256);
                    assert!(matches!(b.try_recv_copied(), Err(RecvError::Corrupt(l)) if l == lie));
                    assert!(matches!(b.recv(), Err(RecvError::Corrupt(l)) if l == lie));
                }
                other => panic!("{other:?} for a length of {value}"),
            }
            b.send(build).unwrap();
            a.recv_copied().unwrap().get().and_then(all_of).unwrap();
        }
    }

    /// Only the copy counts: the peer's later writes do not change the message.
    #[test]
    fn a_copy_does_not_change() {
        let (mut a, mut b, memory, _name) = channel(256);
        a.send(build).unwrap();
        let message = b.recv_copied().unwrap();
        let node = message.get().unwrap();
        for word in 0..256 / 8 {
            memory.put(at::SLOTS + word * 8, u64::MAX);
        }
        assert_eq!(node.get_display_name().unwrap(), "a name");
        assert_eq!(node.get_nested_nodes().unwrap().get(1).get_name().unwrap(), "nested");
    }
}
