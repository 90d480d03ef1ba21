//! Typed messages, between two processes where it matters.

#![allow(unsafe_code, reason = "a counting allocator")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
#[cfg(target_os = "linux")]
#[path = "channel/forged.rs"]
mod forged;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::mem::forget;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use capnproto_shm_transport::{Channel, Config, OpenError, PollMode, RecvError, SendError};
use common::{LONG, hold, play, say, spawn, unique};

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Order {
    id: u64,
    price: f64,
    amount: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(16))]
struct Fill {
    id: u64,
    amount: u64,
}

/// As large as an [`Order`], aligned less.
type Narrow = [u32; 6];

fn order(id: u64) -> Order {
    Order { id, price: id as f64 / 2.0, amount: id.wrapping_mul(3) }
}

fn pair(label: &str, slots: usize) -> (Channel<Order, Fill>, Channel<Fill, Order>) {
    let name = unique(label);
    let a = Channel::create(&name, &Config::new().slot_count(slots)).unwrap();
    (a, Channel::open(&name, LONG).unwrap())
}

#[test]
fn child() {
    play(&[("market", market), ("owner", owner), ("reader", reader), ("frames", frames)]);
}

/// Fills every order until the desk closes.
fn market(args: &[String]) {
    let mut channel = Channel::<Fill, Order>::open(&args[0], LONG).unwrap();
    let (fills, orders) = channel.halves();
    loop {
        match orders.recv() {
            Ok(order) => {
                assert_eq!(order.price, order.id as f64 / 2.0);
                let mut fill = fills.reserve().unwrap();
                fill.id = order.id;
                fill.amount = order.amount;
                fill.commit();
            }
            Err(RecvError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn two_processes_exchange_different_types() {
    let name = unique("types");
    // A slot size that would not do is ignored.
    let config = Config::new().slot_size(1).slot_count(8);
    let mut desk = Channel::<Order, Fill>::create(&name, &config).unwrap();
    let peer = spawn("market", &[&name]);
    for id in 0..1000 {
        if id % 2 == 0 {
            desk.send(&order(id)).unwrap();
        } else {
            let mut slot = desk.reserve().unwrap();
            *slot = order(id);
            slot.commit();
        }
        let fill = if id % 3 == 0 { desk.recv_copied().unwrap() } else { *desk.recv().unwrap() };
        assert_eq!(fill, Fill { id, amount: id * 3 });
    }
    let stats = desk.stats();
    assert_eq!((stats.tx.slot_size, stats.tx.messages), (24, 1000));
    assert_eq!((stats.rx.slot_size, stats.rx.messages), (16, 1000));
    drop(desk);
    peer.join();
}

/// Side A, until told to go.
fn owner(args: &[String]) {
    let config = Config::new().message_tag("orders/1");
    let mut channel = Channel::<Order, Fill>::create(&args[0], &config).unwrap();
    say("ready");
    hold();
    assert_eq!(channel.recv().unwrap().id, 1);
}

#[test]
fn the_types_of_both_directions_are_checked_at_open() {
    /// The refused direction, as side B sees it.
    fn refused<T: Pod, R: Pod>(name: &str) -> &'static str {
        match Channel::<T, R>::open(name, LONG) {
            Err(OpenError::Type { direction, found, expected, .. }) => {
                assert_ne!(found, expected);
                direction
            }
            other => panic!("{:?}", other.map(|channel| channel.side())),
        }
    }
    let name = unique("identity");
    let mut peer = spawn("owner", &[&name]);
    peer.wait_for("ready");
    assert_eq!(refused::<Order, Fill>(&name), "sending", "swapped");
    assert_eq!(refused::<[u64; 3], Order>(&name), "sending", "another size");
    assert_eq!(refused::<u128, [u64; 4]>(&name), "receiving", "another size");
    assert_eq!(refused::<[u64; 2], Order>(&name), "sending", "another alignment");
    assert_eq!(refused::<Fill, Narrow>(&name), "receiving", "another alignment");
    let other = Config::new().message_tag("orders/2");
    let error = Channel::<Fill, Order>::open_with(&name, LONG, &other).unwrap_err();
    assert!(matches!(error, OpenError::Tag { .. }), "{error}");

    // None of that disturbed the channel.
    let same = Config::new().message_tag("orders/1").poll(PollMode::Spin);
    let mut b = Channel::<Fill, Order>::open_with(&name, LONG, &same).unwrap();
    assert_eq!(b.poll_control().local(), PollMode::Spin);
    b.send(&Fill { id: 1, amount: 1 }).unwrap();
    peer.go();
    peer.join();
}

#[test]
fn a_reservation_begins_zeroed_whatever_the_slot_carried() {
    let (mut a, mut b) = pair("zeroed", 4);
    let garbage = Order { id: u64::MAX, price: f64::from_bits(u64::MAX), amount: u64::MAX };
    for _ in 0..11 {
        a.send(&garbage).unwrap();
        drop(b.recv().unwrap());
    }
    for _ in 0..9 {
        // Two reservations of the same slot; the first is given up.
        let mut aborted = a.reserve_timeout(LONG).unwrap();
        assert_eq!(*aborted, Order::zeroed());
        *aborted = garbage;
        a.try_reserve().unwrap().commit();
        assert_eq!(*b.recv().unwrap(), Order::zeroed());
        assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
        let mut batch = a.batch();
        let mut gathered = batch.try_reserve().unwrap();
        assert_eq!(*gathered, Order::zeroed());
        *gathered = garbage;
        gathered.commit();
        drop(batch);
        assert_eq!(b.recv().unwrap().id, u64::MAX);
    }
}

#[test]
fn a_forgotten_message_is_released_with_the_next() {
    let (mut a, mut b) = pair("forgotten", 2);
    a.send(&order(1)).unwrap();
    a.send(&order(2)).unwrap();
    forget(b.recv().unwrap());
    assert!(matches!(a.try_send(&order(3)), Err(SendError::Full)));
    assert_eq!(b.recv().unwrap().id, 2);
    a.try_send(&order(3)).unwrap();
    a.try_send(&order(4)).unwrap();
    assert_eq!(b.recv().unwrap().id, 3);
    assert_eq!(b.recv().unwrap().id, 4);
}

#[test]
fn waiting_ends_as_asked() {
    let (mut a, mut b) = pair("waiting", 1);
    let short = Duration::from_millis(1);
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(b.recv_timeout(short), Err(RecvError::Timeout)));
    assert!(matches!(b.try_recv_copied(), Err(RecvError::Empty)));
    assert!(matches!(b.recv_copied_timeout(short), Err(RecvError::Timeout)));
    assert!(matches!(b.drain(8, |_| unreachable!()), Ok(0)));
    a.send_timeout(&order(1), LONG).unwrap();
    assert!(matches!(a.try_reserve(), Err(SendError::Full)));
    assert!(matches!(a.reserve_timeout(short), Err(SendError::Timeout)));
    assert!(matches!(a.send_timeout(&order(2), short), Err(SendError::Timeout)));
    drop(a);
    assert_eq!(b.recv().unwrap().id, 1);
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    assert!(matches!(b.recv_copied(), Err(RecvError::Closed)));
    assert!(matches!(b.drain(8, |_| unreachable!()), Err(RecvError::Closed)));
    assert!(matches!(b.send(&Fill::zeroed()), Err(SendError::Closed)));
}

#[test]
fn drain_takes_what_is_there_and_no_more_than_asked() {
    let (mut a, mut b) = pair("drain", 8);
    let mut batch = a.batch();
    for id in 0..7 {
        batch.try_send(&order(id)).unwrap();
    }
    assert_eq!(batch.publish(), 7);
    let mut seen = Vec::new();
    assert_eq!(b.drain(3, |order| seen.push(*order)).unwrap(), 3);
    assert_eq!(b.drain(9, |order| seen.push(*order)).unwrap(), 4);
    assert_eq!(seen, (0..7).map(order).collect::<Vec<_>>());
}

#[test]
fn a_drain_takes_what_came_meanwhile_and_can_break_off() {
    let (mut a, mut b) = pair("drain-while", 8);
    a.send(&order(0)).unwrap();
    a.send(&order(1)).unwrap();
    assert_eq!(b.recv().unwrap().id, 0);
    a.send(&order(2)).unwrap();
    let mut seen = Vec::new();
    assert_eq!(b.drain(9, |order| seen.push(order.id)).unwrap(), 2);
    assert_eq!(seen, [1, 2]);
    (3..8).for_each(|id| a.send(&order(id)).unwrap());
    let until_five = |order: &Order| {
        seen.push(order.id);
        if order.id == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert_eq!(b.drain_while(9, until_five).unwrap(), 3);
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert_eq!(a.stats().tx.used_slots, 2);
    assert_eq!(b.recv().unwrap().id, 6);
}

/// 16 MiB in one value.
type Frame = [[u64; 512]; 4096];

/// On a thread whose stack holds a sixty-fourth of it.
#[test]
fn a_value_larger_than_the_stack_is_sent_and_received() {
    let name = unique("frames");
    let config = Config::new().slot_count(2);
    let mut a = Channel::<Frame, u8>::create(&name, &config).unwrap();
    let mut peer = spawn("frames", &[&name]);
    let on_a_small_stack = move || {
        let mut image = vec![0_u64; size_of::<Frame>() / 8];
        for round in 0..4 {
            for (at, word) in image.iter_mut().enumerate() {
                *word = at as u64 ^ round;
            }
            let frame: &Frame = bytemuck::from_bytes(bytemuck::cast_slice(&image));
            if round % 2 == 0 {
                a.send(frame).unwrap();
            } else {
                let mut slot = a.reserve().unwrap();
                for (to, from) in slot.iter_mut().zip(frame) {
                    to.copy_from_slice(from);
                }
                slot.commit();
            }
        }
        assert_eq!(*a.recv_timeout(LONG).unwrap(), 4);
    };
    thread::Builder::new().stack_size(256 << 10).spawn(on_a_small_stack).unwrap().join().unwrap();
    peer.wait_for("received");
    peer.join();
}

/// Receives four frames into one place, in every form.
fn frames(args: &[String]) {
    let mut b = Channel::<u8, Frame>::open(&args[0], LONG).unwrap();
    let on_a_small_stack = move || {
        let mut image = vec![u64::MAX; size_of::<Frame>() / 8];
        for round in 0..4 {
            let frame: &mut Frame = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(&mut image));
            match round {
                0 => b.recv_into(frame).unwrap(),
                1 => b.recv_into_timeout(frame, LONG).unwrap(),
                2 => while b.try_recv_into(frame).is_err() {},
                _ => {
                    let borrowed = b.recv().unwrap();
                    assert_eq!(borrowed[4095][511], (4096 * 512 - 1) ^ 3);
                    frame.copy_from_slice(&*borrowed);
                }
            }
            assert!(image.iter().enumerate().all(|(at, word)| *word == at as u64 ^ round));
        }
        // Nothing more comes, and what is there stays.
        let frame: &mut Frame = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(&mut image));
        assert!(matches!(b.try_recv_into(frame), Err(RecvError::Empty)));
        assert_eq!(frame[0][1], 1 ^ 3);
        b.send(&4).unwrap();
    };
    thread::Builder::new().stack_size(256 << 10).spawn(on_a_small_stack).unwrap().join().unwrap();
    say("received");
}

#[test]
fn halves_work_in_threads_of_their_own() {
    let (a, b) = pair("threads", 16);
    let ((mut orders_out, mut fills_in), (mut fills_out, orders_in)) = (a.split(), b.split());
    // B answers from its listener, A sends and receives in two threads.
    let listener = orders_in.listen(move |order: &Order| {
        fills_out.send(&Fill { id: order.id, amount: order.amount }).unwrap();
    });
    let sending = thread::spawn(move || {
        (0..5000).for_each(|id| orders_out.send(&order(id)).unwrap());
        orders_out
    });
    let receiving = thread::spawn(move || {
        for id in 0..5000 {
            assert_eq!(fills_in.recv().unwrap().amount, order(id).amount);
        }
    });
    receiving.join().unwrap();
    drop(sending.join().unwrap());
    assert!(matches!(listener.join(), RecvError::Closed));
}

#[test]
fn side_b_reopens_the_next_generation() {
    let name = unique("reopen");
    let config = Config::new();
    let mut a = Channel::<u64>::create(&name, &config).unwrap();
    let mut b = Channel::<u64>::open(&name, LONG).unwrap();
    assert!(matches!(a.reopen(LONG), Err(OpenError::WrongSide)));
    drop(a);
    assert!(matches!(b.reopen(Duration::ZERO), Err(OpenError::Timeout { .. })));
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    let mut a = Channel::<u64>::create(&name, &config).unwrap();
    b.reopen(LONG).unwrap();
    a.send(&5).unwrap();
    assert_eq!(*b.recv().unwrap(), 5);
}

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_for_a_message() {
    let (mut a, mut b) = pair("allocations", 4);
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1, "the allocator counts");

    let before = ALLOCATIONS.get();
    for id in 0..1000 {
        a.send(&order(id)).unwrap();
        assert_eq!(b.recv().unwrap().id, id);
        a.reserve().unwrap().commit();
        assert_eq!(b.recv_copied().unwrap(), Order::zeroed());
        let mut batch = a.batch();
        batch.try_send(&order(id)).unwrap();
        batch.try_reserve().unwrap().commit();
        batch.publish();
        let mut sum = 0;
        assert_eq!(b.drain(4, |order| sum += order.id).unwrap(), 2);
        assert_eq!(sum, id);
    }
    assert_eq!(ALLOCATIONS.get(), before);

    let mut windows = |a: &mut Channel<Order, Fill>, id| {
        let mut window = b.window();
        for part in 0..6 {
            a.send(&order(id + part)).unwrap();
            window.wait_for((part as usize + 1).min(3)).unwrap();
            if part >= 2 {
                assert!(window.iter().map(|order| order.id).eq(id + part - 2..=id + part));
                window.release(1);
            }
        }
        drop(window);
        a.send(&order(id)).unwrap();
        assert_eq!(b.recv_latest().unwrap().id, id);
    };
    // The first window allocates its list, which the next ones use again.
    windows(&mut a, 0);
    let before = ALLOCATIONS.get();
    (0..100).for_each(|id| windows(&mut a, id));
    assert_eq!(ALLOCATIONS.get(), before);
}

/// The access that this process has to the memory at `value`, if it is all within one mapping of `file`.
#[cfg(target_os = "linux")]
fn access<T>(value: &T, file: &str) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(file).unwrap().ino().to_string();
    let start = std::ptr::from_ref(value).addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (from, to) = fields[0].split_once('-')?;
        let from = usize::from_str_radix(from, 16).unwrap();
        let to = usize::from_str_radix(to, 16).unwrap();
        let within = from <= start && start + size_of::<T>() <= to && fields[4] == inode;
        within.then(|| fields[1].to_owned())
    })
}

#[cfg(target_os = "linux")]
#[test]
fn values_lie_in_the_segments_on_both_sides() {
    let name = unique("maps");
    let mut a = Channel::<Order, Fill>::create(&name, &Config::new().slot_count(4)).unwrap();
    let mut peer = spawn("reader", &[&name]);
    for id in 0..10 {
        let mut order = a.reserve().unwrap();
        order.id = id;
        assert_eq!(access(&*order, &format!("/dev/shm/{name}.fs.a2b")).as_deref(), Some("rw-s"));
        order.commit();
    }
    peer.wait_for("read");
    peer.join();
    assert_eq!(access(&name, &format!("/dev/shm/{name}.fs.a2b")), None, "a local is in no segment");
}

/// Reads ten orders, each from the segment itself, mapped read-only.
fn reader(args: &[String]) {
    let mut channel = Channel::<Fill, Order>::open(&args[0], LONG).unwrap();
    for id in 0..10 {
        let order = channel.recv().unwrap();
        assert_eq!(order.id, id);
        #[cfg(target_os = "linux")]
        assert_eq!(access(&*order, &format!("/dev/shm/{}.fs.a2b", args[0])).as_deref(), Some("r--s"));
    }
    say("read");
}
