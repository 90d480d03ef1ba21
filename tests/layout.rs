//! The bytes of a segment are what `docs/layout.md` says: a golden image of a fresh one, and the place of
//! every word that changes.

// Elsewhere a segment that is in use cannot be read, or its directory differs.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use capnproto_shm_transport::{Config, PollMode, RecvError, Transport};
use common::*;

const GENERATION: std::ops::Range<usize> = 24..32;
const CREATOR: std::ops::Range<usize> = 52..56;
const CREATED_AT: std::ops::Range<usize> = 168..176;
/// Whether side A passes barriers, and whether its death is marked, depends on the kernel.
const CAPABILITIES_OF_A: std::ops::Range<usize> = 272..276;
const PIDS: std::ops::Range<usize> = 288..296;
const PRODUCER_LIFE: std::ops::Range<usize> = 656..660;
const CONSUMER_LIFE: std::ops::Range<usize> = 784..788;

const POLL_A: usize = 256;
const POLL_B: usize = 264;
const CAPABILITIES_B: usize = 276;
const ATTACHED: usize = 280;
const TAIL: usize = 384;
const BEGUN: usize = 392;
const HEAD: usize = 512;
const PRODUCER_PARKED: usize = 640;
const PRODUCER_END: usize = 644;
const CONSUMER_PARKED: usize = 768;
const CONSUMER_END: usize = 772;
const PRODUCER_COUNTERS: usize = 896;
const CONSUMER_COUNTERS: usize = 1024;
const LENGTHS: usize = 4096;
const SLOTS: usize = 8192;
const SKIP: u64 = 0xffff_ffff;

#[test]
fn child() {
    let die: Role = |args| {
        let mut b = Transport::open(&args[0], LONG).unwrap();
        b.send(b"x").unwrap();
        say("there");
        hold();
    };
    let hold_name: Role = |args| {
        let _a = create(&args[0]);
        say("there");
        hold();
    };
    play(&[("die", die), ("hold", hold_name)]);
}

/// Slots of 100 bytes lie 128 apart.
fn create(name: &str) -> Transport {
    let config = Config::new().slot_size(100).slot_count(8).message_tag("golden/1");
    Transport::create(name, &config.poll(PollMode::Interval(Duration::from_micros(5)))).unwrap()
}

fn file(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn word64(path: &Path, at: usize) -> u64 {
    u64::from_ne_bytes(file(path)[at..at + 8].try_into().unwrap())
}

fn word32(path: &Path, at: usize) -> u64 {
    u32::from_ne_bytes(file(path)[at..at + 4].try_into().unwrap()).into()
}

/// Sixteen bytes a line, without the lines of zeros.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in bytes.chunks(16).enumerate().filter(|(_, bytes)| bytes.iter().any(|&b| b != 0)) {
        write!(text, "{:04x}:", line * 16).unwrap();
        bytes.iter().for_each(|byte| write!(text, " {byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

#[test]
#[cfg(target_endian = "little")]
fn a_fresh_segment_equals_the_golden_image() {
    let name = named("golden");
    let _a = create(&name);
    let mut generations = Vec::new();
    for (path, golden) in
        [(name.a2b(), include_str!("golden/a2b.hex")), (name.b2a(), include_str!("golden/b2a.hex"))]
    {
        let mut bytes = file(&path);
        assert_eq!(bytes.len(), SLOTS + 4096);
        assert_eq!(word32(&path, CREATOR.start), std::process::id().into());
        generations.push(bytes[GENERATION].to_vec());
        for masked in [GENERATION, CREATOR, CREATED_AT, CAPABILITIES_OF_A, PIDS, PRODUCER_LIFE, CONSUMER_LIFE]
        {
            bytes[masked].fill(0);
        }
        assert_eq!(dump(&bytes[..LENGTHS]), golden, "the layout changed: then so must its version");
        assert!(bytes[LENGTHS..].iter().all(|&byte| byte == 0), "lengths and slots begin as zeros");
    }
    assert_eq!(generations[0], generations[1]);
}

#[test]
fn every_living_word_is_where_the_layout_says() {
    let name = named("words");
    let mut a = create(&name);
    let (a2b, b2a) = (name.a2b(), name.b2a());
    assert_eq!((word32(&a2b, ATTACHED), word32(&b2a, ATTACHED)), (1, 0));

    // Modes: 0 unset, 1 spin, 2 park, nanoseconds + 3.
    let mut b = Transport::open_with(&name, LONG, &Config::new().poll(PollMode::Spin)).unwrap();
    assert_eq!(word32(&b2a, ATTACHED), 1);
    for path in [&a2b, &b2a] {
        assert_eq!((word64(path, POLL_A), word64(path, POLL_B)), (5_003, 1));
        assert_eq!(word32(path, CAPABILITIES_OF_A.start), word32(path, CAPABILITIES_B), "one kernel");
    }
    b.poll_control().set_remote(PollMode::Park);
    assert_eq!((word64(&a2b, POLL_A), word64(&b2a, POLL_A)), (2, 2));

    // One message in one slot, one in two; lengths and slots beside them.
    a.send(b"hello").unwrap();
    assert_eq!(word64(&a2b, BEGUN), 0, "one slot at a time needs no word");
    let mut span = a.reserve_span(200).unwrap();
    span.fill(0xab);
    assert_eq!((word64(&a2b, TAIL), word64(&a2b, BEGUN)), (1, 3));
    span.commit(150);
    assert_eq!((word64(&a2b, TAIL), a.stats().tx.bytes, a.stats().tx.messages), (3, 155, 2));
    assert_eq!((word32(&a2b, LENGTHS), word32(&a2b, LENGTHS + 4)), (5, 150));
    assert_eq!(file(&a2b)[SLOTS..SLOTS + 5], *b"hello");
    assert_eq!(file(&a2b)[SLOTS + 128..SLOTS + 128 + 150], [0xab; 150]);

    assert_eq!(word64(&a2b, HEAD), 0);
    drop(b.recv().unwrap());
    assert_eq!(word64(&a2b, HEAD), 1);
    drop(b.recv().unwrap());
    assert_eq!(word64(&a2b, HEAD), 3);

    // Four slots do not fit behind sequence 6 of 8, so two are skipped.
    for _ in 0..3 {
        a.send(&[]).unwrap();
        drop(b.recv().unwrap());
    }
    a.reserve_span(512).unwrap().commit(512);
    assert_eq!(word32(&a2b, LENGTHS + 4 * 6), SKIP);
    assert_eq!(word32(&a2b, LENGTHS), 512);
    assert_eq!((word64(&a2b, TAIL), a.stats().tx.messages), (12, 6));

    // The other ring is the same, the other way round.
    b.send(b"back").unwrap();
    assert_eq!((word64(&b2a, TAIL), word64(&b2a, HEAD)), (1, 0));
    drop(a.recv().unwrap());
    assert_eq!(word64(&b2a, HEAD), 1);
    drop(b.recv().unwrap());

    // A full ring is counted.
    while a.try_send(b"fill").is_ok() {}
    assert_eq!(word64(&a2b, PRODUCER_COUNTERS), 1);
    // A producer that looks for room counts the published messages, in the place that the version says: up to where, messages,
    // bytes.
    let place = PRODUCER_COUNTERS + 32 + 24 * (word64(&a2b, PRODUCER_COUNTERS + 24) % 4) as usize;
    let counted = [0, 8, 16].map(|at| word64(&a2b, place + at));
    let stats = a.stats().tx;
    assert_eq!(counted, [word64(&a2b, TAIL), stats.messages, stats.bytes]);
    while b.try_recv().is_ok() {}

    // Each end writes its own end word: 1 closed in order.
    let ends = |path: &Path| (word32(path, PRODUCER_END), word32(path, CONSUMER_END));
    assert_eq!((ends(&a2b), ends(&b2a)), ((0, 0), (0, 0)));
    drop(b);
    assert_eq!((ends(&a2b), ends(&b2a)), ((0, 1), (1, 0)));
    let held = [&a2b, &b2a].map(|path| std::fs::File::open(path).unwrap());
    drop(a);
    for file in &held {
        let mut end = [0; 4];
        for at in [PRODUCER_END, CONSUMER_END] {
            file.read_exact_at(&mut end, at as u64).unwrap();
            assert_eq!(u32::from_ne_bytes(end), 1);
        }
    }
}

#[test]
fn who_sleeps_says_so_and_who_died_is_written_down() {
    let name = named("notices");
    let mut a = create(&name);
    a.poll_control().set_local(PollMode::Park);
    let (a2b, b2a) = (name.a2b(), name.b2a());
    let mut peer = spawn("die", &[&name]);
    peer.wait_for("there");
    assert_eq!(&*a.recv().unwrap(), b"x");
    while a.try_send(b"fill").is_ok() {}

    let (mut tx, mut rx) = a.split();
    std::thread::scope(|scope| {
        scope.spawn(|| tx.send(b"no room").unwrap_err());
        scope.spawn(|| assert!(matches!(rx.recv(), Err(RecvError::PeerDead))));
        eventually("A's sender parks", || word32(&a2b, PRODUCER_PARKED) == 1);
        eventually("A's receiver parks", || word32(&b2a, CONSUMER_PARKED) == 1);
        eventually("both count it", || {
            word64(&a2b, PRODUCER_COUNTERS + 8) > 0 && word64(&b2a, CONSUMER_COUNTERS + 8) > 0
        });
        assert_eq!((word32(&a2b, PRODUCER_END), word32(&b2a, CONSUMER_END)), (0, 0));
        peer.kill();
    });
    // The survivor wrote the dead side's ends: 2 died.
    assert_eq!((word32(&a2b, CONSUMER_END), word32(&b2a, PRODUCER_END)), (2, 2));
}

#[test]
fn a_successor_marks_the_generation_of_the_dead_side_a() {
    let name = named("superseded");
    let mut dead = spawn("hold", &[&name]);
    dead.wait_for("there");
    let held = [name.a2b(), name.b2a()].map(|path| std::fs::File::open(path).unwrap());
    dead.kill();
    let _a = create(&name);
    // Side A's ends: it produced into a2b and consumed from b2a. 3 superseded.
    let end = |file: &std::fs::File, at: usize| {
        let mut end = [0; 4];
        file.read_exact_at(&mut end, at as u64).unwrap();
        u32::from_ne_bytes(end)
    };
    assert_eq!((end(&held[0], PRODUCER_END), end(&held[0], CONSUMER_END)), (3, 0));
    assert_eq!((end(&held[1], PRODUCER_END), end(&held[1], CONSUMER_END)), (0, 3));
    assert_eq!((word32(&name.a2b(), PRODUCER_END), word32(&name.b2a(), CONSUMER_END)), (0, 0));
}
