//! Windows: what a side sleeps on, and what it offers to event loops.
#![cfg(windows)]
#![allow(clippy::unwrap_used, clippy::expect_used, unsafe_code, reason = "a test")]

mod common;

use std::os::windows::io::{AsHandle, AsRawHandle};
use std::ptr;
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Channel, Config, RecvError, SendError, Transport};
use common::*;
use windows_sys::Win32::Foundation::{CloseHandle, LocalFree, WAIT_OBJECT_0};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, ConvertSidToStringSidW,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GetKernelObjectSecurity, GetTokenInformation, TOKEN_QUERY, TOKEN_USER,
    TokenUser,
};
use windows_sys::Win32::System::Threading::{
    CreateMutexW, GetCurrentProcess, OpenProcessToken, WaitForMultipleObjects, WaitForSingleObject,
};

#[test]
fn child() {
    play(&[("count", count), ("take", take), ("stay", stay), ("echo", echo)]);
}

fn config() -> Config {
    Config::new().slot_size(16).slot_count(4)
}

/// Any event loop: waits until one of these is set. Returns which.
fn wait_for_any(handles: &[&dyn AsHandle]) -> usize {
    let raw: Vec<_> = handles.iter().map(|handle| handle.as_handle().as_raw_handle()).collect();
    // SAFETY: the handles are open for the call.
    let set = unsafe { WaitForMultipleObjects(raw.len() as u32, raw.as_ptr(), 0, LONG.as_millis() as u32) };
    assert!(set < WAIT_OBJECT_0 + raw.len() as u32, "nothing was set: {set}");
    (set - WAIT_OBJECT_0) as usize
}

/// Sends so many messages, at different paces, then closes.
fn count(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    for index in 0..args[1].parse().unwrap() {
        if index % 10 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
        b.send(&pattern(index, 16)).unwrap();
    }
    b.finish(LONG).unwrap();
}

#[test]
fn one_loop_waits_for_messages_of_two_channels() {
    const MESSAGES: usize = 300;
    let names = [named("loop"), named("loop")];
    let mut channels = names.each_ref().map(|name| Transport::create(name, &config()).unwrap());
    let peers = names.each_ref().map(|name| spawn("count", &[name, &MESSAGES.to_string()]));
    let (mut received, mut open) = ([0; 2], 2);
    while open > 0 {
        let mut asleep = Vec::new();
        for (channel, received) in channels.iter_mut().zip(&mut received) {
            let (_, rx) = channel.halves();
            let closed = loop {
                match rx.try_recv().map(|message| message.to_vec()) {
                    Ok(message) => {
                        assert_eq!(message, pattern(*received, 16));
                        *received += 1;
                    }
                    Err(RecvError::Empty) if matches!(rx.arm(), Ok(true)) => break false,
                    Err(RecvError::Empty) => {}
                    Err(RecvError::Closed) => break true,
                    Err(error) => panic!("{error}"),
                }
            };
            if !closed {
                asleep.push(rx.wait_handle().unwrap());
            }
        }
        open = asleep.len();
        if open > 0 {
            wait_for_any(&asleep.iter().map(|handle| handle as &dyn AsHandle).collect::<Vec<_>>());
        }
    }
    assert_eq!(received, [MESSAGES; 2]);
    peers.into_iter().for_each(Peer::join);
    drop(channels);
    assert!(names.iter().all(Name::is_free));
}

/// Receives so many messages, slowly.
fn take(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    for index in 0..args[1].parse().unwrap() {
        thread::sleep(Duration::from_millis(1));
        assert_eq!(&*b.recv().unwrap(), pattern(index, 16));
    }
}

#[test]
fn a_loop_waits_for_room() {
    let name = named("room");
    let mut a = Transport::create(&name, &config()).unwrap();
    let peer = spawn("take", &[&name, "50"]);
    let (tx, _) = a.halves();
    for index in 0..50 {
        loop {
            match tx.try_send(&pattern(index, 16)) {
                Ok(()) => break,
                Err(SendError::Full) if tx.arm().unwrap() => {
                    wait_for_any(&[&tx.wait_handle().unwrap()]);
                }
                Err(SendError::Full) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    peer.join();
}

fn stay(args: &[String]) {
    let _b = Channel::<u64>::open(&args[0], LONG).unwrap();
    say("there");
    hold();
}

#[test]
fn a_death_sets_the_handle() {
    let name = named("dies");
    let mut a = Channel::<u64>::create(&name, &Config::new()).unwrap();
    let mut peer = spawn("stay", &[&name]);
    peer.wait_for("there");
    let (_, rx) = a.halves();
    assert!(rx.arm().unwrap());
    peer.kill();
    wait_for_any(&[&rx.wait_handle().unwrap()]);
    eventually("the death is known", || match rx.arm() {
        Err(RecvError::PeerDead) => true,
        Ok(_) => false,
        Err(error) => panic!("{error}"),
    });
}

/// Sends back what comes.
fn echo(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    let (tx, rx) = b.halves();
    while let Ok(message) = rx.recv() {
        tx.send(&message).unwrap();
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// A string that the system has made.
fn made(text: *mut u16) -> String {
    let is_end = |at| {
        // SAFETY: the system ends it with zero, and nobody looks behind that.
        let unit = unsafe { text.add(at) };
        // SAFETY: as above.
        unsafe { *unit == 0 }
    };
    let length = (0..).find(|&at| is_end(at)).unwrap();
    // SAFETY: so many units come before the zero.
    let units = unsafe { std::slice::from_raw_parts(text, length) }.to_vec();
    // SAFETY: made by the call before, for its caller to free.
    unsafe { LocalFree(text.cast()) };
    String::from_utf16(&units).unwrap()
}

/// The identifier of this process's user.
fn this_user() -> String {
    let (mut token, mut user, mut bytes, mut text) = (ptr::null_mut(), [0u64; 16], 0, ptr::null_mut());
    // SAFETY: the process's own pseudo handle needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: `token` is writable.
    assert_ne!(unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) }, 0);
    let (place, size) = (user.as_mut_ptr().cast(), size_of_val(&user) as u32);
    // SAFETY: so many bytes are writable.
    assert_ne!(unsafe { GetTokenInformation(token, TokenUser, place, size, &raw mut bytes) }, 0);
    // SAFETY: filled by the call above.
    let user_sid = unsafe { place.cast::<TOKEN_USER>().read() }.User.Sid;
    // SAFETY: it points into the same buffer, and `text` is writable.
    assert_ne!(unsafe { ConvertSidToStringSidW(user_sid, &raw mut text) }, 0);
    // SAFETY: opened above.
    unsafe { CloseHandle(token) };
    made(text)
}

#[test]
fn only_this_user_may_open_the_event() {
    let name = named("owner");
    let a = Transport::create(&name, &config()).unwrap();
    let (_, rx) = a.split();
    let handle = rx.wait_handle().unwrap();
    let (mut found, mut bytes, mut text) = ([0u64; 64], 0, ptr::null_mut());
    let (place, size) = (found.as_mut_ptr().cast(), size_of_val(&found) as u32);
    let raw = handle.as_raw_handle();
    // SAFETY: so many bytes are writable, and the handle is open.
    let asked =
        unsafe { GetKernelObjectSecurity(raw, DACL_SECURITY_INFORMATION, place, size, &raw mut bytes) };
    assert_ne!(asked, 0);
    // SAFETY: a descriptor that the system has just written.
    let converted = unsafe {
        ConvertSecurityDescriptorToStringSecurityDescriptorW(
            place,
            1,
            DACL_SECURITY_INFORMATION,
            &raw mut text,
            ptr::null_mut(),
        )
    };
    assert_ne!(converted, 0);
    let list = made(text);
    assert_eq!(list.matches('(').count(), 1, "one entry: {list}");
    assert!(list.contains("(A;;0x1f0003;;;") && list.contains(&this_user()), "{list}, not {}", this_user());
}

/// The names of side A's events, as `docs/layout.md` has them.
fn events_of_a(name: &Name) -> [String; 2] {
    let header = std::fs::read(name.a2b()).unwrap();
    let generation = u64::from_ne_bytes(header[24..32].try_into().unwrap());
    ["message", "room"].map(|half| format!("Global\\{}.fs.{generation:016x}.a.{half}", &**name))
}

#[test]
fn a_name_that_something_else_has_costs_time_and_nothing_else() {
    let name = named("taken");
    let mut a = Transport::create(&name, &config()).unwrap();
    let taken = events_of_a(&name).map(|event| {
        // SAFETY: the name ends with zero and lives through the call.
        let mutex = unsafe { CreateMutexW(ptr::null(), 0, wide(&event).as_ptr()) };
        assert!(!mutex.is_null());
        mutex
    });
    let peer = spawn("echo", &[&name]);
    let (tx, rx) = a.halves();
    for round in 0..50 {
        tx.send(&pattern(round, 16)).unwrap();
        assert_eq!(&*rx.recv().unwrap(), pattern(round, 16), "parked");
        tx.send(&pattern(round, 16)).unwrap();
        while rx.arm().unwrap() {
            let handle = rx.wait_handle().unwrap();
            // SAFETY: the handle is open.
            assert_eq!(
                unsafe { WaitForSingleObject(handle.as_raw_handle(), LONG.as_millis() as u32) },
                WAIT_OBJECT_0
            );
        }
        assert_eq!(&*rx.recv().unwrap(), pattern(round, 16), "in an event loop");
    }
    drop(a);
    peer.join();
    // SAFETY: opened above, and closed once.
    taken.into_iter().for_each(|mutex| assert_ne!(unsafe { CloseHandle(mutex) }, 0));
}

/// A parked side says that it sleeps on its event: no clock wakes it but the one by which it asks after its peer.
#[test]
fn a_parked_side_sleeps_on_its_event() {
    let name = named("asleep");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let parked = || u32::from_ne_bytes(std::fs::read(name.a2b()).unwrap()[768..772].try_into().unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| b.recv().map(|message| message.to_vec()));
        eventually("it sleeps", || parked() == 2);
        // It may be awake again when this finds it.
        eventually("a message wakes it", || {
            let before = a.stats().tx.wakes;
            let _ = a.try_send(b"hello");
            a.stats().tx.wakes > before || waiting.is_finished()
        });
        assert_eq!(waiting.join().unwrap().unwrap(), b"hello");
    });
    assert_eq!(parked(), 0);
}
