//! Servers, as they are told from outside: by the file that a server holds locked while it lives.

use std::io;
use std::path::PathBuf;

use super::info::Life;
use super::list::{Channels, names_in};
use crate::config::Config;
use crate::error::{Failure, FileError, OpenError, SegmentError};
use crate::protocol::server_file_name;
use crate::system::{Host, System};

/// A server's name and whether anybody holds it. The channels of its clients have no names, and are not listed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The name that clients connect to.
    pub name: String,
    /// Where its files lie.
    pub directory: PathBuf,
    /// [`Alive`](Life::Alive), or [`Dead`](Life::Dead): then the next server of that name removes its files.
    pub life: Life,
    /// The error, if the file that shows this cannot be read.
    pub problem: Option<OpenError>,
}

impl Channels {
    /// Every server of this user, in the order of the names. Nothing is touched.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn servers() -> io::Result<Vec<ServerInfo>> {
        Self::servers_with(&Config::new())
    }

    /// The same in the directory of a configuration, and with servers that other users share by its permissions.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or the permissions are refused.
    pub fn servers_with(config: &Config) -> io::Result<Vec<ServerInfo>> {
        let group = config.permissions_checked().map_err(io::Error::other)?;
        let directory = config.directory_chosen();
        let names = names_in(&directory, &[server_file_name("")])?;
        let look = |name: String| {
            let path = directory.join(server_file_name(&name));
            let (life, problem) = match alive(&path, group) {
                Ok(true) => (Life::Alive, None),
                Ok(false) => (Life::Dead, None),
                // It went away meanwhile.
                Err(FileError::Missing) => return None,
                Err(error) => (Life::Unknown, Some(Failure::at("inspect", &path)(error).into())),
            };
            Some(ServerInfo { name, directory: directory.clone(), life, problem })
        };
        Ok(names.into_iter().filter_map(look).collect())
    }
}

fn alive(path: &std::path::Path, group: u32) -> Result<bool, FileError> {
    let file = Host::open(path, false)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(SegmentError::NotAFile.into());
    }
    Host::check_owner(&metadata, Some(group))?;
    Ok(Host::is_locked(&file)?)
}
