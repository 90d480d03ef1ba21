//! Cap'n Proto messages through a channel: what is built, published, refused and read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use capnp::message::ReaderOptions;
use capnproto_shm_transport::{
    CapnpChannel, CapnpReceiver, CapnpSender, Config, CreateError, OpenError, PollMode, RecvError, SendError,
    Transport,
};
use common::{LONG, play, spawn, unique};
use schemas::blob_capnp::blob;
use schemas::tree_capnp::tree;

type Blobs = CapnpChannel<blob::Owned>;

fn small() -> Config {
    Config::new().slot_size(64).slot_count(64)
}

fn pair(label: &str, config: &Config) -> (Blobs, Blobs) {
    let name = unique(label);
    let a = Blobs::create(&name, config).unwrap();
    let b = Blobs::open(&name, LONG).unwrap();
    (a, b)
}

fn send(channel: &mut Blobs, sequence: u64) {
    channel
        .send(|mut message| {
            message.set_sequence(sequence);
            Ok(())
        })
        .unwrap();
}

fn receive(channel: &mut Blobs) -> u64 {
    channel.try_recv().unwrap().get().unwrap().get_sequence()
}

#[test]
fn child() {
    play(&[("echo", |args| {
        let config = Config::new().poll(PollMode::Park);
        let mut channel = Blobs::open_with(&args[0], LONG, &config).unwrap();
        let (sender, receiver) = channel.halves();
        loop {
            let message = match receiver.recv() {
                Ok(message) => message,
                Err(RecvError::Closed) => break,
                Err(error) => panic!("{error}"),
            };
            let received = message.get().unwrap();
            let data = received.get_data().unwrap();
            mapped::assert_inside(data.as_ptr(), &args[0]);
            let mut answer = sender.reserve_with_capacity(message.frame_bytes().len()).unwrap();
            let mut root = answer.init_root();
            root.set_sequence(received.get_sequence());
            let copy = root.init_data(data.len() as u32);
            mapped::assert_inside(copy.as_ptr(), &args[0]);
            copy.copy_from_slice(data);
            answer.commit().unwrap();
        }
    })]);
}

#[test]
fn two_processes_build_and_read_inside_the_mapping() {
    let name = unique("exchange");
    let mut channel = Blobs::create(&name, &Config::new().slot_size(128).slot_count(16)).unwrap();
    let peer = spawn("echo", &[&name]);
    for sequence in 0..200_u64 {
        let len = (sequence as u32 * 37) % 1200;
        let mut message = channel.reserve_with_capacity(64 + len as usize).unwrap();
        let mut root = message.init_root();
        root.set_sequence(sequence);
        let data = root.init_data(len);
        mapped::assert_inside(data.as_ptr(), &name);
        data.fill(sequence as u8);
        message.commit().unwrap();

        let answer = channel.recv().unwrap();
        let root = answer.get().unwrap();
        assert_eq!(root.get_sequence(), sequence);
        let data = root.get_data().unwrap();
        mapped::assert_inside(data.as_ptr(), &name);
        assert!(data.len() == len as usize && data.iter().all(|&byte| byte == sequence as u8));
    }
    drop(channel);
    peer.join();
}

/// Where this process has mapped a channel.
mod mapped {
    #[cfg(target_os = "linux")]
    use std::os::unix::fs::MetadataExt;

    #[cfg(target_os = "linux")]
    pub fn assert_inside(pointer: *const u8, name: &str) {
        // A segment is mapped before it has its name, so the mapping is known by the file's inode.
        let file =
            |suffix| std::fs::metadata(format!("/dev/shm/{name}.fs.{suffix}")).unwrap().ino().to_string();
        let files = ["a2b", "b2a"].map(file);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let inside = maps.lines().any(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = columns[0].split_once('-').unwrap();
            let bound = |hex| usize::from_str_radix(hex, 16).unwrap();
            (bound(start)..bound(end)).contains(&(pointer as usize))
                && columns.get(5).is_some_and(|path| path.starts_with("/dev/shm/"))
                && files.iter().any(|inode| inode == columns[4])
        });
        assert!(inside, "{pointer:p} is not in a mapping of {name}:\n{maps}");
    }

    #[cfg(not(target_os = "linux"))]
    pub fn assert_inside(_pointer: *const u8, _name: &str) {}
}

#[test]
fn an_error_or_a_panic_in_the_closure_publishes_nothing() {
    let (mut a, mut b) = pair("closure", &small());
    let refused = a.send(|mut message| {
        message.set_sequence(1);
        Err(capnp::Error::failed("not today".into()))
    });
    assert!(matches!(refused, Err(SendError::Capnp(error)) if error.extra == "not today"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        a.send(|mut message| {
            message.set_sequence(2);
            message.init_data(1000).fill(2);
            panic!("not at all")
        })
    }));
    assert!(panicked.is_err());
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    send(&mut a, 3);
    assert_eq!(receive(&mut b), 3);
}

#[test]
fn a_text_beyond_what_capnp_holds_panics_and_publishes_nothing() {
    let (mut a, mut b) = pair("huge", &small());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = a.send(|message| {
            message.init_data(1 << 29);
            Ok(())
        });
    }));
    assert!(panicked.is_err());
    send(&mut a, 1);
    assert_eq!(receive(&mut b), 1);
}

#[test]
fn dropped_and_forgotten_builders_publish_nothing() {
    let (mut a, mut b) = pair("abort", &small().slot_count(4));
    for lap in 0..20 {
        let mut message = a.reserve().unwrap();
        message.init_root().init_data(16).fill(0xff);
        if lap % 2 == 0 {
            drop(message)
        } else {
            std::mem::forget(message)
        }
        assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
        send(&mut a, lap);
        let message = b.try_recv().unwrap();
        assert_eq!(message.get().unwrap().get_sequence(), lap);
        assert!(!message.get().unwrap().has_data());
    }
}

#[test]
fn reused_slots_begin_with_defaults() {
    let name = unique("reused");
    let mut a = CapnpChannel::<tree::Owned>::create(&name, &small().slot_size(256).slot_count(4)).unwrap();
    let mut b = CapnpChannel::<tree::Owned>::open(&name, LONG).unwrap();
    for lap in 0..40 {
        let mut message = a.reserve().unwrap();
        if lap % 5 == 0 {
            message.init_root().init_bytes(200).fill(0xff);
        } else {
            // Nothing is set: everything must be as in a fresh slot.
            let mut root = message.init_root();
            assert!(!root.has_label() && !root.has_bytes() && !root.has_children());
            assert_eq!(root.reborrow().get_weight(), 1.5);
            let label = root.init_label(3);
            assert_eq!(label.into_reader().as_bytes(), [0; 3]);
        }
        message.commit().unwrap();
        let message = b.try_recv().unwrap();
        let root = message.get().unwrap();
        assert_eq!(root.has_bytes(), lap % 5 == 0);
        assert_eq!((root.has_children(), root.get_weight()), (false, 1.5));
        assert!(matches!(root.which(), Ok(tree::Nothing(()))));
    }
}

#[test]
fn the_root_can_be_looked_at_again_and_begun_anew() {
    let (mut a, mut b) = pair("root", &small());
    let mut message = a.reserve().unwrap();
    assert_eq!(message.root().unwrap().get_sequence(), 0);
    message.init_root().set_sequence(7);
    assert_eq!(message.root().unwrap().get_sequence(), 7);
    assert_eq!(message.init_root().get_sequence(), 0);
    message.root().unwrap().set_data(b"kept");
    message.commit().unwrap();
    assert_eq!(b.try_recv().unwrap().get().unwrap().get_data().unwrap(), b"kept");

    // Nothing built is the default message.
    a.reserve().unwrap().commit().unwrap();
    assert_eq!(receive(&mut b), 0);
}

#[test]
fn an_existing_message_is_copied_in() {
    let (mut a, mut b) = pair("reader", &small());
    for len in [0, 8, 300] {
        let mut original = capnp::message::Builder::new_default();
        original.init_root::<blob::Builder<'_>>().set_data(&vec![5; len]);
        let reader = original.get_root_as_reader::<blob::Reader<'_>>().unwrap();
        a.send_reader(reader).unwrap();
        let mut message = a.reserve().unwrap();
        message.init_root().set_data(b"gone");
        message.set_root(reader).unwrap();
        message.commit().unwrap();
        for _ in 0..2 {
            let message = b.try_recv().unwrap();
            assert_eq!(message.get().unwrap().get_data().unwrap(), vec![5; len]);
        }
    }
}

#[test]
fn slots_too_small_for_a_message_are_refused() {
    let error = Blobs::create(&unique("slots"), &Config::new().slot_size(15)).unwrap_err();
    assert!(
        matches!(
            error,
            CreateError::Config(capnproto_shm_transport::ConfigError::SlotSize { least: 16, .. })
        ),
        "{error}"
    );
    let (mut a, mut b) = pair("slots", &Config::new().slot_size(16));
    send(&mut a, 9);
    assert_eq!(receive(&mut b), 9);
}

#[test]
fn halves_work_in_threads_of_their_own() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let (a, b) = pair("halves", &small());
    let (mut to_b, from_b) = assert_send(a.split());
    let (mut to_a, mut from_a): (CapnpSender<blob::Owned>, CapnpReceiver<blob::Owned>) = b.split();
    let echo = thread::spawn(move || {
        while let Ok(message) = from_a.recv() {
            to_a.send_reader(message.get().unwrap()).unwrap();
        }
    });
    let (report, reports) = mpsc::channel();
    let listener = from_b.listen(move |message| {
        let root = message.get().unwrap();
        report.send((root.get_sequence(), root.get_data().unwrap().len())).unwrap();
    });
    for sequence in 0..500 {
        to_b.send(|mut message| {
            message.set_sequence(sequence);
            message.init_data(sequence as u32 % 200);
            Ok(())
        })
        .unwrap();
    }
    for sequence in 0..500 {
        assert_eq!(reports.recv_timeout(LONG).unwrap(), (sequence, sequence as usize % 200));
    }
    drop(to_b);
    echo.join().unwrap();
    assert!(matches!(listener.join(), RecvError::Closed));
}

#[test]
fn a_burst_is_drained() {
    let (mut a, mut b) = pair("drain", &small());
    (0..5).for_each(|sequence| send(&mut a, sequence));
    let mut seen = Vec::new();
    let mut look = |message: capnproto_shm_transport::CapnpMessage<'_, blob::Owned>| {
        seen.push(message.get().unwrap().get_sequence());
    };
    assert_eq!(b.drain(3, &mut look).unwrap(), 3);
    assert_eq!(b.drain(9, &mut look).unwrap(), 2);
    assert_eq!(b.drain(9, &mut look).unwrap(), 0);
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn copied_messages_outlive_their_slots() {
    let (mut a, mut b) = pair("copied", &small());
    for len in [0, 1, 7, 8, 300, 12] {
        a.send(|message| {
            message.init_data(len).fill(len as u8);
            Ok(())
        })
        .unwrap();
        let (_, receiver) = b.halves();
        let message = receiver.recv_copied().unwrap();
        assert_eq!(a.stats().tx.used_slots, 0);
        assert_eq!(message.get().unwrap().get_data().unwrap(), vec![len as u8; len as usize]);
    }
    assert!(matches!(b.try_recv_copied(), Err(RecvError::Empty)));
    assert!(matches!(b.recv_copied_timeout(Duration::from_millis(1)), Err(RecvError::Timeout)));
}

#[test]
fn malformed_frames_are_errors_and_the_channel_goes_on() {
    let name = unique("malformed");
    let mut a = Blobs::create(&name, &small()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let halves = |halves: &[u32]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    let frames = [
        vec![],
        vec![0; 7],
        halves(&[0, 0]),                           // no word for the root pointer
        halves(&[0, 9, 0, 0]),                     // more words than there are
        halves(&[u32::MAX, 1, 0, 0]),              // too many segments
        halves(&[0, 1, 0xffff_fffc, 0x0001_ffff]), // a root struct far outside
        halves(&[0, 1, 0x2, 7]),                   // a far pointer to no segment
    ];
    for frame in &frames {
        for copied in [false, true] {
            b.send(frame).unwrap();
            let wrong = |root: capnp::Result<blob::Reader<'_>>| root.and_then(|r| r.get_data().map(|_| ()));
            let result = if copied {
                wrong(a.try_recv_copied().unwrap().get())
            } else {
                wrong(a.try_recv().unwrap().get())
            };
            assert!(result.is_err(), "{frame:?}");
        }
    }
    b.send(&halves(&[0, 1, 0, 0])).unwrap();
    assert_eq!(receive(&mut a), 0);
}

#[test]
fn limits_are_the_readers_to_set() {
    let name = unique("limits");
    let mut a = CapnpChannel::<tree::Owned>::create(&name, &small().slot_size(4096)).unwrap();
    let mut b = CapnpChannel::<tree::Owned>::open(&name, LONG).unwrap();
    let nested = |root: tree::Builder<'_>| {
        let mut twig = root;
        for _ in 0..40 {
            twig = twig.init_twin();
        }
        Ok(())
    };
    fn depth(tree: tree::Reader<'_>) -> capnp::Result<usize> {
        match tree.which()? {
            tree::Twin(twin) => Ok(1 + depth(twin?)?),
            _ => Ok(0),
        }
    }
    a.send(nested).unwrap();
    assert_eq!(depth(b.recv().unwrap().get().unwrap()).unwrap(), 40);
    b.reader_options(ReaderOptions { nesting_limit: 20, ..ReaderOptions::new() });
    a.send(nested).unwrap();
    assert!(depth(b.recv().unwrap().get().unwrap()).is_err());
    b.reader_options(ReaderOptions { traversal_limit_in_words: Some(100), ..ReaderOptions::new() });
    a.send(nested).unwrap();
    assert!(depth(b.recv_copied().unwrap().get().unwrap()).is_err());
}

#[test]
fn side_b_joins_the_next_generation() {
    let name = unique("reopen");
    let mut a = Blobs::create(&name, &small()).unwrap();
    let mut b = Blobs::open(&name, LONG).unwrap();
    assert!(matches!(a.reopen(LONG), Err(OpenError::WrongSide)));
    drop(a);
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    assert!(matches!(b.send(|_| Ok(())), Err(SendError::Closed)));
    let mut a = Blobs::create(&name, &small()).unwrap();
    b.reopen(LONG).unwrap();
    send(&mut b, 1);
    assert_eq!(receive(&mut a), 1);
}
