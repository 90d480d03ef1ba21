//! Many clients: a server gives each that connects a channel of its own.

#[cfg(target_os = "linux")]
mod accept;
mod broadcast;
#[cfg(target_os = "linux")]
mod connect;
#[cfg(target_os = "linux")]
mod handshake;
#[cfg(target_os = "linux")]
mod joining;
mod limits;
#[cfg(target_os = "linux")]
mod name;
// On Linux for its tests alone.
#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", allow(dead_code, unreachable_pub))]
mod portable;
#[cfg(target_os = "linux")]
mod supply;
#[cfg(all(target_os = "linux", feature = "async"))]
mod task;

use std::time::Duration;

#[cfg(target_os = "linux")]
pub use accept::Server;
pub use broadcast::{Broadcast, Sent, Slow};
#[cfg(target_os = "linux")]
use connect::connect;
#[cfg(all(target_os = "linux", feature = "async"))]
use connect::connect_async;
pub use limits::Limits;
#[cfg(target_os = "linux")]
use name::remove;
#[cfg(not(target_os = "linux"))]
pub use portable::Server;
#[cfg(not(target_os = "linux"))]
use portable::connect;
#[cfg(all(not(target_os = "linux"), feature = "async"))]
use portable::connect_async;
#[cfg(not(target_os = "linux"))]
use portable::remove;

use crate::channel::Channel;
use crate::config::Config;
use crate::error::{OpenError, RemoveError};
use crate::transport::{Kind, Transport};

impl Server {
    /// Removes the files that a dead server left: its lock and its socket. The next [`bind`](Self::bind) of that name
    /// does this too. Its clients' channels have no names, and stay as they are.
    ///
    /// ```
    /// # use capnproto_shm_transport::{Config, RemoveError, Server, Transport};
    /// # let name = format!("doc-unbind-{}", std::process::id());
    /// let server = Server::<Transport>::bind(&name, &Config::new())?;
    /// // A live server keeps its name.
    /// assert!(matches!(Server::remove(&name), Err(RemoveError::InUse { .. })));
    /// drop(server);
    /// // And one that ends in order leaves nothing.
    /// assert!(matches!(Server::remove(&name), Err(RemoveError::NotFound { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RemoveError::NotFound`] if there is nothing, [`RemoveError::InUse`] if a live server holds the name,
    /// [`RemoveError::Segment`] if the file there is not ours, [`RemoveError::Config`] for an invalid name,
    /// [`RemoveError::Io`] if the system refuses.
    pub fn remove(name: &str) -> Result<(), RemoveError> {
        remove(name, &Config::new())
    }

    /// The same in the directory of a configuration, and of a server that another user shares by its permissions.
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove).
    pub fn remove_with(name: &str, config: &Config) -> Result<(), RemoveError> {
        remove(name, config)
    }
}

/// Gives a kind of channel its `connect`.
macro_rules! connects {
    ([$($generics:tt)*] $channel:ty) => {
        impl<$($generics)*> $channel
        where
            Self: Kind,
        {
            /// Asks the server `name` for a channel, and is its side B; waits up to `wait` for the server and for a place.
            ///
            /// # Errors
            ///
            /// [`OpenError::Timeout`] if there was no server or no place, with the missing part; [`OpenError::Type`] unless
            /// the server receives what this side sends and sends what it receives; [`OpenError::Refused`] if the
            /// server's filter says no; [`OpenError::Handshake`] if another version answers;
            /// [`OpenError::Segment`] if the server is another user's, or hands over something else than a channel;
            /// [`OpenError::Config`] for an invalid name, [`OpenError::Io`] if the system refuses.
            pub fn connect(name: &str, wait: Duration) -> Result<Self, OpenError> {
                connect(name, wait, &Config::new(), || true)
            }

            /// The same with its own poll mode, permissions, directory and memory options, and the tag it expects. The
            /// geometry is the server's.
            ///
            /// # Errors
            ///
            /// As [`connect`](Self::connect), and [`OpenError::Tag`] if the server gave another `message_tag`.
            pub fn connect_with(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError> {
                connect(name, wait, config, || true)
            }

            /// The same in a task. Dropping the future before it is ready leaves nothing behind.
            ///
            /// # Errors
            ///
            /// As [`connect_with`](Self::connect_with).
            #[cfg(feature = "async")]
            #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
            pub async fn connect_async(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError> {
                connect_async(name, wait, config).await
            }
        }
    };
}

connects!([] Transport);

impl Transport {
    /// [`connect_with`](Self::connect_with) as long as `go_on` says so, which is asked at least every 50 ms. For a binding
    /// whose host language wants a turn while it waits. A call that is not to go on ends as one whose time is over.
    #[doc(hidden)]
    pub fn connect_while(
        name: &str,
        wait: Duration,
        config: &Config,
        go_on: impl FnMut() -> bool,
    ) -> Result<Self, OpenError> {
        connect(name, wait, config, go_on)
    }
}
connects!([T, R] Channel<T, R>);
#[cfg(feature = "capnp")]
connects!([M, R] crate::capnp_channel::CapnpChannel<M, R>);
