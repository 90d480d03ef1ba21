//! An error names the obstacle, with what was asked and what is allowed, and leaves the obstacle as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use capnproto_shm_transport::{
    Config, ConfigError, CreateError, OpenError, RemoveError, SegmentError, SendError, Stats, Transport,
};
use common::*;

#[test]
fn child() {
    play(&[
        ("leave", leave),
        #[cfg(target_os = "linux")]
        ("small", in_a_small_directory),
        #[cfg(target_os = "linux")]
        ("owner", owner),
    ]);
}

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4)
}

/// The message says everything that its reader needs.
#[track_caller]
fn says(error: &dyn std::error::Error, parts: &[&str]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text:?} lacks one of {parts:?}");
}

#[test]
fn names_that_cannot_be() {
    let long = "n".repeat(201);
    let mut names = vec!["", "a/b", "/", "../up", "a\\b", "nul\0", "line\n", &long];
    if cfg!(windows) {
        names.push("a:b");
    }
    for name in names {
        let errors: [Box<dyn std::error::Error>; 4] = [
            Box::new(Transport::create(name, &config()).unwrap_err()),
            Box::new(Transport::open(name, Duration::ZERO).unwrap_err()),
            Box::new(Transport::remove(name).unwrap_err()),
            Box::new(Stats::of(name).unwrap_err()),
        ];
        for error in &errors {
            says(&**error, &[&format!("{name:?}"), "1 to 200 bytes", "separators"]);
        }
        let asked = |error: &ConfigError| matches!(error, ConfigError::Name { name: n, .. } if n == name);
        assert!(matches!(Transport::create(name, &config()), Err(CreateError::Config(e)) if asked(&e)));
        assert!(matches!(Transport::open(name, LONG), Err(OpenError::Config(e)) if asked(&e)));
        assert!(matches!(Transport::remove(name), Err(RemoveError::Config(e)) if asked(&e)));
    }
    // The longest name, and one beyond ASCII.
    for label in ["x".repeat(200 - unique("").len() - 4), "größe 量".to_owned()] {
        let name = named(&label);
        drop(Transport::create(&name, &config()).unwrap());
    }
}

fn refused(config: &Config) -> ConfigError {
    let name = named("refused");
    let error = match Transport::create(&name, config) {
        Err(CreateError::Config(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(name.left().len(), 0);
    error
}

#[test]
fn sizes_and_options_that_cannot_be() {
    for count in [0, 3, 1000, usize::MAX] {
        let error = refused(&config().slot_count(count));
        assert!(matches!(error, ConfigError::SlotCount { asked } if asked == count));
        says(&error, &[&count.to_string(), "power of two", "at least 1"]);
    }
    let error = refused(&config().slot_size(0));
    assert!(matches!(error, ConfigError::SlotSize { asked: 0, least: 1 }));
    says(&error, &["slot_size 0", "at least 1 byte"]);

    let huge = 1 << (usize::BITS - 1);
    for (size, count) in [(usize::MAX, 1), (1, huge), (huge, huge), (1 << 20, 1 << 12), (usize::MAX / 2, 2)] {
        let error = refused(&Config::new().slot_size(size).slot_count(count));
        assert!(
            matches!(error, ConfigError::TooLarge { slot_size, slot_count, allowed }
                if (slot_size, slot_count, allowed) == (size, count, 1 << 32)),
            "{error}"
        );
        says(&error, &[&size.to_string(), &count.to_string(), "4294967296 bytes"]);
    }

    let error = refused(&config().message_tag(&"t".repeat(65)));
    assert!(matches!(error, ConfigError::Tag { bytes: 65, allowed: 64 }));
    says(&error, &["65 bytes", "at most 64"]);
    for mode in [0o400, 0o060, 0o4600, 0] {
        let error = refused(&config().permissions(mode));
        assert!(matches!(error, ConfigError::Permissions { asked } if asked == mode));
        says(&error, &[&format!("{mode:#o}"), "0o600", "0o777"]);
    }
    if cfg!(not(target_os = "linux")) {
        assert!(matches!(refused(&config().numa_node(0)), ConfigError::Unsupported { .. }));
    }
}

#[test]
fn messages_that_do_not_fit() {
    let name = named("too-large");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let check = |error: SendError, asked: usize, allowed: usize| {
        says(&error, &[&format!("{asked} bytes"), &format!("{allowed} bytes")]);
        assert!(
            matches!(error, SendError::TooLarge { needed, capacity } if (needed, capacity) == (asked, allowed)),
            "{error}"
        );
    };
    check(a.try_send(&[0; 65]).unwrap_err(), 65, 64);
    check(a.send(&[0; 65]).unwrap_err(), 65, 64);
    check(a.send_timeout(&[0; 65], LONG).unwrap_err(), 65, 64);
    check(a.batch().try_send(&[0; 65]).unwrap_err(), 65, 64);
    for bytes in [257, usize::MAX] {
        check(a.try_reserve_span(bytes).unwrap_err(), bytes, 256);
        check(a.reserve_span(bytes).unwrap_err(), bytes, 256);
        check(a.reserve_span_timeout(bytes, LONG).unwrap_err(), bytes, 256);
    }
    assert_eq!((a.stats().tx.messages, a.stats().tx.used_slots), (0, 0));
    a.reserve_span(256).unwrap().commit(256);
    assert_eq!(b.recv().unwrap().len(), 256);
    a.send(&[7; 64]).unwrap();
    assert_eq!(&*b.recv().unwrap(), [7; 64]);
}

/// The bytes of two good segments, which nobody holds.
fn leftover(name: &Name) -> [Vec<u8>; 2] {
    let mut dead = spawn("leave", &[name]);
    dead.wait_for("there");
    dead.kill();
    [name.a2b(), name.b2a()].map(|path| {
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        bytes
    })
}

/// Side A that is killed.
fn leave(args: &[String]) {
    let _a = Transport::create(&args[0], &config()).unwrap();
    say("there");
    hold();
}

/// Puts `bytes` in place of the first and of the second segment, and shows that create, open, remove and
/// `Stats::of` refuse it as `expected` and leave it as it is.
fn stands_in_the_way(what: &str, change: impl Fn(&mut Vec<u8>), expected: impl Fn(&SegmentError) -> bool) {
    let name = named("way");
    let good = leftover(&name);
    for second in [false, true] {
        let path = if second { name.b2a() } else { name.a2b() };
        let mut bytes = good[usize::from(second)].clone();
        change(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        is_refused(what, &name, &path, second, &expected);
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}: it was changed");
        assert_eq!(name.left(), [path.as_path()], "{what}: something was left");
        fs::remove_file(&path).unwrap();
    }
}

/// Every operation on `name` stops at `path`.
fn is_refused(
    what: &str,
    name: &Name,
    path: &PathBuf,
    second: bool,
    expected: &dyn Fn(&SegmentError) -> bool,
) {
    let check = |operation: &str, at: &PathBuf, error: &SegmentError| {
        assert!(at == path && expected(error), "{what}, {operation}: {error} at {}", at.display());
    };
    let shown = path.display().to_string();
    match Transport::create(name, &config()).unwrap_err() {
        CreateError::Segment { path: at, source } => check("create", &at, &source),
        other => panic!("{what}, create: {other}"),
    }
    says(&Transport::create(name, &config()).unwrap_err(), &[&shown, "in the way"]);
    match Transport::remove(name).unwrap_err() {
        RemoveError::Segment { path: at, source } => check("remove", &at, &source),
        other => panic!("{what}, remove: {other}"),
    }
    // An opener looks at the second segment only if the first is good.
    if second {
        return;
    }
    match Transport::open(name, Duration::ZERO).unwrap_err() {
        OpenError::Segment { path: at, source } => check("open", &at, &source),
        other => panic!("{what}, open: {other}"),
    }
    match Stats::of(name).unwrap_err() {
        OpenError::Segment { path: at, source } => check("stats", &at, &source),
        other => panic!("{what}, stats: {other}"),
    }
}

#[test]
fn files_that_are_no_whole_segment_of_ours() {
    stands_in_the_way("empty", Vec::clear, |e| matches!(e, SegmentError::Foreign));
    stands_in_the_way(
        "foreign",
        |b| *b = b"somebody's notes".to_vec(),
        |e| matches!(e, SegmentError::Foreign),
    );
    stands_in_the_way(
        "cut in the header",
        |b| b.truncate(100),
        |e| {
            says(e, &["100 bytes", "4096"]);
            matches!(e, SegmentError::Truncated { expected: 4096, found: 100 })
        },
    );
    stands_in_the_way(
        "cut in the slots",
        |b| b.truncate(8192),
        |e| {
            says(e, &["8192 bytes", "12288"]);
            matches!(e, SegmentError::Truncated { expected: 12288, found: 8192 })
        },
    );
    stands_in_the_way(
        "too long",
        |b| b.push(0),
        |e| matches!(e, SegmentError::Truncated { expected: 12288, found: 12289 }),
    );
    stands_in_the_way(
        "version",
        |b| b[8..12].copy_from_slice(&7_u32.to_ne_bytes()),
        |e| {
            says(e, &["version 7", "speaks 2", "same version on both sides"]);
            matches!(e, SegmentError::Version { found: 7, supported: 2 })
        },
    );
    stands_in_the_way(
        "byte order",
        |b| b[12..16].reverse(),
        |e| {
            says(e, &["byte order", "0x04030201"]);
            matches!(e, SegmentError::Endianness { found: 0x0403_0201 })
        },
    );
    let fields = [16, 20, 32, 40, 44, 48, 56, 64, 97, 100, 176, 255];
    for at in fields {
        stands_in_the_way(&format!("byte {at}"), |b| b[at] ^= 3, |e| matches!(e, SegmentError::Geometry));
    }
}

#[cfg(unix)] // elsewhere a segment in use cannot be replaced
#[test]
fn an_opener_checks_the_second_segment_of_a_live_channel_too() {
    let name = named("second");
    let a = Transport::create(&name, &config()).unwrap();
    fs::remove_file(name.b2a()).unwrap();
    fs::write(name.b2a(), b"somebody's notes").unwrap();
    match Transport::open(&name, LONG).unwrap_err() {
        OpenError::Segment { path, source: SegmentError::Foreign } => assert_eq!(path, name.b2a()),
        other => panic!("{other}"),
    }
    drop(a);
    assert_eq!(name.left(), [name.b2a()], "its own file is gone, the other's is not");
    assert_eq!(fs::read(name.b2a()).unwrap(), b"somebody's notes");
}

#[test]
fn a_directory_in_place_of_a_segment() {
    for second in [false, true] {
        let name = named("directory");
        let path = if second { name.b2a() } else { name.a2b() };
        fs::create_dir(&path).unwrap();
        is_refused("directory", &name, &path, second, &|e| matches!(e, SegmentError::NotAFile));
        assert!(path.is_dir());
        assert_eq!(name.left(), [path]);
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_place_of_a_segment_is_not_followed() {
    for second in [false, true] {
        let (name, other) = (named("link"), named("linked"));
        let target = leftover(&other);
        fs::write(other.a2b(), &target[usize::from(second)]).unwrap();
        let path = if second { name.b2a() } else { name.a2b() };
        for target in [other.a2b(), directory().join("nowhere")] {
            std::os::unix::fs::symlink(&target, &path).unwrap();
            is_refused("link", &name, &path, second, &|e| {
                says(e, &["not a regular file", "no symbolic link"]);
                matches!(e, SegmentError::NotAFile)
            });
            assert_eq!(fs::read_link(&path).unwrap(), target);
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read(other.a2b()).unwrap(), target[usize::from(second)], "the target was changed");
        assert_eq!(name.left(), [] as [PathBuf; 0]);
    }
}

#[cfg(unix)]
#[test]
fn a_file_of_another_user() {
    use std::os::unix::fs::{MetadataExt, chown};

    let me = rustix::process::geteuid().as_raw();
    for second in [false, true] {
        let name = named("owner");
        let bytes = leftover(&name);
        let path = if second { name.b2a() } else { name.a2b() };
        fs::write(&path, &bytes[usize::from(second)]).unwrap();
        if chown(&path, Some(me + 1), None).is_err() {
            eprintln!("SKIPPED: only root can give a file away");
            return;
        }
        is_refused("owner", &name, &path, second, &|e| {
            says(e, &[&format!("user {}", me + 1), &format!("user {me}"), "permissions"]);
            matches!(e, SegmentError::Owner { found, expected } if (*found, *expected) == (me + 1, me))
        });
        assert_eq!(
            (fs::read(&path).unwrap(), path.metadata().unwrap().uid()),
            (bytes[usize::from(second)].clone(), me + 1)
        );
    }
}

#[cfg(unix)]
#[test]
fn segments_are_private_unless_asked_otherwise_and_an_opener_can_insist() {
    use std::os::unix::fs::MetadataExt;

    let name = named("mode");
    let mode = |path: PathBuf| path.metadata().unwrap().mode() & 0o7777;
    let a = Transport::create(&name, &config()).unwrap();
    assert_eq!((mode(name.a2b()), mode(name.b2a())), (0o600, 0o600));
    drop(a);
    let _a = Transport::create(&name, &config().permissions(0o666)).unwrap();
    assert_eq!((mode(name.a2b()), mode(name.b2a())), (0o666, 0o666), "whatever the umask");
    match Transport::open_with(&name, LONG, &config().permissions(0o660)).unwrap_err() {
        OpenError::Segment {
            source: source @ SegmentError::Mode { found: 0o666, expected: 0o660 }, ..
        } => {
            says(&source, &["0o666", "0o660"]);
        }
        other => panic!("{other}"),
    }
    drop(Transport::open_with(&name, LONG, &config().permissions(0o666)).unwrap());
}

/// With 1 MiB in the directory, which nobody else uses.
#[cfg(target_os = "linux")]
fn in_a_small_directory(_: &[String]) {
    let name = named("no-space");
    match Transport::create(&name, &Config::new().slot_size(1024).slot_count(1024)).unwrap_err() {
        error @ CreateError::NoSpace { .. } => {
            let CreateError::NoSpace { ref directory, needed, available } = error else { unreachable!() };
            assert_eq!((directory, needed), (&PathBuf::from("/dev/shm"), 1_056_768));
            assert!(available <= 1 << 20);
            says(&error, &["1056768 bytes", "/dev/shm", &format!("{available} left"), "smaller slots"]);
        }
        other => panic!("{other}"),
    }
    assert_eq!(name.left(), [] as [PathBuf; 0]);
    // The first segment fits, the second does not: neither stays, and their space is free again.
    let fits_once = Config::new().slot_size(600 << 10).slot_count(1);
    assert!(matches!(Transport::create(&name, &fits_once), Err(CreateError::NoSpace { .. })));
    assert_eq!(name.left(), [] as [PathBuf; 0]);
    drop(Transport::create(&name, &Config::new().slot_size(400 << 10).slot_count(1)).unwrap());
    // A live channel that fills the directory is in use; a dead one is reclaimed.
    let half = Config::new().slot_size(400 << 10).slot_count(1);
    let mut owner = spawn("owner", &[&name]);
    owner.wait_for("there");
    assert!(matches!(Transport::create(&name, &half), Err(CreateError::InUse { .. })));
    owner.kill();
    drop(Transport::create(&name, &half).unwrap());
    say("refused");
}

/// Side A of a channel that fills a small directory.
#[cfg(target_os = "linux")]
fn owner(args: &[String]) {
    let _a = Transport::create(&args[0], &Config::new().slot_size(400 << 10).slot_count(1)).unwrap();
    say("there");
    hold();
}

#[cfg(target_os = "linux")]
#[test]
fn segments_that_the_directory_cannot_hold() {
    let mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm";
    let alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
    let probe = std::process::Command::new(alone[0]).args(&alone[1..]).arg(mount).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this system gives us no /dev/shm of our own");
        return;
    }
    let mut peer =
        spawn_through(&[&alone[..], &[&format!("{mount} && exec \"$0\" \"$@\"")]].concat(), "small", &[]);
    peer.wait_for("refused");
    peer.join();
}
