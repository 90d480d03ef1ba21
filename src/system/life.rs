//! Has the kernel tell the peer at once when this process dies, however it dies.
//!
//! A robust futex is a word that the kernel marks, and whose sleeper it wakes, when the thread that owns it exits
//! (get_robust_list(2)). The kernel does that before it tears the memory down and before it drops locks, so a
//! process that takes long to die is known to be dying all the same. One thread of this process owns the life words
//! of all its channels, and does nothing else. It ends when the process does.
//!
//! The kernel finds the words through a list in this process's memory, each node at the same distance from its word.
//! The words are shared; the nodes must not be, or a peer could lead the kernel astray. So each word's page is mapped
//! once more, right behind a private page that holds the node.

#![allow(unsafe_code)]

use std::fs::File;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use super::unix::background_thread;
use crate::protocol::{EndpointStatus, HEADER_BYTES, Half, WORDS_OFFSET, Words};

/// From a node to its word: one page.
const DISTANCE: usize = HEADER_BYTES;
/// The kernel walks no farther (`ROBUST_LIST_LIMIT` of linux/futex.h is 2048). Further channels ask after their peers'
/// locks as before.
const MOST: usize = 2000;
/// `FUTEX_WAITERS`: the kernel wakes a sleeper.
const WAITERS: u32 = 0x8000_0000;
/// `FUTEX_OWNER_DIED`.
const OWNER_DIED: u32 = 0x4000_0000;

/// `struct robust_list` of linux/futex.h.
#[repr(C)]
struct Node {
    next: AtomicPtr<Node>,
}

/// `struct robust_list_head` of linux/futex.h.
#[repr(C)]
struct Head {
    list: Node,
    distance: libc::c_long,
    pending: AtomicPtr<Node>,
}

impl Head {
    /// An empty list, which lives as long as the process.
    fn leaked() -> &'static Self {
        let head = Box::leak(Box::new(Self {
            list: Node { next: AtomicPtr::new(ptr::null_mut()) },
            distance: DISTANCE as libc::c_long,
            pending: AtomicPtr::new(ptr::null_mut()),
        }));
        head.list.next.store(head.end(), Ordering::Relaxed);
        head
    }

    /// What ends the list: its own beginning.
    fn end(&self) -> *mut Node {
        ptr::from_ref(&self.list).cast_mut()
    }

    /// Makes the list the calling thread's. Returns the thread's number, or 0 if the system refuses.
    fn adopt(&'static self) -> u32 {
        // SAFETY: the kernel reads the list when this thread exits. It is never freed, and whoever changes it keeps it
        // whole at each step. No robust mutex of the C library is ever locked by this thread, so its own list, which
        // this replaces, is empty.
        let refused = unsafe { libc::syscall(libc::SYS_set_robust_list, self, size_of::<Self>()) } != 0;
        // SAFETY: takes no argument.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) };
        if refused { 0 } else { u32::try_from(thread).unwrap_or(0) }
    }
}

/// The thread that owns this process's life words, and the nodes of these words.
struct Owner {
    process: u32,
    /// The thread's number, or 0 if there is none.
    thread: u32,
    head: &'static Head,
    nodes: Vec<NonNull<Node>>,
}

// SAFETY: the nodes are only touched under the lock that the owner lives in; marks keep them alive.
unsafe impl Send for Owner {}

static OWNER: Mutex<Option<Owner>> = Mutex::new(None);

fn owner() -> MutexGuard<'static, Option<Owner>> {
    OWNER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owner {
    fn start() -> Self {
        let head = Head::leaked();
        let thread = if kernel_marks() { owning_thread(head).unwrap_or(0) } else { 0 };
        Self { process: std::process::id(), thread, head, nodes: Vec::new() }
    }

    fn add(&mut self, node: NonNull<Node>) {
        // SAFETY: the mark that holds the node keeps it mapped until it is removed.
        unsafe { node.as_ref() }.next.store(self.head.list.next.load(Ordering::Relaxed), Ordering::Relaxed);
        // Release: should the process die now, the kernel finds the old list or the new one.
        self.head.list.next.store(node.as_ptr(), Ordering::Release);
        self.nodes.push(node);
    }

    /// The nodes are listed from the newest to the oldest.
    fn remove(&mut self, node: NonNull<Node>) {
        let Some(at) = self.nodes.iter().position(|n| *n == node) else { return };
        // SAFETY: mapped, as in `add`.
        let after = unsafe { node.as_ref() }.next.load(Ordering::Relaxed);
        let before = match self.nodes.get(at + 1) {
            // SAFETY: as above: it is in the list still.
            Some(newer) => unsafe { newer.as_ref() },
            None => &self.head.list,
        };
        before.next.store(after, Ordering::Release);
        self.nodes.remove(at);
    }
}

/// Starts a thread that owns the list and sleeps for ever.
fn owning_thread(head: &'static Head) -> Option<u32> {
    let (say, hear) = mpsc::sync_channel(1);
    let started = background_thread("shm-life", move || {
        let _ = say.send(head.adopt());
        loop {
            thread::park();
        }
    });
    started.ok()?;
    hear.recv().ok().filter(|&thread| thread != 0)
}

/// Whether this kernel keeps its promise: a thread with a list of its own owns a word and exits.
fn kernel_marks() -> bool {
    #[repr(C, align(8))]
    struct Trial {
        node: Node,
        _between: [u8; DISTANCE - size_of::<Node>()],
        word: AtomicU32,
    }
    let head = Head::leaked();
    let trial: &'static Trial = Box::leak(Box::new(Trial {
        node: Node { next: AtomicPtr::new(head.end()) },
        _between: [0; DISTANCE - size_of::<Node>()],
        word: AtomicU32::new(0),
    }));
    let thread = thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        trial.word.store(head.adopt(), Ordering::Relaxed);
        head.list.next.store(ptr::from_ref(&trial.node).cast_mut(), Ordering::Relaxed);
    });
    thread.is_ok_and(|thread| thread.join().is_ok()) && trial.word.load(Ordering::Acquire) & OWNER_DIED != 0
}

/// One life word of this process, while this lives. Dropping it takes the word down.
#[derive(Debug)]
pub(crate) struct LifeMark {
    /// A private page, and behind it the header's page once more.
    pages: NonNull<u8>,
    word_at: usize,
}

// SAFETY: the pages are the mark's own; their words are atomics, and the node is touched under `OWNER`'s lock alone.
unsafe impl Send for LifeMark {}
// SAFETY: as above; `&LifeMark` gives access to nothing.
unsafe impl Sync for LifeMark {}

impl LifeMark {
    /// Owns the life word of one end in the header of `file`.
    pub(super) fn new(file: &File, half: Half) -> Option<Self> {
        let mut owner = owner();
        // A forked child has its parent's list and not its parent's thread.
        let stale = owner.as_ref().is_none_or(|owner| owner.process != std::process::id());
        if stale {
            *owner = Some(Owner::start());
        }
        let owner = owner.as_mut().filter(|owner| owner.thread != 0 && owner.nodes.len() < MOST)?;
        let status_at = match half {
            Half::Producer => offset_of!(Words, producer_status),
            Half::Consumer => offset_of!(Words, consumer_status),
        };
        let word_at = WORDS_OFFSET + status_at + offset_of!(EndpointStatus, life);
        let mark = Self { pages: map_pages(file)?, word_at };
        owner.add(mark.node());
        // Only now: a word that is not listed promises nothing.
        mark.word().store(owner.thread | WAITERS, Ordering::Release);
        Some(mark)
    }

    fn node(&self) -> NonNull<Node> {
        // SAFETY: `word_at` lies in the first page, with room for a node, and is 8-aligned (asserted below).
        unsafe { self.pages.add(self.word_at) }.cast()
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: `word_at` is within the second page.
        let word = unsafe { self.pages.add(DISTANCE + self.word_at) }.cast::<AtomicU32>();
        // SAFETY: mapped while the mark lives, aligned, and only ever accessed by atomics of its size.
        unsafe { word.as_ref() }
    }
}

const _: () =
    assert!((WORDS_OFFSET + offset_of!(Words, producer_status) + offset_of!(EndpointStatus, life)) % 8 == 0);
const _: () =
    assert!((WORDS_OFFSET + offset_of!(Words, consumer_status) + offset_of!(EndpointStatus, life)) % 8 == 0);

impl Drop for LifeMark {
    fn drop(&mut self) {
        self.word().store(0, Ordering::Release);
        if let Some(owner) = owner().as_mut() {
            owner.remove(self.node());
        }
        // SAFETY: the two pages are this mark's own, and nothing refers to them any more.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), 2 * DISTANCE) };
    }
}

/// A private page, and the file's first page right behind it.
fn map_pages(file: &File) -> Option<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at a place of the system's choice.
    let pages = unsafe { libc::mmap(ptr::null_mut(), 2 * DISTANCE, access, private, -1, 0) };
    if pages == libc::MAP_FAILED {
        return None;
    }
    let second = pages.wrapping_byte_add(DISTANCE);
    let shared = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: replaces the second of the two pages just mapped, which nobody else knows of.
    let mapped = unsafe { libc::mmap(second, DISTANCE, access, shared, file.as_raw_fd(), 0) };
    // SAFETY: advice for the two pages just mapped. A forked child is not this process, and shall not write there.
    let kept = unsafe { libc::madvise(pages, 2 * DISTANCE, libc::MADV_DONTFORK) };
    if mapped == libc::MAP_FAILED || kept != 0 {
        // SAFETY: as above; nobody uses them.
        unsafe { libc::munmap(pages, 2 * DISTANCE) };
        return None;
    }
    NonNull::new(pages.cast())
}
