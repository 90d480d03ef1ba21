//! A process that does nothing but keep one processor busy.

use std::hint::spin_loop;

use anyhow::Result;

use crate::pair::JOINED;
use crate::place::pin;
use crate::process::{self, Control, Killed};

/// Spins until it is dropped.
pub struct Spinner(#[allow(dead_code, reason = "held for its drop")] Killed);

impl Spinner {
    /// On the n-th processor; spins when this returns.
    pub fn start(processor: usize) -> Result<Self> {
        let (mut control, child) = process::start(&["spin", &processor.to_string()])?;
        let spinner = Self(Killed(child));
        control.expect(JOINED)?;
        Ok(spinner)
    }
}

/// The process's life.
pub fn spin(processor: usize) -> Result<()> {
    pin(Some(processor))?;
    Control::inherited()?.say(JOINED)?;
    loop {
        spin_loop();
    }
}
