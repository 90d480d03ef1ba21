//! A look at the files of a dead side A does not take them into memory, however large they are.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use capnproto_shm_transport::{Config, Missing, OpenError, Stats, Transport};
use common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn child() {
    play(&[("look", look), ("owner", owner)]);
}

/// Bytes of the leftovers' slots.
const LARGE: u64 = 512 << 20;

/// A whole segment with the header of a small one and the geometry of a large one: all of it but the header a hole.
fn enlarge(path: &Path, header: &[u8]) {
    const SLOT: u64 = 1 << 20;
    let file = File::create(path).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    let slots_offset = 4096 + 4096;
    let mut header = header.to_vec();
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(32, &(slots_offset + LARGE).to_ne_bytes());
    put(40, &(SLOT as u32).to_ne_bytes());
    put(44, &((LARGE / SLOT) as u32).to_ne_bytes());
    put(48, &(SLOT as u32).to_ne_bytes());
    put(64, &slots_offset.to_ne_bytes());
    file.write_all_at(&header, 0).unwrap();
    file.set_len(slots_offset + LARGE).unwrap();
}

/// Leaves the files of a dead side A under `name`.
fn leave(name: &Name) {
    let a = Transport::create(name, &Config::new().slot_size(64).slot_count(1)).unwrap();
    let headers = [name.a2b(), name.b2a()].map(|path| fs::read(path).unwrap()[..4096].to_vec());
    drop(a);
    for (path, header) in [name.a2b(), name.b2a()].iter().zip(headers) {
        enlarge(path, &header);
    }
}

/// Lets this process map so little more that none of a large segment fits.
fn map_no_more() {
    const LITTLE: u64 = 4 << 20;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    let now: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let maximum = getrlimit(Resource::As).maximum;
    setrlimit(Resource::As, Rlimit { current: Some((now << 10) + LITTLE), maximum }).unwrap();
}

fn opens_nothing(name: &str, wait: Duration) {
    match Transport::open(name, wait).unwrap_err() {
        OpenError::Timeout { missing: Missing::SideA, .. } => {}
        other => panic!("{other}"),
    }
}

/// Does one thing beside a leftover, in a process that can map none of it.
fn look(args: &[String]) {
    let name = args[0].as_str();
    map_no_more();
    match &*args[1] {
        "open" => opens_nothing(name, Duration::ZERO),
        "wait" => opens_nothing(name, Duration::from_millis(30)),
        "remove" => Transport::remove(name).unwrap(),
        "create" => {
            let mut a = Transport::create(name, &Config::new().slot_size(64).slot_count(64)).unwrap();
            a.send(b"in its place").unwrap();
        }
        // The limit holds: a process that does map a leftover is refused.
        "map" => assert!(matches!(Stats::of(name), Err(OpenError::Io { .. }))),
        other => panic!("{other}"),
    }
}

fn beside(name: &str, what: &str) {
    spawn("look", &[name, what]).join();
}

#[test]
fn opening_removing_and_creating_map_nothing_of_a_large_leftover() {
    let name = named("leftover");
    leave(&name);
    let blocks = || [name.a2b(), name.b2a()].map(|path| path.metadata().unwrap().blocks());
    let before = blocks();
    assert!(before.iter().all(|blocks| blocks * 512 < 1 << 20), "a leftover of holes: {before:?}");
    for what in ["map", "open", "wait"] {
        beside(&name, what);
        assert_eq!(blocks(), before, "{what} took memory");
    }
    beside(&name, "remove");
    assert_eq!(name.left().len(), 0);

    leave(&name);
    beside(&name, "create");
    assert_eq!(name.left().len(), 0);
}

/// Side A of a channel of 64 MiB each way.
fn owner(args: &[String]) {
    let _a = Transport::create(&args[0], &Config::new().slot_size(1 << 20).slot_count(64)).unwrap();
    say("there");
    hold();
}

#[test]
fn nor_of_what_a_killed_side_a_left() {
    let name = named("killed");
    let mut owner = spawn("owner", &[&name]);
    owner.wait_for("there");
    owner.kill();
    for what in ["map", "open", "wait", "remove"] {
        beside(&name, what);
    }
    assert_eq!(name.left().len(), 0);
}
