//! Changes how a side waits, from outside.

use std::sync::atomic::Ordering;

use super::info::ChannelInfo;
use crate::config::Config;
use crate::error::{Failure, FileError, Missing, OpenError};
use crate::protocol::{Direction, PollMode, Side, check_name, file_name};
use crate::segment::{Access, SegmentFile};

impl ChannelInfo {
    /// Asks one side of the channel `name` to wait in another way. **This is the one call here that writes**: the mode, to
    /// both files, as either side itself may do by [`PollControl`](crate::PollControl). It wakes nobody, so a side that
    /// sleeps follows when it next wakes, after two seconds at the latest.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn set_poll_mode(name: &str, config: &Config, side: Side, mode: PollMode) -> Result<(), OpenError> {
        check_name(name)?;
        let (directory, group) = (config.directory_chosen(), Some(config.permissions_checked()?));
        let header = |direction| {
            let path = directory.join(file_name(name, direction));
            let header = SegmentFile::open(&path, direction, Access::Read, group)
                .and_then(|file| file.header().map_err(FileError::from));
            header.map_err(|error| match error {
                FileError::Missing => OpenError::Timeout {
                    name: name.to_owned(),
                    waited: std::time::Duration::ZERO,
                    missing: Missing::Channel,
                },
                error => Failure::at("open", &path)(error).into(),
            })
        };
        for header in [header(Direction::AToB)?, header(Direction::BToA)?] {
            header.words().control.poll[side.index()].store(mode.encode(), Ordering::Relaxed);
        }
        Ok(())
    }
}
