//! A recording: an MCAP file with the messages of one or several channels, and all that is needed to send them again.
//!
//! Each direction of a channel is one MCAP channel, its topic `NAME/a_to_b` or `NAME/b_to_a`. Its metadata has the identity of the
//! messages and the geometry of the ring. A message keeps its bytes; `log_time` is the time at which it was seen. The counts of
//! missed messages stand as JSON under the topic `NAME/missed`.

mod reader;
mod stream;
mod writer;

pub use reader::{End, Recorded, Recording};
pub use stream::Stream;
pub use writer::{Kept, Recorder, Split};
