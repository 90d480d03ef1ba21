//! The C interface of capnproto-shm-transport. `include/capnproto_shm_transport.h` is made from it and documents it;
//! the C++ interface is header-only over that.
//!
//! Nothing unwinds out of it: a panic becomes [`status::cshm_status::CSHM_PANIC`]. `handle.rs` has the states of a
//! transport and what makes them safe; everything else checks arguments and calls the library.

#![allow(non_camel_case_types, reason = "the names are C's")]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("capnproto-shm-transport-c needs a 64-bit target");

mod arguments;
mod config;
mod errors;
mod failure;
mod fork;
mod halves;
mod handle;
mod inspect;
mod left;
mod lifecycle;
mod listen;
mod look;
mod ready;
mod receive;
mod send;
mod server;
mod status;
mod tap;
#[cfg(test)]
mod tests;
mod version;
mod wait_set;
mod waiting;
mod window;
