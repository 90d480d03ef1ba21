//! Random trees of a recursive schema, and random bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::thread;

use capnp::message::{Builder, ReaderOptions};
use capnproto_shm_transport::{CapnpChannel, Config, Transport};
use common::{LONG, unique};
use proptest::collection::vec;
use proptest::prelude::*;
use schemas::tree_capnp::tree;

#[derive(Clone, Debug, PartialEq)]
struct Tree {
    label: String,
    bytes: Vec<u8>,
    numbers: Vec<i32>,
    flags: Vec<bool>,
    colour: u16,
    weight: f64,
    value: Value,
    children: Vec<Tree>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Nothing,
    Count(i64),
    Twin(Box<Tree>),
}

prop_compose! {
    fn node(values: BoxedStrategy<Value>, children: BoxedStrategy<Vec<Tree>>)(
        label in "\\PC{0,20}",
        bytes in vec(any::<u8>(), 0..100),
        numbers in vec(any::<i32>(), 0..10),
        flags in vec(any::<bool>(), 0..20),
        colour in 0_u16..3,
        weight in -1e300..1e300,
        value in values,
        children in children,
    ) -> Tree {
        Tree { label, bytes, numbers, flags, colour, weight, value, children }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let value = prop_oneof![Just(Value::Nothing), any::<i64>().prop_map(Value::Count)];
    node(value.boxed(), Just(Vec::new()).boxed()).prop_recursive(5, 40, 6, |inner| {
        let twin = inner.clone().prop_map(|tree| Value::Twin(Box::new(tree)));
        node(prop_oneof![Just(Value::Nothing), twin].boxed(), vec(inner, 0..6).boxed())
    })
}

fn build(tree: &Tree, mut to: tree::Builder<'_>) {
    to.set_label(&tree.label);
    to.set_bytes(&tree.bytes);
    let mut children = to.reborrow().init_children(tree.children.len() as u32);
    for (at, child) in tree.children.iter().enumerate() {
        build(child, children.reborrow().get(at as u32));
    }
    let mut numbers = to.reborrow().init_numbers(tree.numbers.len() as u32);
    tree.numbers.iter().enumerate().for_each(|(at, &number)| numbers.set(at as u32, number));
    let mut flags = to.reborrow().init_flags(tree.flags.len() as u32);
    tree.flags.iter().enumerate().for_each(|(at, &flag)| flags.set(at as u32, flag));
    to.set_colour(tree.colour.try_into().unwrap());
    to.set_weight(tree.weight);
    match &tree.value {
        Value::Nothing => to.set_nothing(()),
        Value::Count(count) => to.set_count(*count),
        Value::Twin(twin) => build(twin, to.init_twin()),
    }
}

fn read(from: tree::Reader<'_>) -> capnp::Result<Tree> {
    let mut children = Vec::new();
    for child in from.get_children()? {
        children.push(read(child)?);
    }
    Ok(Tree {
        label: from.get_label()?.to_string()?,
        bytes: from.get_bytes()?.to_vec(),
        numbers: from.get_numbers()?.iter().collect(),
        flags: from.get_flags()?.iter().collect(),
        colour: from.get_colour()? as u16,
        weight: from.get_weight(),
        value: match from.which()? {
            tree::Nothing(()) => Value::Nothing,
            tree::Count(count) => Value::Count(count),
            tree::Twin(twin) => Value::Twin(Box::new(read(twin?)?)),
        },
        children,
    })
}

fn frame_of(tree: &Tree) -> Vec<u8> {
    let mut message = Builder::new_default();
    build(tree, message.init_root());
    capnp::serialize::write_message_to_words(&message)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn trees_arrive_as_they_were_built(trees in vec(trees(), 1..4), slot_size in 16_usize..3000) {
        let name = unique("trees");
        let frames: Vec<usize> = trees.iter().map(|tree| frame_of(tree).len()).collect();
        // Spilling costs a pointer here and there.
        let slots = (2 * frames.iter().max().unwrap()).div_ceil(slot_size).next_power_of_two();
        let config = Config::new().slot_size(slot_size).slot_count(slots);
        let mut a = CapnpChannel::<tree::Owned>::create(&name, &config).unwrap();
        let mut b = CapnpChannel::<tree::Owned>::open(&name, LONG).unwrap();
        let received = thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let mut received = Vec::new();
                for _ in &trees {
                    received.push(read(b.recv().unwrap().get().unwrap()).unwrap());
                    received.push(read(b.recv_copied().unwrap().get().unwrap()).unwrap());
                    received.push(read(b.recv().unwrap().get().unwrap()).unwrap());
                }
                received
            });
            for (tree, &bytes) in trees.iter().zip(&frames) {
                a.send(|root| {
                    build(tree, root);
                    Ok(())
                }).unwrap();
                let mut message = a.reserve_with_capacity(bytes).unwrap();
                build(tree, message.init_root());
                message.commit().unwrap();
                let mut copy = Builder::new_default();
                build(tree, copy.init_root());
                a.send_reader(copy.get_root_as_reader().unwrap()).unwrap();
            }
            receiver.join().unwrap()
        });
        for (tree, received) in trees.iter().zip(received.chunks(3)) {
            prop_assert!(received.iter().all(|copy| copy == tree));
        }
    }

    #[test]
    fn damaged_messages_are_errors_or_other_messages(
        tree in trees(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut frame = frame_of(&tree);
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        survive(&frame);
        survive(&frame[..cut.index(frame.len())]);
    }

    #[test]
    fn random_bytes_are_errors_or_messages(mut frame in vec(any::<u8>(), 0..400), honest in any::<bool>()) {
        if honest && frame.len() >= 16 {
            // A table that is true, so that the rest is looked at.
            let words = (frame.len() / 8 - 1) as u32;
            frame[..4].fill(0);
            frame[4..8].copy_from_slice(&words.to_le_bytes());
        }
        survive(&frame);
    }
}

/// Receives a frame that may be anything, both ways, and then one that is whole.
fn survive(frame: &[u8]) {
    let name = unique("damaged");
    let mut a =
        CapnpChannel::<tree::Owned>::create(&name, &Config::new().slot_size(1024).slot_count(64)).unwrap();
    a.reader_options(ReaderOptions { traversal_limit_in_words: Some(1 << 14), nesting_limit: 16 });
    let mut b = Transport::open(&name, LONG).unwrap();
    for message in [frame, frame, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut span = b.reserve_span(message.len()).unwrap();
        span[..message.len()].copy_from_slice(message);
        span.commit(message.len());
    }
    let in_place = a.recv().unwrap().get().and_then(read);
    let copied = a.recv_copied().unwrap().get().and_then(read);
    assert_eq!(format!("{in_place:?}"), format!("{copied:?}"));
    assert_eq!(read(a.recv().unwrap().get().unwrap()).unwrap().weight, 1.5);
}
