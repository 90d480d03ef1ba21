//! Whatever a file holds: what `info` and `replay` read of it ends, within bounds, with what is wrong.
#![no_main]

use capnp_shm::recording::{End, Recording};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut recording = Recording::new(bytes);
    while let Some(message) = recording.next_message().unwrap() {
        assert!(message.stream < recording.streams().len());
    }
    assert!(recording.end().is_some());
    let _ = Recording::channel(recording.streams(), None);
    if let Some(End::Cut(why)) = recording.end() {
        assert!(!why.is_empty());
    }
});
