//! The examples, run as the programs they are. `cargo test` builds them beforehand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;
mod programs;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use common::{Name, named};
use programs::{Program, assert_failure, assert_success, run, start, text};

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

#[cfg(unix)]
#[test]
fn the_event_loop_hears_the_channel_and_the_socket() {
    let mut program = start("event_loop", &["--seconds", "600"]);
    let wanted = ["the last is ", "socket:  1 values so far\n", "socket:  16 values so far\n"];
    let mut said = program.read_until(|said| wanted.iter().all(|what| said.contains(what)));
    program.interrupt();
    said += &program.succeed();
    let last = said.lines().last().unwrap();
    let figures: Vec<u64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(figures.len() == 3 && figures[0] >= 5 && figures[1] >= 33 && figures[2] >= 2, "{last}");
}

#[cfg(unix)]
#[test]
fn the_event_loop_ends_by_itself() {
    let said = run("event_loop", &["--seconds", "0.2"]);
    assert!(said.lines().last().unwrap().ends_with(" wakes of one thread"), "{said}");
}

#[cfg(unix)]
#[test]
fn the_fan_hears_every_producer() {
    let said = run("fan_in", &["--seconds", "1", "--producers", "20", "--processes", "3"]);
    assert!(said.starts_with("one thread, 20 producers in 3 processes\n"), "{said}");
    for phase in ["each 10 ms", "as fast as they can"] {
        let line = said.lines().find(|line| line.trim_start().starts_with(phase));
        let words =
            line.unwrap_or_else(|| panic!("no {phase} in\n{said}")).trim_start()[phase.len()..].split(' ');
        let figures: Vec<u64> = words.filter_map(|word| word.replace(',', "").parse().ok()).collect();
        // Messages of all, of the slowest and of the fastest, and wakes; each of a second.
        assert_eq!(figures.len(), 4, "{said}");
        assert!(figures[0] >= 20 * figures[1] && figures[0] <= 20 * (figures[2] + 1), "{said}");
        assert!(figures[3] > 0, "{said}");
    }
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
    for example in ["event_loop", "fan_in"] {
        for time in ["-1", "x", "inf", "NaN"] {
            assert_failure(&start(example, &[&format!("--seconds={time}")]).finish(), 2, "invalid value");
        }
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
mod servers {
    use std::process::Output;

    use super::*;

    /// The only line that begins so, and what follows.
    #[track_caller]
    fn lines(output: &Output, begin: &str) -> Vec<String> {
        assert_success(output);
        let text = text(&output.stdout);
        text.lines().filter_map(|line| line.strip_prefix(begin)).map(str::to_owned).collect()
    }

    /// The numbers in a line.
    fn numbers(line: &str) -> Vec<u64> {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    }

    #[test]
    fn a_server_has_ten_clients_one_of_which_is_killed_and_replaced() {
        let output = start("server", &[]).finish();
        let said = lines(&output, "");
        assert_eq!(said, ["10001 calls answered; 10 clients left in order, 1 died"]);
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn an_async_server_has_a_task_for_each_client() {
        let output = start("async_server", &[]).finish();
        assert_eq!(lines(&output, ""), ["10000 numbers of 10 clients added up"]);
    }

    #[test]
    fn a_broadcast_skips_or_drops_its_slow_reader() {
        for policy in ["skip", "drop"] {
            let output = start("broadcast", &[policy]).finish();
            let [written] = &lines(&output, "writer: ")[..] else { panic!("{}", text(&output.stdout)) };
            let [quotes, skipped, dropped] = numbers(written)[..] else { panic!("{written}") };
            let readers: Vec<_> = lines(&output, "reader: ").iter().map(|line| numbers(line)).collect();
            assert_eq!((quotes, readers.len()), (5000, 4));
            // Each reads until the end, a slow one too; all that it missed it was refused.
            assert!(readers.iter().all(|reader| reader[0] > 0), "{readers:?}");
            let (missed, joined) =
                readers.iter().fold((0, 0), |(m, j), reader| (m + reader[1], j + reader[2]));
            assert_eq!(joined, 4 + dropped, "{readers:?}");
            match policy {
                "skip" => assert!(skipped > 0 && missed <= skipped && dropped == 0, "{written} {readers:?}"),
                _ => assert!(skipped == 0 && dropped > 0, "{written} {readers:?}"),
            }
        }
    }

    #[test]
    fn workers_share_out_and_what_a_killed_one_had_goes_to_another() {
        let output = start("workers", &[]).finish();
        assert_eq!(lines(&output, ""), ["2262 primes below 20000; 1 workers died"]);
    }
}

#[cfg(target_os = "linux")]
mod interrupted {
    use super::*;
    use common::eventually;
    use rustix::process::{Pid, Signal, kill_process};

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
        demo.interrupt();
        assert_failure(&demo.finish(), 130, "interrupted");
        assert_eq!((processes(&name), name.left()), (0, Vec::new()));
    }

    #[test]
    fn the_fan_ends_in_order() {
        let mut program = start("fan_in", &["--seconds", "600"]);
        // It says nothing before its end.
        let last = format!("fan-in-{}-99", program.child().id());
        eventually("the last producer", || {
            capnproto_shm_transport::Stats::of(&last).is_ok_and(|stats| stats.rx.messages > 0)
        });
        program.interrupt();
        let said = program.succeed();
        assert!(said.starts_with("one thread, 100 producers in 4 processes"), "{said}");
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
        alone.interrupt();
        assert_failure(&alone.finish(), 130, "interrupted");
        assert_eq!(name.left(), Vec::<PathBuf>::new());
        drop(stdin);

        let (mut sender, mut receiver) = (start("pipe", &["send", &name]), start("pipe", &["recv", &name]));
        let mut stdin = sender.child().stdin.take().unwrap();
        stdin.write_all(b"half").unwrap();
        receiver.first_byte();
        sender.interrupt();
        assert_failure(&sender.finish(), 130, "interrupted");
        assert_failure(&receiver.finish(), 1, "the sender gave up");
        assert_eq!(name.left(), Vec::<PathBuf>::new());
    }
}
