//! Processes that come of a process with a channel: a forked child has no part in it, and what is started
//! as another program has nothing of it at all.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(unsafe_code, reason = "fork is unsafe; each call says why it is sound here")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use capnproto_shm_transport::{Config, CreateError, Missing, OpenError, RecvError, Transport};
use common::*;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

#[test]
fn child() {
    play(&[
        ("forks_and_waits", forks_and_waits),
        ("starts_a_program", starts_a_program),
        ("forks_and_arms", forks_and_arms),
    ]);
}

fn config() -> Config {
    Config::new().slot_size(8).slot_count(4)
}

/// Forks; the child does `act` and ends at once.
fn fork(act: impl FnOnce()) -> Pid {
    // SAFETY: the child runs `act` alone, which takes no lock and allocates nothing that another thread of
    // this process could have held at the fork, and then ends without running anything else.
    match unsafe { libc::fork() } {
        0 => {
            act();
            // SAFETY: ends the process, without the destructors and exit handlers that are its parent's.
            unsafe { libc::_exit(0) }
        }
        id => Pid::from_raw(id).expect("the fork failed"),
    }
}

/// Touches nothing of the channel and lives until it is killed, or until a failed test is long over.
fn live_on() {
    // SAFETY: asks for a signal later; touches no memory.
    unsafe { libc::alarm(LONG.as_secs() as u32) };
    // SAFETY: waits for a signal; touches no memory.
    unsafe { libc::pause() };
}

/// How a forked child ended: its signal, if one killed it.
fn signal_of(pid: Pid) -> Option<i32> {
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    status.terminating_signal()
}

/// The use that a forked child makes of its parent's two ends.
type Touch = fn(&mut Transport, &mut Transport);

#[test]
fn a_forked_child_that_touches_the_channel_dies_and_the_channel_goes_on() {
    let name = named("fork-touch");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    a.send(b"before").unwrap();

    let touches: [(&str, Touch); 4] = [
        ("sends", |a, _| drop(a.try_send(b"stray"))),
        ("receives", |_, b| drop(b.try_recv().map(|_| ()))),
        ("looks", |a, _| assert_ne!(a.slot_count(), a.stats().tx.used_slots)),
        // The destructor too: it never comes to unlock or to unlink what is its parent's.
        ("drops", |a, _| unsafe_drop(a)),
    ];
    for (what, touch) in touches {
        let forked = fork(|| touch(&mut a, &mut b));
        assert_eq!(signal_of(forked), Some(libc::SIGSEGV), "it {what}");
    }

    assert_eq!(&*b.recv().unwrap(), b"before");
    a.send(b"after").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"after");
    b.send(b"back").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"back");
    assert!(matches!(Transport::create(&name, &config()), Err(CreateError::InUse { .. })));
    drop(a);
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    assert_eq!(name.left().len(), 0);
}

/// Runs a borrowed transport's destructor, in a process that ends of it.
fn unsafe_drop(transport: &mut Transport) {
    // SAFETY: a copy is dropped in place of the original, which this process never uses again: it ends in
    // the destructor, or right after.
    drop(unsafe { std::ptr::read(transport) });
}

/// Holds a channel as side A, forks a child that only lives, and waits.
fn forks_and_waits(args: &[String]) {
    let mut a = Transport::create(&args[0], &config()).unwrap();
    eventually("side B is there", || a.peer_attached());
    let forked = fork(live_on);
    a.send(b"last").unwrap();
    say(&forked.as_raw_nonzero().to_string());
    hold();
}

#[test]
fn a_forked_child_that_lives_on_keeps_the_name_of_its_dead_parent_until_it_ends() {
    let name = named("fork-lives");
    let mut peer = spawn("forks_and_waits", &[&name]);
    let mut b = Transport::open(&name, LONG).unwrap();
    assert_eq!(&*b.recv().unwrap(), b"last");
    let forked = std::iter::repeat_with(|| peer.line()).find_map(|line| line.parse().ok());
    let forked = Pid::from_raw(forked.unwrap()).unwrap();
    peer.kill();

    // The kernel has marked the parent's death. But the lock belongs to the open file, which the child shares: as long
    // as it lives, the name is in use.
    assert!(matches!(b.recv(), Err(RecvError::PeerDead)));
    assert!(matches!(Transport::create(&name, &config()), Err(CreateError::InUse { .. })));

    kill_process(forked, Signal::KILL).unwrap();
    eventually("the name is free", || {
        Transport::open(&name, Duration::ZERO)
            .is_err_and(|error| matches!(error, OpenError::Timeout { missing: Missing::SideA, .. }))
    });
    let a = Transport::create(&name, &config()).unwrap();
    b.reopen(LONG).unwrap();
    drop((a, b));
    assert_eq!(name.left().len(), 0);
}

#[test]
fn a_parent_that_closes_in_order_is_closed_whatever_its_forked_child_does() {
    let name = named("fork-close");
    let a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let forked = fork(live_on);
    drop(a);
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    assert_eq!(name.left().len(), 0);
    // The lock was let go, not only closed: the name is free though the child has the file open still.
    drop(Transport::create(&name, &config()).unwrap());
    kill_process(forked, Signal::KILL).unwrap();
    assert_eq!(signal_of(forked), Some(libc::SIGKILL));
}

/// Holds a channel that sleeps on its descriptor, and forks: the child has a channel of its own, and nothing of its
/// parent's watches it.
fn forks_and_arms(_: &[String]) {
    let name = named("fork-arm");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    assert!(b.halves().1.arm().unwrap());
    let sleeps_and_wakes = |name: &Name| {
        let mut a = Transport::create(name, &config()).unwrap();
        let (_, from_b) = a.halves();
        // Nobody has come: only a watcher of this process's own can tell.
        assert!(from_b.arm().unwrap());
        let mut b = Transport::open(name, LONG).unwrap();
        b.send(b"x").unwrap();
        poll(&mut [PollFd::new(&from_b.wait_fd().unwrap(), PollFlags::IN)], None).unwrap();
        while let Err(error) = from_b.try_recv() {
            assert!(matches!(error, RecvError::Empty));
        }
        assert!(from_b.arm().unwrap());
        b.send(b"x").unwrap();
        poll(&mut [PollFd::new(&from_b.wait_fd().unwrap(), PollFlags::IN)], None).unwrap();
        drop(from_b.try_recv().unwrap());
    };
    let (other, ours) = (named("fork-arm"), named("fork-arm"));
    let child = fork(|| {
        // SAFETY: asks for a signal later, should the child hang; touches no memory.
        unsafe { libc::alarm(LONG.as_secs() as u32) };
        sleeps_and_wakes(&other);
    });
    sleeps_and_wakes(&ours);
    assert_eq!(signal_of(child), None);
    // The parent's half has slept all the while.
    a.send(b"x").unwrap();
    poll(&mut [PollFd::new(&b.halves().1.wait_fd().unwrap(), PollFlags::IN)], None).unwrap();
    assert_eq!(&*b.try_recv().unwrap(), b"x");
}

#[test]
fn a_forked_child_has_a_watcher_of_its_own() {
    spawn("forks_and_arms", &[]).join();
}

/// The files that a process has open, as the system tells them.
fn open_files(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// Holds a channel as side A, starts another program that outlives it, and waits to be killed.
#[allow(clippy::zombie_processes, reason = "it outlives this process, which is killed")]
fn starts_a_program(args: &[String]) {
    let mut a = Transport::create(&args[0], &config()).unwrap();
    eventually("side B is there", || a.peer_attached());
    // It ends when the test does, which holds the other end of this standard input.
    let program = Command::new("cat").stdout(Stdio::null()).stdin(Stdio::inherit()).spawn().unwrap();
    a.send(b"last").unwrap();
    say(&program.id().to_string());
    loop {
        std::thread::park();
    }
}

#[test]
fn a_started_program_inherits_nothing_and_keeps_nothing_alive() {
    let name = named("fork-exec");
    let mut peer = spawn("starts_a_program", &[&name]);
    let mut b = Transport::open(&name, LONG).unwrap();
    assert_eq!(&*b.recv().unwrap(), b"last");
    let program = std::iter::repeat_with(|| peer.line()).find_map(|line| line.parse::<u32>().ok()).unwrap();
    let ours = |files: Vec<PathBuf>| files.into_iter().filter(|path| path.starts_with("/dev/shm")).count();
    assert!(ours(open_files(peer.id())) > 0, "the look is able to find them");
    assert_eq!(ours(open_files(program)), 0);
    let maps = fs::read_to_string(format!("/proc/{program}/maps")).unwrap();
    assert!(!maps.contains("/dev/shm"), "{maps}");

    peer.kill();
    assert!(fs::exists(format!("/proc/{program}")).unwrap(), "it outlives its parent");
    assert!(matches!(b.recv(), Err(RecvError::PeerDead)));
    drop(Transport::create(&name, &config()).unwrap());
    assert_eq!(name.left().len(), 0);
}
