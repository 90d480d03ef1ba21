//! The atomics everything else uses: the machine's own, or loom's when the crate is built with
//! `--cfg loom` so that the models in this crate can try every interleaving.

#[cfg(not(loom))]
pub(crate) use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
