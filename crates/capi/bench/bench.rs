//! The Rust side of the comparison: both processes, pinned as C++'s are. Prints nanoseconds a message.
//!
//! `bench ping|pour NAME MESSAGES`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use transport::{Config, PollMode, Transport};

const SIZE: usize = 64;
const WAIT: Duration = Duration::from_secs(30);

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    // Where there is only one, the figures say so.
    let _ = sched_setaffinity(None, &set);
}

fn send(to: &mut Transport, number: u64) {
    let mut slot = to.reserve().unwrap();
    for word in slot[..SIZE].chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_ne_bytes());
    }
    slot.commit(SIZE);
}

fn receive(from: &mut Transport, number: u64) {
    let message = from.recv().unwrap();
    let words = message[..SIZE].chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
    assert_eq!(words.fold(0, u64::wrapping_add), number * (SIZE as u64 / 8));
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [job, name, messages] = &words[..] else { panic!("bench ping|pour NAME MESSAGES") };
    let messages: u64 = messages.parse().unwrap();
    let config = Config::new().slot_size(SIZE).slot_count(1024).poll(PollMode::Spin);
    if let Some(job) = job.strip_prefix("second-") {
        pin(1);
        let mut b = Transport::open_with(name, WAIT, &config).unwrap();
        for number in 0..messages {
            receive(&mut b, number);
            if job == "ping" {
                send(&mut b, number);
            }
        }
        if job == "pour" {
            send(&mut b, 0);
        }
        return;
    }
    pin(0);
    let mut a = Transport::create(name, &config).unwrap();
    let mut second = Command::new(std::env::current_exe().unwrap());
    let mut second = second.args([&format!("second-{job}"), name, &messages.to_string()]).spawn().unwrap();
    a.wait_for_peer(WAIT).unwrap();
    let start = Instant::now();
    for number in 0..messages {
        send(&mut a, number);
        if job == "ping" {
            receive(&mut a, number);
        }
    }
    if job == "pour" {
        drop(a.recv().unwrap());
    }
    println!("{}", start.elapsed().as_nanos() as f64 / messages as f64);
    assert!(second.wait().unwrap().success());
}
