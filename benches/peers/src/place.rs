//! On which processors the two sides of a round run.

use std::sync::OnceLock;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Place {
    /// Each on its own.
    Apart,
    /// Both on the first.
    Together,
    /// Wherever the system lets them.
    Free,
}

impl Place {
    pub fn pin_leader(self) -> Result<()> {
        pin(match self {
            Self::Apart | Self::Together => Some(0),
            Self::Free => None,
        })
    }

    pub fn pin_follower(self) -> Result<()> {
        pin(match self {
            Self::Apart => Some(1),
            Self::Together => Some(0),
            Self::Free => None,
        })
    }
}

/// Binds the calling thread to the n-th processor this program may use, or to none in particular.
pub fn pin(n: Option<usize>) -> Result<()> {
    static ALLOWED: OnceLock<CpuSet> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(|| sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new()));
    let mut set = *allowed;
    if let Some(n) = n {
        let cpu = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).nth(n);
        set = CpuSet::new();
        set.set(cpu.context("fewer than two processors")?);
    }
    Ok(sched_setaffinity(None, &set)?)
}
