//! Several received messages held at once.

use crate::arguments::{CSHM_NOW, output, wait};
use crate::failure::{Failed, Outcome, guarded, guarded_value};
use crate::halves::Rx;
use crate::handle::cshm_transport;
use crate::left;
use crate::receive::cshm_read_slot;
use crate::status::cshm_status;
use crate::status::cshm_status::CSHM_INVALID_ARGUMENT;

/// Opens a window, if none is open, and receives until it holds `count` messages. Those that came before a failure
/// stay. Messages that are held take slots. Other receiving calls are CSHM_BUSY until cshm_window_close().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_window_wait_for(
    transport: *mut cshm_transport,
    count: usize,
    timeout_ns: i64,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let (rx, _waits) = unsafe { cshm_transport::rx_for(transport, timeout_ns) }?;
        if rx.window.is_none() {
            rx.window = Some(rx.idle()?.window());
        }
        let Some(window) = &mut rx.window else { return Ok(()) };
        Ok(match timeout_ns {
            CSHM_NOW => window.try_wait_for(count),
            time if time < 0 => window.wait_for(count),
            time => window.wait_for_timeout(count, wait(time)),
        }?)
    })
}

/// Messages that the window holds; 0 if none is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_window_len(transport: *mut cshm_transport) -> usize {
    guarded_value(0, || {
        // SAFETY: the header's contract.
        let rx = unsafe { cshm_transport::rx(transport) }?;
        Ok(rx.window.as_ref().map_or(0, |window| window.len()))
    })
}

/// A message that the window holds, counted from the oldest, which is 0. It stays until it is released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_window_get(
    transport: *mut cshm_transport,
    index: usize,
    out: *mut cshm_read_slot,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let rx = unsafe { cshm_transport::rx(transport) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let window = rx.open_window()?;
        let len = window.len();
        let message = window.get(index).ok_or_else(|| {
            let what = format_args!("the window holds {len} messages, there is no number {index}");
            Failed::detailed(CSHM_INVALID_ARGUMENT, what)
        })?;
        out.write(cshm_read_slot::of(message));
        Ok(())
    })
}

/// Gives the `count` oldest messages of the window back to the peer, all if there are no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_window_release(transport: *mut cshm_transport, count: usize) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let rx = unsafe { cshm_transport::rx(transport) }?;
        rx.open_window()?.release(count);
        Ok(())
    })
}

/// Gives all messages of the window back, and ends it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_window_close(transport: *mut cshm_transport) -> cshm_status {
    let status = guarded(|| {
        // SAFETY: the header's contract.
        let rx = unsafe { cshm_transport::rx(transport) }?;
        rx.open_window()?;
        rx.window = None;
        Ok(())
    });
    // SAFETY: the header's contract.
    unsafe { left::ended(transport, left::WINDOW, status) }
}

impl Rx {
    fn open_window(&mut self) -> Outcome<&mut transport::Window<'static>> {
        if self.window.is_none() {
            return Err(self.nothing("no window is open"));
        }
        self.window.as_mut().ok_or_else(|| Failed::null("window"))
    }
}
