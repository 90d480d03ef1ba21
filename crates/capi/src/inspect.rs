//! The channels under their names, seen from outside.
//!
//! C sees structs that belong to a list. They hold pointers to each other, so that each can grow at its end.

use std::ffi::{CString, c_char};
use std::ptr::null;
use std::time::UNIX_EPOCH;

use transport::{ChannelInfo, Channels, Life, MessageKind, RingInfo, SideInfo};

use crate::arguments::{output, text};
use crate::config::{chosen, cshm_config, poll_number};
use crate::errors::open_status;
use crate::failure::{Failed, Outcome, guarded, guarded_value};
use crate::look::cshm_ring_stats;
use crate::status::cshm_status;
use crate::status::cshm_status::{CSHM_INVALID_CONFIG, CSHM_OK};

/// Whether a side lives.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum cshm_life {
    /// The file that tells cannot be read.
    CSHM_LIFE_UNKNOWN = 0,
    /// Its process holds its lock. It may be stopped (SIGSTOP).
    CSHM_LIFE_ALIVE = 1,
    /// It has not come yet.
    CSHM_LIFE_ABSENT = 2,
    /// It closed in order.
    CSHM_LIFE_CLOSED = 3,
    /// Its process ended without closing.
    CSHM_LIFE_DEAD = 4,
}

/// The kind of a direction's messages.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum cshm_message_kind {
    /// Bytes, of any length.
    CSHM_KIND_BYTES = 0,
    /// Values of one type; see cshm_config_sends_values().
    CSHM_KIND_VALUES = 1,
    /// Cap'n Proto messages; see cshm_config_sends_capnp().
    CSHM_KIND_CAPNP = 2,
    /// A kind that this version does not know.
    CSHM_KIND_OTHER = 3,
}

/// One side of a channel. Later versions may add fields at the end.
#[repr(C)]
#[derive(Debug)]
pub struct cshm_side_info {
    /// Whether it lives, as the locks of the system tell. The rest is what it says of itself.
    pub life: cshm_life,
    /// Its process number, in its own namespace; 0 if unknown.
    pub pid: u32,
    /// How it waits: CSHM_SPIN, CSHM_PARK, or nanoseconds between two looks. CSHM_PARK if unknown.
    pub poll: i64,
    /// Whether it sleeps in the kernel until there is room to send.
    pub awaits_room: bool,
    /// Whether it sleeps in the kernel until there is a message.
    pub awaits_message: bool,
}

/// One ring of a channel. Later versions may add fields at the end.
#[repr(C)]
#[derive(Debug)]
pub struct cshm_ring_info {
    /// The kind of its messages.
    pub kind: cshm_message_kind,
    /// For CSHM_KIND_VALUES the size of a value; else 0.
    pub value_size: u64,
    /// For CSHM_KIND_VALUES the alignment of a value; else 0.
    pub value_align: u64,
    /// For CSHM_KIND_CAPNP the type id of the root; else 0.
    pub type_id: u64,
    /// Length of its file, in bytes.
    pub file_bytes: u64,
    /// Sizes and figures.
    pub stats: cshm_ring_stats,
}

/// A channel as it stands under its name. Later versions may add fields at the end.
#[repr(C)]
#[derive(Debug)]
pub struct cshm_channel_info {
    /// The channel's name.
    pub name: *const c_char,
    /// Where its files lie.
    pub directory: *const c_char,
    /// The tag of its protocol, empty if it has none; NULL if unknown.
    pub tag: *const c_char,
    /// The number of this life of the channel; 0 if unknown.
    pub generation: u64,
    /// When side A created it, in nanoseconds since 1970; 0 if unknown.
    pub created_ns: u64,
    /// The side that created the channel.
    pub a: *const cshm_side_info,
    /// The side that opens it.
    pub b: *const cshm_side_info,
    /// The ring from side A to side B; NULL if its file is not a whole segment.
    pub a_to_b: *const cshm_ring_info,
    /// The ring from side B to side A; NULL if its file is not a whole segment.
    pub b_to_a: *const cshm_ring_info,
    /// Whether side A is gone, so that the name is free: cshm_remove() takes the files away, and so does the next
    /// cshm_create().
    pub is_leftover: bool,
    /// CSHM_OK, or what cshm_open() would say because this is not a whole channel that this process may join.
    pub problem: cshm_status,
    /// The same with the names and values that matter, in English; NULL if there is no problem.
    pub problem_text: *const c_char,
}

/// Channels, as they were when they were looked at.
pub struct cshm_channels(Vec<Entry>);

/// A channel, with all that its struct points to. Once it has been [`point`](Entry::point)ed it stays where it is.
struct Entry {
    info: cshm_channel_info,
    name: CString,
    directory: CString,
    tag: Option<CString>,
    problem: Option<CString>,
    sides: [cshm_side_info; 2],
    rings: [Option<cshm_ring_info>; 2],
}

impl Entry {
    fn of(channel: &ChannelInfo) -> Self {
        let created = channel.created.and_then(|created| created.duration_since(UNIX_EPOCH).ok());
        let info = cshm_channel_info {
            name: null(),
            directory: null(),
            tag: null(),
            generation: channel.generation.unwrap_or(0),
            created_ns: created.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0),
            a: null(),
            b: null(),
            a_to_b: null(),
            b_to_a: null(),
            is_leftover: channel.is_leftover(),
            problem: channel.problem.as_ref().map_or(CSHM_OK, open_status),
            problem_text: null(),
        };
        Self {
            info,
            name: c_text(&channel.name),
            directory: c_text(&channel.directory.to_string_lossy()),
            tag: channel.tag.as_deref().map(c_text),
            problem: channel.problem.as_ref().map(|problem| c_text(&problem.to_string())),
            sides: [side(&channel.a), side(&channel.b)],
            rings: [channel.a_to_b.as_ref().map(ring), channel.b_to_a.as_ref().map(ring)],
        }
    }

    /// Lets the struct know where the rest is.
    fn point(&mut self) {
        let Self { info, name, directory, tag, problem, sides: [a, b], rings: [a_to_b, b_to_a] } = self;
        let text = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
        let ring = |ring: &Option<cshm_ring_info>| ring.as_ref().map_or(null(), std::ptr::from_ref);
        (info.name, info.directory) = (name.as_ptr(), directory.as_ptr());
        (info.tag, info.problem_text) = (text(tag), text(problem));
        (info.a, info.b) = (std::ptr::from_ref(a), std::ptr::from_ref(b));
        (info.a_to_b, info.b_to_a) = (ring(a_to_b), ring(b_to_a));
    }
}

/// Text for C, without what C takes for its end.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

fn side(side: &SideInfo) -> cshm_side_info {
    cshm_side_info {
        life: match side.life {
            Life::Alive => cshm_life::CSHM_LIFE_ALIVE,
            Life::Absent => cshm_life::CSHM_LIFE_ABSENT,
            Life::Closed => cshm_life::CSHM_LIFE_CLOSED,
            Life::Dead => cshm_life::CSHM_LIFE_DEAD,
            _ => cshm_life::CSHM_LIFE_UNKNOWN,
        },
        pid: side.pid.unwrap_or(0),
        poll: side.poll.map_or(crate::config::CSHM_PARK, poll_number),
        awaits_room: side.awaits_room,
        awaits_message: side.awaits_message,
    }
}

fn ring(ring: &RingInfo) -> cshm_ring_info {
    let (kind, value_size, value_align, type_id) = match ring.kind {
        MessageKind::Bytes => (cshm_message_kind::CSHM_KIND_BYTES, 0, 0, 0),
        MessageKind::Pod { size, align } => {
            (cshm_message_kind::CSHM_KIND_VALUES, size as u64, align as u64, 0)
        }
        MessageKind::Capnp { type_id } => (cshm_message_kind::CSHM_KIND_CAPNP, 0, 0, type_id),
        _ => (cshm_message_kind::CSHM_KIND_OTHER, 0, 0, 0),
    };
    let stats = ring.stats.into();
    cshm_ring_info { kind, value_size, value_align, type_id, file_bytes: ring.file_bytes, stats }
}

/// Every channel of the directory, in the order of the names, as it is now: a list to be freed with cshm_channels_free().
/// A name without a whole channel of this user and version is listed too, with its problem. Of the configuration the directory and
/// the permissions count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_channels_list(
    config: *const cshm_config,
    out: *mut *mut cshm_channels,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let (config, _) = unsafe { chosen(config) };
        let channels = Channels::list_with(&config).map_err(|error| {
            if error.raw_os_error().is_none() && error.get_ref().is_some() {
                return Failed::detailed(CSHM_INVALID_CONFIG, error);
            }
            Failed::system(format_args!("cannot read the directory of channels: {error}"), &error)
        })?;
        give(out, &channels);
        Ok(())
    })
}

/// The channel `name` alone: a list of one, to be freed with cshm_channels_free(). CSHM_TIMEOUT if there is no whole
/// channel of that name, CSHM_FOREIGN_SEGMENT if what stands there is not a whole segment of this user and version. A
/// channel whose sides are gone is no failure: see `life`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_channels_of(
    name: *const c_char,
    config: *const cshm_config,
    out: *mut *mut cshm_channels,
) -> cshm_status {
    guarded(|| {
        // SAFETY: the header's contract.
        let out = unsafe { output("out", out) }?;
        // SAFETY: the header's contract.
        let name = unsafe { text("name", name) }?;
        // SAFETY: the header's contract.
        let (config, _) = unsafe { chosen(config) };
        give(out, &[ChannelInfo::of_with(name, &config)?]);
        Ok(())
    })
}

fn give(out: crate::arguments::Output<'_, *mut cshm_channels>, channels: &[ChannelInfo]) {
    let mut entries: Vec<Entry> = channels.iter().map(Entry::of).collect();
    entries.iter_mut().for_each(Entry::point);
    out.write(Box::into_raw(Box::new(cshm_channels(entries))));
}

/// Frees a list, and all that it points to. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_channels_free(channels: *mut cshm_channels) {
    if !channels.is_null() {
        // SAFETY: `give` made it from a box, and the caller does not use it again.
        drop(unsafe { Box::from_raw(channels) });
    }
}

/// How many channels there are; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_channels_len(channels: *const cshm_channels) -> usize {
    // SAFETY: the header's contract.
    guarded_value(0, || Ok(unsafe { entries(channels) }?.len()))
}

/// A channel of the list, which stays until the list is freed; NULL if there are not so many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_channels_get(
    channels: *const cshm_channels,
    index: usize,
) -> *const cshm_channel_info {
    guarded_value(null(), || {
        // SAFETY: the header's contract.
        let entries = unsafe { entries(channels) }?;
        Ok(entries.get(index).map_or(null(), |entry| &raw const entry.info))
    })
}

/// # Safety
///
/// `channels` is null or a live list.
unsafe fn entries<'a>(channels: *const cshm_channels) -> Outcome<&'a [Entry]> {
    // SAFETY: the caller's promise.
    let channels = unsafe { channels.as_ref() }.ok_or_else(|| Failed::null("channels"))?;
    Ok(&channels.0)
}
