//! Names of channels and of their files.

use super::Side;
use super::header::Direction;
use crate::error::ConfigError;

/// Longest channel name in bytes: the limit of a file name, less the suffixes.
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

/// The file that a server holds locked while it lives.
pub(crate) fn server_file_name(name: &str) -> String {
    format!("{name}.fs.server")
}

/// The file of one direction of a channel.
pub(crate) fn file_name(name: &str, direction: Direction) -> String {
    let suffix = match direction {
        Direction::AToB => "a2b",
        Direction::BToA => "b2a",
    };
    format!("{name}.fs.{suffix}")
}

/// Which half of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Producer,
    Consumer,
}

impl Half {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Producer => Self::Consumer,
            Self::Consumer => Self::Producer,
        }
    }

    pub(crate) const BOTH: [Self; 2] = [Self::Producer, Self::Consumer];

    /// Its place in things that come in pairs.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// The name of the event that wakes one half of one side of one generation, given the name of either of its files.
pub(crate) fn event_name(file_name: &str, generation: u64, side: Side, half: Half) -> Option<String> {
    let stem = file_name.strip_suffix("a2b").or_else(|| file_name.strip_suffix("b2a"))?;
    let side = match side {
        Side::A => "a",
        Side::B => "b",
    };
    let half = match half {
        Half::Producer => "room",
        Half::Consumer => "message",
    };
    Some(format!("{stem}{generation:016x}.{side}.{half}"))
}
