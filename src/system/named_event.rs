//! Events on Windows: kernel objects with a name, which are gone when nobody has them open any more.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, GetLastError, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACL, ACL_REVISION, AddAccessAllowedAce, GetTokenInformation, InitializeAcl,
    InitializeSecurityDescriptor, SECURITY_ATTRIBUTES, SECURITY_DESCRIPTOR, SECURITY_MAX_SID_SIZE,
    SetSecurityDescriptorDacl, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::SystemServices::SECURITY_DESCRIPTOR_REVISION;
use windows_sys::Win32::System::Threading::{
    CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, CreateEventW, CreateWaitableTimerExW, EVENT_ALL_ACCESS,
    EVENT_MODIFY_STATE, GetCurrentProcess, INFINITE, OpenEventW, OpenProcessToken, ResetEvent, SetEvent,
    SetWaitableTimer, TIMER_ALL_ACCESS, WaitForMultipleObjects, WaitForSingleObject,
};

use super::Event;
use crate::error::FileError;

/// A manual-reset event: it stays set until it is cleared, for all waiters.
#[derive(Debug)]
pub(crate) struct NamedEvent(OwnedHandle);

impl NamedEvent {
    /// Makes an event that only this process's user may open. `None` for one without a name.
    fn make(name: Option<&[u16]>) -> io::Result<Self> {
        let name = name.map_or(ptr::null(), <[u16]>::as_ptr);
        let (handle, existed) = for_this_user(|attributes| {
            // SAFETY: attributes and name, which ends with zero if there is one, live through the call.
            let handle = unsafe { CreateEventW(attributes, 1, 0, name) };
            // SAFETY: takes no argument.
            (handle, unsafe { GetLastError() } == ERROR_ALREADY_EXISTS)
        })?;
        // SAFETY: the call above has returned it.
        let event = unsafe { opened(handle) }?;
        // An event that existed is somebody else's.
        if existed { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(Self(event)) }
    }
}

/// A handle from a call, which the caller closes, or the error.
///
/// # Safety
///
/// A call has just returned the handle, null if it failed, and nobody else closes it.
unsafe fn opened(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as the caller says.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// The clock of the system's waits ticks so seldom. That of its timers does not.
const TICK: Duration = Duration::from_millis(16);

/// A timer that runs for so long, from now on.
fn timer(time: Duration) -> io::Result<OwnedHandle> {
    // SAFETY: a timer without a name and without attributes.
    let timer = unsafe {
        CreateWaitableTimerExW(
            ptr::null(),
            ptr::null(),
            CREATE_WAITABLE_TIMER_HIGH_RESOLUTION,
            TIMER_ALL_ACCESS,
        )
    };
    // SAFETY: the call above has returned it.
    let timer = unsafe { opened(timer) }?;
    // In units of 100 ns; below zero is from now on.
    let due = -i64::try_from(time.as_nanos().div_ceil(100)).unwrap_or(i64::MAX);
    // SAFETY: the handle is open, and `due` lives through the call, which is given nothing to call back.
    done(unsafe { SetWaitableTimer(timer.as_raw_handle(), &raw const due, 0, None, ptr::null(), 0) })?;
    Ok(timer)
}

impl Event for NamedEvent {
    fn new() -> io::Result<Self> {
        Self::make(None)
    }

    fn named(path: &Path, _mode: u32) -> io::Result<Self> {
        Self::make(Some(&object_name(path)))
    }

    fn take(path: &Path, _mode: u32) -> Result<Self, FileError> {
        let name = object_name(path);
        // SAFETY: the name ends with zero and lives through the call.
        let handle = unsafe { OpenEventW(EVENT_MODIFY_STATE, 0, name.as_ptr()) };
        // SAFETY: the call above has returned it.
        Ok(Self(unsafe { opened(handle) }?))
    }

    /// A name is gone with its last handle.
    fn remove(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn notify(&self) {
        // SAFETY: the handle is open. It refers to an event, so this cannot fail.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    fn clear(&self) {
        // SAFETY: as above.
        unsafe { ResetEvent(self.0.as_raw_handle()) };
    }

    fn wait(&self, time: Duration) -> bool {
        let event = self.0.as_raw_handle();
        if !time.is_zero() && time < TICK {
            if let Ok(timer) = timer(time) {
                let either = [event, timer.as_raw_handle()];
                // SAFETY: both handles are open for the call. Of two that are set, the first is told.
                return unsafe { WaitForMultipleObjects(2, either.as_ptr(), 0, INFINITE) == WAIT_OBJECT_0 };
            }
        }
        let milliseconds = u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(INFINITE - 1);
        // SAFETY: the handle is open.
        unsafe { WaitForSingleObject(event, milliseconds) == WAIT_OBJECT_0 }
    }
}

impl AsHandle for NamedEvent {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}

/// The object's name: the file's, which has the channel's generation in it, and so is no other directory's. Files are
/// found from every session of a user, and so is this.
fn object_name(path: &Path) -> Vec<u16> {
    let file = path.file_name().unwrap_or_default();
    "Global\\".encode_utf16().chain(file.encode_wide()).chain([0]).collect()
}

/// Room for an access list of one entry, whose own first four bytes are the identifier's first.
const LIST_BYTES: usize =
    size_of::<ACL>() + size_of::<ACCESS_ALLOWED_ACE>() - size_of::<u32>() + SECURITY_MAX_SID_SIZE as usize;
/// Room for the system's data on a user.
const USER_BYTES: usize = size_of::<TOKEN_USER>() + SECURITY_MAX_SID_SIZE as usize;

/// Calls `make` with attributes that give access to this process's user, and to nobody else.
fn for_this_user<T>(make: impl FnOnce(&SECURITY_ATTRIBUTES) -> T) -> io::Result<T> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the process's own pseudo handle needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: `token` is writable.
    done(unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: the call above has opened it, for its caller to close.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };

    let (mut user, mut written) = ([0u64; USER_BYTES.div_ceil(8)], 0);
    let (place, bytes) = (user.as_mut_ptr().cast::<c_void>(), size_of_val(&user) as u32);
    // SAFETY: so many bytes are writable, aligned for a `TOKEN_USER`; what it points to lies behind it.
    done(unsafe { GetTokenInformation(token.as_raw_handle(), TokenUser, place, bytes, &raw mut written) })?;
    // SAFETY: the call above has filled it.
    let user = unsafe { place.cast::<TOKEN_USER>().read() }.User.Sid;

    let mut list = [0u32; LIST_BYTES.div_ceil(4)];
    let (list, bytes) = (list.as_mut_ptr().cast::<ACL>(), size_of_val(&list) as u32);
    // SAFETY: so many bytes are writable, aligned for an `ACL`.
    done(unsafe { InitializeAcl(list, bytes, ACL_REVISION) })?;
    // SAFETY: a list with room; the identifier lies in the buffer that the system has filled.
    done(unsafe { AddAccessAllowedAce(list, ACL_REVISION, EVENT_ALL_ACCESS, user) })?;

    let mut descriptor = SECURITY_DESCRIPTOR::default();
    let descriptor = (&raw mut descriptor).cast::<c_void>();
    // SAFETY: a descriptor is writable there.
    done(unsafe { InitializeSecurityDescriptor(descriptor, SECURITY_DESCRIPTOR_REVISION) })?;
    // SAFETY: an initialised descriptor, and a whole list that lives as long.
    done(unsafe { SetSecurityDescriptorDacl(descriptor, 1, list, 0) })?;
    Ok(make(&SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor,
        bInheritHandle: 0,
    }))
}

fn done(succeeded: i32) -> io::Result<()> {
    if succeeded == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
