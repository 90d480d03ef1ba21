//! What the system says of a process that a side names.

use std::fs;
use std::path::{Path, PathBuf};

/// A process as a side wrote it down, if it is one that has the channel's file mapped: a number from another
/// namespace stands for somebody else here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// Its program, as far as the system tells.
    pub program: Option<String>,
    /// Whether it is stopped (SIGSTOP, or a debugger).
    pub stopped: bool,
}

impl Process {
    /// Asks about a process that should have one of these files mapped.
    pub fn of(pid: u32, files: &[PathBuf]) -> Self {
        let unknown = Self { pid, program: None, stopped: false };
        let root = Path::new("/proc").join(pid.to_string());
        // Where the system does not tell, the number alone stands.
        let Ok(maps) = fs::read_to_string(root.join("maps")) else { return unknown };
        let numbers: Vec<_> = files.iter().filter_map(|file| number(file)).collect();
        // A file that was made without a name has none here, but the same number.
        let mapped = |line: &str| {
            line.split_whitespace().nth(4).is_some_and(|found| numbers.iter().any(|n| n == found))
        };
        if !maps.lines().any(mapped) {
            return unknown;
        }
        Self::described(pid)
    }

    fn described(pid: u32) -> Self {
        let root = Path::new("/proc").join(pid.to_string());
        let program = fs::read_to_string(root.join("comm")).ok().map(|name| name.trim_end().to_owned());
        let stat = fs::read_to_string(root.join("stat")).unwrap_or_default();
        // The state follows the name, which may hold anything but ends with the last parenthesis.
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        Self { pid, program, stopped: matches!(state, Some('T' | 't')) }
    }

    /// The process that has this file open, as far as the system tells: the first, if a child shares it.
    #[cfg(target_os = "linux")]
    pub fn that_holds(file: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let wanted = identity(fs::symlink_metadata(file).ok()?);
        let holds = |pid: &u32| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.filter_map(|entry| fs::metadata(entry.path()).ok())
                .any(|metadata| identity(metadata) == wanted)
        };
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let own = std::process::id();
        numbers.filter(|pid| *pid != own).filter(holds).min().map(Self::described)
    }

    #[cfg(not(target_os = "linux"))]
    pub fn that_holds(_file: &Path) -> Option<Self> {
        None
    }
}

/// The file's number, as the system's list of mappings has it.
#[cfg(unix)]
fn number(file: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(file).ok().map(|metadata| metadata.ino().to_string())
}

#[cfg(not(unix))]
fn number(_file: &Path) -> Option<String> {
    None
}
