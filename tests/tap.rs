//! A third process reads a channel in passing: whole messages, in order, and it counts what it missed. It takes no part.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::time::Duration;

use capnproto_shm_transport::{
    Channel, Config, Corruption, Direction, OpenError, RecvError, Tap, Tapped, Transport,
};
use common::*;

#[test]
fn child() {
    let send: Role = |args| send_all(&args[0], args[1].parse().unwrap(), args[2].parse().unwrap());
    let receive: Role = |args| receive_all(&args[0]);
    let hold_name: Role = |args| {
        let mut a = Transport::create(&args[0], &Config::new().slot_count(8)).unwrap();
        a.send(b"last words").unwrap();
        say("there");
        hold();
    };
    let join: Role = |args| {
        let _b = Transport::open(&args[0], LONG).unwrap();
        say("there");
        hold();
    };
    play(&[("send", send), ("receive", receive), ("hold", hold_name), ("join", join)]);
}

/// Bytes of message number `index`: its number, then what belongs to that.
fn message(index: u64, most: usize, out: &mut Vec<u8>) {
    let random =
        index.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let len = 8 + (random >> 40) as usize % (most - 7);
    out.clear();
    out.extend_from_slice(&index.to_le_bytes());
    out.extend((8..len).map(|at| (random >> (at % 57)) as u8 ^ at as u8));
}

/// Side A: sends in single slots, batches and spans, as fast as it can.
fn send_all(name: &str, slots: usize, count: u64) {
    let mut a = Transport::create(name, &Config::new().slot_size(64).slot_count(slots)).unwrap();
    let most_in_span = (a.max_message_size() / 2).min(700);
    say("there");
    hold();
    let (mut index, mut bytes) = (0, Vec::new());
    while index < count {
        match index * 7 / 5 % 11 {
            // A batch, perhaps as long as the ring has room, and one that is longer than most.
            0 | 5 => {
                let mut batch = a.batch();
                for _ in 0..(index % 97).min(count - index) {
                    message(index, 64, &mut bytes);
                    if batch.try_send(&bytes).is_err() {
                        break;
                    }
                    index += 1;
                }
                batch.publish();
            }
            // An aborted span leaves its traces in slots that are not published.
            3 => a.reserve_span(most_in_span).unwrap().fill(0xee),
            _ => {}
        }
        if index == count {
            break;
        }
        if index % 3 == 0 {
            message(index, most_in_span, &mut bytes);
            let mut span = a.reserve_span(bytes.len()).unwrap();
            span.copy_from_slice(&bytes);
            span.commit(bytes.len());
        } else {
            message(index, 64, &mut bytes);
            a.send(&bytes).unwrap();
        }
        index += 1;
    }
    a.finish(LONG).unwrap();
    say("sent");
    hold();
}

fn receive_all(name: &str) {
    let mut b = Transport::open(name, LONG).unwrap();
    say("there");
    let mut count = 0u64;
    while b.recv().is_ok() {
        count += 1;
    }
    println!("received {count}");
}

/// How many messages a test sends, unless the environment says: `TAP_MESSAGES=100000000`.
fn many(usual: u64) -> u64 {
    std::env::var("TAP_MESSAGES").map_or(usual, |count| count.parse().unwrap())
}

/// Taps a sender that runs at full speed. Returns how many messages were delivered.
fn tap_at_full_speed(slots: usize, count: u64, stalls: bool) -> u64 {
    let name = named("tap-speed");
    let mut sender = spawn("send", &[&name, &slots.to_string(), &count.to_string()]);
    sender.wait_for("there");
    let mut receiver = spawn("receive", &[&name]);
    receiver.wait_for("there");
    let mut tap = Tap::open(&name).unwrap();
    sender.go();
    let mut got = Vec::new();
    let (mut delivered, mut next, mut last) = (0u64, 0u64, None);
    loop {
        if stalls && delivered % 10_000 == 9_999 {
            std::thread::sleep(Duration::from_millis(2));
        }
        let tapped = match tap.next(&mut got) {
            Ok(tapped) => tapped,
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(tapped.direction, Direction::AToB);
        assert!(last < Some(tapped.sequence), "in order");
        last = Some(tapped.sequence);
        let index = u64::from_le_bytes(*got.first_chunk().unwrap());
        assert_eq!(index, next + tapped.missed, "what was missed is counted exactly");
        check(index, slots, &got);
        (delivered, next) = (delivered + 1, index + 1);
    }
    assert_eq!(delivered + tap.missed(), count);
    sender.go();
    sender.join();
    receiver.join();
    println!("{slots} slots: {delivered} of {count} delivered");
    delivered
}

/// A message has the bytes that were sent under its number: in a slot or in a span.
fn check(index: u64, slots: usize, got: &[u8]) {
    let mut expected = Vec::new();
    let most_in_span = (slots * 64 / 2).min(700);
    for most in [64, most_in_span] {
        message(index, most, &mut expected);
        if expected == got {
            return;
        }
    }
    panic!("message {index} is torn: {got:?}");
}

#[test]
fn every_message_that_is_delivered_is_the_one_that_was_sent() {
    // How many it gets depends on the machine; that nothing is torn or uncounted does not.
    let sent = [(1024, 700_000), (64, 100_000), (4, 100_000), (1, 100_000)];
    let delivered = sent.map(|(slots, count)| tap_at_full_speed(slots, count, false));
    assert!(delivered[0] > 0, "of a large ring it always gets something");
}

#[test]
fn a_tap_that_stalls_counts_what_it_missed() {
    tap_at_full_speed(256, many(300_000), true);
}

fn pair(name: &str, config: &Config) -> (Transport, Transport) {
    let a = Transport::create(name, config).unwrap();
    (a, Transport::open(name, LONG).unwrap())
}

fn next_into(tap: &mut Tap, out: &mut Vec<u8>) -> Tapped {
    tap.next_timeout(out, LONG).expect("a message")
}

fn next(tap: &mut Tap) -> (Tapped, Vec<u8>) {
    let mut out = Vec::new();
    (next_into(tap, &mut out), out)
}

fn nothing(tap: &mut Tap) {
    assert!(matches!(tap.try_next(&mut Vec::new()), Err(RecvError::Empty)));
}

#[test]
fn both_directions_are_seen_in_order_whole_and_without_taking_part() {
    let name = named("tap-both");
    let (mut a, mut b) = pair(&name, &Config::new().slot_size(100).slot_count(8));
    let mut tap = Tap::open(&name).unwrap();
    nothing(&mut tap);
    for round in 0..50u8 {
        a.send(&[round; 5]).unwrap();
        let mut span = a.reserve_span(300).unwrap();
        span.fill(round);
        span.commit(300);
        a.send(&[]).unwrap();
        b.send(&[round; 100]).unwrap();
        for expected in [vec![round; 5], vec![round; 300], vec![]] {
            assert_eq!(*b.recv().unwrap(), expected);
        }
        assert_eq!(*a.recv().unwrap(), [round; 100]);
        let mut seen = [Vec::new(), Vec::new()];
        for _ in 0..4 {
            let (tapped, bytes) = next(&mut tap);
            assert_eq!(tapped.missed, 0);
            seen[(tapped.direction == Direction::BToA) as usize].push(bytes);
        }
        assert_eq!(seen[0], [vec![round; 5], vec![round; 300], vec![]]);
        assert_eq!(seen[1], [vec![round; 100]]);
        nothing(&mut tap);
    }
    assert_eq!(tap.missed(), 0);
}

#[test]
fn it_begins_with_what_is_not_released_yet() {
    let name = named("tap-begin");
    let (mut a, mut b) = pair(&name, &Config::new().slot_count(8));
    for index in 0..13u8 {
        a.send(&[index]).unwrap();
        if index < 10 {
            assert_eq!(*b.recv().unwrap(), [index]);
        }
    }
    let mut tap = Tap::open(&name).unwrap();
    for index in 10..13u8 {
        let (tapped, bytes) = next(&mut tap);
        assert_eq!((tapped.sequence, tapped.missed, bytes), (index.into(), 0, vec![index]));
    }
    nothing(&mut tap);
    // From there on what was missed is exact.
    while b.try_recv().is_ok() {}
    for index in 13..60u8 {
        a.send(&[index]).unwrap();
        assert_eq!(*b.recv().unwrap(), [index]);
    }
    let (tapped, bytes) = next(&mut tap);
    assert_eq!(u64::from(bytes[0]), 13 + tapped.missed);
    assert_eq!(tap.missed(), tapped.missed);
}

/// Sends these numbers, which the other side releases: they still stand in the ring.
/// A burst that is longer than the ring, to a receiver that takes some of it and then stands still.
#[test]
fn behind_a_burst_it_goes_on_with_what_a_receiver_who_stands_still_has_not_released() {
    for (slots, taken) in [(64, 40), (64, 63), (16, 1), (1024, 700)] {
        let name = named("tap-standing");
        let (mut a, mut b) = pair(&name, &Config::new().slot_size(64).slot_count(slots as usize));
        let mut tap = Tap::open(&name).unwrap();
        nothing(&mut tap);
        (0..slots).for_each(|index: u64| a.send(&index.to_le_bytes()).unwrap());
        (0..taken).for_each(|_| drop(b.recv().unwrap()));
        (slots..slots + taken).for_each(|index| a.send(&index.to_le_bytes()).unwrap());
        let (tapped, first) = next(&mut tap);
        assert_eq!((tapped.missed, tapped.sequence, &*first), (taken, taken, &taken.to_le_bytes()[..]));
        for index in taken + 1..slots + taken {
            let (tapped, bytes) = next(&mut tap);
            assert_eq!((tapped.missed, &*bytes), (0, &index.to_le_bytes()[..]), "{slots} {taken}");
        }
        nothing(&mut tap);
    }
}

fn pass(a: &mut Transport, b: &mut Transport, numbers: std::ops::Range<u64>) {
    for index in numbers {
        a.send(&index.to_ne_bytes()).unwrap();
        assert_eq!(*b.recv().unwrap(), index.to_ne_bytes());
    }
}

#[test]
fn slots_in_work_are_not_read() {
    type Work = fn(&mut Transport);
    let single: Work = |a| a.reserve().unwrap().fill(0xee);
    let batch: Work = |a| {
        let mut batch = a.batch();
        for _ in 0..2 {
            let mut slot = batch.try_reserve().unwrap();
            slot.fill(0xee);
            slot.commit(8);
        }
        // Neither published nor given up.
        std::mem::forget(batch);
    };
    let span: Work = |a| a.reserve_span(3 * 64).unwrap().fill(0xee);
    for (work, in_work) in [(single, 1u64), (batch, 2), (span, 3)] {
        for read_before in [0, in_work] {
            let name = named("tap-work");
            let (mut a, mut b) = pair(&name, &Config::new().slot_size(64).slot_count(8));
            let mut tap = Tap::open(&name).unwrap();
            pass(&mut a, &mut b, 0..7);
            for index in 0..read_before {
                assert_eq!(next(&mut tap).1, index.to_ne_bytes());
            }
            // From here on the next slot is that of number 0.
            pass(&mut a, &mut b, 7..8);
            work(&mut a);
            let (mut bytes, mut told) = (Vec::new(), read_before);
            while let Ok(tapped) = tap.try_next(&mut bytes) {
                told += tapped.missed;
                assert_eq!(
                    bytes,
                    told.to_ne_bytes(),
                    "of what stands in the ring, nothing that is written again"
                );
                assert!(told >= in_work);
                told += 1;
            }
            // A tap that had read the slots before they were written again misses nothing.
            assert!(read_before == 0 || (told, tap.missed()) == (8, 0), "{read_before}: {told}");
            assert!(read_before > 0 || tap.missed() >= in_work);
            // The loss is told with the next message, exactly.
            a.send(&u64::MAX.to_ne_bytes()).unwrap();
            while told != u64::MAX {
                let tapped = next_into(&mut tap, &mut bytes);
                told += tapped.missed;
                if bytes == u64::MAX.to_ne_bytes() {
                    let gathered = if in_work == 2 { 2 } else { 0 };
                    assert_eq!(told, 8 + gathered);
                    told = u64::MAX;
                } else {
                    assert_eq!(bytes.len(), 8);
                    told += 1;
                }
            }
        }
    }
}

#[test]
fn a_message_after_a_forgotten_batch_is_in_work_too() {
    let name = named("tap-forgotten");
    let (mut a, mut b) = pair(&name, &Config::new().slot_size(64).slot_count(16));
    let mut tap = Tap::open(&name).unwrap();
    pass(&mut a, &mut b, 0..15);
    for index in 0..5u64 {
        assert_eq!(next(&mut tap).1, index.to_ne_bytes());
    }
    pass(&mut a, &mut b, 15..16);
    let mut batch = a.batch();
    for _ in 0..4 {
        batch.try_send(&[0xff; 64]).unwrap();
    }
    std::mem::forget(batch);
    // The fifth slot beyond what is published.
    a.reserve().unwrap().fill(0xff);
    let (mut bytes, mut sequence) = (Vec::new(), 5);
    while let Ok(tapped) = tap.try_next(&mut bytes) {
        sequence += tapped.missed;
        assert_eq!((tapped.sequence, &*bytes), (sequence, &sequence.to_ne_bytes()[..]));
        sequence += 1;
    }
    assert!(sequence == 16 || tap.missed() > 0);
}

#[test]
fn any_kind_of_channel_is_its_bytes() {
    let name = named("tap-kind");
    let mut a = Channel::<u64>::create(&name, &Config::new().slot_count(4)).unwrap();
    let mut tap = Tap::open(&name).unwrap();
    let mut batch = a.batch();
    batch.try_send(&7).unwrap();
    batch.try_send(&8).unwrap();
    nothing(&mut tap);
    batch.publish();
    assert_eq!(next(&mut tap).1, 7u64.to_ne_bytes());
    assert_eq!(next(&mut tap).1, 8u64.to_ne_bytes());
}

#[test]
fn its_waits_end_in_time() {
    let name = named("tap-wait");
    let (mut a, _b) = pair(&name, &Config::new());
    let mut tap = Tap::open(&name).unwrap();
    let mut bytes = Vec::new();
    for wait in [Duration::ZERO, Duration::from_millis(3)] {
        assert!(matches!(tap.next_timeout(&mut bytes, wait), Err(RecvError::Timeout)));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| a.send(b"late").unwrap());
        let Tapped { direction, sequence, missed } = tap.next(&mut bytes).unwrap();
        assert_eq!((direction, sequence, missed), (Direction::AToB, 0, 0));
    });
    assert_eq!(bytes, b"late");
}

#[test]
fn a_close_comes_after_every_message() {
    let name = named("tap-close");
    let (mut a, b) = pair(&name, &Config::new());
    let mut tap = Tap::open(&name).unwrap();
    a.send(b"one").unwrap();
    drop(b);
    a.send(b"two").unwrap_err();
    drop(a);
    assert_eq!(next(&mut tap).1, b"one");
    for _ in 0..2 {
        assert!(matches!(tap.next(&mut Vec::new()), Err(RecvError::Closed)));
    }
}

#[test]
fn one_direction_may_end_before_the_other() {
    let name = named("tap-half");
    let (mut a, mut b) = pair(&name, &Config::new());
    let mut tap = Tap::open(&name).unwrap();
    a.finish(LONG).unwrap();
    b.send(b"still").unwrap();
    assert_eq!(next(&mut tap).1, b"still");
    nothing(&mut tap);
    drop((a, b));
    assert!(matches!(tap.next(&mut Vec::new()), Err(RecvError::Closed)));
}

#[test]
fn a_death_is_known_and_what_was_sent_is_read_after_it() {
    let name = named("tap-death");
    let mut peer = spawn("hold", &[&name]);
    peer.wait_for("there");
    let mut tap = Tap::open(&name).unwrap();
    peer.kill();
    let mut late = Tap::open(&name).unwrap();
    for tap in [&mut tap, &mut late] {
        assert_eq!(next(tap).1, b"last words");
        assert!(matches!(tap.next(&mut Vec::new()), Err(RecvError::PeerDead)));
    }
    // The next side A says so.
    let _a = Transport::create(&name, &Config::new()).unwrap();
    assert!(matches!(tap.next(&mut Vec::new()), Err(RecvError::Superseded)));
}

#[test]
fn a_death_that_the_other_side_did_not_see_is_no_close() {
    let name = named("tap-unseen-death");
    let a = Transport::create(&name, &Config::new()).unwrap();
    let mut peer = spawn("join", &[&name]);
    peer.wait_for("there");
    let mut tap = Tap::open(&name).unwrap();
    nothing(&mut tap);
    peer.kill();
    drop(a);
    assert!(matches!(tap.next(&mut Vec::new()), Err(RecvError::PeerDead)));
}

#[test]
fn what_is_no_channel_is_refused() {
    let name = named("tap-none");
    assert!(matches!(Tap::open(&name), Err(OpenError::Timeout { .. })));
    assert!(matches!(Tap::open("no/name"), Err(OpenError::Config(_))));
    std::fs::write(name.a2b(), b"no segment").unwrap();
    assert!(matches!(Tap::open(&name), Err(OpenError::Segment { .. })));
}

#[cfg(target_os = "linux")]
#[test]
fn it_maps_nothing_for_writing_and_writes_nothing() {
    use std::os::unix::fs::MetadataExt;
    let name = named("tap-reads");
    let (mut a, mut b) = pair(&name, &Config::new().slot_count(16));
    pass(&mut a, &mut b, 0..20);
    a.send(b"unread").unwrap();
    let image = || [name.a2b(), name.b2a()].map(|path| std::fs::read(path).unwrap());
    let times = || [name.a2b(), name.b2a()].map(|path| std::fs::metadata(path).unwrap().mtime_nsec());
    let (before, before_times) = (image(), times());
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let lines = maps.lines().filter(|line| line.contains(&*name)).map(str::to_owned);
        lines.collect::<std::collections::BTreeSet<_>>()
    };
    let of_the_sides = mapped();
    let mut tap = Tap::open(&name).unwrap();
    assert_eq!(next(&mut tap).1, b"unread");
    nothing(&mut tap);
    let of_the_tap: Vec<_> = mapped().difference(&of_the_sides).cloned().collect();
    assert!(!of_the_tap.is_empty() && of_the_tap.iter().all(|line| line.contains("r--s")), "{of_the_tap:?}");
    assert_eq!((image(), times()), (before, before_times));
}

/// Somebody else writes nonsense.
#[cfg(target_os = "linux")]
#[test]
fn impossible_words_are_corrupt_or_change_what_is_missed() {
    use std::os::unix::fs::FileExt;
    const TAIL: u64 = 384;
    const BEGUN: u64 = 392;
    const LENGTHS: u64 = 4096;
    let name = named("tap-hostile");
    let (mut a, mut b) = pair(&name, &Config::new().slot_count(8));
    let file = std::fs::OpenOptions::new().write(true).open(name.a2b()).unwrap();
    pass(&mut a, &mut b, 0..8);
    let corrupt = |tap: &mut Tap, word: &str| {
        for _ in 0..2 {
            let error = tap.try_next(&mut Vec::new()).unwrap_err();
            assert!(matches!(error, RecvError::Corrupt(Corruption { word: w, .. }) if w == word), "{error}");
        }
    };
    // A producer that has begun everything leaves nothing to read, but for what is not released.
    let mut tap = Tap::open(&name).unwrap();
    file.write_all_at(&(u64::MAX / 2).to_ne_bytes(), BEGUN).unwrap();
    a.send(b"unreleased").unwrap();
    assert_eq!(next(&mut tap).1, b"unreleased");
    // A length beyond what is published.
    a.send(b"x").unwrap();
    file.write_all_at(&100_000u32.to_ne_bytes(), LENGTHS + 4).unwrap();
    corrupt(&mut tap, "message length");
    // The other direction goes on.
    b.send(b"back").unwrap();
    assert_eq!(next(&mut tap).1, b"back");
    corrupt(&mut tap, "message length");
    // A tail that goes back.
    assert_eq!(*a.recv().unwrap(), *b"back");
    let mut tap = Tap::open(&name).unwrap();
    assert_eq!(next(&mut tap).1, b"unreleased");
    file.write_all_at(&3u64.to_ne_bytes(), TAIL).unwrap();
    assert!(matches!(tap.try_next(&mut Vec::new()), Err(RecvError::Corrupt(found)) if found.found == 3));
}
