//! Random calls, the wrong ones among them, against a model of what each must say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::slice;

use proptest::prelude::*;

use super::calls::{Handle, LONG, Settings, call, name, seen};
use super::reach::{Owned, info_of, part, readable};
use crate::arguments::CSHM_NOW;
use crate::inspect::*;
use crate::lifecycle::*;
use crate::look::*;
use crate::ready::*;
use crate::receive::*;
use crate::send::*;
use crate::status::cshm_status;
use crate::status::cshm_status::*;
use crate::tap::*;
use crate::wait_set::*;
use crate::window::*;

const SLOT: usize = 8;
const SLOTS: u64 = 4;

#[derive(Clone, Copy, Debug)]
enum Call {
    Reserve,
    Span(usize),
    Part(usize),
    Commit(usize),
    Abort,
    Send(usize),
    BatchBegin,
    BatchPublish,
    Finish,
    ShutDown,
    SendArm,
    SpanArm(usize),
    PartArm(usize),
    Recv,
    Latest,
    Copied,
    Release,
    Drain(usize),
    WindowWait(usize),
    WindowGet(usize),
    WindowRelease(usize),
    WindowClose,
    RecvArm,
    Insert(u64),
    Remove(u64),
    WaitSet,
    Tap,
    Look,
    Interrupt,
    Close,
}

impl Call {
    /// Whether it is one of the receiving half.
    fn receives(self) -> bool {
        use Call::*;
        let takes = matches!(self, Recv | Latest | Copied | Release | Drain(_) | RecvArm | Insert(_) | Close);
        takes || matches!(self, WindowWait(_) | WindowGet(_) | WindowRelease(_) | WindowClose)
    }
}

fn calls() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => Just(Call::Reserve),
        3 => (0..40_usize).prop_map(Call::Span),
        2 => (0..40_usize).prop_map(Call::Part),
        6 => (0..40_usize).prop_map(Call::Commit),
        2 => Just(Call::Abort),
        6 => (0..10_usize).prop_map(Call::Send),
        2 => Just(Call::BatchBegin),
        3 => Just(Call::BatchPublish),
        1 => Just(Call::Finish),
        1 => Just(Call::ShutDown),
        2 => Just(Call::SendArm),
        2 => (0..40_usize).prop_map(Call::SpanArm),
        2 => (0..40_usize).prop_map(Call::PartArm),
        5 => Just(Call::Recv),
        2 => Just(Call::Latest),
        3 => Just(Call::Copied),
        5 => Just(Call::Release),
        2 => (0..6_usize).prop_map(Call::Drain),
        2 => (0..6_usize).prop_map(Call::WindowWait),
        1 => (0..5_usize).prop_map(Call::WindowGet),
        1 => (0..5_usize).prop_map(Call::WindowRelease),
        2 => Just(Call::WindowClose),
        3 => Just(Call::RecvArm),
        2 => (0..3_u64).prop_map(Call::Insert),
        1 => (0..3_u64).prop_map(Call::Remove),
        4 => Just(Call::WaitSet),
        4 => Just(Call::Tap),
        1 => Just(Call::Look),
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
    /// Every message that was ever published.
    published: Vec<Vec<u8>>,
    /// How many of them a tap has delivered or missed.
    tapped: u64,
    /// Whether slots were ever skipped.
    skips: bool,
    /// The receiver's descriptor while it is armed, and whether something has come since.
    armed: Option<c_int>,
    rung: bool,
    /// Whether the receiver's next wait ends at once.
    interrupted: bool,
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
        self.show(entry);
    }

    /// Makes visible what has its slots already.
    fn show(&mut self, entry: Entry) {
        match &entry.message {
            Some(message) => self.published.push(message.clone()),
            None => self.skips = true,
        }
        self.rung |= entry.message.is_some();
        self.queue.push_back(entry);
    }

    fn publish_batch(&mut self) -> usize {
        let batch = self.batch.take().unwrap_or_default();
        let count = batch.len();
        batch.into_iter().for_each(|entry| self.show(entry));
        count
    }

    /// The sender ends this direction.
    fn end(&mut self) {
        self.rung = true;
    }

    fn has_ended(&self) -> bool {
        self.sender_closed || self.finished || self.receiver_closed
    }

    /// Whether there is something to receive, or held, or the sender has ended.
    fn tells(&self) -> bool {
        let holds = self.open.as_ref().is_some_and(|open| match open {
            Open::Message(_) => true,
            Open::Window(held) => !held.is_empty(),
        });
        holds || self.queue.iter().any(|entry| entry.message.is_some()) || self.sender_closed || self.finished
    }

    /// How many bytes a part takes of so many.
    fn part(&self, bytes: usize) -> usize {
        let share = (SLOTS / 4).max(1);
        let slots = (bytes.div_ceil(SLOT) as u64).min(share).clamp(1, SLOTS - self.tail % SLOTS);
        bytes.min(SLOT * slots as usize)
    }

    fn sending_is_busy(&self) -> bool {
        self.reservation.is_some() || self.batch.is_some()
    }

    /// The number of slots that a span skips first, or its failure.
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

    /// The oldest message, stepped over; skipped slots before it are released, unless something older is held.
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

unsafe extern "C-unwind" fn collect(data: *const u8, len: usize, context: *mut c_void) -> c_int {
    // SAFETY: `Drain` hands over such a list.
    let list = unsafe { &mut *context.cast::<Vec<Vec<u8>>>() };
    // SAFETY: the message is there for the time of the call.
    list.push(unsafe { slice::from_raw_parts(data, len) }.to_vec());
    0
}

struct World {
    sides: [Handle; 2],
    /// The ring from side A, the ring from side B.
    rings: [Ring; 2],
    closed: [bool; 2],
    next: u8,
    name: std::ffi::CString,
    set: Owned<cshm_wait_set>,
    /// Which side has which key.
    keys: BTreeMap<u64, usize>,
    tap: Owned<cshm_tap>,
}

impl World {
    fn content(&mut self, len: usize) -> Vec<u8> {
        self.next = self.next.wrapping_add(1);
        vec![self.next; len]
    }

    fn new() -> Self {
        let (name, settings) = (name(), Settings::new(SLOT, SLOTS as usize));
        let (mut a, mut b) = (null_mut(), null_mut());
        assert_eq!(call!(cshm_create(name.as_ptr(), settings.0, &mut a)), CSHM_OK);
        assert_eq!(call!(cshm_open(name.as_ptr(), LONG, null(), &mut b)), CSHM_OK);
        let set = Owned::made(cshm_wait_set_free, |out| call!(cshm_wait_set_new(out)));
        let tap = Owned::made(cshm_tap_free, |out| call!(cshm_tap_open(name.as_ptr(), null(), out)));
        Self {
            sides: [Handle(a), Handle(b)],
            rings: Default::default(),
            closed: [false; 2],
            next: 0,
            name,
            set,
            keys: BTreeMap::new(),
            tap,
        }
    }

    /// A call, and what a descriptor says after it.
    fn step(&mut self, side: usize, call: Call) {
        if call.receives() {
            self.rings[1 - side].armed = None;
        }
        self.call(side, call);
        for ring in &mut self.rings {
            if ring.rung && !ring.receiver_closed {
                if let Some(fd) = ring.armed.take() {
                    assert!(readable(fd, false), "something has come, and the descriptor does not tell");
                }
            }
            ring.rung = false;
        }
    }

    fn armed(status: cshm_status, armed: bool, wanted: Result<bool, cshm_status>) {
        match wanted {
            Ok(wanted) => assert_eq!((status, armed), (CSHM_OK, wanted)),
            Err(wanted) => assert_eq!(status, wanted),
        }
    }

    /// Calls that are of no side, or that one that closed answers as another does.
    fn call_around(&mut self, call: Call) -> bool {
        match call {
            Call::Remove(key) => {
                let wanted = if self.keys.remove(&key).is_some() { CSHM_OK } else { CSHM_KEY_UNKNOWN };
                assert_eq!(call!(cshm_wait_set_remove(self.set.0, key)), wanted);
            }
            Call::WaitSet => {
                let (mut keys, mut count) = (null(), 0);
                let status = call!(cshm_wait_set_wait(self.set.0, CSHM_NOW, &mut keys, &mut count));
                let told = match status {
                    // SAFETY: they stay until the next call.
                    CSHM_OK => unsafe { slice::from_raw_parts(keys, count) }.iter().copied().collect(),
                    status => {
                        assert_eq!(status, CSHM_EMPTY);
                        BTreeSet::new()
                    }
                };
                for (key, side) in &self.keys {
                    let ring = &self.rings[1 - side];
                    let tells = ring.tells() && !self.closed[*side];
                    assert!(told.contains(key) == tells || (ring.skips && !tells), "{key}: {tells}");
                }
                assert!(told.iter().all(|key| self.keys.contains_key(key)));
                assert_eq!(call!(cshm_wait_set_len(self.set.0)), self.keys.len());
            }
            Call::Tap => {
                let mut out = cshm_tapped { data: null(), len: 0, sequence: 0, missed: 0, from_b: false };
                match call!(cshm_tap_next(self.tap.0, CSHM_NOW, &mut out)) {
                    CSHM_OK => {
                        let ring = &mut self.rings[usize::from(out.from_b)];
                        let at = ring.tapped + out.missed;
                        // SAFETY: it stays until the next call.
                        let found = unsafe { slice::from_raw_parts(out.data, out.len) };
                        assert_eq!(ring.published.get(at as usize).map(|wanted| &wanted[..]), Some(found));
                        ring.tapped = at + 1;
                    }
                    CSHM_EMPTY => assert!(self.rings.iter().any(|ring| !ring.has_ended())),
                    status => {
                        assert_eq!(status, CSHM_CLOSED);
                        assert!(self.rings.iter().all(Ring::has_ended));
                    }
                }
            }
            Call::Look => {
                let mut list = null_mut();
                let status = call!(cshm_channels_of(self.name.as_ptr(), null(), &mut list));
                // Side A takes its name away.
                assert_eq!(status, if self.closed[0] { CSHM_TIMEOUT } else { CSHM_OK });
                if status == CSHM_OK {
                    let list = Owned::made(cshm_channels_free, |out| {
                        // SAFETY: a place on this stack.
                        unsafe { *out = list };
                        CSHM_OK
                    });
                    let info = info_of(&list, 0);
                    let sides = [part(&info.a), part(&info.b)];
                    for (closed, side) in self.closed.iter().zip(sides) {
                        let life =
                            if *closed { cshm_life::CSHM_LIFE_CLOSED } else { cshm_life::CSHM_LIFE_ALIVE };
                        assert_eq!(side.life, life);
                    }
                }
            }
            _ => return false,
        }
        true
    }

    fn call(&mut self, side: usize, call: Call) {
        if self.call_around(call) {
            return;
        }
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
                Call::Part(bytes) => call!(cshm_reserve_part(handle, bytes, CSHM_NOW, &mut slot)),
                Call::ShutDown => call!(cshm_shut_down(handle)),
                Call::SendArm => call!(cshm_send_arm(handle, &mut false)),
                Call::SpanArm(bytes) => call!(cshm_send_arm_span(handle, bytes, &mut false)),
                Call::PartArm(bytes) => call!(cshm_send_arm_part(handle, bytes, &mut false)),
                Call::RecvArm => call!(cshm_recv_arm(handle, &mut false)),
                Call::Insert(key) => call!(cshm_wait_set_insert(self.set.0, key, handle)),
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
            Call::Part(bytes) => {
                let ring = &mut self.rings[side];
                let status = call!(cshm_reserve_part(handle, bytes, CSHM_NOW, &mut slot));
                if ring.sending_is_busy() {
                    assert_eq!(status, CSHM_BUSY);
                    return;
                }
                let size = ring.part(bytes);
                match ring.no_room(slots_for(size)) {
                    Some(wanted) => assert_eq!(status, wanted),
                    None => {
                        assert_eq!(status, CSHM_OK);
                        assert!(slot.capacity >= size);
                        let commits = Commits::Now;
                        ring.reservation =
                            Some(Reservation { capacity: slot.capacity, commits, data: slot.data });
                    }
                }
            }
            Call::SendArm | Call::SpanArm(_) | Call::PartArm(_) => {
                let (ring, mut armed) = (&mut self.rings[side], false);
                let status = match call {
                    Call::SendArm => call!(cshm_send_arm(handle, &mut armed)),
                    Call::SpanArm(bytes) => call!(cshm_send_arm_span(handle, bytes, &mut armed)),
                    Call::PartArm(bytes) => call!(cshm_send_arm_part(handle, bytes, &mut armed)),
                    _ => unreachable!(),
                };
                let tried = match call {
                    _ if ring.sending_is_busy() => Err(CSHM_BUSY),
                    Call::SpanArm(bytes) => ring.span(bytes).map(drop),
                    Call::PartArm(bytes) => {
                        let size = ring.part(bytes);
                        ring.no_room(slots_for(size)).map_or(Ok(()), Err)
                    }
                    _ => ring.no_room(1).map_or(Ok(()), Err),
                };
                Self::armed(
                    status,
                    armed,
                    match tried {
                        Ok(()) | Err(CSHM_TOO_LARGE) => Ok(false),
                        Err(CSHM_FULL) => Ok(true),
                        Err(status) => Err(status),
                    },
                );
            }
            Call::RecvArm => {
                if self.keys.values().any(|other| *other == side) {
                    // A set waits for it.
                    return;
                }
                let (ring, mut armed) = (&mut self.rings[1 - side], false);
                let status = call!(cshm_recv_arm(handle, &mut armed));
                let holds = ring.open.is_some();
                let only_skips =
                    !ring.queue.is_empty() && ring.queue.iter().all(|entry| entry.message.is_none());
                match (holds, ring.queue.is_empty(), ring.sender_closed || ring.finished) {
                    (true, ..) => assert_eq!(status, CSHM_BUSY),
                    _ if only_skips => assert!(matches!(status, CSHM_OK | CSHM_CLOSED | CSHM_INTERRUPTED)),
                    (_, false, _) => Self::armed(status, armed, Ok(false)),
                    (_, true, true) => assert_eq!(status, CSHM_CLOSED),
                    _ if ring.interrupted => assert_eq!(status, CSHM_INTERRUPTED),
                    (_, true, false) => Self::armed(status, armed, Ok(true)),
                }
                ring.interrupted &= status != CSHM_INTERRUPTED;
                if status == CSHM_OK && armed {
                    let mut fd = -1;
                    assert_eq!(call!(cshm_recv_wait_fd(handle, &mut fd)), CSHM_OK);
                    ring.armed = Some(fd);
                }
            }
            Call::Insert(key) => {
                let status = call!(cshm_wait_set_insert(self.set.0, key, handle));
                let wanted = if self.rings[1 - side].open.is_some() {
                    CSHM_BUSY
                } else if self.keys.contains_key(&key) {
                    CSHM_KEY_TAKEN
                } else if self.keys.values().any(|other| *other == side) {
                    CSHM_BUSY
                } else {
                    self.keys.insert(key, side);
                    CSHM_OK
                };
                assert_eq!(status, wanted);
            }
            Call::ShutDown => {
                let ring = &mut self.rings[side];
                let status = call!(cshm_shut_down(handle));
                if ring.sending_is_busy() {
                    assert_eq!(status, CSHM_BUSY);
                } else {
                    assert_eq!(status, CSHM_OK);
                    ring.finished = true;
                    ring.end();
                }
            }
            Call::Remove(_) | Call::WaitSet | Call::Tap | Call::Look => unreachable!(),
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
                } else if ring.batch.is_some() {
                    assert_eq!((status, count), (CSHM_OK, ring.publish_batch()));
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
                    ring.end();
                } else {
                    assert_eq!(status, if ring.has_ended() { CSHM_CLOSED } else { CSHM_TIMEOUT });
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
                // Nobody waits here, and a call that finds nothing does not either; to arm is to wait.
                assert_eq!(call!(cshm_interrupt(handle)), CSHM_OK);
                self.rings[1 - side].interrupted = true;
            }
            Call::Close => {
                assert_eq!(call!(cshm_close(handle)), CSHM_OK);
                self.closed[side] = true;
                let sends = &mut self.rings[side];
                sends.reservation = None;
                sends.publish_batch();
                sends.sender_closed = true;
                sends.end();
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
        let mut world = World::new();
        for (side, call) in sequence {
            world.step(side, call);
        }
    }
}
