//! Rust for the schemas in `schema/`, which the examples, tests and benchmarks share.

capnp::generated_code!(pub mod blob_capnp);
capnp::generated_code!(pub mod calculator_capnp);
capnp::generated_code!(pub mod order_v1_capnp);
capnp::generated_code!(pub mod order_v2_capnp);
capnp::generated_code!(pub mod pubsub_capnp);
capnp::generated_code!(pub mod quotes_capnp);
capnp::generated_code!(pub mod tree_capnp);
capnp::generated_code!(pub mod workshop_capnp);
