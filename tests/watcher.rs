//! The thread that looks after halves in event loops: what it must notice and when, how many it takes, and what it costs.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, RecvError, SendError, Transport, WaitSet};
use common::*;
use rustix::event::{PollFd, PollFlags, poll};

#[test]
fn child() {
    play(&[
        ("leave", leave),
        ("join_many", join_many),
        ("message", told_of_a_death_before_a_message),
        ("room", told_of_a_death_before_room),
        ("unreachable", told_without_its_event),
        ("forget", sets_forget),
        ("many", many),
        ("churn", churn),
        ("idle", idle),
    ]);
}

fn config() -> Config {
    Config::new().slot_size(8).slot_count(4)
}

fn sleep_on(fd: BorrowedFd<'_>) {
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
}

/// Longer than the watcher takes to look after a half that was just made, and to go to sleep.
fn let_the_watcher_sleep() {
    std::thread::sleep(Duration::from_millis(30));
}

/// Joins, says so, and waits to be killed.
fn leave(args: &[String]) {
    let _b = Transport::open(&args[0], LONG).unwrap();
    say("here");
    hold();
}

/// The shortest of several times that a role measures, each in a process of its own, whose watcher has nothing else to
/// look after. One that sleeps too long always does, for seconds.
fn shortest(role: &str) -> Duration {
    let times = (0..5).map(|_| {
        let mut peer = spawn(role, &[]);
        let micros = peer.line_after("took").parse().unwrap();
        peer.join();
        Duration::from_micros(micros)
    });
    times.min().unwrap()
}

const SOON: Duration = Duration::from_millis(500);

fn took(since: Instant) {
    say(&format!("took {}", since.elapsed().as_micros()));
}

fn told_of_a_death_before_a_message(_: &[String]) {
    let name = named("late-message");
    let mut a = Transport::create(&name, &config()).unwrap();
    let (_, from_b) = a.halves();
    from_b.wait_fd().unwrap();
    let_the_watcher_sleep();
    let mut peer = spawn("leave", &[&name]);
    peer.wait_for("here");
    assert!(from_b.arm().unwrap());
    peer.kill();
    let killed = Instant::now();
    sleep_on(from_b.wait_fd().unwrap());
    took(killed);
    assert!(matches!(from_b.arm(), Err(RecvError::PeerDead)));
}

fn told_of_a_death_before_room(_: &[String]) {
    let name = named("late-room");
    let mut a = Transport::create(&name, &config()).unwrap();
    let (to_b, _) = a.halves();
    while to_b.try_send(b"x").is_ok() {}
    assert!(to_b.arm().unwrap());
    let_the_watcher_sleep();
    let mut peer = spawn("leave", &[&name]);
    peer.wait_for("here");
    // Told of the peer's coming, perhaps.
    assert!(to_b.arm().unwrap());
    let_the_watcher_sleep();
    peer.kill();
    let killed = Instant::now();
    sleep_on(to_b.wait_fd().unwrap());
    took(killed);
    assert!(matches!(to_b.arm(), Err(SendError::PeerDead)));
}

/// The peer does not find the event of a half that was made long ago, and has just been armed.
fn told_without_its_event(_: &[String]) {
    let name = named("unreachable");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let (_, from_b) = a.halves();
    from_b.wait_fd().unwrap();
    let files = [name.a2b(), name.b2a()];
    let events: Vec<_> = name.left().into_iter().filter(|path| !files.contains(path)).collect();
    fs::remove_file(&events[0]).unwrap();
    let_the_watcher_sleep();
    assert!(from_b.arm().unwrap());
    b.send(b"hello").unwrap();
    let sent = Instant::now();
    sleep_on(from_b.wait_fd().unwrap());
    took(sent);
}

#[test]
fn what_happens_right_after_a_half_is_armed_is_noticed_soon() {
    for role in ["message", "room", "unreachable"] {
        let took = shortest(role);
        assert!(took < SOON, "{role}: {took:?}");
    }
}

/// How many descriptors the sets of this process watch.
fn watched_descriptors() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let polls = |path: &std::path::PathBuf| {
        fs::read_link(path).is_ok_and(|to| to.ends_with("anon_inode:[eventpoll]"))
    };
    let watched = open.filter(polls).map(|path| {
        let info =
            fs::read_to_string(format!("/proc/self/fdinfo/{}", path.file_name().unwrap().to_string_lossy()));
        info.unwrap().lines().filter(|line| line.starts_with("tfd:")).count()
    });
    watched.sum()
}

/// A half that is dropped while it sleeps in a set is forgotten, also where others keep its event open.
fn sets_forget(_: &[String]) {
    let mut set = WaitSet::new().unwrap();
    let mut others = Vec::new();
    for key in 0..20 {
        let name = named("forget");
        let a = Transport::create(&name, &config()).unwrap();
        let mut b = Transport::open(&name, LONG).unwrap();
        set.insert(key, b.halves().1).unwrap();
        others.push((b.interrupter(), b.poll_control()));
        assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
        assert_eq!(watched_descriptors(), 1);
        // The half that sleeps goes, or first the one that it sleeps for.
        if key % 2 == 0 {
            drop((b, a))
        } else {
            drop((a, b))
        }
        assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
        assert_eq!((set.len(), watched_descriptors()), (0, 0), "{key}");
    }
}

#[test]
fn a_set_forgets_what_is_dropped() {
    spawn("forget", &[]).join();
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path().join("comm"));
    tasks.filter_map(|path| fs::read_to_string(path).ok()).map(|name| name.trim().to_owned()).collect()
}

fn watchers() -> usize {
    threads().iter().filter(|name| *name == "shm-watch").count()
}

fn raise_the_limit_of_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

const MANY: usize = 130;

/// Joins many channels, sends to each when it is told to, and waits to be killed.
fn join_many(args: &[String]) {
    raise_the_limit_of_descriptors();
    let mut sides: Vec<_> = args.iter().map(|name| Transport::open(name, LONG).unwrap()).collect();
    say("here");
    for round in 0..2u8 {
        hold();
        sides.iter_mut().for_each(|side| side.send(&[round]).unwrap());
    }
    hold();
}

/// More halves than one thread takes, and than two take: each is told of messages and of a death.
fn many(_: &[String]) {
    raise_the_limit_of_descriptors();
    let names: Vec<_> = (0..MANY).map(|_| named("many")).collect();
    let mut sides: Vec<_> = names.iter().map(|name| Transport::create(name, &config()).unwrap()).collect();
    let mut set = WaitSet::new().unwrap();
    for (key, side) in sides.iter_mut().enumerate() {
        set.insert(key as u64, side.halves().1).unwrap();
    }
    // A thread takes its name itself.
    eventually("there are three", || watchers() == 3);
    // They sleep before anybody has come: so the threads wake them, at first.
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut peer = spawn("join_many", &names);
    peer.wait_for("here");
    for round in 0..2u8 {
        peer.go();
        let mut missing = MANY;
        while missing > 0 {
            for key in set.wait(None).unwrap().to_vec() {
                assert_eq!(&*sides[key as usize].try_recv().unwrap(), [round]);
                missing -= 1;
            }
        }
        assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
    }
    peer.kill();
    while !set.is_empty() {
        for key in set.wait(None).unwrap().to_vec() {
            assert!(matches!(sides[key as usize].try_recv(), Err(RecvError::PeerDead)));
            set.remove(key);
        }
    }
    // Places are used again.
    sides.truncate(10);
    for (key, side) in sides.iter_mut().enumerate() {
        assert!(matches!(set.insert(key as u64, side.halves().1), Ok(())));
    }
    assert_eq!(watchers(), 3);
}

#[test]
fn more_halves_than_one_thread_takes_are_told_all_the_same() {
    spawn("many", &[]).join();
}

/// Makes halves, has them sleep and wake, and drops them, armed and not, many times.
fn churn(_: &[String]) {
    let name = named("churn");
    let mut set = WaitSet::new().unwrap();
    let mut after_some = [0; 4];
    for round in 0..1000 {
        let mut a = Transport::create(&name, &config()).unwrap();
        let mut b = Transport::open(&name, LONG).unwrap();
        let (to_b, from_b) = a.halves();
        assert!(from_b.arm().unwrap());
        while to_b.try_send(b"x").is_ok() {}
        assert!(to_b.arm().unwrap());
        set.insert(round, b.halves().1).unwrap();
        assert_eq!(set.wait(None).unwrap(), [round]);
        while b.try_recv().is_ok() {}
        match round % 4 {
            0 => assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty()),
            1 => b.send(b"x").unwrap(),
            2 => set.remove(round),
            _ => {}
        }
        if round % 2 == 0 {
            drop((a, b))
        } else {
            drop((b, a))
        }
        assert!(name.is_free(), "{:?}", name.left());
        if round == 200 {
            after_some = possessions();
        }
    }
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty() && set.is_empty());
    let (some, all) = (after_some, possessions());
    let grown = some.iter().zip(all).map(|(some, all)| all.saturating_sub(*some)).collect::<Vec<_>>();
    // The allocator may take a few more mappings and pages; eight hundred of anything show.
    assert!(grown[0] <= 3 && grown[1] == 0 && grown[2] <= 8 && grown[3] <= 200, "{some:?}, then {all:?}");
}

#[test]
fn halves_that_come_and_go_leave_nothing_in_the_process() {
    spawn("churn", &[]).join();
}

/// Ten channels that sleep on their descriptors, and nothing happens.
fn idle(_: &[String]) {
    let names: Vec<_> = (0..10).map(|_| named("idle")).collect();
    let mut sides: Vec<_> = names.iter().map(|name| Transport::create(name, &config()).unwrap()).collect();
    let mut peers: Vec<_> = names.iter().map(|name| Transport::open(name, LONG).unwrap()).collect();
    for (side, peer) in sides.iter_mut().zip(&mut peers) {
        let (_, from_peer) = side.halves();
        assert!(from_peer.arm().unwrap());
        peer.send(b"x").unwrap();
        drop(from_peer.try_recv().unwrap());
        assert!(from_peer.arm().unwrap());
    }
    let_the_watcher_sleep();
    let (before, began) = (times_slept(), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let (slept, seconds) = (times_slept() - before, began.elapsed().as_secs());
    // The watcher looks every two seconds; this thread has slept once.
    assert!(slept <= 3 + seconds, "{slept} times in {seconds} s");
}

#[test]
fn idle_halves_cost_nothing() {
    spawn("idle", &[]).join();
}
