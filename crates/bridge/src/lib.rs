//! Bridges channels between machines: two programs that do not fit one machine exchange messages as if they did.
//!
//! A bridge on each machine stands in for the side that is missing there. Between the two is Zenoh, with its discovery,
//! routing, encryption and access control. `docs/beyond.md` of the repository says when to bridge, what it costs, and what no
//! longer holds.

mod bridge;
mod channel;
mod credit;
mod ending;
mod error;
mod figures;
mod frame;
mod greet;
mod hello;
mod inbox;
mod link;
mod options;
mod outbox;
mod place;
mod queue;
mod server;
mod session;
mod shared;
mod work;

use std::path::Path;

pub use bridge::Bridge;
pub use ending::Ending;
pub use error::{BridgeError, Refusal};
pub use figures::Figures;
pub use options::{Names, Options};
pub use shared::{Event, Report};
pub use zenoh;
use zenoh::Wait;

/// Memory into which one connection receives, in bytes.
const RECEIVE: (&str, usize) = ("transport/link/rx/buffer_size", 1 << 20);

/// Opens Zenoh by a configuration file (JSON5), and with these endpoints to connect to and to listen on in place of the
/// file's. If any endpoint is given, others are not looked for by multicast.
///
/// # Errors
///
/// If the file or an endpoint is refused, or if Zenoh cannot listen or connect.
pub fn open(
    config: Option<&Path>,
    connect: &[String],
    listen: &[String],
) -> Result<zenoh::Session, BridgeError> {
    let mut settings = match config {
        Some(path) => zenoh::Config::from_file(path).map_err(|error| {
            // Behind that Zenoh says where in its own source it found out.
            let reason = error.to_string().split(" at /").next().unwrap_or_default().to_owned();
            BridgeError::Configuration { path: path.to_owned(), reason }
        })?,
        None => zenoh::Config::default(),
    };
    // Zenoh's own is one batch. It then allocates and clears memory for every further one that a queue still holds here.
    let (key, bytes) = RECEIVE;
    let set_by_file = settings.get_json(key).ok() != zenoh::Config::default().get_json(key).ok();
    let mut set = |key, value: String| {
        settings.insert_json5(key, &value).map_err(BridgeError::zenoh("take an endpoint"))
    };
    if !set_by_file {
        set(key, bytes.to_string())?;
    }
    if !connect.is_empty() {
        set("connect/endpoints", format!("{connect:?}"))?;
    }
    if !listen.is_empty() {
        set("listen/endpoints", format!("{listen:?}"))?;
    }
    if !(connect.is_empty() && listen.is_empty()) {
        set("scouting/multicast/enabled", "false".to_owned())?;
    }
    zenoh::open(settings).wait().map_err(BridgeError::zenoh("open"))
}
