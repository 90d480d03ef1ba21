//! Tasks and the runtimes that they run in: futures that move from one to another, that outlive theirs, that are many, and
//! that another end than a message reaches.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use capnproto_shm_transport::{
    Channel, Config, Consumer, OpenError, PollMode, Producer, Receiver, RecvError, SendError, Sender,
    Transport, Window,
};
use common::*;

#[test]
fn child() {
    play(&[("supersede", supersede), ("idle", idle), ("churn", churn), ("leave", leave), ("starve", starve)]);
}

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4)
}

fn pair() -> (Name, Transport, Transport) {
    let name = named("runtimes");
    let a = Transport::create(&name, &config()).unwrap();
    let b = Transport::open(&name, LONG).unwrap();
    (name, a, b)
}

fn tokio_one() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn tokio_two() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Counts its wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls until the future sleeps: until a poll does not have itself polled again.
async fn until_it_sleeps<F: Future>(mut future: std::pin::Pin<&mut F>) {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut seen = 0;
    loop {
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // tokio wakes a task that gives way when it has given others a turn.
        for _ in 0..2 {
            futures_lite::future::yield_now().await;
        }
        let now = wakes.0.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// The same without any runtime.
fn poll_until_it_sleeps<F: Future>(future: std::pin::Pin<&mut F>) {
    futures_lite::future::block_on(until_it_sleeps(future));
}

/// Each kind's futures can be moved to another thread.
#[test]
fn every_future_is_send() {
    fn send<F: Future + Send>(_: impl FnOnce() -> F) {}
    fn any<T>() -> T {
        unreachable!("only types matter")
    }
    // Compiled, and never run.
    if std::env::args().count() == usize::MAX {
        type Out = &'static mut Vec<u8>;
        send(|| any::<&'static mut Consumer>().recv_async());
        send(|| any::<&'static mut Consumer>().recv_latest_async());
        send(|| any::<&'static mut Consumer>().recv_copied_async(any::<Out>()));
        send(|| any::<&'static mut Window<'static>>().wait_for_async(3));
        send(|| any::<&'static mut Producer>().reserve_async());
        send(|| any::<&'static mut Producer>().reserve_span_async(1));
        send(|| any::<&'static mut Producer>().send_async(b"x"));
        send(|| any::<&'static mut Transport>().recv_async());
        send(|| any::<&'static mut Transport>().recv_latest_async());
        send(|| any::<&'static mut Transport>().recv_copied_async(any::<Out>()));
        send(|| any::<&'static mut Transport>().reserve_async());
        send(|| any::<&'static mut Transport>().reserve_span_async(1));
        send(|| any::<&'static mut Transport>().send_async(b"x"));
        send(|| any::<&'static mut Receiver<u64>>().recv_async());
        send(|| any::<&'static mut Receiver<u64>>().recv_latest_async());
        send(|| any::<&'static mut Receiver<u64>>().recv_copied_async());
        send(|| any::<&'static mut Sender<u64>>().reserve_async());
        send(|| any::<&'static mut Sender<u64>>().send_async(&7));
        send(|| any::<&'static mut Channel<u64>>().recv_async());
        send(|| any::<&'static mut Channel<u64>>().recv_latest_async());
        send(|| any::<&'static mut Channel<u64>>().recv_copied_async());
        send(|| any::<&'static mut Channel<u64>>().reserve_async());
        send(|| any::<&'static mut Channel<u64>>().send_async(&7));
    }
    fn whole<T: Send>() {}
    whole::<capnproto_shm_transport::ByteStream>();
    whole::<capnproto_shm_transport::MessageStream<Consumer, Vec<u8>>>();
}

#[test]
fn a_future_moves_from_runtime_to_runtime() {
    let (_name, mut a, mut b) = pair();
    let (first, second) = (tokio_one(), tokio_two());
    for _ in 0..5 {
        {
            let mut future = pin!(b.recv_async());
            // It sleeps in each of them before it is woken in the last.
            first.block_on(until_it_sleeps(future.as_mut()));
            second.block_on(until_it_sleeps(future.as_mut()));
            poll_until_it_sleeps(future.as_mut());
            second.block_on(until_it_sleeps(future.as_mut()));
            first.block_on(until_it_sleeps(future.as_mut()));
            a.send(b"one").unwrap();
            assert_eq!(&*first.block_on(future).unwrap(), b"one");
        }
        {
            let mut future = pin!(b.recv_async());
            first.block_on(until_it_sleeps(future.as_mut()));
            a.send(b"two").unwrap();
            assert_eq!(&*smol::block_on(future).unwrap(), b"two");
        }
        {
            let mut future = pin!(b.recv_async());
            smol::block_on(until_it_sleeps(future.as_mut()));
            a.send(b"three").unwrap();
            assert_eq!(&*second.block_on(future).unwrap(), b"three");
        }
    }
}

#[test]
fn a_future_outlives_its_runtime() {
    for background in [false, true] {
        let (_name, mut a, mut b) = pair();
        let mut future = pin!(b.recv_async());
        for turn in 0..3 {
            let runtime = if turn == 1 { tokio_two() } else { tokio_one() };
            runtime.block_on(until_it_sleeps(future.as_mut()));
            // It is woken in vain, perhaps, and stays good.
            if background { runtime.shutdown_background() } else { drop(runtime) }
        }
        poll_until_it_sleeps(future.as_mut());
        a.send(b"late").unwrap();
        assert_eq!(&*futures::executor::block_on(future).unwrap(), b"late");
    }
}

/// A runtime that ends drops the half itself, and so the half closes.
#[test]
fn a_runtime_that_ends_closes_the_halves_of_its_tasks() {
    let (name, a, mut b) = pair();
    let (mut tx, mut rx) = a.split();
    let runtime = tokio_two();
    let (say, hear) = std::sync::mpsc::channel();
    let said = say.clone();
    runtime.spawn(async move {
        said.send(()).unwrap();
        let _ = rx.recv_async().await;
        unreachable!("nothing comes");
    });
    runtime.spawn(async move {
        say.send(()).unwrap();
        while tx.send_async(b"x").await.is_ok() {}
        unreachable!("nobody makes room");
    });
    hear.recv().unwrap();
    hear.recv().unwrap();
    drop(runtime);
    assert!(matches!(b.try_send(b"x"), Err(SendError::Closed)));
    while let Ok(message) = b.recv() {
        assert_eq!(&*message, b"x");
    }
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    drop(b);
    assert!(name.is_free(), "{:?}", name.left());
}

#[test]
fn one_select_waits_for_many() {
    for runtime in [tokio_one(), tokio_two()] {
        let mut channels: Vec<_> = (0..4).map(|_| pair()).collect();
        let mut threads = Vec::new();
        let mut receivers = Vec::new();
        for (_name, mut a, b) in channels.drain(..) {
            receivers.push((_name, b));
            threads.push(std::thread::spawn(move || {
                for number in 0..200u64 {
                    if number % 50 == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    a.send(&number.to_ne_bytes()).unwrap();
                }
                a.finish(LONG).unwrap();
            }));
        }
        let (mut next, mut open) = ([0u64; 4], [true; 4]);
        let [(_, p), (_, q), (_, r), (_, s)] = &mut receivers[..] else { panic!() };
        runtime.block_on(async {
            while open.contains(&true) {
                // Each turn drops the three others.
                let (at, received) = tokio::select! {
                    got = p.recv_async(), if open[0] => (0, got),
                    got = q.recv_async(), if open[1] => (1, got),
                    got = r.recv_async(), if open[2] => (2, got),
                    got = s.recv_async(), if open[3] => (3, got),
                };
                match received {
                    Ok(message) => {
                        assert_eq!(*message, next[at].to_ne_bytes());
                        next[at] += 1;
                    }
                    Err(RecvError::Closed) => open[at] = false,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert_eq!(next, [200; 4]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn tasks_of_two_threads_serve_many_channels() {
    let runtime = tokio_two();
    let mut tasks = Vec::new();
    let mut names = Vec::new();
    for _ in 0..16 {
        let (name, mut a, mut b) = pair();
        names.push(name);
        tasks.push(runtime.spawn(async move {
            for number in 0..300u64 {
                a.send_async(&number.to_ne_bytes()).await.unwrap();
                assert_eq!(*a.recv_async().await.unwrap(), number.to_ne_bytes());
            }
        }));
        tasks.push(runtime.spawn(async move {
            for number in 0..300u64 {
                assert_eq!(*b.recv_async().await.unwrap(), number.to_ne_bytes());
                if number % 64 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                b.send_async(&number.to_ne_bytes()).await.unwrap();
            }
        }));
    }
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert!(names.iter().all(Name::is_free));
}

/// Runs a task that nothing but its future wakes, and that must not take for ever.
fn limited<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || say.send(futures::executor::block_on(task)));
    hear.recv_timeout(LONG).expect("it does not end")
}

/// A side that polls seldom learns of a message and of an end as soon as one that blocks.
#[test]
fn a_long_interval_hides_nothing() {
    let seldom = config().poll(PollMode::Interval(Duration::from_secs(3600)));
    for end in ["message", "close", "interrupt", "kill"] {
        let name = named("seldom");
        let mut a = Transport::create(&name, &seldom).unwrap();
        let mut peer = spawn("leave", &[&name, end]);
        peer.wait_for("here");
        let interrupter = a.interrupter();
        let found = limited(async move {
            poll_until_it_sleeps(pin!(a.recv_async()));
            let mut future = pin!(a.recv_async());
            poll_until_it_sleeps(future.as_mut());
            match end {
                "interrupt" => interrupter.interrupt(),
                "kill" => peer.kill(),
                _ => peer.go(),
            }
            future.await.map(|message| message.to_vec())
        });
        let expected = match end {
            "message" => matches!(found.as_deref(), Ok(b"x")),
            "close" => matches!(found, Err(RecvError::Closed)),
            "interrupt" => matches!(found, Err(RecvError::Interrupted)),
            _ => matches!(found, Err(RecvError::PeerDead)),
        };
        assert!(expected, "{end}: {found:?}");
    }
}

/// Joins, says so, and leaves as it is told.
fn leave(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    say("here");
    hold();
    if args[1] == "message" {
        b.send(b"x").unwrap();
        hold();
    }
}

/// Side A: creates, says so, and waits to be killed.
fn supersede(args: &[String]) {
    let _a = Transport::create(&args[0], &config()).unwrap();
    say("created");
    hold();
}

/// A future that is not polled between its peer's death and a successor's coming is told of the successor.
#[test]
fn a_successor_ends_a_pending_future() {
    for runtime in [None, Some(tokio_one()), Some(tokio_two())] {
        for mode in [PollMode::Spin, PollMode::Interval(Duration::from_millis(1)), PollMode::Park] {
            let name = named("superseded");
            let mut peer = spawn("supersede", &[&name]);
            peer.wait_for("created");
            let mut b = Transport::open_with(&name, LONG, &config().poll(mode)).unwrap();
            let a_while = async || {
                for _ in 0..50 {
                    futures_lite::future::yield_now().await;
                }
            };
            let (found, again) = {
                let ends = async {
                    let mut future = pin!(b.recv_async());
                    futures_lite::future::or(async { drop(future.as_mut().await) }, a_while()).await;
                    peer.kill();
                    let a = Transport::create(&name, &config()).unwrap();
                    (future.await.map(|_| ()).unwrap_err(), a)
                };
                match &runtime {
                    Some(runtime) => runtime.block_on(ends),
                    None => smol::block_on(ends),
                }
            };
            assert!(matches!(found, RecvError::Superseded), "{mode:?}: {found}");
            b.reopen(LONG).unwrap();
            drop((again, b));
            assert!(name.is_free(), "{:?}", name.left());
        }
    }
}

/// A hundred channels in tasks of one runtime, all of which wait for what does not come.
#[cfg(target_os = "linux")]
fn idle(args: &[String]) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let channels: Vec<_> = (0..100).map(|_| pair()).collect();
    let (mut names, mut senders) = (Vec::new(), Vec::new());
    let in_tokio = args[0] == "tokio";
    let runtime = tokio_two();
    let executor: &'static smol::Executor<'_> = Box::leak(Box::new(smol::Executor::new()));
    std::thread::spawn(move || smol::block_on(executor.run(std::future::pending::<()>())));
    for (name, mut a, mut b) in channels {
        names.push(name);
        let task = async move {
            // One message, then nothing.
            while b.recv_async().await.is_ok() {}
        };
        if in_tokio {
            drop(runtime.spawn(task));
        } else {
            executor.spawn(task).detach();
        }
        std::thread::sleep(Duration::from_millis(1));
        a.send(b"x").unwrap();
        senders.push(a);
    }
    std::thread::sleep(Duration::from_millis(200));
    let (before, began) = (times_slept(), std::time::Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let (slept, seconds) = (times_slept() - before, began.elapsed().as_secs());
    // Two threads look after them every two seconds; this thread has slept once; a runtime's own threads, a little.
    assert!(slept <= 12 + 4 * seconds, "{slept} times in {seconds} s");
    drop(senders);
}

#[cfg(target_os = "linux")]
#[test]
fn idle_tasks_cost_nothing() {
    for runtime in ["tokio", "smol"] {
        spawn("idle", &[runtime]).join();
    }
}

/// Futures that are dropped while they sleep, with their halves or before them, in runtimes that end or go on.
fn churn(_: &[String]) {
    let mut after_some = [0; 4];
    let lasting = tokio_one();
    for round in 0..1000 {
        let (name, mut a, mut b) = pair();
        let brief = tokio_one();
        match round % 4 {
            0 => lasting.block_on(until_it_sleeps(pin!(b.recv_async()))),
            1 => brief.block_on(until_it_sleeps(pin!(b.recv_async()))),
            2 => poll_until_it_sleeps(pin!(b.recv_async())),
            _ => {
                let task = lasting.spawn(async move {
                    let _ = b.recv_async().await;
                });
                lasting.block_on(tokio::task::yield_now());
                task.abort();
                assert!(lasting.block_on(task).is_err());
                let _ = a.try_send(b"x");
                drop(a);
                assert!(name.is_free(), "{:?}", name.left());
                continue;
            }
        }
        a.send(b"x").unwrap();
        if round % 3 == 0 {
            drop(brief)
        } else {
            drop(b.recv().unwrap())
        }
        if round % 2 == 0 {
            drop((a, b))
        } else {
            drop((b, a))
        }
        assert!(name.is_free(), "{:?}", name.left());
        if (200..204).contains(&round) {
            after_some = possessions();
        }
    }
    let (some, all) = (after_some, possessions());
    let grown = some.iter().zip(all).map(|(some, all)| all.saturating_sub(*some)).collect::<Vec<_>>();
    // The allocator may take a few more mappings and pages; eight hundred of anything show.
    assert!(grown[0] <= 3 && grown[1] == 0 && grown[2] <= 8 && grown[3] <= 300, "{some:?}, then {all:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn futures_that_come_and_go_leave_nothing_in_the_process() {
    spawn("churn", &[]).join();
}

/// As every part of tokio that waits for descriptors does; the documentation of the feature says so.
#[test]
#[should_panic(expected = "enable_io")]
fn a_tokio_runtime_without_io_is_refused() {
    let (_name, _a, mut b) = pair();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // Nothing comes: it goes to sleep, or tries to.
    runtime.block_on(async { drop(b.recv_async().await) });
}

/// A runtime without I/O cannot sleep, and says so by a panic.
#[cfg(feature = "tokio")]
#[test]
fn a_window_whose_wait_panics_holds_nothing_afterwards() {
    let (_name, mut a, mut b) = pair();
    a.send(b"held").unwrap();
    let deaf = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let waits = std::panic::AssertUnwindSafe(|| {
        let mut window = b.window();
        window.wait_for(1).unwrap();
        deaf.block_on(window.wait_for_async(2)).unwrap();
    });
    assert!(std::panic::catch_unwind(waits).is_err(), "there is nothing to wait on");
    // A wait gives back everything up to what is held: nothing is.
    for number in 0..20u8 {
        a.send_timeout(&[number], LONG).unwrap();
        assert_eq!(*b.recv().unwrap(), [number]);
        assert!(matches!(b.recv_timeout(Duration::from_millis(1)), Err(RecvError::Timeout)));
        assert_eq!(a.stats().tx.used_slots, 0);
    }
}

#[test]
fn a_wait_for_many_messages_lets_others_run_also_once_it_has_waited() {
    const MANY: usize = 512;
    let name = named("many");
    let config = Config::new().slot_size(8).slot_count(MANY).poll(PollMode::Spin);
    let mut a = Transport::create(&name, &config).unwrap();
    let mut b = Transport::open_with(&name, LONG, &config).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut window = b.window();
    let mut waits = pin!(window.wait_for_async(MANY));
    assert!(waits.as_mut().poll(&mut cx).is_pending(), "there is nothing");
    (0..MANY).for_each(|_| a.send(b"message").unwrap());
    let pending = std::iter::from_fn(|| waits.as_mut().poll(&mut cx).is_pending().then_some(())).count();
    assert!(pending >= MANY / 128, "others ran {pending} times");
}

#[test]
#[should_panic(expected = "polled after it had returned")]
fn a_future_that_has_returned_is_not_polled_again() {
    let (_name, mut a, mut b) = pair();
    a.send(b"message").unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut received = pin!(b.recv_async());
    assert!(received.as_mut().poll(&mut cx).is_ready());
    let _ = received.as_mut().poll(&mut cx);
}

/// A pause that is over when it begins is a turn of the others all the same: one of them may be who sends.
#[test]
fn an_interval_of_nothing_lets_others_run() {
    for mode in [Duration::ZERO, Duration::from_nanos(1)].map(PollMode::Interval) {
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (_name, mut a, mut b) = pair();
            a.poll_control().set_local(mode);
            b.poll_control().set_local(mode);
            let talk = async { futures::join!(a.recv_async(), b.send_async(b"here")).0.unwrap().to_vec() };
            said.send(futures::executor::block_on(talk)).unwrap();
        });
        assert_eq!(heard.recv_timeout(LONG).expect("it lets nobody run"), b"here");
    }
}

/// Waits outside tokio for the first time with so many descriptors left, and then with enough.
fn starve(args: &[String]) {
    let (_name, mut a, mut b) = pair();
    // The event that the half itself sleeps on is there.
    assert!(a.halves().1.arm().unwrap());
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    taken.truncate(taken.len() - args[0].parse::<usize>().unwrap());
    let began = futures::executor::block_on(async {
        futures::select_biased! {
            refused = futures::FutureExt::fuse(a.recv_async()) => Some(refused.map(drop)),
            () = futures::FutureExt::fuse(turns(1000)) => None,
        }
    });
    assert!(matches!(began, None | Some(Err(RecvError::NoDescriptor { .. }))), "{began:?}");
    // A pause needs none.
    let config = Config::new();
    let joins = Transport::connect_async("nobody", Duration::from_millis(1), &config);
    assert!(matches!(
        futures::executor::block_on(joins),
        Err(OpenError::Timeout { .. } | OpenError::Io { .. })
    ));
    drop(taken);
    let sender = std::thread::spawn(move || {
        for number in 0..3_u8 {
            std::thread::sleep(Duration::from_millis(10));
            b.send(&[number]).unwrap();
        }
        b
    });
    for number in 0..3 {
        assert_eq!(*futures::executor::block_on(a.recv_async()).unwrap(), [number]);
    }
    sender.join().unwrap();
}

async fn turns(number: usize) {
    for _ in 0..number {
        futures_lite::future::yield_now().await;
    }
}

/// A task that first waits with few descriptors left waits, or says what it lacks, and waits when there are more.
#[test]
fn a_task_without_descriptors_says_so_and_waits_when_there_are_some() {
    for left in 0..6 {
        spawn("starve", &[&left.to_string()]).join();
    }
}
