//! `dump`, `record`, `replay`, `info`, `bench` and `top --once`, by the built program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use capnproto_shm_transport::{CapnpChannel, Channel, RecvError, Transport};
use common::*;
use schemas::quotes_capnp::quotes;
use serde_json::Value;

fn schema(name: &str) -> String {
    format!("{}/../../schema/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Whether the tool is there. Without it the test says so and ends.
fn capnp_tool() -> bool {
    let there = Command::new("capnp").arg("--version").output().is_ok();
    if !there {
        println!("skipped: the `capnp` tool is not installed");
    }
    there
}

fn send_quotes(channel: &mut CapnpChannel<quotes::Owned>, venue: &str, time: u64) {
    channel
        .send(|mut quotes| {
            quotes.set_venue(venue);
            quotes.set_time(time);
            Ok(())
        })
        .unwrap();
}

#[test]
fn messages_are_dumped_as_they_pass_until_the_channel_ends() {
    let place = Place::new();
    let (mut a, mut b) = place.pair("dumped");
    a.send(b"already there").unwrap();
    let mut dump = place.start(&["dump", "dumped"]);
    let first = dump.line();
    assert!(first.starts_with("A>B #0 ") && first.ends_with(" 13 bytes"), "{first}");
    assert_eq!(dump.line(), "  0000  61 6c 72 65 61 64 79 20 74 68 65 72 65           already there");
    b.send(&[0, 255, b'x']).unwrap();
    assert!(dump.line().starts_with("B>A #0 "));
    assert!(dump.line().ends_with("00 ff 78                                         ..x"));
    drop((a, b));
    let end = dump.end();
    assert_eq!(end.code(), 0);
    assert!(end.err().starts_with("2 messages printed, 0 missed; the peer has closed"), "{}", end.err());
}

#[test]
fn a_dump_can_be_raw_json_filtered_and_counted() {
    let place = Place::new();
    let (mut a, mut b) = place.pair("forms");
    for message in ["one", "two", "three"] {
        a.send(message.as_bytes()).unwrap();
    }
    b.send(b"back").unwrap();
    assert_eq!(place.run(&["dump", "forms", "--raw", "--count", "3", "-d", "a-to-b"]).good(), "onetwothree");
    assert_eq!(place.run(&["dump", "forms", "--raw", "-n", "1", "-d", "b2a"]).code(), 2, "-n is no option");
    assert_eq!(place.run(&["dump", "forms", "--raw", "-c", "1", "-d", "b2a"]).good(), "back");
    assert_eq!(place.run(&["dump", "forms", "--raw", "-c", "2", "--grep", "t"]).good(), "twothree");
    assert_eq!(place.run(&["dump", "forms", "--raw", "-c", "1", "--grep", "0x7477"]).good(), "two");
    let json = place.run(&["dump", "forms", "--json", "-c", "1", "--grep", "three"]).json();
    assert_eq!(
        (&json["direction"], &json["sequence"], &json["data"]),
        (&"a_to_b".into(), &2.into(), &"7468726565".into())
    );
    // Nothing was taken from the channel.
    assert_eq!(*b.recv().unwrap(), *b"one");

    let waiting = place.start(&["dump", "forms", "--grep", "never"]);
    std::thread::sleep(Duration::from_millis(50));
    waiting.interrupt();
    let end = waiting.end();
    assert_eq!((end.code(), &*end.err()), (0, "0 messages printed, 0 missed\n"));
}

#[test]
fn a_dump_says_what_it_cannot_do() {
    let place = Place::new();
    let missing = place.run(&["dump", "none"]);
    assert_eq!(missing.code(), 3);
    assert!(missing.err().contains("no channel \"none\""));
    let (_a, _b) = place.pair("there");
    for layout in ["", "x:u7"] {
        let wrong = place.run(&["dump", "there", "--format", layout]);
        assert_eq!(wrong.code(), 1);
        assert!(wrong.err().contains("id:u64"), "{}", wrong.err());
    }
    assert_eq!(place.run(&["dump", "there", "--raw", "--json"]).code(), 2);
    assert_eq!(place.run(&["dump", "there", "--schema", "/nonexistent.capnp"]).code(), 3);
    let mut without = place.command(&["dump", "there", "--schema", &schema("quotes.capnp")]);
    let without = Run(without.env("PATH", "/nonexistent").output().unwrap());
    assert_eq!(without.code(), 1);
    assert!(without.err().contains("install it (Debian: capnproto), or give"), "{}", without.err());
}

#[test]
fn a_dump_waits_for_its_channel() {
    let place = Place::new();
    let dump = place.start(&["dump", "late", "--raw", "-c", "1", "--wait", "60"]);
    let mut a = Transport::create("late", &place.config()).unwrap();
    a.send(b"here").unwrap();
    assert_eq!(dump.end().good(), "here");
}

#[test]
fn values_are_printed_by_their_layout() {
    let place = Place::new();
    let mut a = Channel::<[u32; 4]>::create("values", &place.config()).unwrap();
    a.send(&[7, 1.5f32.to_bits(), 0, 9]).unwrap();
    let text = place.run(&["dump", "values", "--format", "id:u32 price:f32 _:4 n:u32", "-c", "1"]).good();
    assert!(text.trim_end().ends_with("id=7 price=1.5 n=9"), "{text}");
}

#[test]
fn cap_n_proto_is_decoded_and_its_type_named() {
    if !capnp_tool() {
        return;
    }
    let place = Place::new();
    let config = place.config().slot_size(1024);
    let mut a = CapnpChannel::<quotes::Owned>::create("quotes", &config).unwrap();
    send_quotes(&mut a, "XETR", 7);
    send_quotes(&mut a, "XPAR", 8);
    let dump = place.run(&["dump", "quotes", "--schema", &schema("quotes.capnp"), "-c", "2"]);
    let text = dump.good();
    // Nothing is said of the direction that no message went.
    assert_eq!(dump.err(), "2 messages printed, 0 missed\n");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].ends_with("(venue = \"XETR\", time = 7)") && lines[1].ends_with("time = 8)"), "{text}");
    let listing = place.run(&["ls", "--json", "--schema", &schema("quotes.capnp")]).json();
    let ring = &listing["channels"][0]["a_to_b"];
    assert_eq!((&ring["kind"], &ring["type_name"]), (&"capnp".into(), &"Quotes".into()));
    let by_request = place.run(&["stat", "quotes", "--json", "--schema", &schema("schemas.cgr")]).json();
    assert_eq!(by_request["channel"]["a_to_b"]["type_name"], "Quotes");

    // The raw bytes are what the tool itself reads.
    let raw = place.run(&["dump", "quotes", "--raw", "-c", "2"]);
    let mut decode = Command::new("capnp")
        .args(["decode", "--short", &schema("quotes.capnp"), "Quotes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    decode.stdin.take().unwrap().write_all(&raw.0.stdout).unwrap();
    let decoded = String::from_utf8(decode.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(decoded, "(venue = \"XETR\", time = 7)\n(venue = \"XPAR\", time = 8)\n");
}

/// The recorded messages of each direction, as `info` tells them.
fn info(place: &Place, file: &str) -> (Value, Vec<u64>) {
    let json = place.run(&["info", file, "--json"]).json();
    let counts =
        json["streams"].as_array().unwrap().iter().map(|stream| stream["messages"].as_u64().unwrap());
    let counts = counts.collect();
    (json, counts)
}

#[test]
fn a_tap_records_and_a_typed_side_receives_the_replay() {
    let place = Place::new();
    let mut a =
        Channel::<[u64; 4], u32>::create("numbers", &place.config().message_tag("numbers/1")).unwrap();
    let mut b = Channel::<u32, [u64; 4]>::open_with("numbers", LONG, &place.config()).unwrap();
    let file = place.file("numbers.mcap");
    let file = file.to_str().unwrap();
    let record = place.start(&["record", "numbers", "-o", file]);
    eventually("it records", || std::fs::metadata(file).is_ok_and(|file| file.len() > 0));
    for index in 0..1000u64 {
        a.send(&[index, 1, 2, index * index]).unwrap();
        assert_eq!(b.recv().unwrap()[0], index);
        if index % 16 == 15 {
            // So that the tap, which may be slow here, misses nothing.
            std::thread::sleep(Duration::from_millis(4));
        }
    }
    b.send(&77).unwrap();
    drop((a, b));
    let end = record.end();
    assert_eq!(end.code(), 0, "{}", end.err());
    let (json, counts) = info(&place, file);
    let missed = json["missed"]["numbers"].as_u64().unwrap_or(0);
    assert_eq!((counts[0] + missed, counts[1], &json["whole"]), (1000, 1, &Value::Bool(true)));
    assert!(
        end.err().contains(&format!("{} messages recorded, {missed} missed", counts[0] + 1)),
        "{}",
        end.err()
    );
    assert_eq!(
        (&json["streams"][0]["kind"], &json["streams"][0]["value_size"], &json["streams"][0]["tag"]),
        (&"pod".into(), &32.into(), &"numbers/1".into())
    );
    let text = place.run(&["info", file]).good();
    fits(&text);
    assert!(text.contains("pod 32 B"), "{text}");

    // As side A, under another name, to a typed side B that checks the tag.
    let replay = place.start(&["replay", file, "--as", "again", "--speed", "0", "--wait", "60"]);
    let config = place.config().message_tag("numbers/1");
    let mut b = Channel::<u32, [u64; 4]>::open_with("again", LONG, &config).unwrap();
    let mut received = 0;
    let mut last = None;
    loop {
        match b.recv() {
            Ok(value) => {
                assert_eq!((value[1], value[2], value[3]), (1, 2, value[0] * value[0]));
                assert!(last < Some(value[0]));
                last = Some(value[0]);
                received += 1;
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(received, counts[0]);
    assert_eq!(replay.end().code(), 0);

    // As side B, to a typed side A.
    let mut a = Channel::<[u64; 4], u32>::create("numbers", &place.config()).unwrap();
    let replay = place.start(&["replay", file, "--side", "b", "--speed", "1000"]);
    assert_eq!(*a.recv().unwrap(), 77);
    assert!(matches!(a.recv().map(|value| *value), Err(RecvError::Closed)));
    assert_eq!(replay.end().code(), 0);
    // Another type is refused.
    let _bytes = Transport::create("bytes", &place.config()).unwrap();
    let refused = place.run(&["replay", file, "--side", "b", "--as", "bytes"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.err().contains("this side expects a Pod type"), "{}", refused.err());
}

#[test]
fn a_relay_loses_nothing_in_either_direction() {
    let place = Place::new();
    let config = place.config().message_tag("relayed/1");
    let mut a = Transport::create("near", &config).unwrap();
    let file = place.file("relay.mcap");
    let file = file.to_str().unwrap();
    let record = place.start(&["record", "near", "--relay", "far", "-o", file, "--wait", "60"]);
    let mut b = Transport::open_with("far", LONG, &config).unwrap();
    let message = |index: u32| {
        let len = if index.is_multiple_of(10) { 300 } else { 4 + index as usize % 60 };
        let mut bytes = vec![index as u8; len];
        bytes[..4].copy_from_slice(&index.to_ne_bytes());
        bytes
    };
    const COUNT: u32 = 3000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut copy = Vec::new();
            for index in 0..COUNT {
                b.recv_copied(&mut copy).unwrap();
                assert_eq!(copy, message(index));
                b.send(&index.to_ne_bytes()).unwrap();
            }
        });
        let (tx, rx) = a.halves();
        scope.spawn(move || {
            for index in 0..COUNT {
                assert_eq!(*rx.recv().unwrap(), index.to_ne_bytes());
            }
        });
        for index in 0..COUNT {
            let bytes = message(index);
            let mut span = tx.reserve_span(bytes.len()).unwrap();
            span.copy_from_slice(&bytes);
            span.commit(bytes.len());
        }
    });
    // An end goes through.
    drop(a);
    assert!(matches!(b.recv().map(|message| message.len()), Err(RecvError::Closed)));
    drop(b);
    let end = record.end();
    assert_eq!(end.code(), 0, "{}", end.err());
    assert!(end.err().contains("6000 messages recorded, 0 missed"), "{}", end.err());
    assert_eq!(info(&place, file).1, [u64::from(COUNT), u64::from(COUNT)]);

    let replay = place.start(&["replay", file, "--as", "replayed", "--speed", "0", "--wait", "60"]);
    let mut b = Transport::open_with("replayed", LONG, &config).unwrap();
    let mut copy = Vec::new();
    for index in 0..COUNT {
        b.recv_copied(&mut copy).unwrap();
        assert_eq!(copy, message(index));
    }
    assert!(matches!(b.recv().map(|message| message.len()), Err(RecvError::Closed)));
    assert_eq!(replay.end().code(), 0);
}

#[test]
fn a_relay_and_a_replay_are_taken_by_typed_sides() {
    let place = Place::new();
    let config = place.config().message_tag("pairs/1");
    let mut a = Channel::<[u64; 2], u32>::create("near", &config).unwrap();
    let file = place.file("typed.mcap");
    let file = file.to_str().unwrap();
    let record = place.start(&["record", "near", "--relay", "far", "-o", file, "--wait", "60"]);
    let mut b = Channel::<u32, [u64; 2]>::open_with("far", LONG, &config).unwrap();
    for index in 0..100u64 {
        a.send(&[index, index * index]).unwrap();
        assert_eq!(*b.recv().unwrap(), [index, index * index]);
        b.send(&(index as u32)).unwrap();
        assert_eq!(*a.recv().unwrap(), index as u32);
    }
    drop((a, b));
    assert!(record.end().err().contains("200 messages recorded, 0 missed"));
    // As either side.
    let replay = place.start(&["replay", file, "--as", "as-a", "--speed", "0", "--wait", "60"]);
    let mut b = Channel::<u32, [u64; 2]>::open_with("as-a", LONG, &config).unwrap();
    let mut a = Channel::<[u64; 2], u32>::create("as-b", &config).unwrap();
    let other = place.start(&["replay", file, "--as", "as-b", "--side", "b", "--speed", "0", "--wait", "60"]);
    for index in 0..100u64 {
        assert_eq!(*b.recv().unwrap(), [index, index * index]);
        assert_eq!(*a.recv().unwrap(), index as u32);
    }
    drop((a, b));
    assert_eq!((replay.end().code(), other.end().code()), (0, 0));
}

#[test]
fn a_recorder_that_is_killed_leaves_a_readable_file() {
    let place = Place::new();
    let (mut a, mut b) = place.pair("killed");
    let file = place.file("killed.mcap");
    let file = file.to_str().unwrap();
    let mut record = place.start(&["record", "killed", "-o", file]);
    eventually("it records", || std::fs::metadata(file).is_ok_and(|file| file.len() > 0));
    let begin = std::fs::metadata(file).unwrap().len();
    // Until a chunk is on the disk.
    let mut sent = 0u64;
    eventually("a chunk is written", || {
        a.send(&sent.to_ne_bytes()).unwrap();
        drop(b.recv().unwrap());
        sent += 1;
        std::fs::metadata(file).unwrap().len() > begin
    });
    record.child.kill().unwrap();
    record.end();
    let (json, counts) = info(&place, file);
    assert!(counts[0] > 0 && counts[0] <= sent && json["whole"] == false, "{json}");
    assert!(place.run(&["info", file]).good().contains("cut short"));
}

#[test]
fn several_channels_go_into_one_file_and_one_file_into_several() {
    let place = Place::new();
    let (mut a, _b) = place.pair("first");
    let (mut c, _d) = place.pair("second");
    a.send(b"one").unwrap();
    c.send(b"two").unwrap();
    let file = place.file("both.mcap");
    let file = file.to_str().unwrap();
    place.run(&["record", "first", "second", "-o", file, "-c", "2"]).good();
    let (json, counts) = info(&place, file);
    assert_eq!(counts, [1, 0, 1, 0]);
    assert_eq!(json["streams"][2]["channel"], "second");
    let which = place.run(&["replay", file, "--as", "x"]);
    assert_eq!(which.code(), 1);
    assert!(which.err().contains("--channel one of first, second"), "{}", which.err());

    for index in 0..8u8 {
        a.send(&[index]).unwrap();
    }
    let split = place.file("split.mcap");
    place.run(&["record", "first", "-o", split.to_str().unwrap(), "-c", "9", "--split-time", "0"]).good();
    let files = (1..9).map(|number| place.file(&format!("split-{number}.mcap"))).filter(|file| file.exists());
    assert_eq!(files.count(), 8);
    assert_eq!(info(&place, place.file("split-8.mcap").to_str().unwrap()).1, [1, 0]);
}

#[test]
fn recorded_schemas_are_told() {
    let place = Place::new();
    let mut a = CapnpChannel::<quotes::Owned>::create("quotes", &place.config().slot_size(1024)).unwrap();
    send_quotes(&mut a, "XETR", 7);
    let file = place.file("quotes.mcap");
    let file = file.to_str().unwrap();
    place.run(&["record", "quotes", "-o", file, "-c", "1", "--schema", &schema("schemas.cgr")]).good();
    assert_eq!(info(&place, file).0["streams"][0]["type_name"], "Quotes");
    // The identity is recorded, so a side B of the type accepts it.
    let replay = place.start(&["replay", file, "--as", "typed", "--wait", "60"]);
    let mut b = CapnpChannel::<quotes::Owned>::open_with("typed", LONG, &place.config()).unwrap();
    assert_eq!(b.recv().unwrap().get().unwrap().get_time(), 7);
    drop(b);
    assert_eq!(replay.end().code(), 0);
}

#[test]
fn a_recording_is_dumped_as_the_channel_was() {
    let place = Place::new();
    let (mut a, mut b) = place.pair("dumped");
    let (mut c, _d) = place.pair("other");
    for message in ["one", "two", "three"] {
        a.send(message.as_bytes()).unwrap();
    }
    b.send(b"back").unwrap();
    c.send(b"else").unwrap();
    let file = place.file("dumped.mcap");
    let file = file.to_str().unwrap();
    place.run(&["record", "dumped", "other", "-o", file, "-c", "5"]).good();
    let dump = |args: &[&str]| place.run(&[&["dump", "dumped", "--from", file][..], args].concat());
    assert_eq!(dump(&["--raw", "-d", "a-to-b"]).good(), "onetwothree");
    assert_eq!(dump(&["--raw", "-d", "b-to-a"]).good(), "back");
    let json = dump(&["--json", "--grep", "three"]).json();
    assert_eq!(
        (&json["direction"], &json["sequence"], &json["data"]),
        (&"a_to_b".into(), &2.into(), &"7468726565".into())
    );
    let all = dump(&[]);
    fits(&all.good());
    assert!(all.err().contains("4 messages printed, 0 missed; the recording ends"), "{}", all.err());
    let none = place.run(&["dump", "none", "--from", file]);
    assert_eq!(none.code(), 1);
    assert!(none.err().contains("it has dumped, other"), "{}", none.err());
    assert_eq!(place.run(&["dump", "dumped", "--from", "/nonexistent.mcap"]).code(), 3);
    assert_eq!(dump(&["--wait", "1"]).code(), 2);
}

#[test]
fn what_is_no_recording_is_said_to_be_none() {
    let place = Place::new();
    let file = place.file("text.mcap");
    std::fs::write(&file, b"this is no recording").unwrap();
    for command in ["info", "replay"] {
        let wrong = place.run(&[command, file.to_str().unwrap()]);
        assert_eq!(wrong.code(), 1);
        assert!(wrong.err().contains("no recording"), "{}", wrong.err());
        assert_eq!(place.run(&[command, "/nonexistent.mcap"]).code(), 3);
    }
    assert_eq!(place.run(&["record", "none", "-o", file.to_str().unwrap()]).code(), 3);
}

#[test]
fn a_bench_measures_both_and_leaves_nothing() {
    let place = Place::new();
    let report = place.run(&["bench", "--time", "0.05", "--json"]).json();
    for at in 0..2 {
        let trips = &report["round_trips"][at];
        let times = ["p50_ns", "p99_ns", "p999_ns", "max_ns"].map(|field| trips[field].as_u64().unwrap());
        // No machine moves two cache lines between two processes in so short a time.
        assert!(times[0] > 10 && times.is_sorted(), "{report}");
        assert!(trips["count"].as_u64().unwrap() > 0, "{report}");
        assert!(report["one_way"][at]["messages_per_s"].as_f64().unwrap() > 0.0, "{report}");
    }
    let text = place.run(&["bench", "--time", "0.02"]).good();
    fits(&text);
    assert!(text.contains("channel") && text.contains("socket"));
    assert_eq!(place.run(&["bench", "--size", "1"]).code(), 1);
    assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 0);
}

#[test]
fn top_draws_one_picture_where_there_is_no_terminal() {
    let place = Place::new();
    let (mut a, _b) = place.pair("pictured");
    a.send(b"x").unwrap();
    let text = place.run(&["top", "--once", "--interval", "0.05"]).good();
    fits(&text);
    assert!(text.contains("1 channel, 1 live") && text.contains("pictured"), "{text}");
    let refused = place.run(&["top"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.err().contains("needs a terminal"));
}
