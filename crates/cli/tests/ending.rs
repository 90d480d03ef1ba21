//! How commands end that something ends: Ctrl-C, a death, a program or a reader that is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use capnproto_shm_transport::{CapnpChannel, ChannelInfo, Life, RecvError, SendError, Transport};
use common::*;
use schemas::quotes_capnp::quotes;

#[test]
fn a_death_goes_through_a_relay_either_way() {
    let place = Place::new();
    let file = place.file("relay.mcap");
    let record =
        || place.start(&["record", "near", "--relay", "far", "-o", file.to_str().unwrap(), "--wait", "60"]);
    for dies in ["near", "far"] {
        let mut near = Transport::create("near", &place.config()).unwrap();
        let relay = record();
        let mut far = Transport::open_with("far", LONG, &place.config()).unwrap();
        near.wait_for_peer(LONG).unwrap();
        near.send(b"last").unwrap();
        far.send(b"last").unwrap();
        let (victim, mut survivor) = if dies == "near" { (near, far) } else { (far, near) };
        victim.abandon();
        // The messages sent before come first.
        assert_eq!(&*survivor.recv_timeout(LONG).unwrap(), b"last");
        let end = survivor.recv_timeout(LONG).map(drop);
        assert!(matches!(end, Err(RecvError::PeerDead)), "{dies}: {end:?}");
        eventually("a sender learns of it", || matches!(survivor.send(b"x"), Err(SendError::PeerDead)));
        let end = relay.end();
        assert_eq!(end.code(), 0, "{}", end.err());
    }
}

#[test]
fn ctrl_c_ends_a_wait_for_a_channel() {
    let place = Place::new();
    let (mut a, _b) = place.pair("recorded");
    a.send(b"x").unwrap();
    let file = place.file("recorded.mcap");
    let file = file.to_str().unwrap();
    place.run(&["record", "recorded", "-o", file, "-c", "1"]).good();
    for args in [
        &["replay", file, "--side", "b", "--as", "none", "--wait", "100000"][..],
        &["record", "none", "--relay", "far", "-o", file, "--wait", "100000"],
        &["record", "none", "-o", file, "--wait", "100000"],
        &["dump", "none", "--wait", "100000"],
    ] {
        let mut started = place.start(args);
        eventually("it heeds Ctrl-C", || started.catches_ctrl_c());
        started.interrupt();
        eventually("it ends", || started.child.try_wait().unwrap().is_some());
        assert_eq!(started.end().code(), 3, "{args:?}");
    }
}

#[test]
fn ctrl_c_in_a_bench_leaves_nothing() {
    let place = Place::new();
    let bench = place.start(&["bench", "--time", "100000"]);
    let name = format!("capnp-shm-bench-{}", bench.child.id());
    let both = |info: ChannelInfo| info.b.life == Life::Alive;
    eventually("it measures", || ChannelInfo::of_with(&name, &place.config()).is_ok_and(both));
    bench.interrupt();
    let end = bench.end();
    assert_eq!(end.code(), 1);
    assert_eq!(end.err(), "capnp-shm: interrupted\n");
    assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 0);
}

#[test]
fn a_decoder_that_ends_is_an_error_and_no_reader_that_has_seen_enough() {
    let place = Place::new();
    let config = place.config().slot_size(1024);
    let mut a = CapnpChannel::<quotes::Owned>::create("quotes", &config).unwrap();
    for _ in 0..2 {
        a.send(|mut quote: quotes::Builder<'_>| {
            quote.set_time(7);
            Ok(())
        })
        .unwrap();
    }
    // A tool that gives up after one message.
    let tools = place.file("tools");
    std::fs::create_dir(&tools).unwrap();
    let tool = tools.join("capnp");
    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/");
    let script = format!(
        "#!/bin/sh\nif [ $1 = compile ]; then exec cat {schemas}schemas.cgr; fi\nexec 0<&-\necho '(time = 7)'\n"
    );
    std::fs::write(&tool, script).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let mut command = place.command(&["dump", "quotes", "--schema", &format!("{schemas}quotes.capnp")]);
    let dump = Run(command.env("PATH", path).output().unwrap());
    assert_eq!(dump.code(), 1, "{}{}", dump.out(), dump.err());
    assert!(dump.err().contains("takes no more messages"), "{}", dump.err());
}

#[test]
fn an_error_that_nobody_reads_is_told_by_the_exit_code() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = place.command(&["stat", "none"]).stdout(Stdio::null()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(3));
}

#[test]
fn a_time_that_no_clock_counts_is_refused() {
    let place = Place::new();
    let _pair = place.pair("x");
    for args in [&["ls", "--interval", "1e19"][..], &["top", "--once", "--interval", "1e300"]] {
        let run = place.run(args);
        assert!(run.code() == 2 && run.err().contains("at most 1000000000"), "{}", run.err());
    }
}
