//! The atomics of the protocol. `tests/protocol_models.rs` compiles `protocol/` with loom's in their place.

pub(crate) use core::hint::spin_loop;
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
