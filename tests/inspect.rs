//! Channels are listed for what they are, whatever stands in their directory, and nothing there is touched.

// The image of a segment in use cannot be read on Windows.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use capnproto_shm_transport::{
    Channel, ChannelInfo, Channels, Config, ConfigError, CreateError, Life, MessageKind, Missing, OpenError,
    PollMode, SegmentError, Side, Transport,
};
use common::*;

#[test]
fn child() {
    let hold_side: Role = |args| {
        let config = Config::new().directory(&args[1]).slot_count(4);
        let _side = match &*args[2] {
            "A" => Transport::create(&args[0], &config).unwrap(),
            _ => Transport::open_with(&args[0], LONG, &config).unwrap(),
        };
        say("there");
        hold();
    };
    play(&[("hold", hold_side)]);
}

/// A directory of one test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(label: &str) -> Self {
        let path = directory().join(unique(label));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn config(&self) -> Config {
        Config::new().directory(&self.0).slot_count(4).slot_size(64)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Every file's name, bytes and times.
fn image(directory: &Path) -> Vec<(PathBuf, Vec<u8>, i64, i64)> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let describe = |path: PathBuf| {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let bytes = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        (path, bytes, metadata.mtime(), metadata.mtime_nsec())
    };
    files.into_iter().map(describe).collect()
}

#[test]
fn a_channel_is_told_with_both_sides_and_both_rings() {
    let scratch = Scratch::new("inspect-whole");
    let config = scratch.config().message_tag("ticks/1").a_to_b(100, 8).poll(PollMode::Spin);
    let mut a = Transport::create("whole", &config).unwrap();
    let info = |name| ChannelInfo::of_with(name, &config).unwrap();
    let alone = info("whole");
    assert_eq!((alone.a.life, alone.b.life), (Life::Alive, Life::Absent));
    assert_eq!((alone.a.pid, alone.b.pid), (Some(std::process::id()), None));
    assert_eq!((alone.a.poll, alone.b.poll), (Some(PollMode::Spin), None));

    let mut b = Transport::open_with("whole", LONG, &scratch.config().poll(PollMode::Park)).unwrap();
    a.send(b"hello").unwrap();
    b.send(b"you").unwrap();
    assert_eq!(*a.recv().unwrap(), *b"you");
    let info = info("whole");
    assert_eq!(info.name, "whole");
    assert_eq!(info.directory, scratch.0);
    assert_eq!(info.tag.as_deref(), Some("ticks/1"));
    assert!(info.age().unwrap() < LONG && info.generation.is_some() && info.problem.is_none());
    assert_eq!((info.b.life, info.b.poll), (Life::Alive, Some(PollMode::Park)));
    assert!(!info.is_leftover());
    let (to_b, to_a) = (info.a_to_b.unwrap(), info.b_to_a.unwrap());
    assert_eq!((to_b.kind, to_b.stats.slot_size, to_b.stats.slot_count), (MessageKind::Bytes, 100, 8));
    assert_eq!((to_b.stats.messages, to_b.stats.bytes, to_b.stats.used_slots), (1, 5, 1));
    assert_eq!((to_a.stats.messages, to_a.stats.used_slots, to_a.file_bytes), (1, 0, 12288));
}

#[test]
fn a_side_that_sleeps_is_told() {
    let scratch = Scratch::new("inspect-sleeps");
    let mut a = Transport::create("sleeps", &scratch.config().poll(PollMode::Park)).unwrap();
    let mut b = Transport::open_with("sleeps", LONG, &scratch.config()).unwrap();
    let sleeps = |awaits: fn(&ChannelInfo) -> bool| {
        eventually("it sleeps", || awaits(&ChannelInfo::of_with("sleeps", &scratch.config()).unwrap()));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(*b.recv().unwrap(), *b"wake"));
        sleeps(|info| info.b.awaits_message && !info.a.awaits_room);
        a.send(b"wake").unwrap();
    });
    while a.try_send(b"fill").is_ok() {}
    std::thread::scope(|scope| {
        scope.spawn(|| a.send(b"more").unwrap());
        sleeps(|info| info.a.awaits_room);
        for sent in [b"fill", b"fill", b"fill", b"fill", b"more"] {
            assert_eq!(*b.recv().unwrap(), *sent);
        }
    });
}

#[test]
fn every_life_is_told_by_the_locks() {
    let scratch = Scratch::new("inspect-life");
    let lives = |name: &str| {
        let info = ChannelInfo::of_with(name, &scratch.config()).unwrap();
        (info.a.life, info.b.life, info.is_leftover())
    };
    let mut a = spawn("hold", &["one", scratch.path(), "A"]);
    a.wait_for("there");
    let mut b = spawn("hold", &["one", scratch.path(), "B"]);
    b.wait_for("there");
    assert_eq!(lives("one"), (Life::Alive, Life::Alive, false));
    b.kill();
    assert_eq!(lives("one"), (Life::Alive, Life::Dead, false));
    a.kill();
    assert_eq!(lives("one"), (Life::Dead, Life::Dead, true));

    let a = Transport::create("two", &scratch.config()).unwrap();
    let b = Transport::open_with("two", LONG, &scratch.config()).unwrap();
    drop(b);
    assert_eq!(lives("two"), (Life::Alive, Life::Closed, false));
    drop(a);
    let gone = ChannelInfo::of_with("two", &scratch.config()).unwrap_err();
    assert!(matches!(gone, OpenError::Timeout { missing: Missing::Channel, .. }));
}

#[test]
fn everything_is_listed_for_what_it_is_and_nothing_is_touched() {
    let scratch = Scratch::new("inspect-list");
    let _good = Channel::<u64>::create("good", &scratch.config()).unwrap();
    let sides: Vec<_> = ["half", "mixed", "other", "version", "short", "hostile"]
        .map(|name| Transport::create(name, &scratch.config()).unwrap())
        .into();
    fs::remove_file(scratch.file("half.fs.b2a")).unwrap();
    fs::copy(scratch.file("other.fs.b2a"), scratch.file("mixed.fs.b2a")).unwrap();
    let edit = |name: &str, at: u64, bytes: &[u8]| {
        let file = fs::OpenOptions::new().write(true).open(scratch.file(name)).unwrap();
        file.write_all_at(bytes, at).unwrap();
    };
    edit("version.fs.a2b", 8, &9u32.to_ne_bytes());
    edit("hostile.fs.b2a", 40, &u64::MAX.to_ne_bytes());
    fs::OpenOptions::new().write(true).open(scratch.file("short.fs.a2b")).unwrap().set_len(5000).unwrap();
    fs::copy(scratch.file("good.fs.b2a"), scratch.file("tail.fs.b2a")).unwrap();
    fs::write(scratch.file("foreign.fs.a2b"), b"something else").unwrap();
    fs::write(scratch.file("empty.fs.b2a"), b"").unwrap();
    fs::create_dir(scratch.file("folder.fs.a2b")).unwrap();
    symlink(scratch.file("good.fs.a2b"), scratch.file("link.fs.a2b")).unwrap();
    fs::write(scratch.file("no channel"), b"of ours").unwrap();
    fs::write(scratch.file(".fs.a2b"), b"no name").unwrap();
    let before = image(&scratch.0);

    let listed = Channels::list_with(&scratch.config()).unwrap();
    let names: Vec<_> = listed.iter().map(|info| &*info.name).collect();
    assert_eq!(
        names,
        [
            "empty", "folder", "foreign", "good", "half", "hostile", "link", "mixed", "other", "short",
            "tail", "version"
        ]
    );
    let of = |name: &str| listed.iter().find(|info| info.name == name).unwrap();
    let segment = |name: &str| match &of(name).problem {
        Some(OpenError::Segment { source, .. }) => source,
        other => panic!("{name}: {other:?}"),
    };
    let missing = |name: &str| match &of(name).problem {
        Some(OpenError::Timeout { missing, .. }) => *missing,
        other => panic!("{name}: {other:?}"),
    };
    let good = of("good");
    assert!(good.problem.is_none() && good.a.life == Life::Alive);
    assert_eq!(good.a_to_b.unwrap().kind, MessageKind::Pod { size: 8, align: 8 });
    assert!(matches!(segment("foreign"), SegmentError::Foreign));
    assert!(matches!(segment("empty"), SegmentError::Foreign));
    assert!(matches!(segment("folder"), SegmentError::NotAFile));
    assert!(matches!(segment("link"), SegmentError::NotAFile));
    assert!(matches!(segment("version"), SegmentError::Version { found: 9, supported: 2 }));
    assert!(matches!(segment("short"), SegmentError::Truncated { found: 5000, .. }));
    assert!(matches!(segment("hostile"), SegmentError::Geometry));
    assert_eq!(
        (missing("half"), missing("mixed"), missing("tail")),
        (Missing::Ready, Missing::Ready, Missing::SideA)
    );
    assert!(of("half").a_to_b.is_some() && of("half").b_to_a.is_none());
    // The readable parts of a broken channel are told all the same.
    assert_eq!(
        (of("half").a.life, of("hostile").a.life, of("short").a.life),
        (Life::Alive, Life::Alive, Life::Unknown)
    );
    assert!(of("tail").is_leftover() && !of("half").is_leftover());
    for info in &listed {
        let alone = ChannelInfo::of_with(&info.name, &scratch.config());
        assert_eq!(alone.is_ok(), info.problem.is_none(), "{}", info.name);
    }
    assert_eq!(image(&scratch.0), before, "nothing is touched");
    drop(sides);
}

#[test]
fn what_another_user_made_is_his() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new("inspect-owner");
    let _a = Transport::create("his", &scratch.config()).unwrap();
    for file in ["his.fs.a2b", "his.fs.b2a"] {
        std::os::unix::fs::chown(scratch.file(file), Some(12345), None).unwrap();
    }
    let listed = Channels::list_with(&scratch.config()).unwrap();
    let [his] = &*listed else { panic!("{listed:?}") };
    let Some(OpenError::Segment { source: SegmentError::Owner { found: 12345, .. }, .. }) = his.problem
    else {
        panic!("{his:?}");
    };
    assert_eq!((his.a.life, his.a_to_b), (Life::Unknown, None));
}

#[test]
fn what_cannot_be_looked_at_is_an_error() {
    let missing = Config::new().directory("/nonexistent-directory");
    assert_eq!(Channels::list_with(&missing).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert!(Channels::list_with(&Config::new().permissions(0o1777)).is_err());
    assert!(matches!(ChannelInfo::of("a/b"), Err(OpenError::Config(_))));
}

#[test]
fn the_systems_own_directory_is_the_default() {
    let name = named("inspect-default");
    let _a = Transport::create(&name, &Config::new()).unwrap();
    assert!(Channels::list().unwrap().iter().any(|info| info.name == *name));
    assert_eq!(ChannelInfo::of(&name).unwrap().directory, directory());
}

#[test]
fn a_side_is_asked_from_outside_to_wait_in_another_way() {
    let scratch = Scratch::new("inspect-mode");
    let a = Transport::create("mode", &scratch.config().poll(PollMode::Park)).unwrap();
    ChannelInfo::set_poll_mode("mode", &scratch.config(), Side::A, PollMode::Spin).unwrap();
    assert_eq!(a.poll_control().local(), PollMode::Spin);
    assert_eq!(ChannelInfo::of_with("mode", &scratch.config()).unwrap().a.poll, Some(PollMode::Spin));
    let none = ChannelInfo::set_poll_mode("none", &scratch.config(), Side::A, PollMode::Spin);
    assert!(matches!(none, Err(OpenError::Timeout { .. })));
}

#[test]
fn a_raw_side_a_may_say_what_its_bytes_are() {
    let scratch = Scratch::new("inspect-as");
    let (number, bytes) = (MessageKind::Pod { size: 8, align: 8 }, MessageKind::Bytes);
    let mut a = Transport::create("as", &scratch.config().sends(number)).unwrap();
    let info = ChannelInfo::of_with("as", &scratch.config()).unwrap();
    assert_eq!((info.a_to_b.unwrap().kind, info.b_to_a.unwrap().kind), (number, bytes));
    assert_eq!(info.a_to_b.unwrap().stats.slot_size, 8);
    let wrong = Channel::<u32, u32>::open_with("as", LONG, &scratch.config());
    assert!(matches!(wrong, Err(OpenError::Type { .. })));
    a.send(&7u64.to_ne_bytes()).unwrap();
    let refused = Transport::create("other", &scratch.config().sends(MessageKind::Other(9)));
    assert!(matches!(refused, Err(CreateError::Config(ConfigError::Kind { .. }))));
}
