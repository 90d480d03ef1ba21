//! A recording that is cut at any byte is read up to its last whole chunk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use capnp_shm::recording::{End, Kept, Recorder, Recording, Split, Stream};
use capnproto_shm_transport::{Direction, MessageKind};

#[test]
fn every_cut_gives_a_beginning() {
    let path = std::env::temp_dir().join(format!("t-cut-{}.mcap", std::process::id()));
    let stream = |direction| Stream {
        name: "cut".to_owned(),
        direction,
        kind: MessageKind::Bytes,
        slot_size: 64,
        slot_count: 16,
        tag: String::new(),
        schema: None,
    };
    let streams = vec![stream(Direction::AToB), stream(Direction::BToA)];
    let mut recorder =
        Recorder::with_chunks(&path, streams.clone(), Kept::default(), Split::default(), 1000).unwrap();
    let message = |index: u64| -> Vec<u8> {
        (0..300u64)
            .map(|at| (index.wrapping_mul(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect()
    };
    for index in 0..14u64 {
        recorder.write(index as usize % 2, index, u64::from(index == 3), index, &message(index)).unwrap();
    }
    recorder.finish().unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let read = |bytes: &[u8]| {
        let mut recording = Recording::new(bytes);
        let mut count = 0u64;
        while let Some(found) = recording.next_message().unwrap() {
            assert_eq!((u64::from(found.sequence), found.stream as u64), (count, count % 2));
            assert!(found.bytes == message(count), "message {count}");
            count += 1;
        }
        (count, recording.end().cloned().unwrap(), recording.streams().to_vec(), recording.missed().clone())
    };
    let (count, end, found, missed) = read(&whole);
    assert_eq!((count, end, found), (14, End::Whole, streams));
    assert_eq!(missed["cut"], 1);
    let mut last = 0;
    let mut steps = std::collections::BTreeSet::new();
    for cut in 0..whole.len() {
        let (count, end, ..) = read(&whole[..cut]);
        assert!(count >= last, "a longer file has no fewer messages");
        assert!(count < 14 || cut > whole.len() / 2);
        assert!(matches!(end, End::Cut(_)) || count == 14, "{cut}: {end:?}");
        last = count;
        steps.insert(count);
    }
    assert!(steps.len() >= 3, "whole chunks, one after the other: {steps:?}");
}

#[test]
fn damage_is_an_end_and_no_panic() {
    for bytes in [&b""[..], b"\x89MCAP0\r\n", b"\x89MCAP0\r\n\x03\xff\xff\xff\xff\xff\xff\xff\xff", b"no"] {
        let mut recording = Recording::new(bytes);
        assert_eq!(recording.next_message().unwrap(), None);
        assert!(matches!(recording.end(), Some(End::Cut(_))), "{bytes:?}");
    }
}
