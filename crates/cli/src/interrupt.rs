//! Ctrl-C, and a polite kill, end a command that runs on.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C does not end the program: the command looks at [`asked`].
pub fn watch() -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(|| ASKED.store(true, Ordering::Relaxed))?)
}

/// Whether the user wants the command to end.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
