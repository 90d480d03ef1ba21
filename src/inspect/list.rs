//! Every channel of a directory.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::info::ChannelInfo;
use crate::config::Config;
use crate::error::{Missing, OpenError};
use crate::protocol::{Direction, file_name};

/// All channels that have a name.
#[derive(Debug)]
#[non_exhaustive]
pub struct Channels;

impl Channels {
    /// All files in the directory of channels that have the name of a channel's file, in the order of the
    /// names. A file that is no whole channel of this user and version is listed too, with its
    /// [`problem`](ChannelInfo::problem).
    ///
    /// ```
    /// # use capnproto_shm_transport::{Channels, Config, Transport};
    /// # let name = format!("doc-list-{}", std::process::id());
    /// # let _a = Transport::create(&name, &Config::new())?;
    /// for channel in Channels::list()? {
    ///     println!("{}: side A {}, side B {}", channel.name, channel.a.life, channel.b.life);
    ///     if let Some(problem) = &channel.problem {
    ///         println!("  {problem}");
    ///     }
    /// }
    /// # assert!(Channels::list()?.iter().any(|channel| channel.name == name));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn list() -> io::Result<Vec<ChannelInfo>> {
        Self::list_with(&Config::new())
    }

    /// The same in the directory of a configuration, and with channels that other users share by its permissions; see
    /// [`Config::directory`] and [`Config::permissions`].
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or the permissions are refused.
    pub fn list_with(config: &Config) -> io::Result<Vec<ChannelInfo>> {
        config.permissions_checked().map_err(io::Error::other)?;
        let suffixes = [Direction::AToB, Direction::BToA].map(|direction| file_name("", direction));
        let names = names_in(&config.directory_chosen(), &suffixes)?;
        let looked = names.into_iter().filter_map(|name| ChannelInfo::look(&name, config).ok());
        // A file that was removed meanwhile is left out.
        let gone = |info: &ChannelInfo| {
            matches!(info.problem, Some(OpenError::Timeout { missing: Missing::Channel, .. }))
        };
        Ok(looked.filter(|info| !gone(info)).collect())
    }
}

/// The names of files with one of these suffixes, without it.
pub(super) fn names_in(directory: &Path, suffixes: &[String]) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let file = entry?.file_name();
        // No name of ours is anything but text.
        let Some(file) = file.to_str() else { continue };
        let name = suffixes.iter().find_map(|suffix| file.strip_suffix(&**suffix));
        names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    Ok(names)
}
