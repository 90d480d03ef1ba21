//! One of the two sides, as the process that starts and kills it sees it.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::Side;

use crate::GLANCE;
use crate::report::Totals;

/// A side that has not ended so long after it was asked never will.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Worker {
    side: Side,
    name: String,
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// Closing it asks the side to end in order.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Worker {
    pub fn new(side: Side, name: &str) -> Self {
        Self { side, name: name.to_owned(), running: None }
    }

    pub fn start(&mut self, seed: u64) -> io::Result<()> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--side", &format!("{:?}", self.side), "--name", &self.name])
            .args(["--seed", &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            // Ends with the child's output. A line cut short by a kill is no line.
            thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = String::new();
                while output.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
                    let _ = sender.send(line.trim_end().to_owned());
                    line.clear();
                }
            });
        }
        self.running = Some(Running { child, input, lines });
        Ok(())
    }

    /// Takes in what the side has said.
    pub fn collect(&mut self, totals: &mut Totals) {
        let Some(running) = &mut self.running else { return };
        running.lines.try_iter().for_each(|line| totals.add(&line));
        if let Ok(Some(status)) = running.child.try_wait() {
            running.lines.iter().for_each(|line| totals.add(&line));
            totals.errors.push(format!("side {:?} ended by itself: {status}", self.side));
        }
    }

    /// Kills the side without warning and waits until it is gone.
    pub fn kill(&mut self, totals: &mut Totals) -> io::Result<()> {
        self.collect(totals);
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.child.kill()?;
        running.child.wait()?;
        running.lines.iter().for_each(|line| totals.add(&line));
        totals.kills += 1;
        Ok(())
    }

    /// Asks the side to end.
    pub fn stop(&mut self) {
        if let Some(running) = &mut self.running {
            running.input = None;
        }
    }

    /// Waits for the side's end.
    pub fn finish(&mut self, totals: &mut Totals) -> io::Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let began = Instant::now();
        while running.child.try_wait()?.is_none() && began.elapsed() < PATIENCE {
            thread::sleep(GLANCE);
        }
        // Nothing happens to a child that has ended.
        running.child.kill()?;
        let status = running.child.wait()?;
        running.lines.iter().for_each(|line| totals.add(&line));
        if !status.success() {
            totals.errors.push(format!("side {:?} did not end in order: {status}", self.side));
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
