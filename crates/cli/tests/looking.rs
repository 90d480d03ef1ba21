//! `ls`, `stat`, `doctor` and `rm`, by the built program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::process::{Child, Command, Stdio};

use capnproto_shm_transport::{Channel, Transport};
use common::*;
use serde_json::Value;

fn channel<'a>(listing: &'a Value, name: &str) -> &'a Value {
    listing["channels"].as_array().unwrap().iter().find(|channel| channel["name"] == name).unwrap()
}

#[test]
fn every_channel_is_listed_for_what_it_is() {
    let place = Place::new();
    let (mut a, _b) = place.pair("quotes");
    for _ in 0..4 {
        a.send(b"12345678").unwrap();
    }
    let _alone = Channel::<u64>::create("alone", &place.config()).unwrap();
    place.leftover("left");
    std::fs::write(place.file("foreign.fs.a2b"), b"something else").unwrap();
    std::fs::write(place.file(&format!("{}.fs.a2b", "long".repeat(40))), b"something else").unwrap();
    place.leftover("two words");

    let text = place.run(&["ls"]).good();
    assert!(text.contains("rm 'two words'"), "{text}");
    fits(&text);
    assert!(text.lines().next().unwrap().starts_with("NAME"));
    for (name, state) in
        [("quotes", "live"), ("alone", "waiting"), ("left", "leftover"), ("foreign", "refused")]
    {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(state), "{line}");
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("it is not a segment of this library") && words.contains("capnp-shm rm left"),
        "{text}"
    );

    let listing = place.run(&["ls", "--json", "--interval", "0.01"]).json();
    assert_eq!(listing["format"], 1);
    let quotes = channel(&listing, "quotes");
    assert_eq!(
        (&quotes["state"], &quotes["a"]["life"], &quotes["b"]["life"]),
        (&"live".into(), &"alive".into(), &"alive".into())
    );
    assert_eq!(quotes["a"]["pid"], std::process::id());
    let ring = &quotes["a_to_b"];
    assert_eq!((&ring["messages"], &ring["bytes"], &ring["used_slots"]), (&4.into(), &32.into(), &4.into()));
    assert_eq!((&ring["kind"], &ring["messages_per_s"]), (&"bytes".into(), &0.0.into()));
    let alone = channel(&listing, "alone");
    assert_eq!((&alone["a_to_b"]["kind"], &alone["a_to_b"]["value_size"]), (&"pod".into(), &8.into()));
    assert_eq!((&alone["b"]["life"], &alone["b"]["pid"]), (&"absent".into(), &Value::Null));
    assert!(channel(&listing, "foreign")["problem"].as_str().unwrap().contains("not a segment"));
}

#[test]
fn no_channel_is_no_error() {
    let place = Place::new();
    assert_eq!(place.run(&["ls"]).good(), "no channels\n");
    assert_eq!(place.run(&["ls", "--json"]).json()["channels"], Value::Array(vec![]));
    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_capnp-shm"));
    let nowhere = nowhere.args(["--dir", "/nonexistent", "ls"]).output().map(Run).unwrap();
    assert_eq!(nowhere.code(), 3);
    assert!(nowhere.err().contains("cannot read the directory of the channels, /nonexistent"));
}

#[test]
fn a_watch_prints_until_ctrl_c() {
    let place = Place::new();
    let (_a, _b) = place.pair("watched");
    let mut watch = place.start(&["ls", "--watch", "--json", "--interval", "0.01"]);
    for _ in 0..3 {
        let listing: Value = serde_json::from_str(&watch.line()).unwrap();
        assert_eq!(channel(&listing, "watched")["state"], "live");
    }
    watch.interrupt();
    assert_eq!(watch.end().code(), 0);
}

#[test]
fn one_channel_is_shown_in_full() {
    let place = Place::new();
    let (mut a, _b) = place.pair("one");
    a.send(b"hello").unwrap();
    let text = place.run(&["stat", "one"]).good();
    fits(&text);
    for part in ["one", "live", "16 x 64 B", "polls by park", "A to B", "found full"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = place.run(&["stat", "one", "--json"]).json();
    assert_eq!((&json["format"], &json["channel"]["a_to_b"]["messages"]), (&1.into(), &1.into()));
    let missing = place.run(&["stat", "two"]);
    assert_eq!(missing.code(), 3);
    for part in
        ["no channel \"two\"", "`capnp-shm ls` lists", place.file("").to_str().unwrap().trim_end_matches('/')]
    {
        assert!(missing.err().contains(part), "{part}: {}", missing.err());
    }
    assert!(!missing.err().contains("0ns"), "nobody waited: {}", missing.err());
    assert_eq!(place.run(&["stat", "a/b"]).code(), 1);
    // A broken channel is shown, and is a failure.
    std::fs::write(place.file("broken.fs.a2b"), b"no").unwrap();
    let broken = place.run(&["stat", "broken"]);
    assert_eq!(broken.code(), 1);
    assert!(broken.out().contains("segment of this library"), "{}", broken.out());
}

#[test]
fn rates_are_those_of_the_time_between() {
    let place = Place::new();
    let (mut a, mut b) = place.pair("busy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                a.send(b"tick").unwrap();
                drop(b.recv().unwrap());
            }
        });
        let json = place.run(&["stat", "busy", "--json", "--interval", "0.05"]).json();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (messages, bytes) =
            (&json["channel"]["a_to_b"]["messages_per_s"], &json["channel"]["a_to_b"]["bytes_per_s"]);
        assert!(messages.as_f64().unwrap() > 0.0);
        assert!((bytes.as_f64().unwrap() / messages.as_f64().unwrap() - 4.0).abs() < 0.1);
    });
}

#[test]
fn only_what_is_dead_is_removed() {
    let place = Place::new();
    let (_a, _b) = place.pair("alive");
    place.leftover("dead");
    place.leftover("dead too");
    std::fs::write(place.file("foreign.fs.a2b"), b"something else").unwrap();
    assert_eq!(
        place.run(&["rm", "--dead", "--dry-run"]).good(),
        "would remove dead\nwould remove dead too\n"
    );
    for (name, code) in [("alive", 4), ("foreign", 1), ("none", 3), ("dead", 0)] {
        assert_eq!(place.run(&["rm", "--dry-run", name]).code(), code, "{name}");
    }
    let live = place.run(&["rm", "alive"]);
    assert_eq!(live.code(), 4);
    assert!(live.err().contains("in use by a live side A"));
    assert_eq!(place.run(&["rm", "none"]).code(), 3);
    let foreign = place.run(&["rm", "foreign"]);
    assert_eq!((foreign.code(), foreign.err().matches("not a segment").count()), (1, 1), "{}", foreign.err());
    assert_eq!(place.run(&["rm"]).code(), 2);
    assert_eq!(place.run(&["rm", "dead"]).good(), "removed dead\n");
    assert_eq!(place.run(&["rm", "--dead"]).good(), "removed dead too\n");
    assert!(place.run(&["rm", "--dead"]).good().contains("nothing is left"));
    let mut left: Vec<_> =
        std::fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["alive.fs.a2b", "alive.fs.b2a", "foreign.fs.a2b"]);
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let place = Place::new();
    let well = place.run(&["doctor", "--json"]).json();
    let warnings = |report: &Value| {
        let findings = report["findings"].as_array().unwrap().clone();
        let warns = findings
            .into_iter()
            .filter(|finding| finding["level"] == "warning" && finding["check"] != "space");
        warns
            .map(|finding| {
                format!("{} {}", finding["check"].as_str().unwrap(), finding["channel"].as_str().unwrap())
            })
            .collect::<Vec<_>>()
    };
    assert!(warnings(&well).is_empty(), "{well}");
    assert!(well["findings"].as_array().unwrap().iter().any(|finding| finding["check"] == "space"));

    place.leftover("left");
    let (mut a, b) = place.pair("full");
    while a.try_send(b"fill").is_ok() {}
    let other = Transport::create("abandoned", &place.config()).unwrap();
    drop(Transport::open_with("abandoned", LONG, &place.config()).unwrap());
    let _unfinished = Transport::create("unfinished", &place.config()).unwrap();
    std::fs::remove_file(place.file("unfinished.fs.b2a")).unwrap();
    std::fs::write(place.file("foreign.fs.b2a"), b"something else").unwrap();
    let ill = place.run(&["doctor", "--json"]);
    assert_eq!(ill.code(), 1);
    let report = ill.json();
    assert_eq!(report["healthy"], false);
    assert_eq!(
        warnings(&report),
        ["side gone abandoned", "file foreign", "full full", "leftover left", "half made unfinished"]
    );
    let text = place.run(&["doctor"]);
    fits(&text.out());
    assert!(text.out().contains("capnp-shm rm left"), "{}", text.out());
    drop((b, other));
    // A channel that its maker left half made is as dead as the rest.
    std::fs::remove_file(place.file("left.fs.b2a")).unwrap();
    let listing = place.run(&["ls", "--json"]).json();
    let problem = channel(&listing, "left")["problem"].clone();
    assert_eq!(problem, "its side A is dead; remove it with `capnp-shm rm left`");
}

#[cfg(target_os = "linux")]
#[test]
fn a_stopped_side_is_found_and_named() {
    use rustix::process::{Pid, Signal, kill_process};
    let place = Place::new();
    let _a = Transport::create("stopped", &place.config()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture"]).env("CLI_TEST_HOLD", &place.0).stdout(Stdio::null());
    let child = Killed(child.spawn().unwrap());
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    let state = |what: &str| {
        let json = place.run(&["stat", "stopped", "--json", "--interval", "0"]).json();
        json["channel"]["b"][what].clone()
    };
    // Its number is the last that it writes before it has come.
    eventually("it comes", || state("pid") == child.id());
    kill_process(pid, Signal::STOP).unwrap();
    eventually("it is stopped", || state("stopped") == true);
    let report = place.run(&["doctor"]);
    assert_eq!(report.code(), 1);
    assert!(report.out().contains(&format!("kill -CONT {}", child.id())), "{}", report.out());
    assert!(state("program").is_string());
}

/// A process that is killed when this goes.
struct Killed(Child);

impl std::ops::Deref for Killed {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn child() {
    #[cfg(target_os = "linux")]
    if let Some(directory) = std::env::var_os("CLI_TEST_SERVE") {
        let config = capnproto_shm_transport::Config::new().directory(directory);
        let _server = capnproto_shm_transport::Server::<Transport>::bind("desk", &config).unwrap();
        std::thread::sleep(LONG);
    }
    let Some(directory) = std::env::var_os("CLI_TEST_HOLD") else { return };
    let config = capnproto_shm_transport::Config::new().directory(directory);
    let _b = Transport::open_with("stopped", LONG, &config).unwrap();
    std::thread::sleep(LONG);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::new();
    for index in 0..200 {
        std::fs::write(place.file(&format!("many-{index}.fs.a2b")), b"nothing").unwrap();
    }
    let mut child = place.command(&["ls"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn completions_and_man_pages_are_generated() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).good().contains("capnp-shm"), "{shell}");
    }
    let man = place.file("man");
    place.run(&["man", man.to_str().unwrap()]).good();
    for page in ["capnp-shm.1", "capnp-shm-ls.1", "capnp-shm-dump.1"] {
        assert!(man.join(page).is_file(), "{page}");
    }
    let help = place.run(&["--help"]).good();
    fits(&help);
    assert!(help.contains("Exit codes"));
}

#[cfg(target_os = "linux")]
#[test]
fn servers_are_listed_and_told_of() {
    let place = Place::new();
    let server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("CLI_TEST_SERVE", &place.0)
        .stdout(Stdio::null())
        .spawn();
    let server = Killed(server.unwrap());
    eventually("it serves", || place.file("desk.fs.socket").exists());
    dead_server(&place, "died");
    let text = place.run(&["ls"]).good();
    fits(&text);
    assert!(text.contains(&format!("server desk: alive {} ", server.id())), "{text}");
    assert!(text.contains("server died: it is dead") && text.contains("capnp-shm rm died"), "{text}");
    let listing = place.run(&["ls", "--json"]).json();
    let desk = &listing["servers"][0];
    assert_eq!(
        (&desk["name"], &desk["life"], &desk["pid"]),
        (&"desk".into(), &"alive".into(), &server.id().into())
    );
    assert!(desk["program"].is_string() && desk["age_s"].as_f64().unwrap() >= 0.0, "{desk}");
    let told = place.run(&["stat", "desk"]).good();
    fits(&told);
    assert!(told.contains(&format!("alive {}", server.id())), "{told}");
    let died = place.run(&["stat", "died", "--json"]);
    assert_eq!((died.code(), &died.json()["server"]["life"]), (1, &"dead".into()));
    let report = place.run(&["doctor"]);
    assert_eq!(report.code(), 1);
    fits(&report.out());
    let words = report.out().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("died.fs.server and died.fs.socket"), "{words}");
}

/// The names that a server leaves that is killed: a lock that nobody holds, and a socket that nobody listens at.
#[cfg(target_os = "linux")]
fn dead_server(place: &Place, name: &str) {
    std::fs::write(place.file(&format!("{name}.fs.server")), b"").unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(place.file(&format!("{name}.fs.server")), permissions).unwrap();
    drop(std::os::unix::net::UnixListener::bind(place.file(&format!("{name}.fs.socket"))).unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn what_dead_servers_left_is_removed_and_live_ones_are_kept() {
    let place = Place::new();
    let server = capnproto_shm_transport::Server::<Transport>::bind("desk", &place.config()).unwrap();
    for name in ["first", "second", "both"] {
        dead_server(&place, name);
    }
    place.leftover("both");
    std::fs::create_dir(place.file("directory.fs.server")).unwrap();
    assert_eq!(
        place.run(&["rm", "--dead", "-n"]).good(),
        "would remove both\nwould remove server both\nwould remove server first\nwould remove server second\n"
    );
    let live = place.run(&["rm", "desk"]);
    assert_eq!(live.code(), 4);
    assert!(live.err().contains("in use by a live side A or server"), "{}", live.err());
    assert_eq!(place.run(&["rm", "-n", "desk"]).code(), 4);
    assert_eq!(place.run(&["rm", "directory"]).code(), 1);
    assert_eq!(place.run(&["rm", "desk", "none", "directory"]).code(), 4, "the greatest of all");
    assert_eq!(place.run(&["rm", "first"]).good(), "removed server first\n");
    assert_eq!(place.run(&["rm", "both"]).good(), "removed both\nremoved server both\n");
    assert_eq!(place.run(&["rm", "--dead"]).good(), "removed server second\n");
    let mut left: Vec<_> =
        std::fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["desk.fs.server", "desk.fs.socket", "directory.fs.server"]);
    drop(server);
}
