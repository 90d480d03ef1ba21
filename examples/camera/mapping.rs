//! The proof that nothing was copied: a frame's address lies in the mapping of the segment that both sides share.

use std::collections::BTreeSet;

use crate::Failure;

/// The addresses at which frames were built or read.
pub struct Addresses {
    seen: BTreeSet<usize>,
    /// The segment's inode, where the system tells what is mapped.
    segment: Option<u64>,
}

impl Addresses {
    /// For the frames of this channel, which exists.
    pub fn new(name: &str) -> Result<Self, Failure> {
        Ok(Self { seen: BTreeSet::new(), segment: inode(name)? })
    }

    /// Notes where a frame lies. An error if that is not in the segment.
    pub fn note(&mut self, frame: &[u8]) -> Result<(), Failure> {
        let address = frame.as_ptr().addr();
        let new = self.seen.insert(address);
        match self.segment {
            Some(segment) if new && !is_mapped(address, frame.len(), segment)? => {
                Err(format!("a frame lies at {address:#x}, outside of the segment").into())
            }
            _ => Ok(()),
        }
    }

    pub fn count(&self) -> usize {
        self.seen.len()
    }
}

/// Of the segment from A to B.
#[cfg(target_os = "linux")]
fn inode(name: &str) -> Result<Option<u64>, Failure> {
    use std::os::unix::fs::MetadataExt;

    let directory = std::env::var("CAPNPROTO_SHM_DIR").unwrap_or_else(|_| "/dev/shm".to_owned());
    Ok(Some(std::fs::metadata(format!("{directory}/{name}.fs.a2b"))?.ino()))
}

#[cfg(not(target_os = "linux"))]
fn inode(_name: &str) -> Result<Option<u64>, Failure> {
    Ok(None)
}

/// Whether these bytes lie within a mapping of this file.
fn is_mapped(address: usize, len: usize, inode: u64) -> Result<bool, Failure> {
    let within = |line: &str| {
        // Addresses, rights, offset, device, inode, path.
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16));
        let found: u64 = words.nth(3)?.parse().ok()?;
        Some(found == inode && start.ok()? <= address && address + len <= end.ok()?)
    };
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().any(|line| within(line) == Some(true)))
}
