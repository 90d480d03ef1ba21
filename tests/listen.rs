//! Receiving in the background: bursts, stopping, the channel's end, and a callback that panics.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod kinds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use capnproto_shm_transport::{
    Channel, Config, Interrupter, Listener, PollMode, Receiver, RecvError, SendError, Stats, Transport,
};
use common::*;

#[test]
fn child() {
    play(&[
        ("count", count),
        ("crash", crash),
        #[cfg(target_os = "linux")]
        ("threadless", threadless::role),
    ]);
}

fn join(name: &str) -> Transport {
    Transport::open(name, LONG).unwrap()
}

/// Sends a thousand messages, then waits to be told that they arrived.
fn count(args: &[String]) {
    let mut b = join(&args[0]);
    for index in 0..1000 {
        b.send(&pattern(index, index % 32)).unwrap();
    }
    assert_eq!(&*b.recv().unwrap(), b"thanks");
}

/// Sends one message and waits to be killed.
fn crash(args: &[String]) {
    let mut b = join(&args[0]);
    b.send(b"last words").unwrap();
    say("sent");
    hold();
}

fn create(name: &str, mode: PollMode) -> Transport {
    Transport::create(name, &Config::new().slot_size(32).slot_count(256).poll(mode)).unwrap()
}

const MODES: [PollMode; 3] = [PollMode::Spin, PollMode::Interval(Duration::from_millis(1)), PollMode::Park];

#[test]
fn every_message_reaches_the_callback_and_join_says_how_it_ended() {
    for mode in MODES {
        let name = named("listen");
        let (messages, received) = mpsc::channel();
        let (mut tx, listener) = create(&name, mode).listen(move |m| messages.send(m.to_vec()).unwrap());
        let peer = spawn("count", &[&name]);
        for index in 0..1000 {
            assert_eq!(received.recv().unwrap(), pattern(index, index % 32), "{mode:?}, message {index}");
        }
        tx.send(b"thanks").unwrap();
        peer.join();
        assert!(matches!(listener.join(), RecvError::Closed));
        assert!(received.recv().is_err(), "nothing came twice, and the callback is gone");
    }
}

#[test]
fn join_says_that_the_peer_died_after_its_last_message() {
    let name = named("listen-death");
    let (messages, received) = mpsc::channel();
    let (mut tx, listener) =
        create(&name, PollMode::Park).listen(move |m| messages.send(m.to_vec()).unwrap());
    let mut peer = spawn("crash", &[&name]);
    peer.wait_for("sent");
    peer.kill();
    assert!(matches!(listener.join(), RecvError::PeerDead));
    assert_eq!(received.iter().collect::<Vec<_>>(), [b"last words"]);
    assert!(matches!(tx.try_send(b"anyone?"), Err(SendError::PeerDead)));
}

#[test]
fn messages_are_released_in_bursts_of_at_most_64() {
    let name = named("listen-burst");
    let mut a = create(&name, PollMode::Spin);
    let b = join(&name);
    for index in 0..100 {
        a.send(&pattern(index, 8)).unwrap();
    }
    let (report, used) = mpsc::channel();
    let third = name.to_string();
    let (_tx, listener) = b.listen(move |_| report.send(Stats::of(&third).unwrap().tx.used_slots).unwrap());
    let used: Vec<_> = used.iter().take(100).collect();
    assert_eq!(used, [[100; 64].as_slice(), &[36; 36]].concat());
    drop(listener);
}

#[test]
fn stop_gives_the_consumer_back_while_it_waits() {
    for mode in MODES {
        let name = named("listen-stop");
        let mut a = create(&name, PollMode::Spin);
        let b = Transport::open_with(&name, LONG, &Config::new().poll(mode)).unwrap();
        let (messages, received) = mpsc::channel();
        let (_tx, listener) = b.listen(move |m| messages.send(m.to_vec()).unwrap());
        a.send(b"in the background").unwrap();
        assert_eq!(received.recv().unwrap(), b"in the background");
        assert!(!listener.is_finished());
        let mut rx = listener.stop();
        a.send(b"by hand").unwrap();
        assert_eq!(&*rx.recv().unwrap(), b"by hand");
        assert!(received.try_recv().is_err());
    }
}

#[test]
fn drop_joins_and_closes_this_direction_only() {
    let name = named("listen-drop");
    let mut a = create(&name, PollMode::Spin);
    let (alive, gone) = mpsc::channel::<()>();
    let (mut tx, listener) = join(&name).listen(move |_| drop(alive.clone()));
    drop(listener);
    assert_eq!(gone.try_recv(), Err(mpsc::TryRecvError::Disconnected), "the thread was not joined");
    assert!(matches!(a.try_send(b"x"), Err(SendError::Closed)));
    tx.send(b"still open").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"still open");
}

#[test]
fn a_panic_in_the_callback_reaches_join_stop_and_drop() {
    for ending in ["join", "stop", "drop"] {
        let name = named("listen-panic");
        let mut a = create(&name, PollMode::Spin);
        let (_tx, listener) = join(&name).listen(|m| panic!("cannot take {}", String::from_utf8_lossy(m)));
        a.send(b"this").unwrap();
        eventually("the thread has ended", || listener.is_finished());
        let panic = catch_unwind(AssertUnwindSafe(|| match ending {
            "join" => drop(listener.join()),
            "stop" => drop(listener.stop()),
            _ => drop(listener),
        }));
        let panic = panic.expect_err(ending);
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "cannot take this", "{ending}");
        assert!(matches!(a.send(b"x"), Err(SendError::Closed)), "the receiving half is gone with it");
    }
}

/// The ends that a listener's second callback was told, one for each call.
fn ends() -> (impl FnOnce(&RecvError) + Send + 'static, mpsc::Receiver<String>) {
    let (told, tells) = mpsc::channel();
    (move |end: &RecvError| told.send(format!("{end:?}")).unwrap(), tells)
}

#[test]
fn a_second_callback_is_told_why_it_ends_and_the_handle_says_the_same() {
    // The channel closes, the peer dies, somebody interrupts, and the listener is stopped or dropped.
    for how in ["Closed", "PeerDead", "Interrupted", "stopped", "dropped"] {
        let name = named("listen-with");
        let a = create(&name, PollMode::Park);
        let interrupter: Interrupter = a.interrupter();
        let (messages, received) = mpsc::channel();
        let (ended, tells) = ends();
        let (_tx, rx) = a.split();
        let listener = rx.listen_with(move |m| messages.send(m.to_vec()).unwrap(), ended);
        let mut peer = spawn("crash", &[&name]);
        peer.wait_for("sent");
        assert_eq!(received.recv().unwrap(), b"last words");
        assert_eq!(tells.try_recv(), Err(mpsc::TryRecvError::Empty));
        match how {
            "Closed" => peer.join(),
            "PeerDead" => peer.kill(),
            "Interrupted" => interrupter.interrupt(),
            "stopped" => drop(listener.stop()),
            _ => drop(listener),
        }
        let reason = if how.ends_with("ed") && how != "Closed" { "Interrupted" } else { how };
        assert_eq!(tells.recv_timeout(LONG).unwrap(), reason, "{how}");
        assert!(tells.recv().is_err(), "{how}: it was told once");
    }
}

#[test]
fn a_second_callback_of_a_listener_that_ended_by_itself() {
    let name = named("listen-ended");
    let a = create(&name, PollMode::Park);
    let (ended, tells) = ends();
    let (tx, listener) = {
        let (tx, rx) = join(&name).split();
        (tx, rx.listen_with(|_| (), ended))
    };
    drop(a);
    assert_eq!(tells.recv_timeout(LONG).unwrap(), "Closed");
    eventually("the thread has ended", || listener.is_finished());
    assert!(matches!(listener.join(), RecvError::Closed));
    drop(tx);
    // Nobody is told of an end that is a panic.
    let mut a = create(&name, PollMode::Park);
    let (ended, tells) = ends();
    let (_tx, rx) = join(&name).split();
    let listener = rx.listen_with(|_| panic!("expected"), ended);
    a.send(b"x").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| listener.join())).is_err());
    assert!(tells.recv().is_err());
}

/// The receiver gets the messages that the callback did not see, but not the interruption that ended it.
#[test]
fn stop_gives_back_a_typed_receiver_that_works() {
    let name = named("listen-typed");
    let mut a = Channel::<u64>::create(&name, &Config::new().slot_count(8)).unwrap();
    let (_to_a, from_a) = Channel::<u64>::open(&name, LONG).unwrap().split();
    let (values, received) = mpsc::channel();
    let listener: Listener<Receiver<u64>> = from_a.listen(move |value| values.send(*value).unwrap());
    (0..20).for_each(|value| a.send(&value).unwrap());
    assert!((0..20).eq(received.iter().take(20)));
    let mut from_a: Receiver<u64> = listener.stop();
    a.send(&20).unwrap();
    a.send(&21).unwrap();
    assert_eq!(*from_a.recv().unwrap(), 20);
    assert_eq!(from_a.recv_copied().unwrap(), 21);
    assert!(
        matches!(from_a.recv_timeout(Duration::from_millis(5)), Err(RecvError::Timeout)),
        "not interrupted"
    );
    assert!(received.recv().is_err(), "the callback is gone");
    // It can listen again.
    let (values, received) = mpsc::channel();
    let listener = from_a.listen(move |value| values.send(*value).unwrap());
    a.send(&22).unwrap();
    assert_eq!(received.recv().unwrap(), 22);
    drop(a);
    assert!(matches!(listener.join(), RecvError::Closed));
}

#[cfg(feature = "capnp")]
#[test]
fn stop_gives_back_a_capnp_receiver_that_works() {
    use capnproto_shm_transport::{CapnpReceiver, capnp::schema_capnp::capnp_version};
    use kinds::Kind;

    let name = named("listen-capnp");
    let mut a = kinds::Versions::create(&name, &Config::new().slot_size(64).slot_count(8)).unwrap();
    let (_to_a, from_a) = kinds::Versions::open(&name, LONG).unwrap().split();
    let (numbers, received) = mpsc::channel();
    let listener = from_a.listen(move |message| numbers.send(message.get().unwrap().get_major()).unwrap());
    (0..20).for_each(|number| a.put(number, LONG).unwrap());
    assert!((0..20).eq(received.iter().take(20)));
    let mut from_a: CapnpReceiver<capnp_version::Owned> = listener.stop();
    a.put(20, LONG).unwrap();
    assert_eq!(from_a.recv().unwrap().get().unwrap().get_major(), 20);
    assert!(matches!(from_a.recv_timeout(Duration::from_millis(5)), Err(RecvError::Timeout)));
    let (ended, tells) = ends();
    let listener = from_a.listen_with(|_| (), ended);
    drop(a);
    assert_eq!(tells.recv().unwrap(), "Closed");
    assert!(matches!(listener.join(), RecvError::Closed));
}

#[test]
fn stop_after_the_end_gives_the_receiver_back_too() {
    let name = named("listen-late");
    let mut a = create(&name, PollMode::Park);
    let (_tx, listener) = join(&name).listen(|_| ());
    a.send(b"x").unwrap();
    drop(a);
    eventually("the thread has ended", || listener.is_finished());
    let mut rx = listener.stop();
    assert!(matches!(rx.recv(), Err(RecvError::Closed)), "the interruption by the stop is not left over");
}

#[test]
fn a_listener_dropped_by_its_own_callback_ends_after_the_burst() {
    for mode in MODES {
        let name = named("listen-self");
        let mut a = create(&name, PollMode::Spin);
        let (_tx, rx) = Transport::open_with(&name, LONG, &Config::new().poll(mode)).unwrap().split();
        let own: Arc<Mutex<Option<Listener>>> = Arc::default();
        let handle = Arc::clone(&own);
        let (messages, received) = mpsc::channel();
        let (ended, tells) = ends();
        let listener = rx.listen_with(
            move |message| {
                messages.send(message.to_vec()).unwrap();
                if message == b"stop" {
                    drop(handle.lock().unwrap().take());
                }
            },
            ended,
        );
        *own.lock().unwrap() = Some(listener);
        a.send(b"go on").unwrap();
        assert_eq!(received.recv().unwrap(), b"go on");
        a.send(b"stop").unwrap();
        assert_eq!(received.recv().unwrap(), b"stop");
        assert_eq!(tells.recv_timeout(LONG).unwrap(), "Interrupted", "{mode:?}");
        assert!(received.recv().is_err(), "the thread and its callback are gone");
        assert!(own.lock().unwrap().is_none());
        eventually("the receiving half is gone with it", || {
            matches!(a.try_send(b"x"), Err(SendError::Closed))
        });
    }
}

/// A process that the system gives no more threads.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a system call filter")]
mod threadless {
    use super::*;

    pub fn role(args: &[String]) {
        let config = Config::new().slot_size(32).slot_count(8);
        if args[1] == "from the start" {
            forbid_threads();
        }
        let mut a = Transport::create(&args[0], &config).unwrap();
        let mut rx = join(&args[0]).split().1;
        if args[1] == "later" {
            forbid_threads();
        }
        assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "there are threads to be had");
        // The handle is finished at once, and gives back what it was given.
        let (ended, tells) = ends();
        a.send(b"one").unwrap();
        let listener = rx.listen_with(|_| unreachable!("there is no thread"), ended);
        assert!(listener.is_finished());
        rx = listener.stop();
        assert!(tells.try_recv().is_err(), "there was no end to tell of");
        assert_eq!(&*rx.recv().unwrap(), b"one");
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        a.send(b"two").unwrap();
        assert_eq!(&*rx.recv().unwrap(), b"two");
        // Or it says so, and the receiver goes.
        let listener = rx.listen(|_| ());
        assert!(matches!(listener.join(), RecvError::NoThread));
        assert!(matches!(a.send(b"x"), Err(SendError::Closed)));
        let (mut tx, rx) = a.split();
        drop(rx.listen(|_| ()));
        assert!(matches!(tx.try_send(b"x"), Err(SendError::Closed)));
        drop(tx);
        say("done");
        hold();
        // Without what a sanitizer does at the end of a process, for which it starts another.
        // SAFETY: ends the process at once; nothing runs afterwards.
        unsafe { libc::_exit(0) }
    }

    /// From now on no thread starts, and no process.
    fn forbid_threads() {
        let step = |code: u32, k, jt, jf| libc::sock_filter { code: code as u16, k, jt, jf };
        let refuse = libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32;
        let mut program = [
            // The number of the call is the first word.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_clone as u32, 1, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_clone3 as u32, 0, 1),
            step(libc::BPF_RET | libc::BPF_K, refuse, 0, 0),
            step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
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
    fn without_a_thread_the_handle_says_so_and_gives_the_receiver_back() {
        for since in ["later", "from the start"] {
            let name = named("threadless");
            let mut peer = spawn("threadless", &[&name, since]);
            peer.wait_for("done");
            peer.join();
            assert_eq!(name.left().len(), 0);
        }
    }
}
