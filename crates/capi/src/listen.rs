//! Receiving in a thread of its own, by a callback.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;

use crate::arguments::output;
use crate::errors::receive_end;
use crate::failure::{Failed, Outcome, guarded, guarded_value};
use crate::halves::busy;
use crate::handle::cshm_transport;
use crate::status::cshm_status;

/// Gets one message of a listener, for the time of the call, in the listener's thread.
pub type cshm_message_callback =
    Option<unsafe extern "C-unwind" fn(data: *const u8, len: usize, context: *mut c_void)>;

/// Gets why a listener ended: CSHM_CLOSED, CSHM_PEER_DEAD, CSHM_SUPERSEDED, CSHM_CORRUPT, or CSHM_INTERRUPTED if it
/// was stopped. In the listener's thread, after the last message.
pub type cshm_ended_callback = Option<unsafe extern "C-unwind" fn(reason: cshm_status, context: *mut c_void)>;

/// The pointer that C gives a callback to remember.
struct Context(*mut c_void);

// SAFETY: the caller that starts a listener promises that the callbacks may use their context in its thread.
unsafe impl Send for Context {}

impl Context {
    /// A method, so that a closure takes the whole, not the pointer alone.
    fn get(&self) -> *mut c_void {
        self.0
    }
}

thread_local! {
    /// The transport whose listener this thread is.
    static LISTENS_FOR: Cell<*const cshm_transport> = const { Cell::new(ptr::null()) };
}

/// Whether this is the thread of the transport's listener.
pub(crate) fn in_callback_of(transport: *const cshm_transport) -> bool {
    !transport.is_null() && LISTENS_FOR.get() == transport
}

fn not_from_callback(transport: *const cshm_transport) -> Outcome {
    if in_callback_of(transport) { Err(busy("this is the listener's own thread")) } else { Ok(()) }
}

/// Receives in a thread of its own, in bursts of up to 64, until cshm_listen_stop(), cshm_close(), or the end of the
/// channel. `callback` gets each message, `ended`, if it is not NULL, why the listener ended; both get `context`. The
/// callback may send, if nobody else does. A transport that has listened cannot be reopened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_listen(
    transport: *mut cshm_transport,
    callback: cshm_message_callback,
    ended: cshm_ended_callback,
    context: *mut c_void,
) -> cshm_status {
    guarded(|| {
        let callback = callback.ok_or_else(|| Failed::null("callback"))?;
        not_from_callback(transport)?;
        // SAFETY: the header's contract.
        let handle = unsafe { cshm_transport::whole(transport) }?;
        let (own, end_own) = (Context(transport.cast()), Context(transport.cast()));
        let (message_context, end_context) = (Context(context), Context(context));
        handle.listen(move |consumer, reason| {
            let each = move |message: &[u8]| {
                LISTENS_FOR.set(own.get().cast());
                // SAFETY: the header's contract: it is a function of this kind, and may run in this thread.
                unsafe { callback(message.as_ptr(), message.len(), message_context.get()) };
            };
            let end = move |error: &_| {
                LISTENS_FOR.set(end_own.get().cast());
                let status = receive_end(error);
                reason.store(status as i32, Ordering::Release);
                if let Some(ended) = ended {
                    // SAFETY: as above.
                    unsafe { ended(status, end_context.get()) };
                }
            };
            consumer.listen_with(each, end)
        })
    })
}

/// Stops the listener after the burst it is in; the transport receives again. `reason`, if it is not NULL, gets why
/// the listener had ended: CSHM_INTERRUPTED if it had not before this call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_listen_stop(
    transport: *mut cshm_transport,
    reason: *mut cshm_status,
) -> cshm_status {
    guarded(|| {
        not_from_callback(transport)?;
        // SAFETY: the header's contract.
        let why = unsafe { cshm_transport::stop_listening(transport) }?;
        if !reason.is_null() {
            // SAFETY: the header's contract.
            unsafe { output("reason", reason) }?.write(why);
        }
        Ok(())
    })
}

/// Whether a listener's thread receives: false once the channel has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_is_listening(transport: *const cshm_transport) -> bool {
    guarded_value(false, || {
        // SAFETY: the header's contract.
        unsafe { cshm_transport::listener_runs(transport) }
    })
}
