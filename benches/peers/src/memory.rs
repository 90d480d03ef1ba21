//! What a channel takes in memory, in each of the two processes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use capnproto_shm_transport::{Config, Transport};
use serde::{Deserialize, Serialize};

use crate::peers::PATIENCE;

const CHANNELS: usize = 64;

/// Bytes a channel, on average.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    pub resident: u64,
    pub segments: u64,
}

impl Memory {
    /// What a channel takes besides its segments.
    pub fn besides(&self) -> u64 {
        self.resident.saturating_sub(self.segments)
    }
}

/// Side A's and side B's.
pub fn measure() -> Result<[Memory; 2]> {
    let name = format!("peers-{}-memory", std::process::id());
    let config = Config::new().prefault(true);
    let (channels, a) = grown(|| {
        Ok((0..CHANNELS)
            .map(|i| Transport::create(&format!("{name}-{i}"), &config))
            .collect::<Result<Vec<_>, _>>()?)
    })?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["memory", &name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
    let segments = segments(&name)?;
    drop(child.stdin.take());
    child.wait()?;
    drop(channels);
    let b: u64 = line.trim().parse().context("the other side's figure")?;
    Ok([a, b].map(|resident| Memory { resident, segments }))
}

/// Side B's process.
pub fn follow(name: &str) -> Result<()> {
    let config = Config::new().prefault(true);
    let (_channels, resident) = grown(|| {
        Ok((0..CHANNELS)
            .map(|i| Transport::open_with(&format!("{name}-{i}"), PATIENCE, &config))
            .collect::<Result<Vec<_>, _>>()?)
    })?;
    println!("{resident}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn grown<T>(make: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let before = resident()?;
    let made = make()?;
    Ok((made, resident()?.saturating_sub(before) / CHANNELS as u64))
}

fn resident() -> Result<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find_map(|l| l.strip_prefix("Rss:")).context("Rss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// The files of a channel, on average.
fn segments(name: &str) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir("/dev/shm")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(name) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes / CHANNELS as u64)
}
