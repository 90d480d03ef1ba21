//! A relay at its beginning and its end, files that it splits, and a replay of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};

use capnproto_shm_transport::{RecvError, SendError, Transport};
use common::*;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The files of a recording that was split, in their order.
fn files_of(place: &Place, stem: &str) -> Vec<PathBuf> {
    let first = place.file(&format!("{stem}.mcap"));
    let further = (1..).map(|number| place.file(&format!("{stem}-{number}.mcap")));
    std::iter::once(first).chain(further).take_while(|file| file.exists()).collect()
}

/// Bytes that do not become fewer by compression, by their number.
fn noise(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn a_relay_that_cannot_begin_leaves_the_channel_as_it_was() {
    let place = Place::new();
    let mut a = Transport::create("near", &place.config()).unwrap();
    let _taken = Transport::create("taken", &place.config()).unwrap();
    let file = place.file("relay.mcap");
    let unwritable = place.file("none/relay.mcap");
    for (relay, output, code) in [("far", &unwritable, 3), ("taken", &file, 4), ("near", &file, 4)] {
        let record = place.run(&["record", "near", "--relay", relay, "-o", text(output)]);
        assert_eq!(record.code(), code, "{}", record.err());
        a.send(b"to whom it concerns").unwrap();
    }
    assert!(!place.file("far.fs.a2b").exists() && !file.exists());
    // The place of side B is still free.
    let mut b = Transport::open_with("near", LONG, &place.config()).unwrap();
    for _ in 0..3 {
        assert_eq!(&*b.recv().unwrap(), b"to whom it concerns");
    }
    // And when it is taken, nothing is written over.
    std::fs::write(&file, b"an older recording").unwrap();
    let record = place.run(&["record", "near", "--relay", "far", "-o", text(&file)]);
    assert_eq!(record.code(), 4, "{}", record.err());
    assert_eq!(std::fs::read(&file).unwrap(), b"an older recording");
}

#[test]
fn a_relay_splits_its_file_by_size_and_a_replay_sends_all_files_as_one() {
    const COUNT: u64 = 60;
    const LEN: usize = 64 << 10;
    let place = Place::new();
    let config = place.config().slot_size(LEN);
    let mut a = Transport::create("near", &config).unwrap();
    let file = place.file("split.mcap");
    let args = ["record", "near", "--relay", "far", "-o", text(&file), "--split-size", "1", "--wait", "60"];
    let record = place.start(&args);
    let mut b = Transport::open_with("far", LONG, &config).unwrap();
    for number in 0..COUNT {
        a.send(&noise(number, LEN)).unwrap();
        assert_eq!(*b.recv().unwrap(), noise(number, LEN));
    }
    drop((a, b));
    let end = record.end();
    let files = files_of(&place, "split");
    assert!(files.len() >= 3, "{files:?}");
    let said = format!("{COUNT} messages recorded in {} files, 0 missed", files.len());
    assert!(end.code() == 0 && end.err().contains(&said), "{}", end.err());
    let counted = |file: &PathBuf| place.run(&["info", text(file), "--json"]).json();
    for json in files.iter().map(counted) {
        assert_eq!(json["whole"], true);
        assert!(json["streams"][0]["messages"].as_u64().unwrap() < COUNT, "{json}");
    }

    // In the order of a shell, which is not theirs.
    let names = files.iter().rev().map(|file| text(file));
    let mut args: Vec<_> = ["replay"].into_iter().chain(names).collect();
    args.extend(["--as", "again", "--speed", "0", "--wait", "60"]);
    let replay = place.start(&args);
    let mut b = Transport::open_with("again", LONG, &config).unwrap();
    for number in 0..COUNT {
        assert_eq!(*b.recv().unwrap(), noise(number, LEN), "{number}");
    }
    assert!(matches!(b.recv().map(drop), Err(RecvError::Closed)));
    assert_eq!(replay.end().code(), 0);
}

#[test]
fn files_of_different_channels_are_not_replayed_as_one() {
    let place = Place::new();
    let mut a = Transport::create("one", &place.config()).unwrap();
    let mut other = Transport::create("other", &place.config()).unwrap();
    a.send(b"x").unwrap();
    other.send(b"x").unwrap();
    let (one, two) = (place.file("one.mcap"), place.file("other.mcap"));
    place.run(&["record", "one", "-o", text(&one), "-c", "1"]).good();
    place.run(&["record", "other", "-o", text(&two), "-c", "1"]).good();
    drop((a, other));
    let replay = place.run(&["replay", text(&one), text(&two), "--as", "both"]);
    assert!(replay.code() == 1 && replay.err().contains("has no channel"), "{}", replay.err());
    assert!(!place.file("both.fs.a2b").exists());
}

#[test]
fn a_relay_that_is_killed_leaves_whole_files_and_both_sides_learn_of_its_death() {
    let place = Place::new();
    let mut a = Transport::create("near", &place.config()).unwrap();
    let file = place.file("killed.mcap");
    // Each message begins a new file.
    let args = ["record", "near", "--relay", "far", "-o", text(&file), "--split-time", "0", "--wait", "60"];
    let mut record = place.start(&args);
    let mut b = Transport::open_with("far", LONG, &place.config()).unwrap();
    let mut sent = 0u64;
    eventually("some files are written", || {
        a.send(&sent.to_ne_bytes()).unwrap();
        assert_eq!(*b.recv().unwrap(), sent.to_ne_bytes());
        sent += 1;
        files_of(&place, "killed").len() > 3
    });
    record.child.kill().unwrap();
    record.end();
    assert!(matches!(b.recv().map(drop), Err(RecvError::PeerDead)));
    eventually("the sender learns of it", || matches!(a.send(b"x"), Err(SendError::PeerDead)));
    let files = files_of(&place, "killed");
    for file in &files[..files.len() - 1] {
        let json = place.run(&["info", text(file), "--json"]).json();
        assert_eq!((&json["whole"], &json["streams"][0]["messages"]), (&true.into(), &1.into()));
    }
    // The rest is what `rm` takes away.
    drop((a, b));
    assert_eq!(place.run(&["rm", "--dead"]).good(), "removed far\n");
}

/// A recording of one message.
fn recorded(place: &Place, name: &str, message: &[u8]) -> PathBuf {
    let (mut a, _b) = place.pair(name);
    a.send(message).unwrap();
    let file = place.file(&format!("{name}.mcap"));
    place.run(&["record", name, "-o", text(&file), "-c", "1"]).good();
    file
}

#[test]
fn a_replay_that_is_over_leaves_nothing_and_closes_both_directions() {
    let place = Place::new();
    let file = recorded(&place, "short", b"all there is");
    let replay = place.start(&["replay", text(&file), "--as", "again", "--wait", "60"]);
    let mut b = Transport::open_with("again", LONG, &place.config()).unwrap();
    assert_eq!(&*b.recv().unwrap(), b"all there is");
    assert!(matches!(b.recv().map(drop), Err(RecvError::Closed)));
    assert_eq!(replay.end().code(), 0);
    // A side that sends on hears of no death.
    let end = b.send(b"x").unwrap_err();
    assert!(matches!(end, SendError::Closed), "{end}");
    drop(b);
    let left: Vec<_> = std::fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["short.mcap"]);
}

#[test]
fn a_replay_takes_the_answers_to_its_last_messages() {
    let place = Place::new();
    let file = recorded(&place, "asks", b"ask");
    let replay = place.start(&["replay", text(&file), "--as", "again", "--wait", "60", "--linger", "60"]);
    let mut b = Transport::open_with("again", LONG, &place.config()).unwrap();
    assert_eq!(&*b.recv().unwrap(), b"ask");
    // Everything is sent, and this side knows: it answers even so.
    assert!(matches!(b.recv().map(drop), Err(RecvError::Closed)));
    b.send(b"answer").unwrap();
    let (mut answers, questions) = b.split();
    answers.finish(LONG).unwrap();
    drop((answers, questions));
    assert_eq!(replay.end().code(), 0);
}
