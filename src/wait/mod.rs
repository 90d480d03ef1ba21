//! Waiting for more than one thing, and as others wait: in sets, in streams, in streams of bytes.

#[cfg(feature = "async")]
mod byte_stream;
#[cfg(unix)]
mod set;
#[cfg(feature = "async")]
mod stream;

#[cfg(feature = "async")]
pub use byte_stream::{ByteReader, ByteStream, ByteWriter};
#[cfg(unix)]
pub use set::WaitSet;
#[cfg(feature = "async")]
pub use stream::MessageStream;
