//! Channels without a name: nothing in the file system to plant, squat, truncate or leave behind (Linux).

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::Transport;
use super::lifecycle;
use super::payload::Payloads;
use crate::config::Config;
use crate::error::{CreateError, OpenError};

impl Transport {
    /// Makes an anonymous channel over sealed memory files, and is its side A. The descriptors are for side B:
    /// let a child inherit them or send them over a Unix socket, then call [`from_fds`](Self::from_fds) there.
    ///
    /// Nobody can shorten the memory, so no mapping of it faults, and no file system is involved. Drop the
    /// descriptors once side B has its own. They close on `exec`; clear that flag for a child that is to inherit them.
    ///
    /// ```
    /// use capnproto_shm_transport::{Config, Transport};
    ///
    /// let (mut a, fds) = Transport::pair(&Config::new())?;
    /// let mut b = Transport::from_fds(fds, &Config::new())?; // in the other process
    /// a.send(b"hello")?;
    /// assert_eq!(&*b.recv()?, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CreateError::Config`] for a size that cannot be, [`CreateError::Io`] if the system refuses.
    pub fn pair(config: &Config) -> Result<(Self, [OwnedFd; 2]), CreateError> {
        let payloads = Payloads::raw(config);
        let lease = lifecycle::create_anonymous(config, payloads)?;
        let describe = |segment: &crate::segment::Segment| {
            segment.descriptor().map_err(|source| CreateError::Io {
                action: "describe",
                path: PathBuf::from("/proc/self/fd"),
                source,
            })
        };
        let descriptors = [describe(&lease.link.tx)?, describe(&lease.link.rx)?];
        Ok((Self::from_lease(lease, None, config, Some(payloads)), descriptors))
    }

    /// Side B of an anonymous channel, from the descriptors that [`pair`](Self::pair) gave, in that order.
    ///
    /// # Errors
    ///
    /// [`OpenError::Segment`] if a descriptor is not a sealed segment of this version, [`OpenError::InUse`] if
    /// a live side B is there, [`OpenError::Tag`] if side A gave another `message_tag`,
    /// [`OpenError::Timeout`] if side A is gone, [`OpenError::Io`] if the system refuses.
    pub fn from_fds(descriptors: [OwnedFd; 2], config: &Config) -> Result<Self, OpenError> {
        let lease = lifecycle::open_anonymous(descriptors, config)?;
        Ok(Self::from_lease(lease, None, config, None))
    }
}
