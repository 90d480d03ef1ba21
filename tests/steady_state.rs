//! Once it runs, the ring allocates nothing, asks the kernel for nothing, and costs nothing while it sleeps.

#![allow(unsafe_code, reason = "a global allocator and a system call filter")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use capnproto_shm_transport::{Config, PollMode, Transport};
use common::*;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; the counter is a plain cell of the thread's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above, with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn child() {
    #[cfg(target_os = "linux")]
    play(&[("filtered", filtered::role)]);
}

fn pair(name: &str, mode: PollMode) -> (Transport, Transport) {
    let config = Config::new().slot_size(64).slot_count(8).poll(mode);
    (Transport::create(name, &config).unwrap(), Transport::open_with(name, LONG, &config).unwrap())
}

/// Every way to send and receive, many laps of each.
fn every_form(a: &mut Transport, b: &mut Transport, copy: &mut Vec<u8>) {
    for round in 0..1000_u64 {
        let message = round.to_ne_bytes();
        a.send(&message).unwrap();
        assert_eq!(&*b.recv().unwrap(), message);

        let mut slot = b.reserve().unwrap();
        slot[..8].copy_from_slice(&message);
        slot.commit(8);
        assert_eq!(&*a.recv().unwrap(), message);

        drop(a.reserve().unwrap());
        let mut span = a.reserve_span(200).unwrap();
        span[..8].copy_from_slice(&message);
        span.commit(200);
        assert_eq!(b.recv_copied(copy).unwrap(), 200);
        assert_eq!(copy[..8], message);

        let mut batch = a.batch();
        batch.try_send(&message).unwrap();
        batch.try_send(&message).unwrap();
        assert_eq!(batch.publish(), 2);
        let mut received = 0;
        while received < 2 {
            received += b.drain(8, |m| assert_eq!(m, message)).unwrap();
        }

        let mut window = b.window();
        for held in [1, 2, 3, 3] {
            a.send(&message).unwrap();
            window.wait_for(held).unwrap();
            assert!(window.iter().all(|m| m == message));
            window.release(held / 3);
        }
        drop(window);
        a.send(b"older").unwrap();
        a.send(&message).unwrap();
        assert_eq!(&*b.recv_latest().unwrap(), message);
    }
}

#[test]
fn messages_allocate_nothing() {
    for mode in [PollMode::Spin, PollMode::Park] {
        let name = named("allocations");
        let (mut a, mut b) = pair(&name, mode);
        let mut copy = Vec::new();
        assert!(allocations(|| copy.reserve(200)) > 0, "the count counts");
        // The first window allocates its list, which the next ones use again.
        a.send(b"1").unwrap();
        let mut window = b.window();
        assert!(allocations(|| window.wait_for(1).unwrap()) > 0);
        drop(window);
        assert_eq!(allocations(|| every_form(&mut a, &mut b, &mut copy)), 0, "{mode:?}");
    }
}

/// A process that the kernel kills at any system call but its exit.
#[cfg(target_os = "linux")]
mod filtered {
    use super::*;

    pub fn role(args: &[String]) {
        let (mut a, mut b) = pair(&args[0], if args[1] == "spin" { PollMode::Spin } else { PollMode::Park });
        let mut copy = Vec::with_capacity(200);
        every_form(&mut a, &mut b, &mut copy);
        forbid_system_calls();
        every_form(&mut a, &mut b, &mut copy);
        if args[2] == "sin" {
            std::hint::black_box(std::fs::metadata("/").is_ok());
        }
        // SAFETY: ends the process at once; nothing runs afterwards.
        unsafe { libc::_exit(0) }
    }

    fn forbid_system_calls() {
        let step = |code: u32, k, jt, jf| libc::sock_filter { code: code as u16, k, jt, jf };
        let mut program = [
            // The number of the call is the first word.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_exit_group as u32, 0, 1),
            step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
            step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: takes plain numbers; required before a filter without privileges.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
        // SAFETY: `program` and its steps live through the call, which copies them.
        let done =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        assert_eq!(done, 0);
    }

    #[test]
    fn messages_take_no_system_call() {
        for mode in ["spin", "park"] {
            let name = named("calls");
            spawn("filtered", &[&name, mode, "honest"]).join();
        }
    }

    #[test]
    fn the_filter_does_catch_a_system_call() {
        use std::os::unix::process::ExitStatusExt;

        let name = named("calls-caught");
        let status = spawn("filtered", &[&name, "spin", "sin"]).end();
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
    }
}

/// The cost of a side that waits in vain for two seconds.
#[cfg(target_os = "linux")]
#[test]
fn a_parked_side_uses_less_than_one_percent_of_a_core() {
    use capnproto_shm_transport::{RecvError, SendError};
    use rustix::time::{ClockId, clock_gettime};
    use std::time::Duration;

    const IDLE: Duration = Duration::from_secs(2);
    let cpu = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let name = named("idle");
    let (a, _b) = pair(&name, PollMode::Park);
    let (mut tx, mut rx) = a.split();
    while tx.try_send(b"fill").is_ok() {}
    let waits_for_room = || {
        let before = cpu();
        assert!(matches!(tx.send_timeout(b"no room", IDLE), Err(SendError::Timeout)));
        cpu() - before
    };
    let waits_for_a_message = || {
        let before = cpu();
        assert!(matches!(rx.recv_timeout(IDLE), Err(RecvError::Timeout)));
        cpu() - before
    };
    std::thread::scope(|scope| {
        for side in [scope.spawn(waits_for_room), scope.spawn(waits_for_a_message)] {
            let used = side.join().unwrap();
            println!("{used:?} of {IDLE:?}");
            assert!(used < IDLE / 100, "{used:?} of {IDLE:?}");
        }
    });
}
