//! Writes of a peer that does not keep to the protocol.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use capnproto_shm_transport::SegmentError;

use super::*;

/// Where the slots' lengths begin, and the slot size stands; see `docs/layout.md`.
const LENGTHS: u64 = 4096;
const SLOT_SIZE: u64 = 40;

fn write(name: &str, offset: u64, word: u32) {
    let file = OpenOptions::new().write(true).open(format!("/dev/shm/{name}.fs.a2b")).unwrap();
    file.write_all_at(&word.to_ne_bytes(), offset).unwrap();
}

fn corrupt<V>(result: Result<V, RecvError>) -> bool {
    matches!(result, Err(RecvError::Corrupt(_)))
}

#[test]
fn a_message_of_another_length_poisons_the_receiver() {
    type Look = fn(&mut Channel<Fill, Order>) -> bool;
    let looks: [Look; 4] = [
        |b| corrupt(b.try_recv()),
        |b| corrupt(b.recv()),
        |b| corrupt(b.recv_copied()),
        |b| corrupt(b.drain(9, |_| panic!("no value"))),
    ];
    // Nothing, too little, and as much as two slots hold.
    for length in [0, 23, 25, 64] {
        for look in looks {
            let name = unique("forged");
            let mut a = Channel::<Order, Fill>::create(&name, &Config::new()).unwrap();
            let mut b = Channel::<Fill, Order>::open(&name, LONG).unwrap();
            (0..3).for_each(|id| a.send(&order(id)).unwrap());
            write(&name, LENGTHS + 4, length);
            assert_eq!(b.drain(1, |order| assert_eq!(order.id, 0)).unwrap(), 1);
            assert!(look(&mut b), "{length}");
            assert!(looks.iter().all(|again| again(&mut b)), "{length}: poisoned");
            // Only that direction is.
            b.send(&Fill::zeroed()).unwrap();
        }
    }
}

#[test]
fn a_drain_hands_out_what_came_before_the_lie() {
    let name = unique("forged-drain");
    let mut a = Channel::<Order, Fill>::create(&name, &Config::new()).unwrap();
    let mut b = Channel::<Fill, Order>::open(&name, LONG).unwrap();
    (0..5).for_each(|id| a.send(&order(id)).unwrap());
    write(&name, LENGTHS + 2 * 4, 8);
    let mut seen = Vec::new();
    assert_eq!(b.drain(9, |order| seen.push(order.id)).unwrap(), 2);
    assert_eq!(seen, [0, 1]);
    assert!(corrupt(b.drain(9, |_| panic!("poisoned"))));
}

#[test]
fn slots_of_another_size_than_the_type_are_refused() {
    let name = unique("forged-size");
    let _a = Channel::<Order, Fill>::create(&name, &Config::new()).unwrap();
    // Keeps the stride, so that the header is consistent in itself.
    write(&name, SLOT_SIZE, 20);
    let error = Channel::<Fill, Order>::open(&name, LONG).unwrap_err();
    assert!(matches!(error, OpenError::Segment { source: SegmentError::Geometry, .. }), "{error}");
}
