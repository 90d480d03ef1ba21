//! The main job: both sides, each poll mode, each pace, one table.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use capnproto_shm_transport::{PollMode, Side};

use crate::connect::{Plan, connect};
use crate::exchange::{Pace, exchange};
use crate::measure::Measure;
use crate::table::{self, Row};
use crate::{Failure, progress, stopped, watch};

const SLOT_SIZE: usize = 64;
const SLOT_COUNT: usize = 1024;
const MODES: [PollMode; 3] = [PollMode::Spin, PollMode::Interval(Duration::from_millis(1)), PollMode::Park];

pub fn run(name: &str, phase: Duration) -> Result<(), Failure> {
    let bar = progress(phase * 2 * MODES.len() as u32);
    let mut rows = Vec::new();
    for mode in MODES {
        for pace in [Pace::Burst, Pace::Paced] {
            bar.set_message(format!("{}, {pace}", table::label(mode)));
            let plan = Plan {
                name: name.to_owned(),
                side: Side::A,
                geometry: Some((SLOT_SIZE, SLOT_COUNT)),
                pace,
                time: phase,
                local: Some(mode),
                remote: Some(mode),
            };
            let (a, b) = watch(&bar, phase, || both(&plan))?;
            if stopped() {
                return Ok(());
            }
            rows.push(Row::new(mode, pace, &[&a, &b]));
        }
    }
    bar.finish_and_clear();
    println!("{}", table::both_sides(SLOT_SIZE, &rows));
    Ok(())
}

/// Side A here, side B in a process of its own.
fn both(plan: &Plan) -> Result<(Measure, Measure), Failure> {
    let mut b = SideB::start(plan)?;
    let transport = connect(plan, || b.alive())?;
    let a = exchange(transport, plan.pace, plan.time)?;
    if stopped() {
        return Ok((a, Measure::default()));
    }
    Ok((a, b.finish()?))
}

/// This program again. Killed when dropped before its end.
struct SideB(Child);

impl SideB {
    fn start(plan: &Plan) -> Result<Self, Failure> {
        let child = Command::new(std::env::current_exe()?)
            .args(["--name", &plan.name, "--report"])
            .arg(if plan.pace == Pace::Burst { "--b" } else { "--b30" })
            .arg(plan.time.as_secs_f64().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }

    /// An error if it has ended before it came.
    fn alive(&mut self) -> Result<(), Failure> {
        if self.0.try_wait()?.is_none() { Ok(()) } else { Err(self.complaint()) }
    }

    /// The side's measurements.
    fn finish(mut self) -> Result<Measure, Failure> {
        let mut text = String::new();
        if let Some(output) = &mut self.0.stdout {
            output.read_to_string(&mut text)?;
        }
        match Measure::from_text(&text) {
            Some(measure) if self.0.wait()?.success() => Ok(measure),
            _ => Err(self.complaint()),
        }
    }

    fn complaint(&mut self) -> Failure {
        let mut text = String::new();
        if let Some(errors) = &mut self.0.stderr {
            // Text that cannot be read is not shown.
            let _ = errors.read_to_string(&mut text);
        }
        format!("side B failed: {}", text.trim()).into()
    }
}

impl Drop for SideB {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
