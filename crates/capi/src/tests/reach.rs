//! Calls that reach beyond one pair: event loops, wait sets, servers, lists and taps.

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::ptr::{null, null_mut};
use std::slice;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::calls::{Handle, LONG, NO_SLOT, Settings, call, last_error, name, pair, recv, send, small};
use crate::arguments::{CSHM_FOREVER, CSHM_NOW};
use crate::config::*;
use crate::failure::cshm_last_os_error;
use crate::inspect::*;
use crate::lifecycle::*;
use crate::look::*;
use crate::ready::*;
use crate::receive::*;
use crate::send::*;
use crate::server::*;
use crate::status::cshm_status;
use crate::status::cshm_status::*;
use crate::tap::*;
use crate::wait_set::*;

/// A handle of this interface that is freed with it.
pub struct Owned<T>(pub *mut T, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    pub fn made(free: unsafe extern "C" fn(*mut T), make: impl FnOnce(*mut *mut T) -> cshm_status) -> Self {
        let mut made = null_mut();
        assert_eq!(make(&mut made), CSHM_OK, "{}", last_error());
        Self(made, free)
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: it is from this library, and dropped once.
        unsafe { (self.1)(self.0) };
    }
}

/// Whether the descriptor is readable now, or becomes so.
pub fn readable(fd: c_int, wait: bool) -> bool {
    // SAFETY: its transport lives.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let found = poll(&mut [PollFd::new(&fd, PollFlags::IN)], (!wait).then_some(&now)).unwrap();
    found == 1
}

fn descriptor(
    of: unsafe extern "C" fn(*mut crate::handle::cshm_transport, *mut c_int) -> cshm_status,
    t: &Handle,
) -> c_int {
    let mut fd = -1;
    // SAFETY: the handle lives.
    assert_eq!(unsafe { of(t.0, &mut fd) }, CSHM_OK);
    fd
}

#[test]
fn a_descriptor_tells_of_a_message_of_room_and_of_the_end() {
    let (a, b) = small();
    let (message, room) = (descriptor(cshm_recv_wait_fd, &b), descriptor(cshm_send_wait_fd, &a));
    assert_eq!(descriptor(cshm_recv_wait_fd, &b), message, "one for each half");
    let mut armed = false;
    assert_eq!((call!(cshm_recv_arm(b.0, &mut armed)), armed), (CSHM_OK, true));
    assert!(!readable(message, false));
    assert_eq!(send(&a, b"hello"), CSHM_OK);
    assert!(readable(message, true));
    assert_eq!((call!(cshm_recv_arm(b.0, &mut armed)), armed), (CSHM_OK, false), "receive first");
    assert_eq!(recv(&b), Ok(b"hello".to_vec()));

    assert_eq!((call!(cshm_send_arm(a.0, &mut armed)), armed), (CSHM_OK, false), "there is room");
    while send(&a, b"x") == CSHM_OK {}
    assert_eq!((call!(cshm_send_arm(a.0, &mut armed)), armed), (CSHM_OK, true));
    assert!(!readable(room, false));
    assert_eq!(recv(&b), Ok(b"x".to_vec()));
    assert!(readable(room, true));

    // A span and a part ask for more than a slot.
    assert_eq!((call!(cshm_send_arm_span(a.0, 33, &mut armed)), armed), (CSHM_OK, false), "it never fits");
    assert_eq!((call!(cshm_send_arm_span(a.0, 16, &mut armed)), armed), (CSHM_OK, true));
    while recv(&b).is_ok() {}
    assert!(readable(room, true));
    assert_eq!((call!(cshm_send_arm_part(a.0, 100, &mut armed)), armed), (CSHM_OK, false));

    assert_eq!((call!(cshm_recv_arm(b.0, &mut armed)), armed), (CSHM_OK, true));
    assert_eq!(call!(cshm_close(a.0)), CSHM_OK);
    assert!(readable(message, true));
    assert_eq!(call!(cshm_recv_arm(b.0, &mut armed)), CSHM_CLOSED);
    assert_eq!(call!(cshm_send_arm(b.0, &mut armed)), CSHM_CLOSED);

    // Misuse.
    let (c, d) = small();
    assert_eq!(call!(cshm_recv_wait_fd(c.0, null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_recv_wait_fd(null_mut(), &mut 0)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_send_arm(null_mut(), &mut armed)), CSHM_NULL_ARGUMENT);
    let mut slot = NO_SLOT;
    assert_eq!(call!(cshm_reserve(c.0, CSHM_NOW, &mut slot)), CSHM_OK);
    assert_eq!(call!(cshm_send_arm(c.0, &mut armed)), CSHM_BUSY);
    assert_eq!(call!(cshm_send_wait_fd(c.0, &mut 0)), CSHM_BUSY);
    assert_eq!(call!(cshm_commit(c.0, 1)), CSHM_OK);
    let mut open = super::calls::NO_MESSAGE;
    assert_eq!(call!(cshm_recv(d.0, CSHM_NOW, &mut open)), CSHM_OK);
    assert_eq!(call!(cshm_recv_arm(d.0, &mut armed)), CSHM_BUSY);
}

#[test]
fn what_is_larger_than_the_ring_goes_in_parts() {
    let (a, b) = pair(&Settings::new(8, 16));
    let sent: Vec<u8> = (0..1000_u32).map(|at| (at * 7) as u8).collect();
    let (mut left, mut received) = (&sent[..], Vec::new());
    while !left.is_empty() {
        let mut slot = NO_SLOT;
        match call!(cshm_reserve_part(a.0, left.len(), CSHM_NOW, &mut slot)) {
            CSHM_OK => {
                assert!((1..=32).contains(&slot.capacity), "at most a quarter of the ring");
                let now = slot.capacity.min(left.len());
                // SAFETY: so many bytes are reserved.
                unsafe { slot.data.copy_from(left.as_ptr(), now) };
                assert_eq!(call!(cshm_commit(a.0, now)), CSHM_OK);
                left = &left[now..];
            }
            status => {
                assert_eq!(status, CSHM_FULL);
                received.append(&mut recv(&b).unwrap());
            }
        }
    }
    while let Ok(mut part) = recv(&b) {
        received.append(&mut part);
    }
    assert_eq!(received, sent);
}

#[test]
fn a_side_that_shuts_down_goes_on_to_receive() {
    let (a, b) = small();
    assert_eq!(send(&a, b"last"), CSHM_OK);
    assert_eq!((call!(cshm_shut_down(a.0)), call!(cshm_shut_down(a.0))), (CSHM_OK, CSHM_OK));
    assert_eq!(send(&a, b"more"), CSHM_CLOSED);
    assert_eq!(recv(&b), Ok(b"last".to_vec()));
    assert_eq!(recv(&b), Err(CSHM_CLOSED));
    assert_eq!(send(&b, b"answer"), CSHM_OK);
    assert_eq!(recv(&a), Ok(b"answer".to_vec()));
}

/// Sorted keys, or why there are none.
fn ready(set: &Owned<cshm_wait_set>, timeout: i64) -> Result<Vec<u64>, cshm_status> {
    let (mut keys, mut count) = (null(), 0);
    match call!(cshm_wait_set_wait(set.0, timeout, &mut keys, &mut count)) {
        CSHM_OK => {
            // SAFETY: they stay until the next call.
            let mut keys = unsafe { slice::from_raw_parts(keys, count) }.to_vec();
            keys.sort_unstable();
            Ok(keys)
        }
        status => Err(status),
    }
}

#[test]
fn one_thread_waits_for_many() {
    let set = Owned::made(cshm_wait_set_free, |out| call!(cshm_wait_set_new(out)));
    let ((a, b), (c, d)) = (small(), small());
    assert_eq!(call!(cshm_wait_set_insert(set.0, 1, b.0)), CSHM_OK);
    assert_eq!(call!(cshm_wait_set_insert(set.0, 2, d.0)), CSHM_OK);
    assert_eq!(call!(cshm_wait_set_len(set.0)), 2);
    assert_eq!((ready(&set, CSHM_NOW), ready(&set, 1)), (Err(CSHM_EMPTY), Err(CSHM_TIMEOUT)));
    assert_eq!((send(&a, b"x"), send(&c, b"y")), (CSHM_OK, CSHM_OK));
    assert_eq!(ready(&set, CSHM_FOREVER), Ok(vec![1, 2]));
    assert_eq!(recv(&b), Ok(b"x".to_vec()));
    assert_eq!(ready(&set, CSHM_FOREVER), Ok(vec![2]), "as long as there is something");
    assert_eq!(recv(&d), Ok(b"y".to_vec()));
    assert_eq!(ready(&set, CSHM_NOW), Err(CSHM_EMPTY));
    let thread = thread::spawn(move || {
        assert_eq!(send(&a, b"z"), CSHM_OK);
        a
    });
    assert_eq!(ready(&set, CSHM_FOREVER), Ok(vec![1]));
    assert_eq!(recv(&b), Ok(b"z".to_vec()));
    drop(thread.join().unwrap());
    assert_eq!(ready(&set, CSHM_FOREVER), Ok(vec![1]), "its peer is gone");

    // Misuse.
    let (mut keys, mut count) = (null(), 0);
    assert_eq!(call!(cshm_wait_set_new(null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_wait_set_insert(null_mut(), 3, d.0)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_wait_set_insert(set.0, 3, null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_wait_set_wait(set.0, 0, null_mut(), &mut count)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_wait_set_wait(null_mut(), 0, &mut keys, &mut count)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_wait_set_remove(null_mut(), 1)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_wait_set_len(null_mut())), 0);
    call!(cshm_wait_set_free(null_mut()));
    assert_eq!(call!(cshm_wait_set_insert(set.0, 2, c.0)), CSHM_KEY_TAKEN);
    assert_eq!(last_error(), "the key 2 is in the wait set already; remove it or take another");
    assert_eq!(call!(cshm_wait_set_insert(set.0, 3, d.0)), CSHM_BUSY);
    assert_eq!(last_error(), "the transport is in the wait set already, under another key");
    assert_eq!(call!(cshm_wait_set_remove(set.0, 3)), CSHM_KEY_UNKNOWN);
    assert_eq!(last_error(), "nothing in the wait set has the key 3");
    assert_eq!(call!(cshm_wait_set_insert_fd(set.0, 3, -1)), CSHM_INVALID_ARGUMENT);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let regular = std::os::fd::AsRawFd::as_raw_fd(&file);
    assert_eq!(call!(cshm_wait_set_insert_fd(set.0, 3, regular)), CSHM_SYSTEM, "always readable");
    // A closed one is forgotten, and its key stays until it is removed.
    assert_eq!(call!(cshm_close(d.0)), CSHM_OK);
    assert_eq!(call!(cshm_wait_set_insert(set.0, 3, d.0)), CSHM_HANDLE_CLOSED);
    assert_eq!(ready(&set, CSHM_FOREVER), Ok(vec![1]));
    assert_eq!(
        (call!(cshm_wait_set_len(set.0)), call!(cshm_wait_set_insert(set.0, 2, c.0))),
        (2, CSHM_KEY_TAKEN)
    );
    assert_eq!(
        (call!(cshm_wait_set_remove(set.0, 2)), call!(cshm_wait_set_remove(set.0, 1))),
        (CSHM_OK, CSHM_OK)
    );
    assert_eq!(ready(&set, CSHM_NOW), Err(CSHM_EMPTY));
    assert_eq!(ready(&set, CSHM_FOREVER), Err(CSHM_INVALID_ARGUMENT), "it would never end");
    assert_eq!(call!(cshm_wait_set_insert(set.0, 2, c.0)), CSHM_OK);
    assert_eq!(ready(&set, CSHM_FOREVER), Ok(vec![2]), "its peer has closed");
}

struct Seen {
    allows: bool,
    pid: u32,
    server: *mut cshm_server,
}

unsafe extern "C-unwind" fn filter(client: *const cshm_peer, context: *mut c_void) -> bool {
    // SAFETY: the server hands over a client.
    let client = unsafe { *client };
    // SAFETY: the test hands over such a context.
    let seen = unsafe { &mut *context.cast::<Seen>() };
    seen.pid = client.pid;
    // The server is at work, so that it is neither used nor freed.
    assert_eq!(call!(cshm_server_accept(seen.server, CSHM_NOW, &mut null_mut())), CSHM_BUSY);
    assert_eq!(call!(cshm_server_max_clients(seen.server, 1)), CSHM_BUSY);
    call!(cshm_server_free(seen.server));
    seen.allows
}

/// Connects in a thread of its own, and accepts here.
fn joined(server: &Owned<cshm_server>, name: &CStr) -> (Handle, Handle) {
    let client = connects(name, null());
    let mut channel = null_mut();
    assert_eq!(call!(cshm_server_accept(server.0, LONG, &mut channel)), CSHM_OK);
    (Handle(channel), client.join().unwrap().unwrap())
}

fn connects(name: &CStr, config: *const cshm_config) -> thread::JoinHandle<Result<Handle, cshm_status>> {
    let (name, config) = (name.to_owned(), config as usize);
    thread::spawn(move || {
        let mut client = null_mut();
        match call!(cshm_connect(name.as_ptr(), LONG, config as *const cshm_config, &mut client)) {
            CSHM_OK => Ok(Handle(client)),
            status => Err(status),
        }
    })
}

#[test]
fn a_server_gives_each_client_a_channel() {
    let (name, settings) = (name(), Settings::new(8, 4));
    assert_eq!(call!(cshm_config_message_tag(settings.0, c"echo/1".as_ptr())), CSHM_OK);
    let mut channel = null_mut();
    assert_eq!(call!(cshm_connect(name.as_ptr(), CSHM_NOW, null(), &mut channel)), CSHM_TIMEOUT, "no server");
    let bind = |out| call!(cshm_server_bind(name.as_ptr(), settings.0, out));
    let server = Owned::made(cshm_server_free, bind);
    assert_eq!(bind(&mut null_mut()), CSHM_IN_USE);
    assert_eq!(call!(cshm_server_accept(server.0, CSHM_NOW, &mut channel)), CSHM_EMPTY);
    assert_eq!(call!(cshm_server_accept(server.0, 1, &mut channel)), CSHM_TIMEOUT);

    let ((a, b), (c, d)) = (joined(&server, &name), joined(&server, &name));
    assert_eq!((send(&b, b"b"), send(&d, b"d")), (CSHM_OK, CSHM_OK));
    assert_eq!((recv(&a), recv(&c)), (Ok(b"b".to_vec()), Ok(b"d".to_vec())));
    assert_eq!((call!(cshm_slot_size(b.0)), call!(cshm_server_clients(server.0))), (8, 2));
    let mut peer = cshm_peer { pid: 0, uid: 0, gid: 0 };
    for side in [&a, &b] {
        assert_eq!(call!(cshm_get_peer(side.0, &mut peer)), CSHM_OK);
        assert_eq!(peer.pid, std::process::id());
    }
    let (e, _f) = small();
    assert_eq!(call!(cshm_get_peer(e.0, &mut peer)), CSHM_PEER_UNKNOWN, "nobody attests it");

    // A wait set waits for clients to come, too.
    let set = Owned::made(cshm_wait_set_free, |out| call!(cshm_wait_set_new(out)));
    let mut fd = -1;
    assert_eq!(call!(cshm_server_wait_fd(server.0, &mut fd)), CSHM_OK);
    assert_eq!(call!(cshm_wait_set_insert_fd(set.0, 7, fd)), CSHM_OK);
    assert_eq!(call!(cshm_wait_set_insert_fd(set.0, 7, fd)), CSHM_KEY_TAKEN);
    assert_eq!(ready(&set, CSHM_NOW), Err(CSHM_EMPTY));
    let client = connects(&name, null());
    let mut third: *mut crate::handle::cshm_transport = null_mut();
    while third.is_null() {
        assert_eq!(ready(&set, CSHM_FOREVER), Ok(vec![7]));
        assert!(matches!(call!(cshm_server_accept(server.0, CSHM_NOW, &mut third)), CSHM_OK | CSHM_EMPTY));
    }
    let third = (Handle(third), client.join().unwrap().unwrap());

    // Limits, a filter, and what does not fit.
    assert_eq!(call!(cshm_server_max_clients(server.0, 3)), CSHM_OK);
    let full = thread::spawn({
        let name = name.clone();
        move || call!(cshm_connect(name.as_ptr(), 50_000_000, null(), &mut null_mut()))
    });
    while !full.is_finished() {
        assert_eq!(call!(cshm_server_accept(server.0, 1_000_000, &mut channel)), CSHM_TIMEOUT);
    }
    assert_eq!(full.join().unwrap(), CSHM_TIMEOUT);
    assert_eq!(call!(cshm_server_max_clients(server.0, 10)), CSHM_OK);
    assert_eq!(call!(cshm_server_max_memory(server.0, 1 << 30)), CSHM_OK);
    assert_eq!(call!(cshm_server_handshakes(server.0, 8, LONG)), CSHM_OK);
    let refused = |client: thread::JoinHandle<Result<Handle, cshm_status>>| {
        while !client.is_finished() {
            let status = call!(cshm_server_accept(server.0, 1_000_000, &mut null_mut()));
            assert_eq!(status, CSHM_TIMEOUT);
        }
        client.join().unwrap().map(|_| ())
    };
    let other = Settings::new(8, 4);
    assert_eq!(call!(cshm_config_message_tag(other.0, c"echo/2".as_ptr())), CSHM_OK);
    assert_eq!(refused(connects(&name, other.0)), Err(CSHM_TAG_MISMATCH));
    let values = Settings::new(8, 4);
    assert_eq!(call!(cshm_config_sends_values(values.0, 16, 8)), CSHM_OK);
    assert_eq!(refused(connects(&name, values.0)), Err(CSHM_TYPE_MISMATCH));
    let mut seen = Seen { allows: false, pid: 0, server: server.0 };
    let context = (&raw mut seen).cast();
    assert_eq!(call!(cshm_server_filter(server.0, Some(filter), context)), CSHM_OK);
    assert_eq!(refused(connects(&name, null())), Err(CSHM_REFUSED));
    assert_eq!(seen.pid, std::process::id());

    // Its end is not its clients'.
    drop(server);
    assert_eq!(send(&third.1, b"still"), CSHM_OK);
    assert_eq!(recv(&third.0), Ok(b"still".to_vec()));
    drop(b);
    assert_eq!(recv(&a), Err(CSHM_CLOSED));

    // Misuse.
    assert_eq!(call!(cshm_server_bind(null(), null(), &mut null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_server_bind(c"a/b".as_ptr(), null(), &mut null_mut())), CSHM_INVALID_CONFIG);
    assert_eq!(call!(cshm_server_accept(null_mut(), 0, &mut channel)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_server_wait_fd(null_mut(), &mut 0)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_server_max_clients(null_mut(), 1)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_server_clients(null_mut())), 0);
    let bind = |out| call!(cshm_server_bind(name.as_ptr(), null(), out));
    let again = Owned::made(cshm_server_free, bind);
    assert_eq!(call!(cshm_server_filter(again.0, None, null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_server_accept(again.0, 0, null_mut())), CSHM_NULL_ARGUMENT);
    call!(cshm_server_free(null_mut()));
}

/// A part that a struct of a list points to.
pub fn part<T>(part: &*const T) -> &T {
    // SAFETY: the list lives as long as the struct that points to it.
    unsafe { part.as_ref() }.unwrap()
}

/// A channel of a list.
pub fn info_of(list: &Owned<cshm_channels>, index: usize) -> &cshm_channel_info {
    let info = call!(cshm_channels_get(list.0, index));
    // SAFETY: the list lives, and says so of null.
    unsafe { info.as_ref() }.unwrap()
}

fn text(text: *const std::ffi::c_char) -> String {
    // SAFETY: it belongs to a list that lives.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
}

#[test]
fn channels_are_looked_at_from_outside() {
    let (name, settings) = (name(), Settings::new(16, 4));
    assert_eq!(call!(cshm_config_sends_values(settings.0, 16, 8)), CSHM_OK);
    assert_eq!(call!(cshm_config_receives_capnp(settings.0, 0xabcd)), CSHM_OK);
    assert_eq!(call!(cshm_config_message_tag(settings.0, c"ticks/1".as_ptr())), CSHM_OK);
    assert_eq!(call!(cshm_config_poll(settings.0, 5000)), CSHM_OK);
    let of = |out| call!(cshm_channels_of(name.as_ptr(), null(), out));
    assert_eq!(of(&mut null_mut()), CSHM_TIMEOUT);
    let mut a = null_mut();
    assert_eq!(call!(cshm_create(name.as_ptr(), settings.0, &mut a)), CSHM_OK);
    let a = Handle(a);
    assert_eq!(send(&a, &[7; 16]), CSHM_OK);

    let one = Owned::made(cshm_channels_free, of);
    assert_eq!(call!(cshm_channels_len(one.0)), 1);
    assert!(call!(cshm_channels_get(one.0, 1)).is_null());
    let info = info_of(&one, 0);
    assert_eq!((text(info.name), text(info.tag)), (name.to_str().unwrap().to_owned(), "ticks/1".to_owned()));
    assert!(std::path::Path::new(&text(info.directory)).is_dir());
    assert!(info.generation != 0 && info.created_ns > 1_600_000_000_000_000_000);
    assert!(info.problem == CSHM_OK && info.problem_text.is_null() && !info.is_leftover);
    let (side_a, side_b) = (part(&info.a), part(&info.b));
    assert_eq!(
        (side_a.life, side_a.pid, side_a.poll),
        (cshm_life::CSHM_LIFE_ALIVE, std::process::id(), 5000)
    );
    assert_eq!((side_b.life, side_b.pid), (cshm_life::CSHM_LIFE_ABSENT, 0));
    let (there, back) = (part(&info.a_to_b), part(&info.b_to_a));
    assert_eq!(
        (there.kind, there.value_size, there.value_align),
        (cshm_message_kind::CSHM_KIND_VALUES, 16, 8)
    );
    assert_eq!((back.kind, back.type_id), (cshm_message_kind::CSHM_KIND_CAPNP, 0xabcd));
    assert_eq!((there.stats.messages, there.stats.bytes, back.stats.messages), (1, 16, 0));

    let all = Owned::made(cshm_channels_free, |out| call!(cshm_channels_list(null(), out)));
    let names = (0..call!(cshm_channels_len(all.0))).map(|at| text(info_of(&all, at).name));
    assert!(names.into_iter().any(|other| other.as_bytes() == name.as_bytes()));
    drop(a);
    assert_eq!(of(&mut null_mut()), CSHM_TIMEOUT, "it is gone");
    // A list does not change afterwards.
    assert_eq!(text(info.tag), "ticks/1");

    // A file that is no channel is listed with its problem.
    let directory = std::env::temp_dir().join(format!("capi-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("odd.fs.a2b"), "no segment").unwrap();
    let elsewhere = Settings::new(8, 4);
    let path = std::ffi::CString::new(directory.to_str().unwrap()).unwrap();
    assert_eq!(call!(cshm_config_directory(elsewhere.0, path.as_ptr())), CSHM_OK);
    let odd = Owned::made(cshm_channels_free, |out| call!(cshm_channels_list(elsewhere.0, out)));
    assert_eq!(call!(cshm_channels_len(odd.0)), 1);
    let info = info_of(&odd, 0);
    assert_eq!((text(info.name).as_str(), info.problem), ("odd", CSHM_FOREIGN_SEGMENT));
    assert!(text(info.problem_text).contains("odd.fs.a2b") && info.tag.is_null() && info.a_to_b.is_null());
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(call!(cshm_channels_list(elsewhere.0, &mut null_mut())), CSHM_SYSTEM);
    assert_eq!(cshm_last_os_error(), 2, "ENOENT: {}", last_error());

    // Misuse.
    assert_eq!(call!(cshm_channels_list(null(), null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_channels_of(null(), null(), &mut null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_channels_len(null())), 0);
    assert!(call!(cshm_channels_get(null(), 0)).is_null());
    call!(cshm_channels_free(null_mut()));
    assert_eq!(call!(cshm_config_permissions(elsewhere.0, 0o10_000)), CSHM_OK);
    assert_eq!(call!(cshm_channels_list(elsewhere.0, &mut null_mut())), CSHM_INVALID_CONFIG);
}

#[test]
fn a_tap_reads_in_passing() {
    let (name, settings) = (name(), Settings::new(8, 4));
    let mut none = null_mut();
    assert_eq!(call!(cshm_tap_open(name.as_ptr(), null(), &mut none)), CSHM_TIMEOUT);
    let (mut a, mut b) = (null_mut(), null_mut());
    assert_eq!(call!(cshm_create(name.as_ptr(), settings.0, &mut a)), CSHM_OK);
    assert_eq!(call!(cshm_open(name.as_ptr(), LONG, null(), &mut b)), CSHM_OK);
    let (a, b) = (Handle(a), Handle(b));
    let tap = Owned::made(cshm_tap_free, |out| call!(cshm_tap_open(name.as_ptr(), null(), out)));
    let next = |timeout| {
        let mut out = cshm_tapped { data: null(), len: 0, sequence: 0, missed: 0, from_b: false };
        match call!(cshm_tap_next(tap.0, timeout, &mut out)) {
            CSHM_OK => {
                // SAFETY: it stays until the next call.
                let message = unsafe { slice::from_raw_parts(out.data, out.len) }.to_vec();
                Ok((message, out.sequence, out.missed, out.from_b))
            }
            status => Err(status),
        }
    };
    assert_eq!((next(CSHM_NOW), next(1)), (Err(CSHM_EMPTY), Err(CSHM_TIMEOUT)));
    assert_eq!((send(&a, b"question"), recv(&b)), (CSHM_OK, Ok(b"question".to_vec())));
    assert_eq!(send(&b, b"answer"), CSHM_OK);
    assert_eq!(next(CSHM_FOREVER), Ok((b"question".to_vec(), 0, 0, false)));
    assert_eq!(next(LONG), Ok((b"answer".to_vec(), 0, 0, true)));
    for _ in 0..9 {
        assert_eq!((send(&a, b"x"), recv(&b)), (CSHM_OK, Ok(b"x".to_vec())));
    }
    let (_, sequence, missed, _) = next(CSHM_FOREVER).unwrap();
    assert!(missed > 0 && sequence == 1 + missed, "it fell behind");
    assert_eq!(call!(cshm_tap_missed(tap.0)), missed);
    drop((a, b));
    while next(CSHM_NOW).is_ok() {}
    assert_eq!(next(CSHM_FOREVER), Err(CSHM_CLOSED));

    // Misuse.
    assert_eq!(call!(cshm_tap_open(null(), null(), &mut none)), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_tap_open(name.as_ptr(), null(), null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_tap_next(tap.0, CSHM_NOW, null_mut())), CSHM_NULL_ARGUMENT);
    assert_eq!(call!(cshm_tap_missed(null_mut())), 0);
    call!(cshm_tap_free(null_mut()));
}
