//! Messages of every size: around a slot's and the ring's capacity, outgrown, too large.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{CapnpChannel, Config, RecvError, SendError};
use common::{LONG, unique};
use proptest::prelude::*;
use schemas::blob_capnp::blob;

type Blobs = CapnpChannel<blob::Owned>;

/// Table, root pointer, and a blob's own two words.
const OVERHEAD: usize = 32;

fn pair(slot_size: usize, slot_count: usize) -> (Blobs, Blobs) {
    let name = unique("sizes");
    let config = Config::new().slot_size(slot_size).slot_count(slot_count);
    (Blobs::create(&name, &config).unwrap(), Blobs::open(&name, LONG).unwrap())
}

fn byte(sequence: u64, at: usize) -> u8 {
    (sequence as usize).wrapping_mul(31).wrapping_add(at) as u8
}

fn fill(mut message: blob::Builder<'_>, sequence: u64, len: usize) {
    message.set_sequence(sequence);
    for (at, place) in message.init_data(len as u32).iter_mut().enumerate() {
        *place = byte(sequence, at);
    }
}

fn check(message: blob::Reader<'_>, sequence: u64, len: usize) {
    assert_eq!(message.get_sequence(), sequence);
    let data = message.get_data().unwrap();
    assert_eq!(data.len(), len);
    assert!(data.iter().enumerate().all(|(at, &found)| found == byte(sequence, at)));
}

/// Sends messages of these sizes while a thread receives them; each in one of the ways there are.
fn through(slot_size: usize, slot_count: usize, sizes: &[usize]) {
    let (mut a, mut b) = pair(slot_size, slot_count);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (sequence, &len) in sizes.iter().enumerate() {
                if sequence % 3 == 0 {
                    check(b.recv_copied().unwrap().get().unwrap(), sequence as u64, len);
                } else {
                    check(b.recv().unwrap().get().unwrap(), sequence as u64, len);
                }
            }
            assert!(matches!(b.recv(), Err(RecvError::Closed)));
        });
        for (sequence, &len) in sizes.iter().enumerate() {
            let capacity = match sequence % 4 {
                0 => 0,
                1 => OVERHEAD + len.next_multiple_of(8),
                2 => OVERHEAD + len / 2,
                _ => slot_size,
            };
            let mut message = a.reserve_with_capacity(capacity).unwrap();
            fill(message.init_root(), sequence as u64, len);
            message.commit().unwrap();
        }
        drop(a);
    });
}

/// A message that spills needs a longer table, and a pointer from segment to segment.
const SPILLED: usize = OVERHEAD + 16;

#[test]
fn every_size_around_the_slot_and_the_ring() {
    for (slot_size, slot_count) in [(16, 16), (20, 32), (40, 8), (64, 8), (72, 4), (256, 1)] {
        let all = slot_size * slot_count;
        let near = |size: usize| size.saturating_sub(SPILLED + 9)..=size.saturating_sub(SPILLED);
        let sizes: Vec<usize> =
            (0..4).chain(near(slot_size)).chain(near(2 * slot_size)).chain(near(all)).collect();
        let fits: Vec<usize> = sizes.into_iter().filter(|&len| len + SPILLED <= all).collect();
        // Four ways, at changing offsets.
        through(slot_size, slot_count, &fits.repeat(5));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sizes_arrive_whole(
        slot_size in 16_usize..400,
        count_log in 2_u32..6,
        shares in prop::collection::vec((0_usize..4, 0.0..1.0_f64), 1..60),
    ) {
        let slot_count = 1 << count_log;
        let largest = (slot_size * slot_count).saturating_sub(SPILLED + 8);
        let sizes: Vec<usize> = shares
            .iter()
            .map(|&(scale, share)| ((largest.min(slot_size << (2 * scale))) as f64 * share) as usize)
            .collect();
        through(slot_size, slot_count, &sizes);
    }
}

#[test]
fn a_message_past_the_ring_is_too_large_and_the_channel_goes_on() {
    let (mut a, mut b) = pair(64, 8);
    for round in 0..20 {
        let error = a.send(|message| {
            fill(message, 0, 512);
            Ok(())
        });
        match error {
            Err(SendError::TooLarge { needed, capacity: 512 }) => assert!((512..600).contains(&needed)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            a.reserve_with_capacity(513),
            Err(SendError::TooLarge { needed: 513, capacity: 512 })
        ));
        assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
        a.send(|message| {
            fill(message, round, 8);
            Ok(())
        })
        .unwrap();
        check(b.try_recv().unwrap().get().unwrap(), round, 8);
    }
}

#[test]
fn the_largest_message_fills_the_ring() {
    let (mut a, mut b) = pair(64, 8);
    for _ in 0..3 {
        let mut message = a.reserve_with_capacity(a.max_message_size()).unwrap();
        fill(message.init_root(), 1, 512 - OVERHEAD);
        message.commit().unwrap();
        assert!(matches!(a.try_reserve(), Err(SendError::Full)));
        let message = b.recv().unwrap();
        assert_eq!(message.frame_bytes().len(), 512);
        check(message.get().unwrap(), 1, 512 - OVERHEAD);
    }
}

#[test]
fn an_outgrown_reservation_waits_as_the_reservation_did() {
    let (mut a, mut b) = pair(64, 4);
    a.send(|message| {
        fill(message, 0, 8);
        Ok(())
    })
    .unwrap();
    // Three slots are free, and four are needed.
    let long = |message: blob::Builder<'_>| {
        fill(message, 1, 150);
        Ok(())
    };
    assert!(matches!(a.try_send(long), Err(SendError::Full)));
    assert!(matches!(a.send_timeout(long, Duration::from_millis(5)), Err(SendError::Timeout)));
    check(b.try_recv().unwrap().get().unwrap(), 0, 8);
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    thread::scope(|scope| {
        scope.spawn(|| check(b.recv().unwrap().get().unwrap(), 1, 150));
        a.send(long).unwrap();
    });
}

#[test]
fn many_small_parts_spill_into_few_segments() {
    let (mut a, mut b) = pair(64, 4096);
    let mut message = a.reserve().unwrap();
    for _ in 0..2000 {
        // Each begins anew, and what the one before took stays lost.
        fill(message.init_root(), 5, 50);
    }
    message.commit().unwrap();
    let message = b.recv().unwrap();
    let segments = u32::from_le_bytes(*message.frame_bytes().first_chunk().unwrap()) + 1;
    assert!((2..20).contains(&segments), "{segments}");
    check(message.get().unwrap(), 5, 50);
}
