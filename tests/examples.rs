//! The examples, run as the programs they are. `cargo test` builds them beforehand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use common::{Name, named};

/// An example, started with `args` and all three streams piped. Killed when dropped.
struct Program(Option<Child>);

fn start(example: &str, args: &[&str]) -> Program {
    let tests = std::env::current_exe().unwrap();
    let file = format!("../examples/{example}{}", std::env::consts::EXE_SUFFIX);
    let path = tests.parent().unwrap().join(file);
    assert!(path.exists(), "{} is missing; run `cargo build --examples`", path.display());
    let mut command = Command::new(path);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program(Some(command.spawn().unwrap()))
}

impl Program {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Closes its input and waits for its end.
    fn finish(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    /// Writes `input` from a thread of its own, then the end of the file.
    fn feed(&mut self, input: Vec<u8>) -> std::thread::JoinHandle<()> {
        let mut stdin = self.child().stdin.take().unwrap();
        // The other end may die in mid-write: that is for the test to judge.
        std::thread::spawn(move || drop(stdin.write_all(&input)))
    }

    /// Reads the first byte of its output: it is at work.
    fn first_byte(&mut self) {
        self.child().stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    fn kill(&mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
}

#[track_caller]
fn assert_failure(output: &Output, code: i32, message: &str) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains(message), "{message:?} is not in {errors:?}");
}

#[test]
fn the_demo_shows_every_mode_and_leaves_nothing() {
    let name = named("demo");
    let output = start("demo", &["--name", &name, "--seconds", "0.2"]).finish();
    assert_success(&output);
    let table = text(&output.stdout);
    for mode in ["Spin", "Interval 1 ms", "Park"] {
        let at = table.lines().position(|line| line.trim_start().starts_with(mode));
        let mut lines = table.lines().skip(at.unwrap_or_else(|| panic!("no {mode} in\n{table}")));
        for phase in ["burst", "paced"] {
            let line = lines.next().unwrap();
            assert!(line.contains(phase) && (line.contains(" µs") || line.contains(" ms")), "{line}");
        }
    }
    for column in ["messages/s", "bytes/s", "p50", "p99", "p99.9", "max"] {
        assert!(table.contains(column), "no {column} in\n{table}");
    }
    assert_eq!(cfg!(unix), table.contains("CPU A") && table.contains("CPU B"));
    let widest = table.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?} columns:\n{table}");
    assert_eq!(name.left(), Vec::<PathBuf>::new());
}

#[test]
fn the_demos_two_sides_meet_from_two_terminals() {
    let name = named("sides");
    let pairs = [
        ("--a", "--b", "burst", ["64", "16", "0", "1000"]),
        ("--a30", "--b30", "paced", ["100", "4", "50", "0"]),
    ];
    for (a, b, phase, rest) in pairs {
        // Side B first: either order will do.
        let side_b = start("demo", &["--name", &name, b, "0.3"]);
        let side_a = start("demo", &[&["--name", &name, a, "0.3"], &rest[..]].concat());
        let (side_a, side_b) = (side_a.finish(), side_b.finish());
        for (output, way) in [(&side_a, "from B to A"), (&side_b, "from A to B")] {
            assert_success(output);
            let table = text(&output.stdout);
            assert!(table.contains(way) && table.contains(phase), "{table}");
        }
        assert_eq!(name.left(), Vec::<PathBuf>::new());
    }
}

#[test]
fn the_camera_sends_frames_in_place_and_both_processes_end() {
    let name = named("camera");
    let args = ["--name", &name, "--seconds", "1", "--fps", "50", "--width", "320", "--height", "240"];
    let output = start("camera", &args).finish();
    assert_success(&output);
    let table = text(&output.stdout);
    let figure = |row: &str| {
        let line = table.lines().find(|line| line.trim_start_matches(['│', ' ']).starts_with(row));
        let line = line.unwrap_or_else(|| panic!("no {row} in\n{table}"));
        line.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse::<u64>().ok()).unwrap()
    };
    let sent = figure("frames sent");
    assert!(sent >= 3 && figure("seen") == sent && figure("latency") > 0, "{table}");
    // Stop, and at least one before it: the first frames are too dark.
    assert!(figure("commands sent") >= 2, "{table}");
    assert_eq!(cfg!(target_os = "linux"), table.contains(&format!("in the mapping of {}.fs.a2b", &*name)));
    assert_eq!(name.left(), Vec::<PathBuf>::new());
}

#[test]
fn wrong_arguments_give_the_usage_and_exit_code_2() {
    let wrong: [&[&str]; 10] = [
        &["--nonsense"],
        &["stray"],
        &["--a"],
        &["--a", "1", "64"],
        &["--a", "1", "64", "1000"],
        &["--a", "1", "8", "16"],
        &["--a", "one", "64", "16"],
        &["--a30", "0", "64", "16"],
        &["--b", "1", "0", "0", "0"],
        &["--a", "1", "64", "16", "--b", "1"],
    ];
    for args in wrong {
        assert_failure(&start("demo", args).finish(), 2, "Usage: demo");
    }
    for args in [&["send"][..], &["recv"], &["copy", "x"], &[]] {
        assert_failure(&start("pipe", args).finish(), 2, "Usage: pipe");
    }
}

#[test]
fn a_pipe_carries_this_machines_files_byte_for_byte() {
    let mut files = vec![std::env::current_exe().unwrap()];
    files.extend(some_library());
    for file in files {
        let name = named("files");
        let original = fs::read(&file).unwrap();
        // In either order: the first time the receiver comes first, the second time the sender.
        for receiver_first in [true, false] {
            let begin = |role| start("pipe", &[role, &name]);
            let (mut sender, receiver) = if receiver_first {
                let receiver = begin("recv");
                (begin("send"), receiver)
            } else {
                (begin("send"), begin("recv"))
            };
            let feeder = sender.feed(original.clone());
            let copy = receiver.finish();
            feeder.join().unwrap();
            assert_success(&copy);
            assert_success(&sender.finish());
            assert!(copy.stdout == original, "{} arrived changed", file.display());
            assert_eq!(name.left(), Vec::<PathBuf>::new());
        }
    }
}

/// A compiled library of the toolchain, of at most 64 MB.
fn some_library() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let root = Command::new(rustc).args(["--print", "target-libdir"]).output().ok()?;
    let entries = fs::read_dir(text(&root.stdout).trim()).ok()?.flatten();
    let sized = entries.filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.path())));
    sized.filter(|(bytes, _)| *bytes <= 64 << 20).max().map(|(_, path)| path)
}

#[test]
fn a_pipe_carries_any_length() {
    for bytes in [0, 1, 64 * 1024, 64 * 1024 + 1] {
        let name = named("length");
        let (mut sender, receiver) = (start("pipe", &["send", &name]), start("pipe", &["recv", &name]));
        let original: Vec<u8> = (0..bytes).map(|index: u32| index as u8).collect();
        let feeder = sender.feed(original.clone());
        let copy = receiver.finish();
        feeder.join().unwrap();
        assert_success(&copy);
        assert_success(&sender.finish());
        assert!(copy.stdout == original, "{bytes} bytes arrived changed");
    }
}

/// Sender and receiver, of which the receiver has begun to write.
fn pipe_at_work(name: &Name, bytes: usize) -> (Program, Program) {
    let (mut sender, mut receiver) = (start("pipe", &["send", name]), start("pipe", &["recv", name]));
    // More than the receiver's output takes while nobody reads it, so that it is still at work.
    sender.feed(vec![7; bytes]);
    receiver.first_byte();
    (sender, receiver)
}

#[test]
fn a_killed_sender_is_no_end_of_file() {
    let name = named("sender");
    let (mut sender, receiver) = pipe_at_work(&name, 16 << 20);
    sender.kill();
    assert_failure(&receiver.finish(), 1, "the sender died");
}

#[test]
fn a_killed_receiver_fails_the_sender_who_leaves_nothing() {
    // Once with a sender that waits for room, once with one that has sent everything.
    for bytes in [16 << 20, 600 << 10] {
        let name = named("receiver");
        let (sender, mut receiver) = pipe_at_work(&name, bytes);
        receiver.kill();
        assert_failure(&sender.finish(), 1, "the receiver died");
        assert_eq!(name.left(), Vec::<PathBuf>::new());
    }
}

#[cfg(target_os = "linux")]
mod interrupted {
    use super::*;
    use common::eventually;
    use rustix::process::{Pid, Signal, kill_process};

    fn interrupt(program: &mut Program) {
        kill_process(Pid::from_child(program.child()), Signal::INT).unwrap();
    }

    /// Processes with `word` among their arguments.
    fn processes(word: &str) -> usize {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| text(line).split('\0').any(|arg| arg == word)).count()
    }

    #[test]
    fn the_demo_takes_its_other_side_and_its_files_along() {
        let name = named("ctrl-c");
        let mut demo = start("demo", &["--name", &name, "--seconds", "600"]);
        eventually("side B", || processes(&name) == 2 && name.left().len() == 2);
        interrupt(&mut demo);
        assert_failure(&demo.finish(), 130, "interrupted");
        assert_eq!((processes(&name), name.left()), (0, Vec::new()));
    }

    #[test]
    fn the_demo_says_so_when_its_other_side_is_killed() {
        let name = named("kill-b");
        let mut demo = start("demo", &["--name", &name, "--seconds", "600"]);
        let demo_id = demo.child().id();
        let mut b = None;
        eventually("side B", || {
            let attached = capnproto_shm_transport::Stats::of(&name).is_ok_and(|stats| stats.rx.messages > 0);
            b = child_of(demo_id);
            attached && b.is_some()
        });
        kill_process(Pid::from_raw(b.unwrap()).unwrap(), Signal::KILL).unwrap();
        assert_failure(&demo.finish(), 1, "the peer has died");
        assert_eq!(name.left(), Vec::<PathBuf>::new());
    }

    /// The process that was started by `parent`, by whichever of its threads.
    fn child_of(parent: u32) -> Option<i32> {
        let entries = fs::read_dir("/proc").ok()?.flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|id: &i32| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            status.contains(&format!("\nPPid:\t{parent}\n"))
        })
    }

    #[test]
    fn a_pipes_sender_takes_its_files_along() {
        let name = named("pipe-c");
        // Once while nobody receives, and once in the middle, with an input that gives nothing more.
        let mut alone = start("pipe", &["send", &name]);
        eventually("the channel", || name.left().len() == 2);
        let stdin = alone.child().stdin.take();
        interrupt(&mut alone);
        assert_failure(&alone.finish(), 130, "interrupted");
        assert_eq!(name.left(), Vec::<PathBuf>::new());
        drop(stdin);

        let (mut sender, mut receiver) = (start("pipe", &["send", &name]), start("pipe", &["recv", &name]));
        let mut stdin = sender.child().stdin.take().unwrap();
        stdin.write_all(b"half").unwrap();
        receiver.first_byte();
        interrupt(&mut sender);
        assert_failure(&sender.finish(), 130, "interrupted");
        assert_failure(&receiver.finish(), 1, "the sender gave up");
        assert_eq!(name.left(), Vec::<PathBuf>::new());
    }
}
