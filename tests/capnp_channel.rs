//! Cap'n Proto messages through a channel: built, published, refused and read.

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

/// The frame of a message that exists, as another program would have stored it.
fn frame_of(sequence: u64, data: usize) -> Vec<u8> {
    let mut message = capnp::message::Builder::new_default();
    let mut root = message.init_root::<blob::Builder<'_>>();
    root.set_sequence(sequence);
    root.set_data(&vec![sequence as u8; data]);
    capnp::serialize::write_message_to_words(&message)
}

#[test]
fn a_stored_frame_is_sent_as_it_is() {
    let (mut a, mut b) = pair("frames", &small().slot_count(16));
    // In one slot, in exactly one, in a span, and in the largest there is.
    let in_slot = frame_of(1, 3);
    let full = frame_of(2, 64 - 8 - 8 - 16);
    let span = frame_of(3, 300);
    let largest = frame_of(4, 16 * 64 - 8 - 8 - 16);
    assert_eq!((full.len(), largest.len()), (64, a.max_message_size()));
    let frames = [&in_slot, &full, &span, &largest, &in_slot, &span, &full, &largest, &largest];
    thread::scope(|scope| {
        scope.spawn(|| {
            for (form, frame) in frames.iter().enumerate() {
                match form % 3 {
                    0 => while matches!(a.try_send_frame(frame), Err(SendError::Full)) {},
                    1 => a.send_frame(frame).unwrap(),
                    _ => a.send_frame_timeout(frame, LONG).unwrap(),
                }
            }
        });
        for frame in frames {
            let message = b.recv_timeout(LONG).unwrap();
            assert_eq!(message.frame_bytes(), *frame);
            let root = message.get().unwrap();
            let sequence = root.get_sequence();
            assert!(root.get_data().unwrap().iter().all(|byte| u64::from(*byte) == sequence));
        }
    });
    // A received message may be sent on to another side, with all its segments.
    let mut several = capnp::message::Builder::new(
        capnp::message::HeapAllocator::new()
            .first_segment_words(1)
            .allocation_strategy(capnp::message::AllocationStrategy::FixedSize),
    );
    let mut root = several.init_root::<blob::Builder<'_>>();
    root.set_sequence(9);
    root.set_data(&[9; 100]);
    assert!(several.get_segments_for_output().len() > 1);
    a.send_frame(&capnp::serialize::write_message_to_words(&several)).unwrap();
    let copy = {
        let message = b.try_recv().unwrap();
        assert_eq!(message.get().unwrap().get_data().unwrap(), [9; 100]);
        message.frame_bytes().to_vec()
    };
    b.send_frame(&copy).unwrap();
    assert_eq!(a.try_recv().unwrap().frame_bytes(), copy);
}

#[test]
fn bytes_that_are_not_one_whole_frame_are_not_sent() {
    let (mut a, mut b) = pair("no-frames", &small().slot_count(4));
    let whole = frame_of(1, 100);
    let refused = |a: &mut Blobs, bytes: &[u8], what: &str| {
        for answer in [a.try_send_frame(bytes), a.send_frame(bytes), a.send_frame_timeout(bytes, LONG)] {
            let error = answer.unwrap_err();
            assert!(matches!(error, SendError::Capnp(_)), "{what}: {error}");
        }
    };
    for len in 0..whole.len() {
        refused(&mut a, &whole[..len], "cut short");
    }
    for more in 1..20 {
        refused(&mut a, &[&whole[..], &vec![0; more]].concat(), "bytes behind it");
    }
    refused(&mut a, &[&whole[..], &whole[..]].concat(), "two frames");
    refused(&mut a, &[0xff; 64], "no frame");
    let too_large = frame_of(2, 4 * 64);
    match a.send_frame(&too_large).unwrap_err() {
        SendError::TooLarge { needed, capacity } => {
            assert_eq!((needed, capacity), (too_large.len(), 256));
        }
        other => panic!("{other}"),
    }
    // Nothing of all that was published, and the channel goes on.
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    a.send_frame(&whole).unwrap();
    assert_eq!(b.try_recv().unwrap().frame_bytes(), whole);
    // The root's type is the receiver's to check: this frame has a root that is none.
    let mut list = capnp::message::Builder::new_default();
    list.initn_root::<capnp::primitive_list::Builder<'_, u64>>(3);
    a.send_frame(&capnp::serialize::write_message_to_words(&list)).unwrap();
    assert!(b.try_recv().unwrap().get().is_err());
    // No room is no room.
    while a.try_send_frame(&frame_of(3, 8)).is_ok() {}
    assert!(matches!(a.try_send_frame(&whole), Err(SendError::Full)));
    assert!(matches!(a.send_frame_timeout(&whole, Duration::from_millis(5)), Err(SendError::Timeout)));
}

#[test]
fn messages_of_a_batch_become_visible_together() {
    let (mut a, mut b) = pair("batch", &small().slot_count(4));
    let mut batch = a.batch();
    let build = |sequence| {
        move |mut message: blob::Builder<'_>| {
            message.set_sequence(sequence);
            Ok(())
        }
    };
    batch.try_send(build(1)).unwrap();
    let mut message = batch.try_reserve().unwrap();
    message.init_root().set_sequence(2);
    message.commit().unwrap();
    // A message that is given up, fails or outgrows its slot is not gathered.
    drop(batch.try_reserve().unwrap());
    let refused = batch.try_send(|_| Err(capnp::Error::failed("not today".into())));
    assert!(matches!(refused, Err(SendError::Capnp(_))));
    match batch.try_send(|message| {
        message.init_data(100);
        Ok(())
    }) {
        Err(SendError::TooLarge { needed, capacity: 64 }) => assert!(needed > 100),
        other => panic!("{other:?}"),
    }
    assert!(catch_unwind(AssertUnwindSafe(|| batch.try_send(|_| panic!("expected")))).is_err());
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    batch.try_send(build(3)).unwrap();
    batch.try_send(build(4)).unwrap();
    assert!(matches!(batch.try_send(build(5)), Err(SendError::Full)));
    assert!(matches!(batch.try_reserve().map(|_| ()), Err(SendError::Full)));
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    assert_eq!(batch.publish(), 4);
    for sequence in 1..=4 {
        assert_eq!(receive(&mut b), sequence);
    }
    // Dropping a batch publishes it; an empty one is nothing.
    let mut batch = a.batch();
    batch.try_send(build(6)).unwrap();
    drop(batch);
    assert_eq!(receive(&mut b), 6);
    assert_eq!(a.batch().publish(), 0);
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    drop(b);
    assert!(matches!(a.batch().try_send(build(7)), Err(SendError::Closed)));
}

#[test]
fn a_drain_breaks_off_after_the_message_that_says_so() {
    use std::ops::ControlFlow;
    let (mut a, mut b) = pair("drain-while", &small());
    send(&mut a, 0);
    send(&mut a, 1);
    assert_eq!(receive(&mut b), 0);
    send(&mut a, 2);
    assert_eq!(b.drain(9, |_| ()).unwrap(), 2, "also what came after the last look");
    (3..9).for_each(|sequence| send(&mut a, sequence));
    let until_five = |message: capnproto_shm_transport::CapnpMessage<'_, blob::Owned>| {
        let last = message.get().unwrap().get_sequence() == 5;
        if last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert_eq!(b.drain_while(9, until_five).unwrap(), 3);
    assert_eq!(a.stats().tx.used_slots, 3);
    assert_eq!(receive(&mut b), 6);
}
