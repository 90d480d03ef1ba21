//! The Rust of the library's schemas.

#![allow(clippy::all, unused_qualifications, reason = "generated code")]

capnp::generated_code!(pub mod quotes_capnp);
