//! Errors with files, before it is known which public error they become.

use std::io;
use std::path::{Path, PathBuf};

use super::channel::{ConfigError, CreateError, OpenError, RemoveError, SegmentError};

/// Why a file did not become a segment.
#[derive(Debug)]
pub(crate) enum FileError {
    Missing,
    Segment(SegmentError),
    Config(ConfigError),
    Io(io::Error),
}

impl From<SegmentError> for FileError {
    fn from(source: SegmentError) -> Self {
        Self::Segment(source)
    }
}

impl From<ConfigError> for FileError {
    fn from(source: ConfigError) -> Self {
        Self::Config(source)
    }
}

impl From<io::Error> for FileError {
    fn from(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(source) }
    }
}

/// The errors that every operation on a named channel may meet.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A live side has it.
    InUse { name: String },
    /// Something went wrong with a file.
    File { action: &'static str, path: PathBuf, error: FileError },
}

impl Failure {
    /// For `map_err`: what was tried on which file.
    pub(crate) fn at<E: Into<FileError>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |error| Self::File { action, path: path.to_owned(), error: error.into() }
    }

    pub(crate) fn in_use(name: &str) -> Self {
        Self::InUse { name: name.to_owned() }
    }
}

macro_rules! from_failure {
    ($($error:ident)*) => {$(
        impl From<Failure> for $error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::InUse { name } => Self::InUse { name },
                    Failure::File { action, path, error } => match error {
                        FileError::Missing => {
                            let source = io::Error::new(io::ErrorKind::NotFound, "no such file or directory");
                            Self::Io { action, path, source }
                        }
                        FileError::Segment(source) => Self::Segment { path, source },
                        FileError::Config(source) => Self::Config(source),
                        FileError::Io(source) => Self::Io { action, path, source },
                    },
                }
            }
        }
    )*};
}

from_failure!(CreateError OpenError RemoveError);
