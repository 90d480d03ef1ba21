//! Names of channels and of their files.

use super::header::Direction;
use crate::error::ConfigError;

/// Longest channel name in bytes: what a file name holds, less the suffixes.
const MAX_NAME_BYTES: usize = 200;

/// Checks a channel name before it becomes part of a path.
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    let refuse = |reason| Err(ConfigError::Name { name: name.to_owned(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > MAX_NAME_BYTES {
        return refuse("it is longer than 200 bytes");
    }
    if name.contains(['/', '\\']) {
        return refuse("it contains a path separator");
    }
    if name.contains(char::is_control) {
        return refuse("it contains NUL or another control character");
    }
    if cfg!(windows) && name.contains(['<', '>', ':', '"', '|', '?', '*']) {
        return refuse("it contains a character that Windows reserves");
    }
    Ok(())
}

/// The file of one direction of a channel.
pub(crate) fn file_name(name: &str, direction: Direction) -> String {
    let suffix = match direction {
        Direction::AToB => "a2b",
        Direction::BToA => "b2a",
    };
    format!("{name}.fs.{suffix}")
}
