//! The system's word on a process that a side names.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

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

/// The processes that the sides of many channels name: each is asked about once.
#[derive(Debug, Default)]
pub struct Processes(HashMap<u32, Known>);

#[derive(Debug)]
struct Known {
    process: Process,
    /// The numbers of the files that it has mapped.
    mapped: HashSet<u64>,
}

impl Processes {
    /// A process that should have one of the files with these numbers mapped.
    pub fn of(&mut self, pid: u32, files: &[u64]) -> Process {
        let known = self.0.entry(pid).or_insert_with(|| Known {
            process: Process::described(pid),
            // Where the system does not tell, the number alone stands.
            mapped: fs::read(format!("/proc/{pid}/maps")).as_deref().map(mapped).unwrap_or_default(),
        });
        if files.iter().any(|file| known.mapped.contains(file)) {
            return known.process.clone();
        }
        Process { pid, program: None, stopped: false }
    }
}

/// The numbers of the files in a process's list of mappings. A file that was made without a name has a number there all the same.
fn mapped(maps: &[u8]) -> HashSet<u64> {
    let number = |line: &[u8]| {
        // Addresses, rights, offset, device, number, and a name that may be anything.
        let field = line.splitn(6, |byte| *byte == b' ').nth(4)?;
        std::str::from_utf8(field).ok()?.parse().ok()
    };
    maps.split(|byte| *byte == b'\n').filter_map(number).filter(|number| *number != 0).collect()
}

impl Process {
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
pub fn number(file: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(file).ok().map(|metadata| metadata.ino())
}

#[cfg(not(unix))]
pub fn number(_file: &Path) -> Option<u64> {
    None
}
