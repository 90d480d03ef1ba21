//! A request that the system does not allow is refused with a reason, and leaves nothing; and the places of the segments.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use capnproto_shm_transport::{
    Config, ConfigError, CreateError, Missing, OpenError, RemoveError, Stats, Transport,
};
use common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn child() {
    play(&[
        ("file_size", file_size),
        ("few_inodes", few_inodes),
        ("elsewhere", elsewhere),
        ("by_environment", by_environment),
        ("locks", locks),
        ("may_not_lock", may_not_lock),
    ]);
}

/// Lowers a limit of this process.
fn limit(resource: Resource, current: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(current), maximum }).unwrap();
}

/// With files of up to 64 KiB. A signal that says that one grew larger would end this process.
fn file_size(args: &[String]) {
    const ALLOWED: u64 = 64 << 10;
    limit(Resource::Fsize, ALLOWED);
    let name = named("file-size");
    let refused = |error: CreateError, least: u64| match error {
        CreateError::FileSizeLimit { needed, allowed } => {
            assert!(allowed == ALLOWED && needed > least, "{needed}, {allowed}");
            assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
        }
        other => panic!("{other}"),
    };
    let large = Config::new().slot_size(1 << 20).slot_count(1);
    refused(Transport::create(&name, &large).unwrap_err(), 1 << 20);
    refused(Transport::pair(&large).unwrap_err(), 1 << 20);
    // The first segment fits, the second does not.
    let second = Config::new().a_to_b(8, 1).b_to_a(1 << 20, 1);
    refused(Transport::create(&name, &second).unwrap_err(), 1 << 20);
    refused(Transport::pair(&second).unwrap_err(), 1 << 20);
    // A page too much, and exactly as much as is allowed: 4096 of header, 4096 of lengths.
    let exact = ALLOWED as usize - 8192;
    let more = Config::new().slot_size(exact + 1).slot_count(1);
    refused(Transport::create(&name, &more).unwrap_err(), ALLOWED);
    assert_eq!(name.left(), [] as [PathBuf; 0]);
    let exact = Config::new().slot_size(exact).slot_count(1);
    let mut a = Transport::create(&name, &exact).unwrap();
    a.send(b"fits").unwrap();
    assert_eq!(&*Transport::open(&name, LONG).unwrap().recv().unwrap(), b"fits");
    Transport::pair(&exact).unwrap();
    // A channel that exists can be joined however large it is: its files grow no more.
    let mut b = Transport::open(&args[0], LONG).unwrap();
    let mut span = b.reserve_span(1 << 20).unwrap();
    span.fill(7);
    span.commit(1 << 20);
    assert_eq!(&*b.recv().unwrap(), b"joined");
}

#[test]
fn a_segment_above_the_limit_for_files_is_refused_and_kills_nobody() {
    let name = named("large");
    let mut a = Transport::create(&name, &Config::new()).unwrap();
    let peer = spawn("file_size", &[&name]);
    assert_eq!(&*a.recv_timeout(LONG).unwrap(), [7; 1 << 20]);
    a.send(b"joined").unwrap();
    peer.join();
}

/// A directory of a test's own, in memory.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let place = Self(directory().join(unique("place")));
        fs::create_dir(&place.0).unwrap();
        place
    }

    fn entries(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// In a directory with room for so many files.
fn few_inodes(args: &[String]) {
    let (place, room) = (Path::new(&args[0]), args[1].parse::<usize>().unwrap());
    let config = Config::new().slot_size(8).slot_count(1).directory(place);
    let files = || fs::read_dir(place).unwrap().count();
    let refused = |name: &str| match Transport::create(name, &config).unwrap_err() {
        CreateError::NoInodes { directory } => assert_eq!(directory, place),
        other => panic!("{other}"),
    };
    if room < 2 {
        // Not even one channel: neither of its files stays.
        refused("first");
        assert_eq!(files(), 0);
        return say("done");
    }
    let mut a = Transport::create("first", &config).unwrap();
    refused("second");
    assert_eq!(files(), 2);
    let mut b = Transport::open_with("first", LONG, &config).unwrap();
    a.send(b"on").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"on");
    drop(a);
    drop(b);
    drop(Transport::create("second", &config).unwrap());
    assert_eq!(files(), 0);
    say("done");
}

#[test]
fn a_directory_that_is_out_of_inodes() {
    let alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
    for room in 0..3usize {
        let place = Place::new();
        let options = format!("size=1m,nr_inodes={}", room + 1);
        let mount = format!("mount -t tmpfs -o {options} tmpfs {}", place.text());
        let probe = Command::new(alone[0]).args(&alone[1..]).arg(&mount).output();
        if !probe.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: this system lets us mount nothing");
            return;
        }
        let start = format!("{mount} && exec \"$0\" \"$@\"");
        let starter = [&alone[..], &[&start]].concat();
        let mut peer = spawn_through(&starter, "few_inodes", &[place.text(), &room.to_string()]);
        peer.wait_for("done");
        peer.join();
    }
}

/// Side B of a channel in a directory that the configuration names, or in the usual one.
fn elsewhere(args: &[String]) {
    let config = if args[1].is_empty() { Config::new() } else { Config::new().directory(&args[1]) };
    let mut b = Transport::open_with(&args[0], LONG, &config).unwrap();
    b.send(b"found").unwrap();
    say("there");
    hold();
}

#[test]
fn a_channel_lies_where_its_configuration_says() {
    let (place, name) = (Place::new(), named("configured"));
    let config = Config::new().slot_count(4).directory(&place.0);
    let mut a = Transport::create(&name, &config).unwrap();
    assert_eq!((place.entries(), name.left().len()), (2, 0));
    // A side that does not know of the directory does not find it, and has the name for itself elsewhere.
    let error = Transport::open(&name, Duration::ZERO).unwrap_err();
    assert!(matches!(error, OpenError::Timeout { missing: Missing::Channel, .. }), "{error}");
    let other = Transport::create(&name, &Config::new()).unwrap();
    let mut peer = spawn("elsewhere", &[&name, place.text()]);
    assert_eq!(&*a.recv_timeout(LONG).unwrap(), b"found");
    assert!(!other.peer_attached());
    drop(other);
    // The leftover of a dead side A is removed where it lies.
    assert!(matches!(Transport::remove_with(&name, &config), Err(RemoveError::InUse { .. })));
    assert!(matches!(Transport::remove(&name), Err(RemoveError::NotFound { .. })));
    let files = ["a2b", "b2a"].map(|ring| place.0.join(format!("{}.fs.{ring}", &*name)));
    let bytes = files.each_ref().map(|file| fs::read(file).unwrap());
    drop(a);
    assert_eq!(place.entries(), 0);
    for (file, bytes) in files.iter().zip(bytes) {
        fs::write(file, bytes).unwrap();
    }
    assert!(matches!(Transport::remove(&name), Err(RemoveError::NotFound { .. })));
    Transport::remove_with(&name, &config).unwrap();
    assert!(matches!(Transport::remove_with(&name, &config), Err(RemoveError::NotFound { .. })));
    assert_eq!(place.entries(), 0);
    // And reopened there.
    let a = Transport::create(&name, &config).unwrap();
    let mut b = Transport::open_with(&name, LONG, &config).unwrap();
    drop(a);
    let mut a = Transport::create(&name, &config).unwrap();
    b.reopen(LONG).unwrap();
    a.send(b"again").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"again");
    peer.go();
    peer.join();
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let config = Config::new().directory("/dev/shm/no/such/directory");
    let error = Transport::create("x", &config).unwrap_err();
    assert!(matches!(error, CreateError::Io { .. }), "{error}");
    let error = Transport::open_with("x", Duration::ZERO, &config).unwrap_err();
    assert!(matches!(error, OpenError::Timeout { missing: Missing::Channel, .. }), "{error}");
    assert!(matches!(Transport::remove_with("x", &config), Err(RemoveError::NotFound { .. })));
}

/// In a process whose environment names a directory.
fn by_environment(args: &[String]) {
    let [name, first, second] = args else { panic!("{args:?}") };
    let entries = |place: &str| fs::read_dir(place).unwrap().count();
    let mut a = Transport::create(name, &Config::new().slot_count(4)).unwrap();
    assert_eq!((entries(first), entries(second)), (2, 0));
    a.send(b"counted").unwrap();
    assert_eq!(Stats::of(name).unwrap().tx.messages, 1);
    // The configuration has the last word.
    let config = Config::new().directory(second);
    drop(Transport::create(name, &config).unwrap());
    let _second = Transport::create(name, &config).unwrap();
    assert_eq!((entries(first), entries(second)), (2, 2));
    assert!(matches!(Transport::remove(name), Err(RemoveError::InUse { .. })));
    assert_eq!(&*Transport::open(name, LONG).unwrap().recv().unwrap(), b"counted");
    drop(a);
    assert_eq!(entries(first), 0);
    assert!(matches!(Transport::remove(name), Err(RemoveError::NotFound { .. })));
    say("done");
}

#[test]
fn a_channel_lies_where_the_environment_says() {
    let (first, second, name) = (Place::new(), Place::new(), named("environment"));
    let variable = format!("CAPNPROTO_SHM_DIR={}", first.text());
    let mut peer =
        spawn_through(&["env", &variable], "by_environment", &[&name, first.text(), second.text()]);
    peer.wait_for("done");
    peer.join();
    assert_eq!(name.left().len(), 0);
    // An empty variable says nothing: this child finds a channel in the usual place.
    let mut a = Transport::create(&name, &Config::new()).unwrap();
    let peer = spawn_through(&["env", "CAPNPROTO_SHM_DIR="], "elsewhere", &[&name, ""]);
    assert_eq!(&*a.recv_timeout(LONG).unwrap(), b"found");
    peer.join();
}

/// KiB of this process that are kept in memory.
fn locked() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// With memory that is kept: only each side's mappings, and only as long as they last.
fn locks(args: &[String]) {
    let config = Config::new().slot_size(64).slot_count(64).lock_memory(true);
    let before = locked();
    let a = match Transport::create(&args[0], &config) {
        Ok(a) => a,
        Err(CreateError::Config(ConfigError::Unsupported { option: "lock_memory", reason })) => {
            return say(&format!("SKIPPED: {reason}"));
        }
        Err(error) => panic!("{error}"),
    };
    let one_side = locked() - before;
    // Two segments, each a page of header, a page of lengths and a page of slots at least.
    assert!(one_side >= 2 * 12, "{one_side} KiB");
    let b = Transport::open_with(&args[0], LONG, &config).unwrap();
    assert_eq!(locked() - before, 2 * one_side);
    // Each side decides for itself.
    drop(b);
    drop(a);
    assert_eq!(locked(), before);
    let _a = Transport::create(&args[0], &config).unwrap();
    let _b = Transport::open(&args[0], LONG).unwrap();
    assert_eq!(locked() - before, one_side);
    say("done");
}

#[test]
fn locked_memory_is_kept_as_long_as_it_is_mapped() {
    let name = named("locked");
    let mut peer = spawn("locks", &[&name]);
    let said = std::iter::repeat_with(|| peer.line()).find(|line| line == "done" || line.contains("SKIPPED"));
    eprintln!("{}", said.unwrap());
    peer.join();
}

/// May keep nothing in memory.
fn may_not_lock(args: &[String]) {
    let name = &args[0];
    limit(Resource::Memlock, 0);
    let config = Config::new().lock_memory(true);
    let says = |error: &ConfigError| match error {
        ConfigError::Unsupported { option, reason } => {
            assert!(*option == "lock_memory" && reason.contains("ulimit -l"), "{error}");
        }
        other => panic!("{other}"),
    };
    match Transport::create(&format!("{name}-mine"), &config) {
        Err(CreateError::Config(error)) => says(&error),
        other => panic!("{:?}", other.map(|_| ())),
    }
    match Transport::open_with(name, LONG, &config) {
        Err(OpenError::Config(error)) => says(&error),
        other => panic!("{:?}", other.map(|_| ())),
    }
    say("refused");
}

#[test]
fn memory_that_may_not_be_locked_is_refused_and_nothing_is_left() {
    let name = named("may-not");
    let mut a = Transport::create(&name, &Config::new()).unwrap();
    // Root may lock what it likes, unless it has lost the right to.
    let powerless = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
    let root = rustix::process::geteuid().is_root();
    if root
        && !Command::new(powerless[0]).args(&powerless[1..]).arg("true").status().is_ok_and(|s| s.success())
    {
        eprintln!("SKIPPED: setpriv takes no right away here");
        return;
    }
    let mut peer = spawn_through(if root { &powerless } else { &[] }, "may_not_lock", &[&name]);
    peer.wait_for("refused");
    peer.join();
    assert_eq!(name.left().len(), 2, "the files of this channel and no others");
    // The refused side B was never there.
    assert!(!a.peer_attached());
    let mut b = Transport::open(&name, LONG).unwrap();
    a.send(b"free").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"free");
}
