//! Two sides, and other processes, on the one processor that both need: a side that waits lets the other run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(unsafe_code, reason = "a scheduling class")]

mod common;

use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Config, PollMode, RecvError, Transport};
use common::*;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const MODES: [PollMode; 2] = [PollMode::Spin, PollMode::Park];

#[test]
fn child() {
    play(&[("echo", echo), ("hog", hog)]);
}

/// The last processor that this thread may run on.
fn a_processor() -> usize {
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)).unwrap()
}

/// Keeps this thread, and what it starts, to one processor.
fn pin(processor: usize) {
    let mut one = CpuSet::new();
    one.set(processor);
    sched_setaffinity(None, &one).unwrap();
}

/// Has this thread run before any of an ordinary class; whether the system lets it.
fn run_first() -> bool {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread, and the parameter lives through the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0 }
}

fn config(mode: PollMode) -> Config {
    Config::new().slot_size(16).slot_count(2).poll(mode)
}

/// Sends back what comes, until the channel is closed.
fn echo(args: &[String]) {
    let [name, processor, mode, class] = args else { panic!("{args:?}") };
    pin(processor.parse().unwrap());
    let mut b = Transport::open_with(name, LONG, &config(MODES[mode.parse::<usize>().unwrap()])).unwrap();
    if class == "first" {
        say(if run_first() { "runs first" } else { "may not" });
    }
    let (tx, rx) = b.halves();
    let end = loop {
        match rx.recv() {
            Ok(message) => tx.send(&message).unwrap(),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, RecvError::Closed), "{end}");
}

/// Uses its processor without end, until it is killed or its parent goes.
fn hog(args: &[String]) {
    pin(args[0].parse().unwrap());
    thread::spawn(|| {
        hold();
        std::process::exit(0);
    });
    say("begun");
    loop {
        std::hint::spin_loop();
    }
}

/// Sends messages one at a time, each answered, then a stream through a ring that is always full.
fn exchange(mut a: Transport, round_trips: usize) {
    for index in 0..round_trips {
        a.send(&pattern(index, 16)).unwrap();
        assert_eq!(&*a.recv().unwrap(), pattern(index, 16));
    }
    let (mut tx, mut rx) = a.split();
    thread::scope(|scope| {
        scope.spawn(|| (0..round_trips).for_each(|index| tx.send(&pattern(index, 16)).unwrap()));
        (0..round_trips).for_each(|index| assert_eq!(&*rx.recv().unwrap(), pattern(index, 16)));
    });
}

/// On a thread that may be pinned.
fn on_one_processor(ours: usize, theirs: usize, class: &'static str, round_trips: usize) {
    thread::spawn(move || {
        let processor = a_processor();
        pin(processor);
        let name = named("pinned");
        let mut a = Transport::create(&name, &config(MODES[ours])).unwrap();
        // A side that has waited for room has said where it sends from. A side that never yields learns it there.
        let mut early = 0;
        while class == "first" && a.send_timeout(&[early; 16], Duration::from_millis(5)).is_ok() {
            early += 1;
        }
        let args = [&*name, &processor.to_string(), &theirs.to_string(), class];
        let mut peer = spawn("echo", &args);
        if class == "first" && peer.line() == "may not" {
            eprintln!("SKIPPED: the system lets nobody run first");
            return peer.kill();
        }
        (0..early).for_each(|index| assert_eq!(&*a.recv().unwrap(), [index; 16]));
        exchange(a, round_trips);
        peer.join();
    })
    .join()
    .unwrap();
}

#[test]
fn two_sides_on_one_processor_make_progress() {
    for (ours, theirs) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        on_one_processor(ours, theirs, "ordinary", 1000);
    }
}

#[test]
fn so_they_do_beside_a_third_that_uses_it_without_end() {
    for (ours, theirs) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let processor = thread::spawn(a_processor).join().unwrap();
        let mut third = spawn("hog", &[&processor.to_string()]);
        third.wait_for("begun");
        on_one_processor(ours, theirs, "ordinary", 1000);
        third.kill();
    }
}

/// A side that spins and runs before every ordinary one keeps its processor from its peer until it sleeps.
#[test]
fn a_side_that_runs_first_lets_its_peer_run() {
    for theirs in 0..2 {
        for ours in 0..2 {
            on_one_processor(ours, theirs, "first", 300);
        }
    }
}
