//! Each function from its two ends, and each misuse that can be seen.

use std::ffi::{CStr, CString, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::{null, null_mut};
use std::slice;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use crate::arguments::{CSHM_FOREVER, CSHM_NOW};
use crate::config::*;
use crate::failure::*;
use crate::fork;
use crate::handle::cshm_transport;
use crate::left::*;
use crate::lifecycle::*;
use crate::listen::*;
use crate::look::*;
use crate::ready::*;
use crate::receive::*;
use crate::send::*;
use crate::status::cshm_status::*;
use crate::status::*;
use crate::window::*;

/// Nothing waits for it in order to be right.
pub const LONG: i64 = 60_000_000_000;

/// A channel name of one test's own.
pub fn name() -> CString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!("t-capi-{}-{next}", std::process::id())).unwrap()
}

/// A transport that is freed with it.
pub struct Handle(pub *mut cshm_transport);

// SAFETY: a test that uses one in two threads keeps to the header's contract.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it is from this library, and dropped once.
        assert_eq!(unsafe { cshm_free(self.0) }, CSHM_OK);
    }
}

/// Calls a function of the interface: every handle in these tests is null or alive.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: every pointer in these tests is null or valid.
        unsafe { $function($($argument),*) }
    };
}
pub(crate) use call;

/// A configuration that is freed with it.
pub struct Settings(pub *mut cshm_config);

impl Settings {
    pub fn new(slot_size: usize, slot_count: usize) -> Self {
        let config = cshm_config_new();
        assert_eq!(call!(cshm_config_slot_size(config, slot_size)), CSHM_OK);
        assert_eq!(call!(cshm_config_slot_count(config, slot_count)), CSHM_OK);
        Self(config)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        call!(cshm_config_free(self.0));
    }
}

pub fn pair(settings: &Settings) -> (Handle, Handle) {
    let name = name();
    let (mut a, mut b) = (null_mut(), null_mut());
    assert_eq!(call!(cshm_create(name.as_ptr(), settings.0, &mut a)), CSHM_OK);
    assert_eq!(call!(cshm_open(name.as_ptr(), LONG, null(), &mut b)), CSHM_OK);
    (Handle(a), Handle(b))
}

pub fn small() -> (Handle, Handle) {
    pair(&Settings::new(8, 4))
}

pub const NO_SLOT: cshm_write_slot = cshm_write_slot { data: null_mut(), capacity: 0 };
pub const NO_MESSAGE: cshm_read_slot = cshm_read_slot { data: null(), len: 0 };

pub fn send(t: &Handle, message: &[u8]) -> cshm_status {
    call!(cshm_send(t.0, message.as_ptr().cast(), message.len(), CSHM_NOW))
}

pub fn seen(message: &cshm_read_slot) -> &[u8] {
    // SAFETY: a test looks at a message that it holds.
    unsafe { slice::from_raw_parts(message.data, message.len) }
}

pub fn recv(t: &Handle) -> Result<Vec<u8>, cshm_status> {
    let mut message = NO_MESSAGE;
    match call!(cshm_recv(t.0, CSHM_NOW, &mut message)) {
        CSHM_OK => {
            let bytes = seen(&message).to_vec();
            assert_eq!(call!(cshm_release(t.0)), CSHM_OK);
            Ok(bytes)
        }
        status => Err(status),
    }
}

pub fn last_error() -> String {
    // SAFETY: the text stays until the next failure.
    unsafe { CStr::from_ptr(cshm_last_error()) }.to_str().unwrap().to_owned()
}

#[test]
fn a_message_is_built_and_read_in_its_slot() {
    let (a, b) = small();
    let mut slot = NO_SLOT;
    assert_eq!(call!(cshm_reserve(a.0, CSHM_FOREVER, &mut slot)), CSHM_OK);
    assert_eq!(slot.capacity, 8);
    // SAFETY: the slot is reserved.
    unsafe { slot.data.copy_from(b"hello".as_ptr(), 5) };
    assert_eq!(recv(&b), Err(CSHM_EMPTY), "nothing is seen before the commit");
    assert_eq!(call!(cshm_commit(a.0, 5)), CSHM_OK);
    assert_eq!(recv(&b), Ok(b"hello".to_vec()));

    assert_eq!(call!(cshm_reserve(a.0, LONG, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_abort(a.0)), CSHM_OK);
    assert_eq!(recv(&b), Err(CSHM_EMPTY), "an aborted message is never seen");
    assert_eq!(send(&b, b"back"), CSHM_OK);
    assert_eq!(recv(&a), Ok(b"back".to_vec()));
}

#[test]
fn a_slot_at_hand_is_one_that_a_look_has_seen() {
    let (a, b) = small();
    let mut slot = NO_SLOT;
    assert!(call!(cshm_reserve_at_hand(null_mut())).data.is_null());
    for number in 0..4 {
        slot = call!(cshm_reserve_at_hand(a.0));
        assert_eq!(slot.capacity, 8);
        assert!(call!(cshm_reserve_at_hand(a.0)).data.is_null(), "a second reservation");
        assert_eq!(call!(cshm_commit(a.0, 9)), CSHM_TOO_LARGE, "and it stays open");
        // SAFETY: the slot is reserved.
        unsafe { slot.data.write(number) };
        assert_eq!(call!(cshm_commit(a.0, 1)), CSHM_OK);
        assert_eq!(call!(cshm_commit(a.0, 1)), CSHM_NOTHING_OPEN);
    }
    assert!(call!(cshm_reserve_at_hand(a.0)).data.is_null(), "the ring is full");
    for number in 0..4 {
        assert_eq!(recv(&b), Ok(vec![number]));
    }
    assert!(call!(cshm_reserve_at_hand(a.0)).data.is_null(), "there is room, and nobody has looked");
    assert_eq!(call!(cshm_reserve(a.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_abort(a.0)), CSHM_OK);
    assert!(!call!(cshm_reserve_at_hand(a.0)).data.is_null());
    assert_eq!(call!(cshm_abort(a.0)), CSHM_OK);
    assert_eq!(call!(cshm_batch_begin(a.0)), CSHM_OK);
    assert!(call!(cshm_reserve_at_hand(a.0)).data.is_null(), "a batch gathers by cshm_reserve");
    assert_eq!(call!(cshm_close(a.0)), CSHM_OK);
    assert!(call!(cshm_reserve_at_hand(a.0)).data.is_null());
}

#[test]
fn a_span_carries_more_than_a_slot() {
    let (a, b) = small();
    let mut slot = NO_SLOT;
    assert_eq!(call!(cshm_reserve_span(a.0, 20, CSHM_NOW, &mut slot)), CSHM_OK);
    assert!(slot.capacity >= 20);
    // SAFETY: the span is reserved.
    unsafe { slot.data.write_bytes(7, 20) };
    assert_eq!(call!(cshm_commit(a.0, 20)), CSHM_OK);
    assert_eq!(recv(&b), Ok(vec![7; 20]));
    assert_eq!(call!(cshm_reserve_span(a.0, 33, CSHM_NOW, &mut slot)), CSHM_TOO_LARGE);
    assert_eq!(last_error(), "a message of 33 bytes does not fit 32 bytes; use a span or larger slots");
    assert_eq!(call!(cshm_max_message_size(a.0)), 32);
}

#[test]
fn a_batch_becomes_visible_at_once() {
    let (a, b) = small();
    let mut slot = NO_SLOT;
    assert_eq!(call!(cshm_batch_begin(a.0)), CSHM_OK);
    assert_eq!(call!(cshm_batch_begin(a.0)), CSHM_BUSY, "a second batch");
    assert_eq!(send(&a, b"1"), CSHM_OK);
    assert_eq!(call!(cshm_reserve(a.0, CSHM_FOREVER, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_batch_publish(a.0, null_mut())), CSHM_BUSY, "a reservation is open");
    assert_eq!(call!(cshm_reserve_span(a.0, 1, CSHM_NOW, &mut slot)), CSHM_BUSY);
    // SAFETY: the slot is reserved.
    unsafe { slot.data.write(b'2') };
    assert_eq!(call!(cshm_commit(a.0, 1)), CSHM_OK);
    assert_eq!((send(&a, b"3"), send(&a, b"4")), (CSHM_OK, CSHM_OK));
    assert_eq!(call!(cshm_reserve(a.0, CSHM_FOREVER, &mut slot)), CSHM_FULL, "a batch never waits");
    assert_eq!(recv(&b), Err(CSHM_EMPTY));
    let mut count = 0;
    assert_eq!(call!(cshm_batch_publish(a.0, &mut count)), CSHM_OK);
    assert_eq!(count, 4);
    assert_eq!(call!(cshm_batch_publish(a.0, &mut count)), CSHM_NOTHING_OPEN);
    let got: Vec<_> = (0..4).map(|_| recv(&b).unwrap()).collect();
    assert_eq!(got, [b"1", b"2", b"3", b"4"]);
}

#[test]
fn the_newest_message_and_a_copy() {
    let (a, b) = small();
    for message in [b"1", b"2", b"3"] {
        assert_eq!(send(&a, message), CSHM_OK);
    }
    let mut message = NO_MESSAGE;
    assert_eq!(call!(cshm_recv_latest(b.0, CSHM_NOW, &mut message)), CSHM_OK);
    assert_eq!(seen(&message), b"3");
    assert_eq!(call!(cshm_release(b.0)), CSHM_OK);

    assert_eq!(send(&a, b"copy"), CSHM_OK);
    assert_eq!(call!(cshm_recv_copied(b.0, LONG, &mut message)), CSHM_OK);
    // It is no slot any more, so the sender has all of them.
    for _ in 0..4 {
        assert_eq!(send(&a, b"over"), CSHM_OK);
    }
    assert_eq!(seen(&message), b"copy");
}

unsafe extern "C-unwind" fn collect(data: *const u8, len: usize, context: *mut c_void) -> c_int {
    // SAFETY: the tests hand over such a list.
    let list = unsafe { &mut *context.cast::<Vec<Vec<u8>>>() };
    // SAFETY: the message is there for the time of the call.
    list.push(unsafe { slice::from_raw_parts(data, len) }.to_vec());
    (list.len() == 2).into()
}

#[test]
fn a_drain_ends_when_its_callback_says_so() {
    let (a, b) = small();
    for message in [b"1", b"2", b"3"] {
        assert_eq!(send(&a, message), CSHM_OK);
    }
    let (mut list, mut count) = (Vec::<Vec<u8>>::new(), 0);
    let context = (&raw mut list).cast();
    assert_eq!(call!(cshm_drain(b.0, 10, Some(collect), context, &mut count)), CSHM_OK);
    assert_eq!(count, 2);
    assert_eq!(call!(cshm_drain(b.0, 10, Some(collect), context, &mut count)), CSHM_OK);
    assert_eq!((count, list), (1, vec![b"1".to_vec(), b"2".to_vec(), b"3".to_vec()]));
    assert_eq!(call!(cshm_drain(b.0, 10, Some(collect), null_mut(), &mut count)), CSHM_OK);
    assert_eq!(count, 0, "nothing there is no error");
    drop(a);
    assert_eq!(call!(cshm_drain(b.0, 10, Some(collect), null_mut(), &mut count)), CSHM_CLOSED);
}

unsafe extern "C-unwind" fn meddle(_: *const u8, _: usize, context: *mut c_void) -> c_int {
    let (t, mut message) = (context.cast(), NO_MESSAGE);
    let tried = [
        call!(cshm_recv(t, CSHM_NOW, &mut message)),
        call!(cshm_drain(t, 1, Some(meddle), context, null_mut())),
        call!(cshm_window_wait_for(t, 1, CSHM_NOW)),
        call!(cshm_listen(t, Some(count_messages), None, null_mut())),
        call!(cshm_reopen(t, CSHM_NOW)),
        call!(cshm_close(t)),
        call!(cshm_free(t)),
        call!(cshm_release(t)),
    ];
    assert_eq!(tried, [CSHM_BUSY; 8]);
    // The other half is free.
    assert_eq!(call!(cshm_send(t, b"sent".as_ptr().cast(), 4, CSHM_NOW)), CSHM_OK);
    0
}

#[test]
fn a_drain_callback_may_send_but_not_receive() {
    let (a, b) = small();
    assert_eq!(send(&a, b"1"), CSHM_OK);
    assert_eq!(call!(cshm_drain(b.0, 10, Some(meddle), b.0.cast(), null_mut())), CSHM_OK);
    assert_eq!(recv(&a), Ok(b"sent".to_vec()));
    assert_eq!(recv(&b), Err(CSHM_EMPTY), "and afterwards the half is back");
}

#[test]
fn a_window_holds_several_messages() {
    let (a, b) = small();
    for message in [b"1", b"2"] {
        assert_eq!(send(&a, message), CSHM_OK);
    }
    let mut message = NO_MESSAGE;
    assert_eq!(call!(cshm_window_wait_for(b.0, 3, CSHM_NOW)), CSHM_EMPTY);
    assert_eq!(call!(cshm_window_len(b.0)), 2, "what came stays");
    assert_eq!(call!(cshm_recv(b.0, CSHM_NOW, &mut message)), CSHM_BUSY);
    assert_eq!(call!(cshm_window_get(b.0, 1, &mut message)), CSHM_OK);
    assert_eq!(seen(&message), b"2");
    assert_eq!(call!(cshm_window_get(b.0, 2, &mut message)), CSHM_INVALID_ARGUMENT);
    assert_eq!(call!(cshm_window_release(b.0, 1)), CSHM_OK);
    assert_eq!(call!(cshm_window_len(b.0)), 1);
    assert_eq!(call!(cshm_window_wait_for(b.0, 5, CSHM_NOW)), CSHM_WINDOW_TOO_LARGE);
    assert_eq!(call!(cshm_window_close(b.0)), CSHM_OK);
    assert_eq!(call!(cshm_window_close(b.0)), CSHM_NOTHING_OPEN);
    assert_eq!(call!(cshm_window_len(b.0)), 0);
    assert_eq!(recv(&b), Err(CSHM_EMPTY));
}

static HEARD: AtomicUsize = AtomicUsize::new(0);
static END: AtomicI32 = AtomicI32::new(-1);

unsafe extern "C-unwind" fn count_messages(_: *const u8, _: usize, context: *mut c_void) {
    if !context.is_null() {
        let t = context.cast();
        // A call that would wait for this very thread is refused.
        assert_eq!(call!(cshm_free(t)), CSHM_BUSY);
        assert_eq!(call!(cshm_listen_stop(t, null_mut())), CSHM_BUSY);
    }
    HEARD.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C-unwind" fn note_end(reason: cshm_status, _: *mut c_void) {
    END.store(reason as i32, Ordering::SeqCst);
}

pub fn eventually(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_listener_receives_until_it_is_stopped_or_the_channel_ends() {
    let (a, b) = small();
    let (mut message, mut reason) = (NO_MESSAGE, CSHM_OK);
    assert_eq!(call!(cshm_listen_stop(b.0, null_mut())), CSHM_NOTHING_OPEN);
    assert_eq!(call!(cshm_listen(b.0, Some(count_messages), Some(note_end), b.0.cast())), CSHM_OK);
    assert!(call!(cshm_is_listening(b.0)));
    assert_eq!(call!(cshm_listen(b.0, Some(count_messages), None, null_mut())), CSHM_BUSY);
    assert_eq!(call!(cshm_recv(b.0, CSHM_NOW, &mut message)), CSHM_BUSY);
    for _ in 0..100 {
        assert_eq!(call!(cshm_send(a.0, b"x".as_ptr().cast(), 1, CSHM_FOREVER)), CSHM_OK);
    }
    eventually(|| HEARD.load(Ordering::SeqCst) == 100);
    assert_eq!(call!(cshm_listen_stop(b.0, &mut reason)), CSHM_OK);
    assert_eq!((reason, END.load(Ordering::SeqCst)), (CSHM_INTERRUPTED, CSHM_INTERRUPTED as i32));
    assert!(!call!(cshm_is_listening(b.0)));

    assert_eq!(send(&a, b"here"), CSHM_OK);
    assert_eq!(recv(&b), Ok(b"here".to_vec()), "the transport receives again");
    assert_eq!(call!(cshm_reopen(b.0, CSHM_NOW)), CSHM_BUSY, "but is not reopened");

    assert_eq!(call!(cshm_listen(b.0, Some(count_messages), Some(note_end), null_mut())), CSHM_OK);
    drop(a);
    eventually(|| END.load(Ordering::SeqCst) == CSHM_CLOSED as i32);
    assert_eq!(call!(cshm_listen_stop(b.0, &mut reason)), CSHM_OK);
    assert_eq!(reason, CSHM_CLOSED);
}

#[test]
fn another_thread_interrupts_looks_and_changes_the_poll_mode() {
    let (a, b) = small();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let (b, mut message) = (&b, NO_MESSAGE);
            call!(cshm_recv(b.0, CSHM_FOREVER, &mut message))
        });
        assert_eq!(call!(cshm_set_local_poll(b.0, 1_000_000)), CSHM_OK);
        assert_eq!(call!(cshm_remote_poll(a.0)), 1_000_000);
        assert_eq!(call!(cshm_set_remote_poll(a.0, CSHM_SPIN)), CSHM_OK);
        assert_eq!(call!(cshm_local_poll(b.0)), CSHM_SPIN);
        assert_eq!(call!(cshm_set_local_poll(b.0, CSHM_PARK)), CSHM_OK);
        assert_eq!(call!(cshm_local_poll(b.0)), CSHM_PARK);
        assert!(call!(cshm_peer_attached(b.0)));
        assert_eq!(call!(cshm_interrupt(b.0)), CSHM_OK);
        assert_eq!(waiting.join().unwrap(), CSHM_INTERRUPTED);
    });
}

#[test]
fn a_transport_knows_its_figures() {
    let settings = Settings::new(8, 4);
    assert_eq!(call!(cshm_config_b_to_a(settings.0, 16, 2)), CSHM_OK);
    let name = name();
    let mut a = null_mut();
    assert_eq!(call!(cshm_create(name.as_ptr(), settings.0, &mut a)), CSHM_OK);
    let a = Handle(a);
    assert_eq!(call!(cshm_wait_for_peer(a.0, 1)), CSHM_TIMEOUT);
    assert_eq!(send(&a, b"123"), CSHM_OK);
    // SAFETY: the figures are numbers.
    let mut stats: cshm_stats = unsafe { std::mem::zeroed() };
    let mut slot = NO_SLOT;
    assert_eq!(call!(cshm_reserve(a.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_get_stats(a.0, &mut stats)), CSHM_OK, "also while a slot is reserved");
    assert_eq!((stats.tx.messages, stats.tx.bytes, stats.tx.used_slots, stats.tx.closed), (1, 3, 1, 0));
    assert_eq!((stats.rx.slot_size, stats.rx.slot_count), (16, 2));
    assert_eq!(call!(cshm_stats_of(name.as_ptr(), null(), &mut stats)), CSHM_OK);
    assert_eq!(stats.tx.messages, 1);
    assert_eq!((call!(cshm_slot_size(a.0)), call!(cshm_slot_count(a.0))), (8, 4));
    assert!(call!(cshm_is_side_a(a.0)) && !call!(cshm_peer_attached(a.0)));
}

#[test]
fn the_end_of_a_channel_is_told_apart() {
    let settings = Settings::new(8, 4);
    let name = name();
    let (mut a, mut b) = (null_mut(), null_mut());
    assert_eq!(call!(cshm_open(name.as_ptr(), 1, null(), &mut b)), CSHM_TIMEOUT);
    assert!(last_error().contains("no side A has created it"), "{}", last_error());
    assert_eq!(call!(cshm_create(name.as_ptr(), settings.0, &mut a)), CSHM_OK);
    assert_eq!(call!(cshm_create(name.as_ptr(), settings.0, &mut b)), CSHM_IN_USE);
    assert!(b.is_null(), "an output is left as it was");
    assert_eq!(call!(cshm_open(name.as_ptr(), LONG, null(), &mut b)), CSHM_OK);
    let mut third = null_mut();
    assert_eq!(call!(cshm_open(name.as_ptr(), CSHM_NOW, null(), &mut third)), CSHM_IN_USE);
    let (a, b) = (Handle(a), Handle(b));

    assert_eq!(send(&a, b"last"), CSHM_OK);
    assert_eq!(call!(cshm_finish(a.0, 1)), CSHM_TIMEOUT);
    assert_eq!(recv(&b), Ok(b"last".to_vec()));
    assert_eq!(call!(cshm_finish(a.0, LONG)), CSHM_OK);
    assert_eq!(send(&a, b"more"), CSHM_CLOSED);
    assert_eq!(recv(&b), Err(CSHM_CLOSED));
    assert_eq!(send(&b, b"back"), CSHM_OK);
    assert_eq!(recv(&a), Ok(b"back".to_vec()), "the other direction goes on");

    assert_eq!(call!(cshm_reopen(a.0, LONG)), CSHM_WRONG_SIDE);
    drop(a);
    let mut a = null_mut();
    assert_eq!(call!(cshm_create(name.as_ptr(), settings.0, &mut a)), CSHM_OK);
    let a = Handle(a);
    assert_eq!(call!(cshm_reopen(b.0, LONG)), CSHM_OK);
    assert_eq!(send(&b, b"anew"), CSHM_OK);
    assert_eq!(recv(&a), Ok(b"anew".to_vec()));
    drop((a, b));
    assert_eq!(call!(cshm_remove(name.as_ptr(), null())), CSHM_NOT_FOUND);
}

#[test]
fn two_sides_agree_on_tag_and_type_or_do_not_meet() {
    let (values, others, frames, tagged) =
        (Settings::new(8, 4), Settings::new(8, 4), Settings::new(64, 4), Settings::new(8, 4));
    for settings in [&values, &others] {
        let size = if std::ptr::eq(settings, &values) { 16 } else { 24 };
        assert_eq!(call!(cshm_config_sends_values(settings.0, size, 8)), CSHM_OK);
        assert_eq!(call!(cshm_config_receives_values(settings.0, size, 8)), CSHM_OK);
    }
    assert_eq!(call!(cshm_config_sends_capnp(frames.0, 7)), CSHM_OK);
    assert_eq!(call!(cshm_config_receives_capnp(frames.0, 7)), CSHM_OK);
    assert_eq!(call!(cshm_config_message_tag(tagged.0, c"ticks/1".as_ptr())), CSHM_OK);
    assert_eq!(call!(cshm_config_message_tag(values.0, c"ticks/2".as_ptr())), CSHM_OK);

    let name = name();
    let (mut a, mut b) = (null_mut(), null_mut());
    assert_eq!(call!(cshm_create(name.as_ptr(), values.0, &mut a)), CSHM_OK);
    let a = Handle(a);
    assert_eq!(call!(cshm_open(name.as_ptr(), LONG, others.0, &mut b)), CSHM_TYPE_MISMATCH);
    assert!(last_error().contains("16 bytes, aligned to 8"), "{}", last_error());
    assert_eq!(call!(cshm_open(name.as_ptr(), LONG, frames.0, &mut b)), CSHM_TYPE_MISMATCH);
    assert_eq!(call!(cshm_open(name.as_ptr(), LONG, tagged.0, &mut b)), CSHM_TAG_MISMATCH);
    assert_eq!(call!(cshm_open(name.as_ptr(), LONG, values.0, &mut b)), CSHM_OK);
    let b = Handle(b);
    assert_eq!(call!(cshm_slot_size(a.0)), 16, "a slot is a value");
    assert_eq!(send(&a, b"eight by"), CSHM_INVALID_ARGUMENT, "not a whole value");
    let mut slot = NO_SLOT;
    assert_eq!(call!(cshm_reserve(a.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_commit(a.0, 8)), CSHM_INVALID_ARGUMENT);
    assert_eq!(last_error(), "a value has 16 bytes, not 8");
    assert_eq!(call!(cshm_commit(a.0, 16)), CSHM_OK, "the reservation was still open");
    assert_eq!(recv(&b).map(|value| value.len()), Ok(16));
}

#[test]
fn an_anonymous_channel_goes_by_its_descriptors() {
    let settings = Settings::new(8, 4);
    let (mut a, mut b, mut fds) = (null_mut(), null_mut(), [-1; 2]);
    assert_eq!(call!(cshm_from_fds(fds.as_ptr(), null(), &mut b)), CSHM_INVALID_ARGUMENT);
    assert_eq!(call!(cshm_pair(settings.0, &mut a, fds.as_mut_ptr())), CSHM_OK);
    // One that is not open stays the caller's, and so does the other.
    assert_eq!(call!(cshm_from_fds([fds[0], c_int::MAX].as_ptr(), null(), &mut b)), CSHM_INVALID_ARGUMENT);
    assert_eq!(last_error(), format!("{} is no open descriptor", c_int::MAX));
    assert_eq!(call!(cshm_from_fds(fds.as_ptr(), settings.0, &mut b)), CSHM_OK);
    let (a, b) = (Handle(a), Handle(b));
    assert_eq!(send(&a, b"no name"), CSHM_OK);
    assert_eq!(recv(&b), Ok(b"no name".to_vec()));
    assert_eq!(call!(cshm_reopen(b.0, CSHM_NOW)), CSHM_NO_NAME);
}

#[test]
fn misuse_is_an_error() {
    let (a, b) = small();
    let (mut slot, mut message) = (NO_SLOT, NO_MESSAGE);

    // One thing at a time on each half.
    assert_eq!(call!(cshm_commit(a.0, 1)), CSHM_NOTHING_OPEN);
    assert_eq!(call!(cshm_abort(a.0)), CSHM_NOTHING_OPEN);
    assert_eq!(call!(cshm_reserve(a.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_reserve(a.0, CSHM_NOW, &mut slot)), CSHM_BUSY);
    assert_eq!(last_error(), "a reservation is open; commit or abort it first");
    assert_eq!((send(&a, b"x"), call!(cshm_batch_begin(a.0))), (CSHM_BUSY, CSHM_BUSY));
    assert_eq!((call!(cshm_finish(a.0, CSHM_NOW)), call!(cshm_reopen(a.0, 0))), (CSHM_BUSY, CSHM_BUSY));
    assert_eq!(call!(cshm_listen(a.0, Some(count_messages), None, null_mut())), CSHM_BUSY);
    assert_eq!(call!(cshm_commit(a.0, 9)), CSHM_TOO_LARGE);
    assert_eq!(call!(cshm_commit(a.0, 8)), CSHM_OK);
    assert_eq!(call!(cshm_release(b.0)), CSHM_NOTHING_OPEN);
    assert_eq!(call!(cshm_recv(b.0, CSHM_NOW, &mut message)), CSHM_OK);
    assert_eq!(call!(cshm_recv(b.0, CSHM_NOW, &mut message)), CSHM_BUSY);
    assert_eq!(call!(cshm_window_wait_for(b.0, 1, CSHM_NOW)), CSHM_BUSY);
    assert_eq!(call!(cshm_recv_copied(b.0, CSHM_NOW, &mut message)), CSHM_BUSY);
    assert_eq!(send(&a, b"nine byte"), CSHM_TOO_LARGE);

    // Null.
    let t = null_mut();
    assert_eq!(call!(cshm_create(null(), null(), &mut null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(last_error(), "name is NULL");
    assert_eq!(call!(cshm_create(c"x".as_ptr(), null(), null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_reserve(t, CSHM_NOW, &mut slot)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_recv(t, CSHM_NOW, &mut message)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_recv(a.0, CSHM_NOW, null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_send(a.0, null(), 1, CSHM_NOW)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_send(a.0, null(), 0, CSHM_NOW)), CSHM_OK, "no bytes need no place");
    assert_eq!(call!(cshm_drain(a.0, 1, None, null_mut(), null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_listen(a.0, None, None, null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_config_slot_size(null_mut(), 1)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_config_sends_values(null_mut(), 1, 1)), CSHM_NULL_ARGUMENT);
    assert_eq!((call!(cshm_close(t)), call!(cshm_free(t))), (CSHM_NULL_ARGUMENT, CSHM_OK));
    assert_eq!((call!(cshm_slot_size(t)), call!(cshm_window_len(t))), (0, 0));
    assert!(!call!(cshm_is_listening(t)) && !call!(cshm_is_side_a(t)) && !call!(cshm_peer_attached(t)));
    call!(cshm_config_free(null_mut()));

    // Values.
    assert_eq!(call!(cshm_create(c"a/b".as_ptr(), null(), &mut null_mut())), CSHM_INVALID_CONFIG);
    assert_eq!(call!(cshm_create(c"\xff".as_ptr(), null(), &mut null_mut())), CSHM_INVALID_ARGUMENT);
    let odd = Settings::new(8, 3);
    assert_eq!(call!(cshm_create(name().as_ptr(), odd.0, &mut null_mut())), CSHM_INVALID_CONFIG);
    let nothing = Settings::new(8, 4);
    assert_eq!(call!(cshm_config_sends_values(nothing.0, 12, 8)), CSHM_OK);
    assert_eq!(call!(cshm_create(name().as_ptr(), nothing.0, &mut null_mut())), CSHM_INVALID_CONFIG);
    let lost = Settings::new(8, 4);
    assert_eq!(call!(cshm_config_directory(lost.0, c"/no/such/directory".as_ptr())), CSHM_OK);
    assert_eq!(call!(cshm_create(name().as_ptr(), lost.0, &mut null_mut())), CSHM_SYSTEM);
    assert_eq!(cshm_last_os_error(), 2, "ENOENT: {}", last_error());

    // After the close, with everything open that was.
    assert_eq!(call!(cshm_reserve(b.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_close(b.0)), CSHM_OK);
    let closed = [
        call!(cshm_close(b.0)),
        call!(cshm_reserve(b.0, CSHM_NOW, &mut slot)),
        call!(cshm_commit(b.0, 1)),
        call!(cshm_abort(b.0)),
        send(&b, b"x"),
        call!(cshm_batch_begin(b.0)),
        call!(cshm_batch_publish(b.0, null_mut())),
        call!(cshm_finish(b.0, CSHM_NOW)),
        call!(cshm_recv(b.0, CSHM_NOW, &mut message)),
        call!(cshm_release(b.0)),
        call!(cshm_drain(b.0, 1, Some(collect), null_mut(), null_mut())),
        call!(cshm_window_wait_for(b.0, 1, CSHM_NOW)),
        call!(cshm_window_close(b.0)),
        call!(cshm_wait_for_peer(b.0, CSHM_NOW)),
        call!(cshm_listen(b.0, Some(count_messages), None, null_mut())),
        call!(cshm_listen_stop(b.0, null_mut())),
        call!(cshm_reopen(b.0, CSHM_NOW)),
        call!(cshm_interrupt(b.0)),
        call!(cshm_set_local_poll(b.0, CSHM_SPIN)),
        call!(cshm_shut_down(b.0)),
        call!(cshm_reserve_part(b.0, 1, CSHM_NOW, &mut slot)),
        call!(cshm_recv_wait_fd(b.0, &mut 0)),
        call!(cshm_recv_arm(b.0, &mut false)),
        call!(cshm_send_wait_fd(b.0, &mut 0)),
        call!(cshm_send_arm(b.0, &mut false)),
        call!(cshm_send_arm_span(b.0, 1, &mut false)),
        call!(cshm_send_arm_part(b.0, 1, &mut false)),
    ];
    assert_eq!(closed[1..], [CSHM_HANDLE_CLOSED; 26]);
    assert_eq!(closed[0], CSHM_OK, "closing twice closes once");
    assert_eq!(call!(cshm_slot_size(b.0)), 0);
    assert_eq!(recv(&a), Err(CSHM_CLOSED), "the peer knows");
}

#[test]
fn what_is_open_may_outlive_its_transport() {
    // Reservation, message: each is used, ended, and ended in another order than it was opened.
    let (a, b) = small();
    let (a, b) = (ManuallyDrop::new(a), ManuallyDrop::new(b));
    let (mut slot, mut message) = (NO_SLOT, NO_MESSAGE);
    assert_eq!(send(&a, b"x"), CSHM_OK);
    assert_eq!(call!(cshm_recv(b.0, CSHM_NOW, &mut message)), CSHM_OK);
    assert_eq!(call!(cshm_batch_begin(b.0)), CSHM_OK);
    assert_eq!(call!(cshm_reserve(b.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_free_later(b.0)), CSHM_OK);
    assert_eq!(recv(&a), Err(CSHM_CLOSED), "it is closed");
    for _ in 0..2 {
        assert_eq!((call!(cshm_commit(b.0, 1)), call!(cshm_slot_size(b.0))), (CSHM_HANDLE_CLOSED, 0));
    }
    assert_eq!(call!(cshm_batch_publish(b.0, null_mut())), CSHM_HANDLE_CLOSED);
    assert_eq!(call!(cshm_release(b.0)), CSHM_HANDLE_CLOSED);
    assert!(fork::knows(b.0), "the reservation is not ended");
    assert_eq!(call!(cshm_abort(b.0)), CSHM_HANDLE_CLOSED);
    assert!(!fork::knows(b.0), "the last that was open has ended");

    // A batch ends with what is reserved in it, and is no more what keeps a transport.
    let (c, d) = small();
    let c = ManuallyDrop::new(c);
    for commits in [false, true] {
        assert_eq!((call!(cshm_batch_begin(c.0)), send(&c, b"y")), (CSHM_OK, CSHM_OK));
        assert_eq!(call!(cshm_reserve(c.0, CSHM_NOW, &mut slot)), CSHM_OK);
        assert_eq!((call!(cshm_batch_end(c.0)), call!(cshm_batch_end(c.0))), (CSHM_OK, CSHM_NOTHING_OPEN));
        assert_eq!(call!(cshm_batch_publish(c.0, null_mut())), CSHM_BUSY);
        assert_eq!(recv(&d), Err(CSHM_EMPTY));
        let end = if commits { call!(cshm_commit(c.0, 1)) } else { call!(cshm_abort(c.0)) };
        assert_eq!(end, CSHM_OK);
        assert_eq!(recv(&d).as_deref(), Ok(&b"y"[..]));
    }
    assert_eq!(recv(&d).map(|message| message.len()), Ok(1), "the one that was committed");
    assert_eq!((call!(cshm_batch_begin(c.0)), call!(cshm_batch_end(c.0))), (CSHM_OK, CSHM_OK));
    assert_eq!(call!(cshm_batch_begin(c.0)), CSHM_OK);
    assert_eq!(call!(cshm_reserve(c.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!((call!(cshm_batch_end(c.0)), call!(cshm_free_later(c.0))), (CSHM_OK, CSHM_OK));
    assert!(fork::knows(c.0));
    assert_eq!(call!(cshm_abort(c.0)), CSHM_HANDLE_CLOSED);
    assert!(!fork::knows(c.0));

    // A window of one that was closed before it is given up, and nothing.
    assert_eq!(call!(cshm_window_wait_for(a.0, 0, CSHM_NOW)), CSHM_OK);
    assert_eq!((call!(cshm_close(a.0)), call!(cshm_free_later(a.0))), (CSHM_OK, CSHM_OK));
    assert!(fork::knows(a.0));
    assert_eq!(call!(cshm_window_close(a.0)), CSHM_HANDLE_CLOSED);
    assert!(!fork::knows(a.0));
    let (idle, _peer) = small();
    let idle = ManuallyDrop::new(idle);
    assert_eq!(call!(cshm_free_later(idle.0)), CSHM_OK);
    assert!(!fork::knows(idle.0));
    assert_eq!(call!(cshm_free_later(null_mut())), CSHM_OK);

    // A reservation that was ended after the close does not keep it.
    let (other, _peer) = small();
    let other = ManuallyDrop::new(other);
    assert_eq!(call!(cshm_reserve(other.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!((call!(cshm_close(other.0)), call!(cshm_abort(other.0))), (CSHM_OK, CSHM_HANDLE_CLOSED));
    assert!(fork::knows(other.0));
    assert_eq!(call!(cshm_free_later(other.0)), CSHM_OK);
    assert!(!fork::knows(other.0));
}

#[test]
fn errors_are_of_their_thread() {
    assert_eq!(call!(cshm_close(null_mut())), CSHM_NULL_ARGUMENT);
    std::thread::spawn(|| assert_eq!(last_error(), "done")).join().unwrap();
    assert_eq!(last_error(), "transport is NULL");
    let (_a, b) = small();
    assert_eq!(recv(&b), Err(CSHM_EMPTY));
    assert_eq!(last_error(), "no message yet");
}

#[test]
fn a_panic_stops_at_the_border() {
    assert_eq!(guarded(|| panic!("on purpose")), CSHM_PANIC);
    assert_eq!(last_error(), "a defect of the library: on purpose");
    assert_eq!(guarded_value(7, || panic!("{}", "again")), 7);
}
