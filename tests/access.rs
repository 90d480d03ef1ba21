//! A channel is its user's alone unless both sides say otherwise, even if others plant things in its place.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use capnproto_shm_transport::{
    AcceptError, Config, CreateError, OpenError, RemoveError, SegmentError, Server, Stats, Transport, WaitSet,
};
use common::*;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const NOBODY: u32 = 65534;

#[test]
fn child() {
    play(&[
        ("intruder", intruder),
        ("guest", guest),
        ("host", host),
        ("sleeper", sleeper),
        ("planter", planter),
        ("mask", mask),
        ("busy", busy),
        ("stranger", stranger),
        ("server_guest", server_guest),
        ("server_host", server_host),
    ]);
}

fn config(mode: u32) -> Config {
    Config::new().slot_size(64).slot_count(4).permissions(mode)
}

fn mode_of(arg: &str) -> u32 {
    u32::from_str_radix(arg, 8).unwrap()
}

/// This test binary where every user may start it.
struct Elsewhere(PathBuf);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts roles as another user; none if this one may not.
fn other_user() -> Option<Elsewhere> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return None;
    }
    if !Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "setpriv is not installed, and CI must have it");
        eprintln!("SKIPPED: setpriv is not installed");
        return None;
    }
    let place = Elsewhere(std::env::temp_dir().join(unique("access")));
    fs::DirBuilder::new().mode(0o755).create(&place.0).unwrap();
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = place.0.join("test");
    // By a process of its own: a fork of another test must not hold the copy open for writing meanwhile.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status();
    assert!(copied.unwrap().success());
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755)).unwrap();
    Some(place)
}

impl Elsewhere {
    fn spawn(&self, group: u32, role: &str, args: &[&str]) -> Peer {
        let start = format!("exec {}/test \"$@\"", self.0.display());
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={group}"));
        spawn_through(&["setpriv", &user, &group, "--clear-groups", "sh", "-c", &start], role, args)
    }
}

/// The attributes of a file and its bytes.
fn state(path: &Path) -> (u64, u32, u32, Vec<u8>) {
    let found = path.metadata().unwrap();
    (found.ino(), found.uid(), found.mode(), fs::read(path).unwrap())
}

#[track_caller]
fn anothers(error: &SegmentError) {
    let me = rustix::process::geteuid().as_raw();
    assert!(
        matches!(error, SegmentError::Owner { found, expected } if *found != me && *expected == me),
        "{error}"
    );
}

/// Tries all there is on a channel of somebody else's.
fn intruder(args: &[String]) {
    let name = &args[0];
    match Transport::open(name, Duration::ZERO).unwrap_err() {
        OpenError::Segment { source, .. } => anothers(&source),
        other => panic!("open: {other}"),
    }
    match Stats::of(name).unwrap_err() {
        OpenError::Segment { source, .. } => anothers(&source),
        other => panic!("stats: {other}"),
    }
    for mode in [0o600, 0o666] {
        match Transport::create(name, &config(mode)).unwrap_err() {
            CreateError::Segment { source, .. } => anothers(&source),
            other => panic!("create: {other}"),
        }
    }
    match Transport::remove(name).unwrap_err() {
        RemoveError::Segment { source, .. } => anothers(&source),
        other => panic!("remove: {other}"),
    }
}

#[test]
fn another_user_can_neither_join_nor_take_over_nor_remove() {
    let Some(other) = other_user() else { return };
    for mode in [0o600, 0o660, 0o666] {
        let name = named("mine");
        let mut a = Transport::create(&name, &config(mode)).unwrap();
        other.spawn(NOBODY, "intruder", &[&name]).join();
        let mut b = Transport::open_with(&name, LONG, &config(mode)).unwrap();
        a.send(b"still here").unwrap();
        assert_eq!(&*b.recv().unwrap(), b"still here");

        // The files of a dead side A are its user's too.
        let files = [name.a2b(), name.b2a()];
        let bytes = files.each_ref().map(|file| fs::read(file).unwrap());
        drop((a, b));
        for (file, bytes) in files.iter().zip(bytes) {
            fs::write(file, bytes).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let before = files.each_ref().map(|file| state(file));
        other.spawn(NOBODY, "intruder", &[&name]).join();
        assert!(before == files.each_ref().map(|file| state(file)), "{mode:o}: something was changed");
        Transport::remove(&name).unwrap();
    }
}

/// Joins with the mode that it is told, and echoes; or is refused.
fn guest(args: &[String]) {
    match Transport::open_with(&args[0], Duration::ZERO, &config(mode_of(&args[1]))) {
        Ok(mut b) => {
            say("joined");
            let message = b.recv_timeout(LONG).unwrap().to_vec();
            b.send_timeout(&message, LONG).unwrap();
            hold();
        }
        Err(OpenError::Segment {
            source: SegmentError::Owner { .. } | SegmentError::Mode { .. }, ..
        }) => {
            say("refused");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn users_share_a_channel_if_both_sides_say_so() {
    let Some(other) = other_user() else { return };
    // The group of what root makes is root's.
    for (mine, theirs, group, joins) in [
        ("666", "666", NOBODY, true),
        ("660", "660", 0, true),
        ("660", "660", NOBODY, false),
        ("666", "600", NOBODY, false),
        ("666", "660", NOBODY, false),
        ("660", "600", 0, false),
        ("600", "666", NOBODY, false),
        ("600", "660", 0, false),
    ] {
        let name = named("shared");
        let mut a = Transport::create(&name, &config(mode_of(mine))).unwrap();
        let mut guest = other.spawn(group, "guest", &[&name, theirs]);
        guest.wait_for(if joins { "joined" } else { "refused" });
        if joins {
            a.send(b"to another").unwrap();
            assert_eq!(&*a.recv_timeout(LONG).unwrap(), b"to another");
            guest.go();
        }
        guest.join();
    }
}

/// Is side A, and echoes.
fn host(args: &[String]) {
    let mut a = Transport::create(&args[0], &config(mode_of(&args[1]))).unwrap();
    say("made");
    if let Ok(message) = a.recv_timeout(LONG).map(|message| message.to_vec()) {
        a.send_timeout(&message, LONG).unwrap();
    }
    hold();
}

/// Root may open any file, so what keeps it from a wrong one is this library's own look.
#[test]
fn a_side_b_that_may_open_anything_joins_no_other_users_channel_unasked() {
    let Some(other) = other_user() else { return };
    for (theirs, mine, joins) in
        [("600", 0o600, false), ("666", 0o600, false), ("600", 0o666, false), ("666", 0o666, true)]
    {
        let name = named("theirs");
        let mut host = other.spawn(NOBODY, "host", &[&name, theirs]);
        host.wait_for("made");
        match Transport::open_with(&name, LONG, &config(mine)) {
            Ok(mut b) => {
                assert!(joins, "side A gave {theirs}, side B {mine:o}");
                b.send(b"to another").unwrap();
                assert_eq!(&*b.recv_timeout(LONG).unwrap(), b"to another");
            }
            Err(OpenError::Segment {
                source: SegmentError::Owner { .. } | SegmentError::Mode { .. },
                ..
            }) => {
                assert!(!joins);
            }
            Err(other) => panic!("{other}"),
        }
        intruder(&[name.to_string()]);
        host.kill();
        intruder(&[name.to_string()]);
    }
}

/// Is side B, sleeps on its descriptor until it is told of a message, and then again until it is killed.
fn sleeper(args: &[String]) {
    let mut b = Transport::open_with(&args[0], LONG, &config(0o666)).unwrap();
    sleep_and_receive(&mut b);
    assert!(b.halves().1.arm().unwrap());
    say("asleep");
    hold();
}

/// Side B is told of an echo by its event.
fn sleep_and_receive(b: &mut Transport) {
    let (to_a, from_a) = b.halves();
    assert!(from_a.arm().unwrap());
    to_a.send(b"x").unwrap();
    poll(&mut [PollFd::new(&from_a.wait_fd().unwrap(), PollFlags::IN)], None).unwrap();
    assert_eq!(&*from_a.recv_timeout(LONG).unwrap(), b"x");
}

/// The system's directory lets a user remove only what is its own: the other side's events are not.
#[test]
fn events_of_users_who_share_a_channel_are_left_to_their_owners() {
    let Some(other) = other_user() else { return };
    let host = |name: &str| {
        let mut host = other.spawn(NOBODY, "host", &[name, "666"]);
        host.wait_for("made");
        host
    };
    // Comes, is told of an echo, and goes.
    let visit = |name: &str| {
        let mut b = Transport::open_with(name, LONG, &config(0o666)).unwrap();
        sleep_and_receive(&mut b);
    };
    let name = named("events");
    let mut a = host(&name);
    visit(&name);
    assert_eq!(name.left().len(), 2, "its own is gone: {:?}", name.left());
    a.go();
    a.join();
    assert!(name.is_free(), "{:?}", name.left());

    // The files of a dead side B keep nobody from the name.
    let mut a = host(&name);
    let mut b = spawn("sleeper", &[&name]);
    b.wait_for("asleep");
    b.kill();
    a.kill();
    let mut a = host(&name);
    visit(&name);
    a.go();
    a.join();
    let left = name.left();
    assert_eq!(left.len(), 1, "{left:?}");
    fs::remove_file(&left[0]).unwrap();
}

/// Puts something in the place of a segment, and says what it is.
fn planter(args: &[String]) {
    let [kind, place, victim] = args else { panic!("{args:?}") };
    match kind.as_str() {
        "link" => symlink(victim, place).unwrap(),
        "dangling link" => symlink("/dev/shm/no-such-file", place).unwrap(),
        "pipe" => mknodat(CWD, place, FileType::Fifo, Mode::from(0o666), 0).unwrap(),
        "directory" => fs::create_dir(place).unwrap(),
        "file" => fs::write(place, "mine").unwrap(),
        other => panic!("{other}"),
    }
    say("planted");
}

#[test]
fn what_another_user_plants_is_not_followed_and_stays() {
    let Some(other) = other_user() else { return };
    for kind in ["link", "dangling link", "pipe", "directory", "file"] {
        for second in [false, true] {
            let (name, victim) = (named("planted"), named("victim"));
            let place = if second { name.b2a() } else { name.a2b() };
            // A whole segment of this user's, so that who follows the link finds what it wants.
            fs::write(victim.a2b(), segment(second)).unwrap();
            fs::set_permissions(victim.a2b(), fs::Permissions::from_mode(0o600)).unwrap();
            let before = state(&victim.a2b());

            let target = victim.a2b().display().to_string();
            other.spawn(NOBODY, "planter", &[kind, &place.display().to_string(), &target]).join();
            planted_refused(&name, &place, second);

            assert!(before == state(&victim.a2b()), "{kind}: the target was touched");
            assert_eq!(name.left(), std::slice::from_ref(&place), "{kind}");
            assert_eq!(place.symlink_metadata().unwrap().uid(), NOBODY, "{kind}");
        }
    }
}

/// The bytes of a good segment.
fn segment(second: bool) -> Vec<u8> {
    let name = named("good");
    let _a = Transport::create(&name, &config(0o600)).unwrap();
    fs::read(if second { name.b2a() } else { name.a2b() }).unwrap()
}

#[track_caller]
fn planted_refused(name: &Name, place: &Path, second: bool) {
    let refused = |path: &Path, source: &SegmentError| {
        assert_eq!(path, place);
        assert!(matches!(source, SegmentError::NotAFile | SegmentError::Owner { .. }), "{source}");
    };
    for mode in [0o600, 0o666] {
        match Transport::create(name, &config(mode)).unwrap_err() {
            CreateError::Segment { path, source } => refused(&path, &source),
            other => panic!("{other}"),
        }
    }
    match Transport::remove(name).unwrap_err() {
        RemoveError::Segment { path, source } => refused(&path, &source),
        other => panic!("{other}"),
    }
    match Transport::open(name, Duration::ZERO).unwrap_err() {
        OpenError::Segment { path, source } if !second => refused(&path, &source),
        OpenError::Timeout { .. } if second => {}
        other => panic!("{other}"),
    }
}

#[test]
fn a_pipe_in_place_of_a_segment_is_refused_at_once() {
    for second in [false, true] {
        let name = named("pipe");
        let place = if second { name.b2a() } else { name.a2b() };
        mknodat(CWD, &place, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        planted_refused(&name, &place, second);
        assert!(place.symlink_metadata().unwrap().file_type().is_fifo());
    }
}

#[test]
fn a_hard_link_in_place_of_a_segment_changes_nothing_behind_it() {
    let (name, other) = (named("linked"), named("target"));
    // To a file that is no segment.
    fs::write(other.a2b(), "notes").unwrap();
    fs::hard_link(other.a2b(), name.a2b()).unwrap();
    let error = Transport::create(&name, &config(0o600)).unwrap_err();
    assert!(matches!(error, CreateError::Segment { source: SegmentError::Foreign, .. }), "{error}");
    assert!(matches!(Transport::remove(&name), Err(RemoveError::Segment { .. })));
    assert_eq!(fs::read(other.a2b()).unwrap(), b"notes");
    fs::remove_file(name.a2b()).unwrap();
    fs::remove_file(other.a2b()).unwrap();

    // To a live channel's: the name is taken, and the channel goes on.
    let mut a = Transport::create(&other, &config(0o600)).unwrap();
    let mut b = Transport::open(&other, LONG).unwrap();
    fs::hard_link(other.a2b(), name.a2b()).unwrap();
    assert!(matches!(Transport::create(&name, &config(0o600)), Err(CreateError::InUse { .. })));
    assert!(matches!(Transport::remove(&name), Err(RemoveError::InUse { .. })));
    a.send(b"on").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"on");
    assert_eq!(name.left(), [name.a2b()]);
}

/// Creates under a mask, and says what modes came of it.
fn mask(args: &[String]) {
    let name = named("mask");
    rustix::process::umask(Mode::from(mode_of(&args[0])));
    for mode in [0o600, 0o660, 0o666, 0o640] {
        let _a = Transport::create(&name, &config(mode)).unwrap();
        for file in [name.a2b(), name.b2a()] {
            assert_eq!(file.metadata().unwrap().mode() & 0o7777, mode);
        }
    }
}

#[test]
fn the_umask_neither_widens_nor_narrows() {
    for mask in ["0", "77", "777"] {
        spawn("mask", &[mask]).join();
    }
}

fn busy(args: &[String]) {
    say("begun");
    for _ in 0..2000 {
        drop(Transport::create(&args[0], &config(0o600)).unwrap());
    }
    say("done");
}

/// A segment has no name before it is whole: the directory shows only the two files at any time.
#[test]
fn no_temporary_name_is_ever_seen() {
    let name = named("busy");
    let mut busy = spawn("busy", &[&name]);
    busy.wait_for("begun");
    let finished = std::thread::spawn(move || {
        busy.wait_for("done");
        busy.join();
    });
    let mut seen = 0;
    while !finished.is_finished() {
        let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.filter(|path| path.to_string_lossy().contains(&*name)) {
            assert!(path == name.a2b() || path == name.b2a(), "{}", path.display());
            seen += 1;
        }
    }
    finished.join().unwrap();
    assert!(seen > 0, "nothing was looked at");
}

/// In a user namespace that knows no user: every owner looks like this process's own.
fn stranger(args: &[String]) {
    let name = &args[0];
    let overflow: u32 = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap().trim().parse().unwrap();
    assert_eq!(rustix::process::geteuid().as_raw(), overflow);
    let unknown = |source: &SegmentError| {
        assert!(matches!(source, SegmentError::OwnerUnknown { overflow: o } if *o == overflow), "{source}");
        assert!(source.to_string().contains("map the user"), "{source}");
    };
    // The modes of both sides do not say whose it is either.
    for mode in [0o600, 0o660, 0o666] {
        match Transport::open_with(name, Duration::ZERO, &config(mode)).unwrap_err() {
            OpenError::Segment { source, .. } => unknown(&source),
            other => panic!("open: {other}"),
        }
        match Transport::create(name, &config(mode)).unwrap_err() {
            CreateError::Segment { source, .. } => unknown(&source),
            other => panic!("create: {other}"),
        }
    }
    match Transport::remove(name).unwrap_err() {
        RemoveError::Segment { source, .. } => unknown(&source),
        other => panic!("remove: {other}"),
    }
    match Stats::of(name).unwrap_err() {
        OpenError::Segment { source, .. } => unknown(&source),
        other => panic!("stats: {other}"),
    }
    say("refused");
}

/// A command that starts another in a user namespace of its own, if the system has it.
fn namespace<'a>(options: &[&'a str]) -> Option<Vec<&'a str>> {
    let starter = [&["unshare", "--user"], options].concat();
    let begun = Command::new(starter[0]).args(&starter[1..]).arg("true").output();
    if begun.is_ok_and(|output| output.status.success()) {
        return Some(starter);
    }
    eprintln!("SKIPPED: this system gives us no user namespace");
    None
}

#[test]
fn an_owner_without_a_number_is_nobody_we_know() {
    let Some(starter) = namespace(&[]) else { return };
    let name = named("unmapped");
    let mut a = Transport::create(&name, &config(0o600)).unwrap();
    let before = [name.a2b(), name.b2a()].map(|path| path.metadata().unwrap().ino());
    let mut stranger = spawn_through(&starter, "stranger", &[&name]);
    stranger.wait_for("refused");
    stranger.join();
    assert_eq!(before, [name.a2b(), name.b2a()].map(|path| path.metadata().unwrap().ino()));
    assert!(!a.peer_attached());
    let mut b = Transport::open(&name, LONG).unwrap();
    a.send(b"mine").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"mine");
}

#[test]
fn an_owner_with_a_number_in_the_namespace_is_known() {
    let Some(starter) = namespace(&["--map-root-user"]) else { return };
    let name = named("mapped");
    let mut a = Transport::create(&name, &config(0o600)).unwrap();
    let mut guest = spawn_through(&starter, "guest", &[&name, "600"]);
    guest.wait_for("joined");
    a.send(b"to myself").unwrap();
    assert_eq!(&*a.recv_timeout(LONG).unwrap(), b"to myself");
    guest.go();
    guest.join();
}

/// Connects with the mode that it is told, and echoes; or is refused.
fn server_guest(args: &[String]) {
    let wait = if args[2] == "joins" { LONG } else { Duration::ZERO };
    match Transport::connect_with(&args[0], wait, &config(mode_of(&args[1]))) {
        Ok(mut b) => {
            say("joins");
            let message = b.recv_timeout(LONG).unwrap().to_vec();
            b.send_timeout(&message, LONG).unwrap();
            hold();
        }
        Err(OpenError::Segment {
            source: SegmentError::Owner { .. } | SegmentError::Mode { .. }, ..
        }) => say("refused"),
        Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            say("refused");
        }
        Err(other) => panic!("{other}"),
    }
    let bound = Server::<Transport>::bind(&args[0], &config(0o600));
    assert!(matches!(&bound, Err(CreateError::Segment { .. } | CreateError::InUse { .. })), "{bound:?}");
}

#[test]
fn another_user_connects_to_a_server_only_if_both_say_so() {
    let Some(other) = other_user() else { return };
    for (mine, theirs, group, what) in [
        ("600", "600", NOBODY, "refused"),
        ("600", "666", NOBODY, "refused"),
        ("660", "660", NOBODY, "refused"),
        ("666", "600", NOBODY, "refused"),
        ("660", "600", 0, "refused"),
        ("666", "666", NOBODY, "joins"),
        ("660", "660", 0, "joins"),
    ] {
        let name = named("served");
        let mut server = Server::<Transport>::bind(&name, &config(mode_of(mine))).unwrap();
        let mut guest = other.spawn(group, "server_guest", &[&name, theirs, what]);
        if what == "joins" {
            let mut a = server.accept().unwrap();
            let peer = a.peer().unwrap();
            assert_eq!((peer.pid, peer.uid, peer.gid), (guest.id(), NOBODY, group));
            guest.wait_for(what);
            // Its events are another user's too: it is woken for the answer, and so is this side.
            let mut set = WaitSet::new().unwrap();
            set.insert(0, a.halves().1).unwrap();
            assert!(set.wait(Some(Duration::from_millis(5))).unwrap().is_empty());
            a.send(b"to another").unwrap();
            assert_eq!(set.wait(Some(LONG)).unwrap(), [0]);
            assert_eq!(&*a.recv_timeout(LONG).unwrap(), b"to another");
            guest.go();
        } else {
            guest.wait_for(what);
            assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
            assert_eq!(server.clients(), 0);
        }
        guest.join();
    }
}

/// Serves one client.
fn server_host(args: &[String]) {
    let mut server = Server::<Transport>::bind(&args[0], &config(mode_of(&args[1]))).unwrap();
    say("bound");
    if let Ok(mut a) = server.accept_timeout(Duration::from_millis(args[2].parse().unwrap())) {
        a.send(b"from another").unwrap();
        hold();
    }
}

/// Root may connect to any server, so what keeps it from a wrong one is this library's own look.
#[test]
fn a_client_that_may_connect_anywhere_joins_no_other_users_server_unasked() {
    let Some(other) = other_user() else { return };
    for (theirs, mine, joins) in [("600", 0o600, false), ("666", 0o600, false), ("666", 0o666, true)] {
        let name = named("their-server");
        let wait = if joins { "60000" } else { "50" };
        let mut host = other.spawn(NOBODY, "server_host", &[&name, theirs, wait]);
        host.wait_for("bound");
        match Transport::connect_with(&name, LONG, &config(mine)) {
            Ok(mut b) => {
                assert!(joins);
                assert_eq!(&*b.recv().unwrap(), b"from another");
                assert_eq!(b.peer().unwrap().uid, NOBODY);
                host.go();
            }
            Err(OpenError::Segment {
                source: SegmentError::Owner { .. } | SegmentError::Mode { .. },
                ..
            }) => {
                assert!(!joins);
            }
            Err(other) => panic!("{other}"),
        }
        host.join();
    }
}
