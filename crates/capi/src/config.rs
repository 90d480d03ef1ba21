//! The choices of a program.

use std::ffi::c_char;
use std::time::Duration;

use transport::{Config, MessageKind, PollMode};

use crate::arguments::text;
use crate::failure::{Failed, Outcome, guarded, guarded_value};
use crate::status::cshm_status;

/// How a channel is made and how this side of it behaves. NULL in its place stands for the defaults: 1024 slots of
/// 1024 bytes in each direction, bytes of any length, parked waits, permissions 0600.
pub struct cshm_config {
    pub(crate) config: Config,
    pub(crate) sends: MessageKind,
}

/// A poll mode: this, or nanoseconds between two looks, or CSHM_PARK.
pub const CSHM_SPIN: i64 = 0;
/// Spin for as long as a sleep and a wake cost, then sleep in the kernel until the other side acts.
pub const CSHM_PARK: i64 = -1;

pub(crate) fn poll_mode(mode: i64) -> PollMode {
    match mode {
        CSHM_SPIN => PollMode::Spin,
        ns if ns > 0 => PollMode::Interval(Duration::from_nanos(ns.unsigned_abs())),
        _ => PollMode::Park,
    }
}

pub(crate) fn poll_number(mode: PollMode) -> i64 {
    match mode {
        PollMode::Spin => CSHM_SPIN,
        PollMode::Interval(time) => i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
        _ => CSHM_PARK,
    }
}

/// A configuration with the defaults; free it with cshm_config_free(). NULL if there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_config_new() -> *mut cshm_config {
    guarded_value(std::ptr::null_mut(), || {
        let config = cshm_config { config: Config::new(), sends: MessageKind::Bytes };
        Ok(Box::into_raw(Box::new(config)))
    })
}

/// Frees a configuration. Channels that were made with it stay as they are. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_free(config: *mut cshm_config) {
    if !config.is_null() {
        // SAFETY: `cshm_config_new` made it from a box, and the caller does not use it again.
        drop(unsafe { Box::from_raw(config) });
    }
}

/// Changes a configuration.
///
/// # Safety
///
/// `config` is null or a live configuration that nobody else uses meanwhile.
unsafe fn change(config: *mut cshm_config, change: impl FnOnce(Config) -> Outcome<Config>) -> cshm_status {
    guarded(|| {
        // SAFETY: the caller's promise.
        let config = unsafe { config.as_mut() }.ok_or_else(|| Failed::null("config"))?;
        config.config = change(config.config.clone())?;
        Ok(())
    })
}

/// The configuration, or the defaults for null.
///
/// # Safety
///
/// `config` is null or a live configuration that nobody changes meanwhile.
pub(crate) unsafe fn chosen(config: *const cshm_config) -> (Config, MessageKind) {
    // SAFETY: the caller's promise.
    let given = unsafe { config.as_ref() };
    given.map_or((Config::new(), MessageKind::Bytes), |given| (given.config.clone(), given.sends))
}

/// Payload bytes of a slot in both directions, at least 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_slot_size(config: *mut cshm_config, bytes: usize) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.slot_size(bytes))) }
}

/// Slots in both directions, a power of two. All of them are usable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_slot_count(config: *mut cshm_config, slots: usize) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.slot_count(slots))) }
}

/// The slots in which side A sends to side B.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_a_to_b(
    config: *mut cshm_config,
    slot_size: usize,
    slot_count: usize,
) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.a_to_b(slot_size, slot_count))) }
}

/// The slots in which side B sends to side A.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_b_to_a(
    config: *mut cshm_config,
    slot_size: usize,
    slot_count: usize,
) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.b_to_a(slot_size, slot_count))) }
}

/// How this side waits at first: CSHM_SPIN, CSHM_PARK, or nanoseconds between two looks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_poll(config: *mut cshm_config, mode: i64) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.poll(poll_mode(mode)))) }
}

/// Names the protocol spoken, in up to 64 bytes of UTF-8. Side A writes it into the channel; a side B that gives
/// another one is refused with CSHM_TAG_MISMATCH.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_message_tag(
    config: *mut cshm_config,
    tag: *const c_char,
) -> cshm_status {
    // SAFETY: the header's contract.
    let set = |config: Config| Ok(config.message_tag(unsafe { text("tag", tag) }?));
    // SAFETY: the header's contract.
    unsafe { change(config, set) }
}

/// The directory in which named channels lie, the same for both sides. Otherwise the environment variable
/// CAPNPROTO_SHM_DIR says, or else it is the system's: /dev/shm on Linux.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_directory(config: *mut cshm_config, path: *const c_char) -> cshm_status {
    // SAFETY: the header's contract.
    let set = |config: Config| Ok(config.directory(unsafe { text("path", path) }?));
    // SAFETY: the header's contract.
    unsafe { change(config, set) }
}

/// Unix mode of the segments, 0600 by default. With bits for the group or others, side B must give the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_permissions(config: *mut cshm_config, mode: u32) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.permissions(mode))) }
}

/// Maps every page at once, so that the first lap takes no page fault.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_prefault(config: *mut cshm_config, yes: bool) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.prefault(yes))) }
}

/// Keeps this side's mapping in memory. Creating and opening fail where the limit is too low.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_lock_memory(config: *mut cshm_config, yes: bool) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.lock_memory(yes))) }
}

/// Asks for transparent huge pages. Creating and opening fail where the system has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_huge_pages(config: *mut cshm_config, yes: bool) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.huge_pages(yes))) }
}

/// Places the memory on one NUMA node. Creating and opening fail where the system cannot.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_numa_node(config: *mut cshm_config, node: u32) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.numa_node(node))) }
}

/// Declares that this side sends values of one type: plain data without padding, `size` bytes each, aligned to
/// `align`. A slot is exactly one value, whatever the slot size says. The other side must receive the same: a Rust
/// Channel, a C++ Channel, or a side that declares it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_sends_values(
    config: *mut cshm_config,
    size: usize,
    align: usize,
) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { sends(config, MessageKind::Pod { size, align }) }
}

/// Declares that this side receives values of one type; see cshm_config_sends_values().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_receives_values(
    config: *mut cshm_config,
    size: usize,
    align: usize,
) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.receives(MessageKind::Pod { size, align }))) }
}

/// Declares that this side sends Cap'n Proto messages whose root has this type id: each is one frame of the standard
/// stream framing, unpacked. The other side must receive the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_sends_capnp(config: *mut cshm_config, type_id: u64) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { sends(config, MessageKind::Capnp { type_id }) }
}

/// Declares that this side receives Cap'n Proto messages; see cshm_config_sends_capnp().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_config_receives_capnp(config: *mut cshm_config, type_id: u64) -> cshm_status {
    // SAFETY: the header's contract.
    unsafe { change(config, |config| Ok(config.receives(MessageKind::Capnp { type_id }))) }
}

/// Says what this side sends, and remembers it.
///
/// # Safety
///
/// As for [`change`].
unsafe fn sends(config: *mut cshm_config, kind: MessageKind) -> cshm_status {
    // SAFETY: the caller's promise.
    let status = unsafe { change(config, |config| Ok(config.sends(kind))) };
    // SAFETY: the caller's promise.
    if let Some(config) = unsafe { config.as_mut() } {
        config.sends = kind;
    }
    status
}
