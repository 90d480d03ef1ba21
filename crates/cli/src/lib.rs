//! Recordings of channels: MCAP files. The program `capnp-shm` is made of this and of the library; it is a library of
//! its own so that it can be fuzzed.

pub mod recording;
