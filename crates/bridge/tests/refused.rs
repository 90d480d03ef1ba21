//! What is refused, and what whoever asked is told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capnproto_shm_transport::{RecvError, SendError, Transport};
use common::*;
use zenoh::Wait;

/// Somebody who is no bridge, at the place of the bridge beside side A.
fn stranger(world: &World) -> zenoh::Session {
    capnp_shm_bridge::open(None, &[world.listens().to_owned()], &["tcp/127.0.0.1:0".to_owned()]).unwrap()
}

/// What a bridge answers to this hello.
fn answers(zenoh: &zenoh::Session, hello: &str) -> serde_json::Value {
    let mut answer = None;
    eventually("an answer", || {
        let replies = zenoh.get("t/x/hello").payload(hello).timeout(Duration::from_secs(10)).wait().unwrap();
        let reply = replies.recv();
        answer = reply
            .ok()
            .map(|reply| serde_json::from_slice(&reply.result().unwrap().payload().to_bytes()).unwrap());
        answer.is_some()
    });
    answer.unwrap()
}

fn hello(version: u32, name: &str, slots: u64, kind: &str) -> String {
    let lane = format!(r#"{{"slot_size": 64, "slot_count": {slots}, "kind": {kind}}}"#);
    format!(
        r#"{{"protocol": "capnproto-shm-transport bridge", "version": {version}, "name": "{name}", "session": 5, "window": 16,
            "wish": {{"Channel": {{"shape": {{"a_to_b": {lane}, "b_to_a": {lane}, "tag": "", "new": 1}}}}}}}}"#
    )
}

#[test]
fn a_hello_that_cannot_be_is_refused_with_the_reason() {
    let world = World::new(&["x"]);
    let mut far = world.bridge_b(&[]);
    let zenoh = stranger(&world);
    let cases = [
        ("nonsense".to_owned(), "no hello of a bridge"),
        (r#"{"protocol": "other", "version": 1}"#.to_owned(), "it says \"other\""),
        (hello(7, "x", 16, "\"Bytes\""), "version 7 there and 1 here"),
        (hello(1, "y", 16, "\"Bytes\""), "does not belong under this key"),
        (hello(1, "x", 1 << 40, "\"Bytes\""), "--memory"),
        (hello(1, "x", 15, "\"Bytes\""), "power of two"),
        (hello(1, "x", 16, r#"{"Pod": {"size": 7, "align": 2}}"#), "are refused"),
        (hello(1, "x", 16, r#"{"Later": {}}"#), "no hello of a bridge"),
    ];
    for (hello, reason) in cases {
        let answer = answers(&zenoh, &hello);
        let said = answer["Refused"]["reason"].as_str().unwrap_or_default();
        assert!(said.contains(reason), "{hello}: {answer}");
        far.hears(reason);
    }
    assert!(world.b.left().is_empty());
}

#[test]
fn a_channel_that_the_memory_there_does_not_hold_is_refused() {
    let world = World::new(&["x", "--once"]);
    let _far = world.bridge_b(&["--memory", "1"]);
    let near = world.bridge_a(&[]);
    let _a = Transport::create("x", &world.a.config().slot_size(1 << 20).slot_count(16)).unwrap();
    let (code, said) = near.end();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("the other bridge refuses") && said.contains("16 of 1048576 bytes"), "{said}");
}

#[test]
fn a_name_that_is_taken_at_both_machines_is_refused() {
    let world = World::new(&["x", "--once"]);
    let _far = world.bridge_b(&["--as", "a"]);
    let near = world.bridge_a(&["--as", "b"]);
    let _there = Transport::create("x", &world.b.config()).unwrap();
    let _here = world.create("x");
    let (code, said) = near.end();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("in use"), "{said}");
}

/// A frame of the session that [`hello`] begins.
fn frame(kind: u8, number: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"CSB1".to_vec();
    bytes.extend([kind, 0, 0, 0]);
    for word in [5u64, number, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(body);
    bytes
}

#[test]
fn a_name_from_elsewhere_does_not_steer_the_terminal() {
    let world = World::new(&["--all"]);
    let mut far = world.bridge_b(&[]);
    let zenoh = stranger(&world);
    let hello = hello(1, "\\u001b[31mred", 16, "\"Bytes\"");
    eventually("an answer", || {
        let asked = zenoh.get("t/\u{1b}[31mred/hello").payload(hello.as_str());
        asked.timeout(Duration::from_secs(10)).wait().unwrap().recv().is_ok()
    });
    let said = far.hears("[31mred");
    assert!(!said.contains('\x1b'), "{said:?}");
}

#[test]
fn what_is_no_frame_is_counted_and_does_no_harm() {
    let world = World::new(&["x"]);
    let mut far = world.bridge_b(&[]);
    let zenoh = stranger(&world);
    // A bridge in all but its frames.
    let answer = answers(&zenoh, &hello(1, "x", 16, "\"Bytes\""));
    assert_eq!(answer["Accepted"]["window"], 65536);
    let token = zenoh.liveliness().declare_token("t/x/0000000000000005/asks").wait().unwrap();
    let mut b = world.open("x");
    far.hears("bridged");
    let publisher = zenoh.declare_publisher("t/x/0000000000000005/asks").wait().unwrap();
    for foreign in [b"".to_vec(), b"hello".to_vec(), vec![0xff; 4096], frame(9, 1, b"")] {
        publisher.put(foreign).wait().unwrap();
    }
    // One good message, twice, and one of which the bridge has not seen the one before.
    let message = [&4u32.to_le_bytes()[..], b"good"].concat();
    publisher.put(frame(1, 1, &message)).wait().unwrap();
    publisher.put(frame(1, 1, &message)).wait().unwrap();
    publisher.put(frame(1, 3, &message)).wait().unwrap();
    assert_eq!(receive(&mut b).unwrap(), b"good");
    // A message that is longer than its frame: from here on nothing can be believed.
    publisher.put(frame(1, 2, &[&100u32.to_le_bytes()[..], b"short"].concat())).wait().unwrap();
    assert!(matches!(receive(&mut b), Err(RecvError::PeerDead)));
    far.hears("breaks the protocol");
    drop(token);
}

/// A hello of a bridge that takes whatever comes.
fn boundless_hello() -> String {
    hello(1, "x", 16, "\"Bytes\"").replace("\"window\": 16", &format!("\"window\": {}", u64::MAX))
}

#[test]
fn a_bridge_that_places_what_was_not_sent_is_not_believed() {
    let world = World::new(&["x"]);
    let mut far = world.bridge_b(&["--timeout", "60"]);
    let zenoh = stranger(&world);
    answers(&zenoh, &boundless_hello());
    let _token = zenoh.liveliness().declare_token("t/x/0000000000000005/asks").wait().unwrap();
    let mut b = world.open("x");
    far.hears("bridged");
    let mut lie = frame(1, 1, &[&4u32.to_le_bytes()[..], b"good"].concat());
    lie[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    zenoh.put("t/x/0000000000000005/asks", lie).wait().unwrap();
    assert!(matches!(receive(&mut b), Err(RecvError::PeerDead)));
    far.hears("it places messages that were not sent");
}

#[test]
fn what_is_placed_and_never_acknowledged_is_not_kept_without_end() {
    let world = World::new(&["x"]);
    let mut far = world.bridge_b(&["--memory", "1", "--timeout", "60"]);
    let zenoh = stranger(&world);
    answers(&zenoh, &boundless_hello());
    let _token = zenoh.liveliness().declare_token("t/x/0000000000000005/asks").wait().unwrap();
    // It says to have placed all that came, and to have received nothing.
    let publisher = zenoh.declare_publisher("t/x/0000000000000005/asks").wait().unwrap();
    let placed = AtomicU64::new(0);
    let _answers = zenoh
        .declare_subscriber("t/x/0000000000000005/answers")
        .callback(move |sample| {
            // Behind the header, each message is its length and 64 bytes.
            let messages = (sample.payload().len() as u64 - 40) / 68;
            let mut note = frame(0, 0, b"");
            let all = placed.fetch_add(messages, Ordering::Relaxed) + messages;
            note[32..40].copy_from_slice(&all.to_le_bytes());
            let _ = publisher.put(note).wait();
        })
        .wait()
        .unwrap();
    let mut b = world.open("x");
    far.hears("bridged");
    // Twenty times as much as may be kept.
    let ended = (0..1 << 20).find_map(|_| b.send(&[7; 64]).err());
    assert!(matches!(ended, Some(SendError::PeerDead)), "{ended:?}");
    far.hears("it places what it does not acknowledge");
}

#[test]
fn channels_that_others_make_here_are_limited() {
    let world = World::new(&["--all"]);
    let mut far = world.bridge_b(&["--channels", "1"]);
    let zenoh = stranger(&world);
    assert_eq!(answers(&zenoh, &hello(1, "x", 16, "\"Bytes\""))["Accepted"]["window"], 65536);
    let asked = zenoh.get("t/y/hello").payload(hello(1, "y", 16, "\"Bytes\""));
    let reply = asked.timeout(LONG).wait().unwrap().recv().unwrap();
    let answer = String::from_utf8(reply.result().unwrap().payload().to_bytes().to_vec()).unwrap();
    assert!(answer.contains("Refused") && answer.contains("raise --channels"), "{answer}");
    far.hears("other bridges have all the channels here that they may have (1)");
}

#[test]
fn a_bridge_that_finds_no_other_says_so() {
    let world = World::new(&["x"]);
    let _a = world.create("x");
    world.bridge_a(&[]).hears("no other bridge answers yet");
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    let site = Site::new();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_capnp-shm-bridge"));
        let output = command.arg("--dir").arg(&site.0).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let quiet = ["--listen", "tcp/127.0.0.1:0"];
    for (args, code, text) in [
        (&["x"][..], 2, "--key"),
        (&["--key", "t"], 2, "NAMES"),
        (&["x", "--key", "t", "--as", "c"], 2, "possible values"),
        (&["x", "--key", "t/**"], 1, "wildcard"),
        (&["x", "--key", "/t/"], 1, "is refused"),
        (&["x", "--key", "t", "--timeout", "0"], 1, "timeout"),
        (&["[x", "--key", "t"], 1, "pattern"),
        (
            &["x", "--key", "t", "--config", "/no/such.json5"],
            1,
            "the configuration /no/such.json5 is refused",
        ),
    ] {
        let (found, said) = run(&[args, &quiet].concat());
        assert!(found == code && said.contains(text), "{args:?}: {found}, {said}");
    }
}

/// A process that gets no further threads. Given back when dropped.
#[cfg(target_os = "linux")]
struct NoThreads {
    pids: std::path::PathBuf,
}

#[cfg(target_os = "linux")]
impl NoThreads {
    /// None where whoever runs this may make no control group: the limit of a user does not bind root, and is everybody's else.
    fn of(process: u32) -> Option<Self> {
        let pids = std::path::Path::new("/sys/fs/cgroup/pids").join(format!("t-bridge-{process}"));
        std::fs::create_dir(&pids).ok()?;
        let group = Self { pids };
        group.set("cgroup.procs", &process.to_string())?;
        group.set("pids.max", "1")?;
        Some(group)
    }

    fn set(&self, file: &str, value: &str) -> Option<()> {
        std::fs::write(self.pids.join(file), value).ok()
    }
}

#[cfg(target_os = "linux")]
impl Drop for NoThreads {
    fn drop(&mut self) {
        let members = std::fs::read_to_string(self.pids.join("cgroup.procs")).unwrap_or_default();
        for process in members.lines() {
            let _ = std::fs::write("/sys/fs/cgroup/pids/cgroup.procs", process);
        }
        let _ = std::fs::remove_dir(&self.pids);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_bridge_that_gets_no_thread_says_so_and_bridges_once_it_does() {
    let world = World::new(&["x"]);
    let (mut near, _far) = (world.bridge_a(&[]), world.bridge_b(&[]));
    let Some(group) = NoThreads::of(near.child.id()) else {
        return println!("not tested: no control group of processes can be made here");
    };
    let mut a = world.create("x");
    near.hears("the system gives no thread");
    drop(group);
    let mut b = world.open("x");
    a.send(b"after all").unwrap();
    assert_eq!(receive(&mut b).unwrap(), b"after all");
}
