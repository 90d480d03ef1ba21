//! The two halves in event loops.

use std::ffi::c_int;
#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::arguments::output;
use crate::failure::{Failed, Outcome, guarded};
use crate::handle::cshm_transport;
use crate::status::cshm_status;
#[cfg(not(unix))]
use crate::status::cshm_status::CSHM_UNSUPPORTED;

/// A descriptor that becomes readable when a message has come, for event loops: poll, epoll, GLib, Qt, asio, libuv, kj.
/// It tells after cshm_recv_arm(). It is the transport's, made by the first call, and closes with it: watch it for reading,
/// and neither read nor close it. CSHM_UNSUPPORTED on a system without descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_recv_wait_fd(transport: *mut cshm_transport, fd: *mut c_int) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let fd = unsafe { output("fd", fd) }?;
        // SAFETY: the header's contract.
        let consumer = unsafe { cshm_transport::rx(transport) }?.idle()?;
        #[cfg(unix)]
        fd.write(number(consumer.wait_fd())?);
        #[cfg(not(unix))]
        no_descriptors(consumer, fd)?;
        Ok(())
    })
}

/// The same for sending: it becomes readable when there is room. It tells after cshm_send_arm(), cshm_send_arm_span() or
/// cshm_send_arm_part().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_send_wait_fd(transport: *mut cshm_transport, fd: *mut c_int) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let fd = unsafe { output("fd", fd) }?;
        // SAFETY: the header's contract.
        let producer = unsafe { cshm_transport::tx(transport) }?.idle()?;
        #[cfg(unix)]
        fd.write(number(producer.wait_fd())?);
        #[cfg(not(unix))]
        no_descriptors(producer, fd)?;
        Ok(())
    })
}

#[cfg(unix)]
fn number(descriptor: io::Result<BorrowedFd<'_>>) -> Outcome<c_int> {
    match descriptor {
        Ok(descriptor) => Ok(descriptor.as_raw_fd()),
        Err(error) => {
            Err(Failed::system(format_args!("the system gives no descriptor to wait on: {error}"), &error))
        }
    }
}

#[cfg(not(unix))]
fn no_descriptors<T>(_: &mut T, _: crate::arguments::Output<'_, c_int>) -> Outcome {
    Err(Failed::detailed(CSHM_UNSUPPORTED, "this system has no descriptors to wait on"))
}

/// Prepares to wait for a message in an event loop. `armed` true: there is none now, and the descriptor becomes readable when
/// there is, or when the peer is gone, and now and then for no reason. `armed` false: receive first, and call this again
/// when that says CSHM_EMPTY. Once the channel has ended, this says how; after cshm_interrupt() CSHM_INTERRUPTED, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_recv_arm(transport: *mut cshm_transport, armed: *mut bool) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let armed = unsafe { output("armed", armed) }?;
        // SAFETY: the header's contract.
        armed.write(unsafe { cshm_transport::rx(transport) }?.idle()?.arm()?);
        Ok(())
    })
}

/// Prepares to wait for a free slot in an event loop, as cshm_recv_arm() does for a message. `armed` false: a slot is free
/// now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_send_arm(transport: *mut cshm_transport, armed: *mut bool) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let armed = unsafe { output("armed", armed) }?;
        // SAFETY: the header's contract.
        armed.write(unsafe { cshm_transport::tx(transport) }?.idle()?.arm()?);
        Ok(())
    })
}

/// The same for cshm_reserve_span() of `bytes` bytes. `armed` false also if it can never fit: the reservation says so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_send_arm_span(
    transport: *mut cshm_transport,
    bytes: usize,
    armed: *mut bool,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let armed = unsafe { output("armed", armed) }?;
        // SAFETY: the header's contract.
        armed.write(unsafe { cshm_transport::tx(transport) }?.idle()?.arm_span(bytes)?);
        Ok(())
    })
}

/// The same for cshm_reserve_part() with `bytes` bytes left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_send_arm_part(
    transport: *mut cshm_transport,
    bytes: usize,
    armed: *mut bool,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let armed = unsafe { output("armed", armed) }?;
        // SAFETY: the header's contract.
        let producer = unsafe { cshm_transport::tx(transport) }?.idle()?;
        armed.write(producer.arm_span(producer.part_size(bytes))?);
        Ok(())
    })
}
