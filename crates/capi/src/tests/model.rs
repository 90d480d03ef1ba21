//! Random calls, the wrong ones among them, against a model of what each must say.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::slice;

use proptest::prelude::*;

use super::calls::{Handle, Settings, call, pair, seen};
use crate::arguments::CSHM_NOW;
use crate::lifecycle::*;
use crate::look::*;
use crate::receive::*;
use crate::send::*;
use crate::status::cshm_status;
use crate::status::cshm_status::*;
use crate::window::*;

const SLOT: usize = 8;
const SLOTS: u64 = 4;

#[derive(Clone, Copy, Debug)]
enum Call {
    Reserve,
    Span(usize),
    Commit(usize),
    Abort,
    Send(usize),
    BatchBegin,
    BatchPublish,
    Finish,
    Recv,
    Latest,
    Copied,
    Release,
    Drain(usize),
    WindowWait(usize),
    WindowGet(usize),
    WindowRelease(usize),
    WindowClose,
    Interrupt,
    Close,
}

fn calls() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => Just(Call::Reserve),
        3 => (0..40_usize).prop_map(Call::Span),
        6 => (0..40_usize).prop_map(Call::Commit),
        2 => Just(Call::Abort),
        6 => (0..10_usize).prop_map(Call::Send),
        2 => Just(Call::BatchBegin),
        3 => Just(Call::BatchPublish),
        1 => Just(Call::Finish),
        5 => Just(Call::Recv),
        2 => Just(Call::Latest),
        3 => Just(Call::Copied),
        5 => Just(Call::Release),
        2 => (0..6_usize).prop_map(Call::Drain),
        2 => (0..6_usize).prop_map(Call::WindowWait),
        1 => (0..5_usize).prop_map(Call::WindowGet),
        1 => (0..5_usize).prop_map(Call::WindowRelease),
        2 => Just(Call::WindowClose),
        1 => Just(Call::Interrupt),
        1 => Just(Call::Close),
    ]
}

/// A message in the ring, or what is skipped.
#[derive(Clone, Debug)]
struct Entry {
    slots: u64,
    message: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Commits {
    Now,
    Gathered,
    /// A span, behind so many skipped slots.
    Span(u64),
}

#[derive(Debug)]
struct Reservation {
    capacity: usize,
    commits: Commits,
    data: *mut u8,
}

/// One direction of the channel.
#[derive(Default, Debug)]
struct Ring {
    /// Slots committed, and released.
    tail: u64,
    head: u64,
    /// Published and not received.
    queue: VecDeque<Entry>,
    reservation: Option<Reservation>,
    batch: Option<VecDeque<Entry>>,
    finished: bool,
    sender_closed: bool,
    receiver_closed: bool,
    /// Slots of messages that the receiver holds and has not released.
    open: Option<Open>,
}

#[derive(Debug)]
enum Open {
    Message(u64),
    Window(VecDeque<(Vec<u8>, u64)>),
}

fn slots_for(bytes: usize) -> u64 {
    bytes.div_ceil(SLOT).max(1) as u64
}

impl Ring {
    fn free(&self) -> u64 {
        SLOTS - (self.tail - self.head)
    }

    /// Why a reservation fails now that needs so many slots.
    fn no_room(&self, slots: u64) -> Option<cshm_status> {
        if self.finished || self.receiver_closed {
            Some(CSHM_CLOSED)
        } else if self.free() < slots {
            Some(CSHM_FULL)
        } else {
            None
        }
    }

    fn publish(&mut self, entry: Entry) {
        self.tail += entry.slots;
        self.queue.push_back(entry);
    }

    fn sending_is_busy(&self) -> bool {
        self.reservation.is_some() || self.batch.is_some()
    }

    /// What a span finds: how many slots it skips first.
    fn span(&mut self, bytes: usize) -> Result<u64, cshm_status> {
        if bytes > SLOT * SLOTS as usize {
            return Err(CSHM_TOO_LARGE);
        }
        let (slots, to_end) = (slots_for(bytes), SLOTS - self.tail % SLOTS);
        if slots <= to_end {
            return self.no_room(slots).map_or(Ok(0), Err);
        }
        if to_end + slots <= SLOTS {
            return self.no_room(to_end + slots).map_or(Ok(to_end), Err);
        }
        if let Some(status) = self.no_room(to_end) {
            return Err(status);
        }
        self.publish(Entry { slots: to_end, message: None });
        self.no_room(slots).map_or(Ok(0), Err)
    }

    /// Gives back everything that is held.
    fn release(&mut self) {
        self.head += match self.open.take() {
            Some(Open::Message(slots)) => slots,
            Some(Open::Window(held)) => held.iter().map(|(_, slots)| slots).sum(),
            None => 0,
        };
    }

    /// The oldest message, stepped over; what is skipped before it is released, unless something older is held.
    fn take(&mut self) -> Result<(Vec<u8>, u64), cshm_status> {
        while let Some(Entry { message: None, .. }) = self.queue.front() {
            let skipped = self.queue.pop_front().unwrap().slots;
            match &mut self.open {
                Some(Open::Window(held)) if !held.is_empty() => held.back_mut().unwrap().1 += skipped,
                Some(Open::Message(before)) => *before += skipped,
                _ => self.head += skipped,
            }
        }
        match self.queue.pop_front() {
            Some(entry) => Ok((entry.message.unwrap(), entry.slots)),
            None if self.sender_closed || self.finished => Err(CSHM_CLOSED),
            None => Err(CSHM_EMPTY),
        }
    }
}

unsafe extern "C" fn collect(data: *const u8, len: usize, context: *mut c_void) -> c_int {
    // SAFETY: `Drain` hands over such a list.
    let list = unsafe { &mut *context.cast::<Vec<Vec<u8>>>() };
    // SAFETY: the message is there for the time of the call.
    list.push(unsafe { slice::from_raw_parts(data, len) }.to_vec());
    0
}

struct World {
    sides: [Handle; 2],
    /// What side A sends, what side B sends.
    rings: [Ring; 2],
    closed: [bool; 2],
    next: u8,
}

impl World {
    fn content(&mut self, len: usize) -> Vec<u8> {
        self.next = self.next.wrapping_add(1);
        vec![self.next; len]
    }

    fn call(&mut self, side: usize, call: Call) {
        let handle = self.sides[side].0;
        let mut message = cshm_read_slot { data: std::ptr::null(), len: 0 };
        let mut slot = cshm_write_slot { data: null_mut(), capacity: 0 };
        if self.closed[side] {
            let mut count = 0;
            let status = match call {
                Call::Reserve => call!(cshm_reserve(handle, CSHM_NOW, &mut slot)),
                Call::Span(bytes) => call!(cshm_reserve_span(handle, bytes, CSHM_NOW, &mut slot)),
                Call::Commit(len) => call!(cshm_commit(handle, len)),
                Call::Abort => call!(cshm_abort(handle)),
                Call::BatchBegin => call!(cshm_batch_begin(handle)),
                Call::BatchPublish => call!(cshm_batch_publish(handle, &mut count)),
                Call::Finish => call!(cshm_finish(handle, CSHM_NOW)),
                Call::Recv => call!(cshm_recv(handle, CSHM_NOW, &mut message)),
                Call::Release => call!(cshm_release(handle)),
                Call::WindowWait(n) => call!(cshm_window_wait_for(handle, n, CSHM_NOW)),
                _ => CSHM_HANDLE_CLOSED,
            };
            assert_eq!(status, CSHM_HANDLE_CLOSED);
            return;
        }
        match call {
            Call::Reserve => {
                let ring = &mut self.rings[side];
                let status = call!(cshm_reserve(handle, CSHM_NOW, &mut slot));
                let gathering = ring.batch.is_some();
                let wanted = if ring.reservation.is_some() { Some(CSHM_BUSY) } else { ring.no_room(1) };
                assert_eq!(status, wanted.unwrap_or(CSHM_OK));
                if status == CSHM_OK {
                    let commits = if gathering { Commits::Gathered } else { Commits::Now };
                    assert_eq!(slot.capacity, SLOT);
                    ring.reservation = Some(Reservation { capacity: SLOT, commits, data: slot.data });
                }
            }
            Call::Span(bytes) => {
                let ring = &mut self.rings[side];
                let status = call!(cshm_reserve_span(handle, bytes, CSHM_NOW, &mut slot));
                if ring.sending_is_busy() {
                    assert_eq!(status, CSHM_BUSY);
                    return;
                }
                match ring.span(bytes) {
                    Err(wanted) => assert_eq!(status, wanted),
                    Ok(skipped) => {
                        assert_eq!(status, CSHM_OK);
                        assert!(slot.capacity >= bytes);
                        let commits = Commits::Span(skipped);
                        ring.reservation =
                            Some(Reservation { capacity: slot.capacity, commits, data: slot.data });
                    }
                }
            }
            Call::Commit(len) => {
                let content = self.content(len);
                let ring = &mut self.rings[side];
                let Some(Reservation { capacity, data, commits }) = ring.reservation else {
                    assert_eq!(call!(cshm_commit(handle, len)), CSHM_NOTHING_OPEN);
                    return;
                };
                if len > capacity {
                    assert_eq!(call!(cshm_commit(handle, len)), CSHM_TOO_LARGE);
                    return;
                }
                // SAFETY: `len` bytes of it are reserved.
                unsafe { data.copy_from(content.as_ptr(), len) };
                assert_eq!(call!(cshm_commit(handle, len)), CSHM_OK);
                ring.reservation = None;
                let entry = Entry { slots: slots_for(len), message: Some(content) };
                match commits {
                    Commits::Now => ring.publish(entry),
                    Commits::Gathered => {
                        ring.tail += entry.slots;
                        ring.batch.as_mut().unwrap().push_back(entry);
                    }
                    Commits::Span(skipped) => {
                        if skipped > 0 {
                            ring.publish(Entry { slots: skipped, message: None });
                        }
                        ring.publish(entry);
                    }
                }
            }
            Call::Abort => {
                let ring = &mut self.rings[side];
                let wanted = if ring.reservation.take().is_some() { CSHM_OK } else { CSHM_NOTHING_OPEN };
                assert_eq!(call!(cshm_abort(handle)), wanted);
            }
            Call::Send(len) => {
                let content = self.content(len);
                let ring = &mut self.rings[side];
                let status = call!(cshm_send(handle, content.as_ptr().cast(), len, CSHM_NOW));
                let wanted = if ring.reservation.is_some() {
                    Some(CSHM_BUSY)
                } else if len > SLOT {
                    Some(CSHM_TOO_LARGE)
                } else {
                    ring.no_room(1)
                };
                assert_eq!(status, wanted.unwrap_or(CSHM_OK));
                if status == CSHM_OK {
                    let entry = Entry { slots: 1, message: Some(content) };
                    if let Some(batch) = &mut ring.batch {
                        batch.push_back(entry);
                        ring.tail += 1;
                    } else {
                        ring.publish(entry);
                    }
                }
            }
            Call::BatchBegin => {
                let ring = &mut self.rings[side];
                let wanted = if ring.sending_is_busy() { CSHM_BUSY } else { CSHM_OK };
                assert_eq!(call!(cshm_batch_begin(handle)), wanted);
                if wanted == CSHM_OK {
                    ring.batch = Some(VecDeque::new());
                }
            }
            Call::BatchPublish => {
                let ring = &mut self.rings[side];
                let mut count = usize::MAX;
                let status = call!(cshm_batch_publish(handle, &mut count));
                if ring.reservation.is_some() {
                    assert_eq!(status, CSHM_BUSY);
                } else if let Some(mut batch) = ring.batch.take() {
                    assert_eq!((status, count), (CSHM_OK, batch.len()));
                    ring.queue.append(&mut batch);
                } else {
                    assert_eq!(status, CSHM_NOTHING_OPEN);
                }
            }
            Call::Finish => {
                let ring = &mut self.rings[side];
                let status = call!(cshm_finish(handle, CSHM_NOW));
                if ring.sending_is_busy() {
                    assert_eq!(status, CSHM_BUSY);
                } else if ring.tail == ring.head {
                    assert_eq!(status, CSHM_OK);
                    ring.finished = true;
                } else {
                    assert_eq!(status, if ring.receiver_closed { CSHM_CLOSED } else { CSHM_TIMEOUT });
                }
            }
            Call::Recv | Call::Latest | Call::Copied | Call::Drain(_) => {
                let ring = &mut self.rings[1 - side];
                let (mut list, mut count) = (Vec::<Vec<u8>>::new(), 0);
                let context = (&raw mut list).cast();
                let status = match call {
                    Call::Recv => call!(cshm_recv(handle, CSHM_NOW, &mut message)),
                    Call::Latest => call!(cshm_recv_latest(handle, CSHM_NOW, &mut message)),
                    Call::Copied => call!(cshm_recv_copied(handle, CSHM_NOW, &mut message)),
                    Call::Drain(max) => call!(cshm_drain(handle, max, Some(collect), context, &mut count)),
                    _ => unreachable!(),
                };
                if ring.open.is_some() {
                    assert_eq!(status, CSHM_BUSY);
                    return;
                }
                if let Call::Drain(max) = call {
                    let mut wanted = Vec::new();
                    while wanted.len() < max {
                        match ring.take() {
                            Ok((bytes, slots)) => {
                                ring.head += slots;
                                wanted.push(bytes);
                            }
                            Err(end) if wanted.is_empty() && end != CSHM_EMPTY => {
                                assert_eq!(status, end);
                                return;
                            }
                            Err(_) => break,
                        }
                    }
                    assert_eq!((status, count, list), (CSHM_OK, wanted.len(), wanted));
                    return;
                }
                let (mut wanted, slots) = match ring.take() {
                    Ok(oldest) => oldest,
                    Err(wanted) => {
                        assert_eq!(status, wanted);
                        return;
                    }
                };
                ring.open = Some(Open::Message(slots));
                if let Call::Latest = call {
                    while let Ok((newer, slots)) = ring.take() {
                        ring.release();
                        ring.open = Some(Open::Message(slots));
                        wanted = newer;
                    }
                }
                assert_eq!((status, seen(&message)), (CSHM_OK, &wanted[..]));
                if let Call::Copied = call {
                    ring.release();
                }
            }
            Call::Release => {
                let ring = &mut self.rings[1 - side];
                let status = call!(cshm_release(handle));
                if let Some(Open::Message(_)) = ring.open {
                    assert_eq!(status, CSHM_OK);
                    ring.release();
                } else {
                    assert_eq!(status, CSHM_NOTHING_OPEN);
                }
            }
            Call::WindowWait(count) => {
                let ring = &mut self.rings[1 - side];
                let status = call!(cshm_window_wait_for(handle, count, CSHM_NOW));
                if let Some(Open::Message(_)) = ring.open {
                    assert_eq!(status, CSHM_BUSY);
                    return;
                }
                let mut held = match ring.open.take() {
                    Some(Open::Window(held)) => held,
                    _ => VecDeque::new(),
                };
                let mut wanted = if count as u64 > SLOTS { CSHM_WINDOW_TOO_LARGE } else { CSHM_OK };
                while wanted == CSHM_OK && held.len() < count {
                    ring.open = Some(Open::Window(held));
                    let taken = ring.take();
                    let Some(Open::Window(back)) = ring.open.take() else { unreachable!() };
                    held = back;
                    match taken {
                        Ok(message) => held.push_back(message),
                        Err(status) => wanted = status,
                    }
                }
                ring.open = Some(Open::Window(held));
                assert_eq!(status, wanted);
            }
            Call::WindowGet(index) => {
                let ring = &self.rings[1 - side];
                let status = call!(cshm_window_get(handle, index, &mut message));
                match &ring.open {
                    Some(Open::Window(held)) => match held.get(index) {
                        Some((wanted, _)) => assert_eq!((status, seen(&message)), (CSHM_OK, &wanted[..])),
                        None => assert_eq!(status, CSHM_INVALID_ARGUMENT),
                    },
                    _ => assert_eq!(status, CSHM_NOTHING_OPEN),
                }
            }
            Call::WindowRelease(_) | Call::WindowClose => {
                let ring = &mut self.rings[1 - side];
                let (status, count) = match call {
                    Call::WindowRelease(count) => (call!(cshm_window_release(handle, count)), count),
                    _ => (call!(cshm_window_close(handle)), usize::MAX),
                };
                let Some(Open::Window(held)) = &mut ring.open else {
                    assert_eq!(status, CSHM_NOTHING_OPEN);
                    return;
                };
                assert_eq!(status, CSHM_OK);
                let released = held.drain(..count.min(held.len())).map(|(_, slots)| slots).sum::<u64>();
                ring.head += released;
                if let Call::WindowClose = call {
                    ring.open = None;
                }
            }
            Call::Interrupt => {
                // Nobody waits here, and a call that finds nothing does not either.
                assert_eq!(call!(cshm_interrupt(handle)), CSHM_OK);
            }
            Call::Close => {
                assert_eq!(call!(cshm_close(handle)), CSHM_OK);
                self.closed[side] = true;
                let sends = &mut self.rings[side];
                sends.reservation = None;
                if let Some(mut batch) = sends.batch.take() {
                    sends.queue.append(&mut batch);
                }
                sends.sender_closed = true;
                let receives = &mut self.rings[1 - side];
                receives.receiver_closed = true;
                receives.release();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_say_what_the_model_says(sequence in prop::collection::vec((0..2_usize, calls()), 1..200)) {
        let (a, b) = pair(&Settings::new(SLOT, SLOTS as usize));
        let mut world = World { sides: [a, b], rings: Default::default(), closed: [false; 2], next: 0 };
        for (side, call) in sequence {
            world.call(side, call);
        }
    }
}
