//! One thread acts on a transport while another one is at work in it.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::calls::*;
use crate::arguments::CSHM_FOREVER;
use crate::handle::cshm_transport;
use crate::lifecycle::*;
use crate::listen::*;
use crate::look::*;
use crate::receive::*;
use crate::send::*;
use crate::status::cshm_status::*;
use crate::window::*;

/// A callback that answers in place, and how far it is.
struct Answering {
    transport: *mut cshm_transport,
    step: AtomicU32,
}

const RESERVED: u32 = 1;
const STOPPING: u32 = 2;

unsafe extern "C-unwind" fn answer(_: *const u8, _: usize, context: *mut c_void) {
    // SAFETY: the tests hand over such a thing.
    let answering = unsafe { &*context.cast::<Answering>() };
    let mut slot = NO_SLOT;
    assert_eq!(call!(cshm_reserve(answering.transport, CSHM_FOREVER, &mut slot)), CSHM_OK);
    answering.step.store(RESERVED, Ordering::Release);
    eventually(|| answering.step.load(Ordering::Acquire) == STOPPING);
    // Long enough that the other thread is in its call, as a rule; right in any case.
    thread::sleep(Duration::from_millis(20));
    // SAFETY: the slot is reserved.
    unsafe { slot.data.write(b'!') };
    assert_eq!(call!(cshm_commit(answering.transport, 1)), CSHM_OK);
}

/// A listener's callback is between a reservation and its commit when `stop` is called.
fn in_the_middle_of_an_answer(stop: impl FnOnce(*mut cshm_transport)) {
    let (a, b) = small();
    let answering = Answering { transport: b.0, step: AtomicU32::new(0) };
    let context = (&raw const answering).cast_mut().cast();
    assert_eq!(call!(cshm_listen(b.0, Some(answer), None, context)), CSHM_OK);
    assert_eq!(send(&a, b"?"), CSHM_OK);
    eventually(|| answering.step.load(Ordering::Acquire) == RESERVED);
    answering.step.store(STOPPING, Ordering::Release);
    stop(b.0);
    assert_eq!(recv(&a), Ok(b"!".to_vec()), "the answer was given");
}

#[test]
fn a_listener_is_stopped_while_its_callback_sends() {
    in_the_middle_of_an_answer(|transport| {
        assert_eq!(call!(cshm_listen_stop(transport, null_mut())), CSHM_OK);
    });
}

#[test]
fn a_transport_is_closed_while_its_callback_sends() {
    in_the_middle_of_an_answer(|transport| assert_eq!(call!(cshm_close(transport)), CSHM_OK));
}

static BLOCKED: AtomicI32 = AtomicI32::new(-1);

unsafe extern "C-unwind" fn send_until_refused(_: *const u8, _: usize, context: *mut c_void) {
    let t = context.cast();
    let message = b"unread".as_ptr().cast();
    let mut status = CSHM_OK;
    while status == CSHM_OK {
        status = call!(cshm_send(t, message, 6, CSHM_FOREVER));
    }
    assert_eq!(call!(cshm_send(t, message, 6, 0)), CSHM_HANDLE_CLOSED, "and it stays so");
    BLOCKED.store(status as i32, Ordering::Release);
}

#[test]
fn a_transport_is_closed_while_its_callback_waits_for_a_peer_that_does_not_read() {
    let (a, b) = small();
    assert_eq!(call!(cshm_listen(b.0, Some(send_until_refused), None, b.0.cast())), CSHM_OK);
    assert_eq!(send(&a, b"?"), CSHM_OK);
    eventually(|| call_stats(&a).rx.full_waits > 0);
    assert_eq!(call!(cshm_close(b.0)), CSHM_OK);
    assert_eq!(BLOCKED.load(Ordering::Acquire), CSHM_HANDLE_CLOSED as i32);
    assert_eq!(recv(&a), Ok(b"unread".to_vec()), "what was sent is there");
}

unsafe extern "C-unwind" fn reserve_only(_: *const u8, _: usize, context: *mut c_void) {
    let mut slot = NO_SLOT;
    assert_eq!(call!(cshm_reserve(context.cast(), CSHM_FOREVER, &mut slot)), CSHM_OK);
}

#[test]
fn what_a_callback_left_open_outlives_the_listener() {
    let (a, b) = small();
    for _ in 0..2 {
        assert_eq!(call!(cshm_listen(b.0, Some(reserve_only), None, b.0.cast())), CSHM_OK);
        assert_eq!(send(&a, b"?"), CSHM_OK);
        eventually(|| call_stats(&a).tx.used_slots == 0);
        assert_eq!(call!(cshm_listen_stop(b.0, null_mut())), CSHM_OK);
        assert_eq!(call!(cshm_commit(b.0, 0)), CSHM_OK);
        assert_eq!(recv(&a), Ok(Vec::new()));
    }
}

fn call_stats(transport: &Handle) -> cshm_stats {
    let mut stats = std::mem::MaybeUninit::uninit();
    assert_eq!(call!(cshm_get_stats(transport.0, stats.as_mut_ptr())), CSHM_OK);
    // SAFETY: it was written.
    unsafe { stats.assume_init() }
}

#[test]
fn a_transport_in_which_a_thread_waits_is_not_taken_away() {
    let (a, b) = small();
    let waiting = &b;
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut message = NO_MESSAGE;
            call!(cshm_recv({ waiting }.0, CSHM_FOREVER, &mut message))
        });
        eventually(|| call_stats(&b).rx.parks > 0);
        let (mut message, mut slot) = (NO_MESSAGE, NO_SLOT);
        let tried = [
            call!(cshm_close(b.0)),
            call!(cshm_free(b.0)),
            call!(cshm_reopen(b.0, 0)),
            call!(cshm_listen(b.0, Some(reserve_only), None, null_mut())),
            call!(cshm_recv(b.0, 0, &mut message)),
            call!(cshm_recv(b.0, CSHM_FOREVER, &mut message)),
            call!(cshm_window_wait_for(b.0, 1, 0)),
        ];
        assert_eq!(tried, [CSHM_BUSY; 7]);
        assert!(last_error().contains("cshm_interrupt()"), "{}", last_error());
        assert_eq!(call!(cshm_reserve(b.0, CSHM_FOREVER, &mut slot)), CSHM_OK, "the other half is free");
        assert_eq!(call!(cshm_abort(b.0)), CSHM_OK);
        assert_eq!(call!(cshm_interrupt(b.0)), CSHM_OK);
        assert_eq!(receiver.join().unwrap(), CSHM_INTERRUPTED);
    });
    assert_eq!(recv(&b), Err(CSHM_EMPTY));

    while send(&a, b"full") == CSHM_OK {}
    let parks = call_stats(&a).tx.parks;
    let waiting = &a;
    thread::scope(|scope| {
        let sender =
            scope.spawn(|| call!(cshm_send({ waiting }.0, b"more".as_ptr().cast(), 4, CSHM_FOREVER)));
        eventually(|| call_stats(&a).tx.parks > parks);
        assert_eq!(send(&a, b"mine"), CSHM_BUSY);
        assert_eq!(call!(cshm_close(a.0)), CSHM_BUSY);
        assert_eq!(recv(&b), Ok(b"full".to_vec()));
        assert_eq!(sender.join().unwrap(), CSHM_OK);
    });
}
