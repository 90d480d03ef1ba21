//! Many clients: each gets a channel of its own.

use std::ffi::{c_char, c_int, c_void};

use std::ptr::addr_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use transport::{Limits, MessageKind, Server, Transport};

use crate::arguments::{CSHM_NOW, output, text, wait};
use crate::config::{chosen, cshm_config};
use crate::failure::{Failed, Outcome, guarded, guarded_value};
use crate::fork::Process;
use crate::halves::busy;
use crate::handle::cshm_transport;
use crate::lifecycle::give;
use crate::look::cshm_peer;
use crate::status::cshm_status;

/// Gives each client that connects a channel of its own, of which it is side A. One thread at a time may use a server.
pub struct cshm_server {
    server: Server<Transport>,
    sends: MessageKind,
    limits: Limits,
    home: Process,
    /// Whether the filter's callback is at work.
    filters: Arc<AtomicBool>,
}

impl cshm_server {
    /// # Safety
    ///
    /// `server` is null or a live server, and nobody else uses it meanwhile.
    unsafe fn of<'a>(server: *mut Self) -> Outcome<&'a mut Self> {
        // SAFETY: the caller's promise.
        if unsafe { Self::filters(server) } {
            return Err(busy("a filter's callback must not use its server; return from it first"));
        }
        // SAFETY: the caller's promise.
        let server = unsafe { server.as_mut() }.ok_or_else(|| Failed::null("server"))?;
        server.home.check()?;
        Ok(server)
    }

    /// Whether this is called from the filter's callback.
    ///
    /// # Safety
    ///
    /// As for [`of`](Self::of).
    unsafe fn filters(server: *const Self) -> bool {
        if server.is_null() {
            return false;
        }
        // SAFETY: it is alive, and this is a place within it.
        let filters = unsafe { addr_of!((*server).filters) };
        // SAFETY: the holder of the rest, further up the stack, only reads this place.
        unsafe { &*filters }.load(Ordering::Relaxed)
    }
}

/// Takes the name and listens: clients come by cshm_connect(). Free it with cshm_server_free(). The files of a dead server
/// under the name are reclaimed; CSHM_IN_USE if a live one holds it. Each client's channel is as the configuration says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_bind(
    name: *const c_char,
    config: *const cshm_config,
    out: *mut *mut cshm_server,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let name = unsafe { text("name", name) }?;
        // SAFETY: the header's contract.
        let (config, sends) = unsafe { chosen(config) };
        let server = Server::bind(name, &config)?;
        let (limits, home, filters) = (Limits::default(), Process::this(), Arc::default());
        out.write(Box::into_raw(Box::new(cshm_server { server, sends, limits, home, filters })));
        Ok(())
    })
}

/// Frees the name, and the server. The channels of its clients stay as they are. NULL is nothing, and so is a server whose
/// filter's callback calls this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_free(server: *mut cshm_server) {
    // SAFETY: the header's contract.
    if !server.is_null() && !unsafe { cshm_server::filters(server) } {
        // SAFETY: `cshm_server_bind` made it from a box, and the caller does not use it again.
        drop(unsafe { Box::from_raw(server) });
    }
}

/// The channel of the next client, as soon as a client has joined: a transport to be freed with cshm_free(). CSHM_EMPTY or
/// CSHM_TIMEOUT if none has. After any failure the server goes on: one to make a channel refuses that client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_accept(
    server: *mut cshm_server,
    timeout_ns: i64,
    out: *mut *mut cshm_transport,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let cshm_server { server, sends, .. } = unsafe { cshm_server::of(server) }?;
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        let transport = match timeout_ns {
            CSHM_NOW => server.try_accept(),
            time if time < 0 => server.accept(),
            time => server.accept_timeout(wait(time)),
        }?;
        give(out, transport, *sends);
        Ok(())
    })
}

/// A descriptor that is readable as long as cshm_server_accept() with CSHM_NOW has something to do, for event loops and for
/// cshm_wait_set_insert_fd(). It is the server's: neither read nor close it. CSHM_UNSUPPORTED but on Linux.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_wait_fd(server: *mut cshm_server, fd: *mut c_int) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let server = unsafe { cshm_server::of(server) }?;
        // SAFETY: the header's contract.
        let fd = unsafe { output("fd", fd) }?;
        fd.write(server.wait_fd()?);
        Ok(())
    })
}

/// How many clients have a channel now, those included that have not joined yet; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_clients(server: *mut cshm_server) -> usize {
    // SAFETY: the header's contract.
    guarded_value(0, || Ok(unsafe { cshm_server::of(server) }?.server.clients()))
}

/// Clients at once, 1000 by default. Further ones wait, as long as they want. Each takes six descriptors of this process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_max_clients(server: *mut cshm_server, clients: usize) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { limit(server, |limits| limits.clients = clients) }
}

/// Bytes of shared memory of all clients together, 4 GiB by default. Further clients wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_max_memory(server: *mut cshm_server, bytes: u64) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { limit(server, |limits| limits.memory = bytes) }
}

/// Clients at once that have connected and have not joined yet, 64 by default; and how long one may take to join, two
/// seconds by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_handshakes(
    server: *mut cshm_server,
    clients: usize,
    time_ns: i64,
) -> cshm_status {
    let change = |limits: &mut Limits| {
        limits.handshakes = clients;
        limits.handshake_time = wait(time_ns);
    };
    // SAFETY: the header's contract.
    unsafe { limit(server, change) }
}

/// # Safety
///
/// As for [`cshm_server::of`].
unsafe fn limit(server: *mut cshm_server, change: impl FnOnce(&mut Limits)) -> cshm_status {
    guarded(|| {
        // SAFETY: the caller's promise.
        let server = unsafe { cshm_server::of(server) }?;
        change(&mut server.limits);
        server.server.limits(server.limits);
        Ok(())
    })
}

/// Says whether a client may connect. In the thread that accepts.
pub type cshm_server_filter_callback =
    Option<unsafe extern "C-unwind" fn(client: *const cshm_peer, context: *mut c_void) -> bool>;

/// Says who may connect, by what the system attests of a client (Linux; else CSHM_UNSUPPORTED). The others get
/// CSHM_REFUSED. Without it everybody may who can reach the server: the same user, unless the configuration's permissions
/// open it to a group. `callback` gets `context` and is called until the server is freed. It must not use the server:
/// CSHM_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_server_filter(
    server: *mut cshm_server,
    callback: cshm_server_filter_callback,
    context: *mut c_void,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let server = unsafe { cshm_server::of(server) }?;
        server.filter(callback, context)
    })
}

#[cfg(target_os = "linux")]
impl cshm_server {
    fn wait_fd(&self) -> Outcome<c_int> {
        use std::os::fd::AsRawFd;
        Ok(self.server.wait_fd().as_raw_fd())
    }

    fn filter(&mut self, callback: cshm_server_filter_callback, context: *mut c_void) -> Outcome {
        /// The pointer that C gives a callback to remember.
        struct Context(*mut c_void);
        // SAFETY: only the thread that accepts calls the callback, and who uses a server in another one promises that the
        // callback may use its context there.
        unsafe impl Send for Context {}
        impl Context {
            /// A method, so that a closure takes the whole, not the pointer alone.
            fn get(&self) -> *mut c_void {
                self.0
            }
        }
        let callback = callback.ok_or_else(|| Failed::null("callback"))?;
        let context = Context(context);
        let filters = Arc::clone(&self.filters);
        self.server.filter(move |peer| {
            let peer = cshm_peer::from(*peer);
            filters.store(true, Ordering::Relaxed);
            // SAFETY: the header's contract: it is a function of this kind.
            let allows = unsafe { callback(&peer, context.get()) };
            filters.store(false, Ordering::Relaxed);
            allows
        });
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
impl cshm_server {
    fn wait_fd(&self) -> Outcome<c_int> {
        let what = "a server has a descriptor on Linux only; call cshm_server_accept now and then";
        Err(Failed::detailed(cshm_status::CSHM_UNSUPPORTED, what))
    }

    fn filter(&mut self, _: cshm_server_filter_callback, _: *mut c_void) -> Outcome {
        Err(Failed::detailed(cshm_status::CSHM_UNSUPPORTED, "this system attests nothing of a client"))
    }
}
