//! Once a channel runs, a task's messages allocate nothing: those that are there at once, and, in a tokio runtime, those
//! it sleeps for. async-io's reactor, which wakes tasks of other executors, allocates a list of wakers at each event.
#![cfg(feature = "async")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use capnproto_shm_transport::{Config, PollMode, RecvError, Transport};
use common::*;
use futures::{AsyncReadExt, AsyncWriteExt};

/// Counts what each thread allocates. An executor of one thread has its reactor in there too.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn child() {
    play(&[("echo", echo), ("echo_bytes", echo_bytes)]);
}

/// Sends back what comes, every eighth message after a while: then the other side sleeps.
fn echo(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    let mut message = Vec::new();
    for round in 0_u64.. {
        match b.recv_copied(&mut message) {
            Err(RecvError::Closed) => return,
            received => received.unwrap(),
        };
        if round % 8 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut slot = b.reserve_span(message.len()).unwrap();
        slot[..message.len()].copy_from_slice(&message);
        slot.commit(message.len());
    }
}

/// The same with bytes.
fn echo_bytes(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap().into_io();
    futures::executor::block_on(async {
        let mut bytes = [0; 200];
        while b.read_exact(&mut bytes).await.is_ok() {
            std::thread::sleep(Duration::from_millis(1));
            b.write_all(&bytes).await.unwrap();
        }
    });
}

/// Runs a future to its end, in these modes and not in others.
type Executor = (&'static str, &'static [PollMode], fn(Pin<Box<dyn Future<Output = ()>>>));

const AWAKE: &[PollMode] = &[PollMode::Spin];

const EXECUTORS: &[Executor] = &[
    #[cfg(feature = "tokio")]
    ("tokio", &[PollMode::Spin, PollMode::Park], |future| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    }),
    ("smol", AWAKE, |future| smol::block_on(future)),
    ("futures", AWAKE, |future| futures::executor::LocalPool::new().run_until(future)),
];

/// After as many rounds as it takes for everything to be there that is made once, none allocates.
async fn settles(what: &str, mut round: impl AsyncFnMut(u64)) {
    const WARM: u64 = 40;
    const COUNTED: u64 = 200;
    for number in 0..WARM {
        // The other side gets time to sleep: its event is opened at the first time.
        if number % 8 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        round(number).await;
    }
    let before = ALLOCATIONS.get();
    for number in 0..COUNTED {
        round(number).await;
    }
    let allocated = ALLOCATIONS.get() - before;
    assert_eq!(allocated, 0, "{what}: in {COUNTED} rounds");
}

/// Every way in which a task sends and receives.
async fn every_form(a: &mut Transport, copy: &mut Vec<u8>, round: u64) {
    let message = round.to_ne_bytes();
    a.send_async(&message).await.unwrap();
    assert_eq!(*a.recv_async().await.unwrap(), message);

    let mut slot = a.reserve_async().await.unwrap();
    slot[..8].copy_from_slice(&message);
    slot.commit(8);
    assert_eq!(a.recv_copied_async(copy).await.unwrap(), 8);
    assert_eq!(copy[..8], message);

    let mut span = a.reserve_span_async(200).await.unwrap();
    span[..200].fill(round as u8);
    span.commit(200);
    assert_eq!(*a.recv_latest_async().await.unwrap(), [round as u8; 200]);

    a.send_async(&message).await.unwrap();
    a.send_async(&message).await.unwrap();
    let mut window = a.window();
    window.wait_for_async(2).await.unwrap();
    assert!(window.iter().all(|m| m == message));
}

/// How often this thread has slept in the kernel.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Elsewhere it is not counted: more with each question.
#[cfg(not(target_os = "linux"))]
fn sleeps() -> u64 {
    thread_local! {
        static ASKED: Cell<u64> = const { Cell::new(0) };
    }
    ASKED.replace(ASKED.get() + 1)
}

fn config(mode: PollMode) -> Config {
    Config::new().slot_size(64).slot_count(8).poll(mode)
}

#[test]
fn messages_of_tasks_allocate_nothing() {
    for &(executor, modes, run) in EXECUTORS {
        for &mode in modes {
            let name = named("async-allocations");
            let mut a = Transport::create(&name, &config(mode)).unwrap();
            let peer = spawn("echo", &[&name]);
            let what = format!("{executor}, {mode:?}");
            run(Box::pin(async move {
                let mut copy = Vec::with_capacity(200);
                let sleeps_before = sleeps();
                settles(&what, async |round| every_form(&mut a, &mut copy, round).await).await;
                let before = ALLOCATIONS.get();
                std::hint::black_box(Vec::<u8>::with_capacity(1));
                assert!(ALLOCATIONS.get() > before, "the count counts");
                assert!(mode == PollMode::Spin || sleeps() > sleeps_before, "{what}: it never slept");
            }));
            peer.join();

            let name = named("async-allocations-bytes");
            let mut a = Transport::create(&name, &config(mode)).unwrap().into_io();
            let peer = spawn("echo_bytes", &[&name]);
            let what = format!("{executor}, {mode:?}, bytes");
            run(Box::pin(async move {
                let mut read = [0; 200];
                settles(&what, async |round| {
                    let bytes = [round as u8; 200];
                    a.write_all(&bytes).await.unwrap();
                    a.read_exact(&mut read).await.unwrap();
                    assert_eq!(read, bytes);
                })
                .await;
            }));
            peer.join();
        }
    }
}
