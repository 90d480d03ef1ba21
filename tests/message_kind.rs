//! Channels whose kind of message is said at run time: the same identity, and the same checks, as by a type.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use capnproto_shm_transport::{
    Channel, Config, ConfigError, CreateError, MessageKind, OpenError, RecvError, Transport,
};
use common::{LONG, named};

const U64: MessageKind = MessageKind::Pod { size: 8, align: 8 };
const U32: MessageKind = MessageKind::Pod { size: 4, align: 4 };
const STRUCT: MessageKind = MessageKind::Capnp { type_id: 0xadf7_1c3d_74ca_06fc };

fn kinds(sends: MessageKind, receives: MessageKind) -> Config {
    Config::new().slot_count(4).sends(sends).receives(receives)
}

#[test]
fn a_declared_pod_talks_to_a_typed_channel_from_either_side() {
    let name = named("kind-pod");
    let mut a = Transport::create(&name, &kinds(U64, U32)).unwrap();
    assert_eq!(a.slot_size(), 8, "the slot is the value, whatever the configuration says");
    let mut b = Channel::<u32, u64>::open(&name, LONG).unwrap();
    a.send(&7_u64.to_ne_bytes()).unwrap();
    assert_eq!(b.recv_copied().unwrap(), 7);
    b.send(&9).unwrap();
    assert_eq!(*a.recv().unwrap(), 9_u32.to_ne_bytes());
    drop((a, b));

    let mut a = Channel::<u64, u32>::create(&name, &Config::new()).unwrap();
    let mut b = Transport::open_with(&name, LONG, &kinds(U32, U64)).unwrap();
    a.send(&7).unwrap();
    assert_eq!(*b.recv().unwrap(), 7_u64.to_ne_bytes());
}

#[test]
fn whatever_is_not_one_whole_value_is_corrupt() {
    let name = named("kind-length");
    let mut a = Transport::create(&name, &kinds(U64, U64)).unwrap();
    let mut b = Transport::open_with(&name, LONG, &kinds(U64, U64)).unwrap();
    a.send(b"short").unwrap();
    assert!(matches!(b.recv(), Err(RecvError::Corrupt(_))));
}

#[test]
fn two_sides_of_different_kinds_do_not_meet() {
    let refused = |a: MessageKind, b: MessageKind| {
        let name = named("kind-other");
        let _a = Transport::create(&name, &kinds(a, MessageKind::Bytes)).unwrap();
        let opened = Transport::open_with(&name, LONG, &Config::new().receives(b));
        match opened {
            Err(OpenError::Type { direction: "receiving", .. }) => true,
            Ok(_) => false,
            Err(other) => panic!("{other}"),
        }
    };
    for kind in [U64, U32, STRUCT] {
        for other in
            [U64, U32, STRUCT, MessageKind::Capnp { type_id: 1 }, MessageKind::Pod { size: 8, align: 4 }]
        {
            assert_eq!(refused(kind, other), kind != other, "{kind:?} {other:?}");
        }
        assert!(!refused(kind, MessageKind::Bytes), "a side that says bytes takes any kind");
        assert!(refused(MessageKind::Bytes, kind), "bytes may be anything, so they are not {kind:?}");
    }
}

#[test]
fn a_kind_stays_over_a_reopen() {
    let name = named("kind-reopen");
    let a = Transport::create(&name, &kinds(U64, U64)).unwrap();
    let mut b = Transport::open_with(&name, LONG, &kinds(U64, U64)).unwrap();
    drop(a);
    let a = Transport::create(&name, &kinds(U32, U64)).unwrap();
    assert!(matches!(b.reopen(LONG), Err(OpenError::Type { .. })));
    drop(a);
    let mut a = Transport::create(&name, &kinds(U64, U64)).unwrap();
    b.reopen(LONG).unwrap();
    a.send(b"four").unwrap();
    assert!(matches!(b.recv(), Err(RecvError::Corrupt(_))), "the new half checks lengths as the old one did");
}

#[cfg(target_os = "linux")]
#[test]
fn anonymous_channels_have_kinds_too() {
    let pair = || Transport::pair(&kinds(U64, STRUCT)).unwrap();
    let (_a, fds) = pair();
    assert!(matches!(Channel::<u64>::from_fds(fds, &Config::new()), Err(OpenError::Type { .. })));
    let (_a, fds) = pair();
    Transport::from_fds(fds, &kinds(STRUCT, U64)).unwrap();
}

#[test]
fn what_cannot_be_is_refused() {
    let name = named("kind-refused");
    for (size, align) in [(0, 1), (8, 0), (8, 3), (12, 8), (128, 128), (usize::MAX, 1 << 63)] {
        let created = Transport::create(&name, &kinds(MessageKind::Pod { size, align }, MessageKind::Bytes));
        match created {
            Err(CreateError::Config(ConfigError::Pod { size: said, align: and })) => {
                assert_eq!((said, and), (size, align));
            }
            other => panic!("{size} {align}: {other:?}"),
        }
    }
    let small = kinds(STRUCT, STRUCT).slot_size(8);
    let created = Transport::create(&name, &small);
    assert!(matches!(created, Err(CreateError::Config(ConfigError::SlotSize { asked: 8, least: 16 }))));

    // A type and a configuration that contradict each other: neither is taken silently.
    let created = Channel::<u64>::create(&name, &Config::new().sends(U32));
    assert!(matches!(created, Err(CreateError::Config(ConfigError::Kind { .. }))), "{created:?}");
    let opened = Channel::<u64>::open_with(&name, LONG, &Config::new().receives(STRUCT));
    assert!(matches!(opened, Err(OpenError::Config(ConfigError::Kind { .. }))), "{opened:?}");
    Channel::<u64>::create(&name, &Config::new().sends(U64)).unwrap();
}
