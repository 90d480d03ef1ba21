//! Whatever two files stand under a channel's name: every operation on it gives a typed error, or a channel
//! that works.
#![no_main]

use std::fs::{self, OpenOptions};
use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use capnp::schema_capnp::node;
use capnproto_shm_transport::{CapnpChannel, Channel, ChannelInfo, Channels, Config, Stats, Tap, Transport};
use capnproto_shm_transport_fuzz::*;
use libfuzzer_sys::fuzz_target;

static NAME: LazyLock<String> = LazyLock::new(|| name("header"));

/// A good segment of this sort, before it is changed.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Sort {
    Bytes,
    Numbers,
    Messages,
}

/// What stands in place of a segment.
#[derive(Arbitrary, Debug)]
enum Image {
    Nothing,
    Bytes(Vec<u8>),
    Changed { sort: Sort, other_direction: bool, edits: Vec<Edit>, length: Option<u16>, long: bool },
}

#[derive(Arbitrary, Debug)]
struct Input {
    images: [Image; 2],
    /// Somebody holds the first file's lock, as a live side A does.
    live: bool,
    uses: Vec<Use>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Use {
    Stats,
    Info,
    List,
    Tap,
    Open,
    OpenNumbers,
    OpenMessages,
    Create,
    Remove,
}

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4).message_tag("fuzz")
}

/// Both files of a good channel of each sort.
static GOOD: LazyLock<[[Vec<u8>; 2]; 3]> = LazyLock::new(|| {
    let read = || [Which::AToB, Which::BToA].map(|which| fs::read(path(&NAME, which)).unwrap());
    let bytes = Transport::create(&NAME, &config()).unwrap();
    let first = read();
    drop(bytes);
    let numbers = Channel::<u64>::create(&NAME, &config()).unwrap();
    let second = read();
    drop(numbers);
    let _messages = CapnpChannel::<node::Owned>::create(&NAME, &config()).unwrap();
    [first, second, read()]
});

fn place(which: Which, image: &Image) {
    let path = path(&NAME, which);
    let _ = fs::remove_file(&path);
    match image {
        Image::Nothing => {}
        Image::Bytes(bytes) => fs::write(path, bytes).unwrap(),
        Image::Changed { sort, other_direction, edits, length, long } => {
            let mut bytes = GOOD[*sort as usize][which as usize ^ usize::from(*other_direction)].clone();
            edits.iter().for_each(|edit| edit.apply(&mut bytes));
            fs::write(&path, &bytes).unwrap();
            let length = match length {
                Some(length) => u64::from(*length),
                // As long as the header says, if it says something small.
                None => u64::from_ne_bytes(*bytes[32..].first_chunk().unwrap()).min(1 << 24),
            };
            if *long || length < bytes.len() as u64 {
                OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
            }
        }
    }
}

/// A channel that came to be does what a channel does.
fn exercise(mut channel: Transport) {
    let mut copy = Vec::new();
    for round in 0..6 {
        let _ = channel.try_send(&[round; 5]);
        let _ = channel.try_reserve_span(channel.max_message_size().min(100)).map(|slot| slot.commit(40));
        if let Ok(message) = channel.try_recv() {
            assert!(message.len() <= 1 << 24);
        }
        if let Ok(bytes) = channel.try_recv_copied(&mut copy) {
            assert_eq!(bytes, copy.len());
        }
        let _ = channel.try_recv_latest().map(|message| message.len());
        let mut window = channel.window();
        let _ = window.try_wait_for(3);
        assert!(window.len() <= 3 && window.iter().all(|message| message.len() <= 1 << 24));
        window.release(1);
        drop(window);
        let _ = channel.drain_while(9, |_| ControlFlow::Break(()));
    }
    channel.interrupter().interrupt();
    let _ = channel.wait_for_peer(Duration::ZERO);
    let _ = channel.finish(Duration::ZERO);
    let stats = channel.stats();
    assert!(stats.tx.used_slots <= stats.tx.slot_count && stats.rx.used_slots <= stats.rx.slot_count);
}

fuzz_target!(|input: Input| {
    LazyLock::force(&GOOD);
    place(Which::AToB, &input.images[0]);
    place(Which::BToA, &input.images[1]);
    let held = OpenOptions::new().read(true).write(true).open(path(&NAME, Which::AToB));
    let held = held.ok().filter(|_| input.live).inspect(lock);
    for step in input.uses.into_iter().take(8) {
        match step {
            Use::Stats => drop(Stats::of(&NAME)),
            Use::Info => drop(ChannelInfo::of(&NAME)),
            Use::List => assert!(Channels::list().unwrap().iter().all(|info| !info.name.is_empty())),
            Use::Tap => {
                if let Ok(mut tap) = Tap::open(&NAME) {
                    let mut message = Vec::new();
                    for _ in 0..6 {
                        let _ = tap.try_next(&mut message);
                        assert!(message.len() <= 1 << 24);
                    }
                }
            }
            Use::Open => drop(Transport::open_with(&NAME, Duration::ZERO, &config()).map(exercise)),
            Use::OpenNumbers => {
                if let Ok(mut channel) = Channel::<u64>::open(&NAME, Duration::ZERO) {
                    let _ = channel.try_send(&7);
                    let _ = channel.try_recv().map(|value| *value);
                    let _ = channel.try_recv_copied();
                    let _ = channel.try_recv_into(&mut 0);
                    let _ = channel.window().try_wait_for(2);
                }
            }
            Use::OpenMessages => {
                if let Ok(mut channel) = CapnpChannel::<node::Owned>::open(&NAME, Duration::ZERO) {
                    let _ = channel.try_send(|mut node| {
                        node.set_display_name("a name that may be longer than the slot");
                        Ok(())
                    });
                    let _ = channel.try_send_frame(&[0; 16]);
                    let _ = channel.try_recv_copied().map(|message| message.get().map(|node| node.get_id()));
                }
            }
            Use::Create => drop(Transport::create(&NAME, &config()).map(exercise)),
            Use::Remove => drop(Transport::remove(&NAME)),
        }
    }
    drop(held);
    place(Which::AToB, &Image::Nothing);
    place(Which::BToA, &Image::Nothing);
});
