//! Watch two processes talk.
//!
//! `cargo run --release --example demo` is the main job: this process is side A, it starts itself as side B,
//! and a table says what each poll mode gives and costs. `demo --help` lists the rest: `--a` and `--b` are the
//! two sides, to be started in two terminals.

mod args;
mod clock;
mod connect;
mod exchange;
mod measure;
mod payload;
mod table;
mod tour;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{panic, thread};

use indicatif::{ProgressBar, ProgressStyle};

use args::Job;
use connect::Plan;
use measure::Measure;
use table::Row;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Set by Ctrl-C. A thread that waits looks at it at least every [`GLANCE`], and leaves in order.
static STOP: AtomicBool = AtomicBool::new(false);
const GLANCE: Duration = Duration::from_millis(50);

fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

fn main() -> ExitCode {
    let job = args::parse();
    let result = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).map_err(Failure::from);
    let result = result.and_then(|()| match job {
        Job::Tour { name, phase } => tour::run(&name, phase),
        Job::Side { plan, report: false } => one_side(&plan),
        Job::Side { plan, report: true } => play(&plan).map(|measure| print!("{}", measure.to_text())),
    });
    match result {
        _ if stopped() => {
            eprintln!("demo: interrupted");
            ExitCode::from(130)
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// One side alone, in its own terminal.
fn one_side(plan: &Plan) -> Result<(), Failure> {
    let bar = progress(plan.time);
    bar.set_message(format!("waiting for side {}", if plan.is_a() { "B" } else { "A" }));
    let transport = connect::connect(plan, || Ok(()))?;
    bar.set_message(format!("side {:?}, {}", plan.side, plan.pace));
    let size = transport.slot_size();
    let mode = transport.poll_control().local();
    let measure = watch(&bar, plan.time, || exchange::exchange(transport, plan.pace, plan.time))?;
    bar.finish_and_clear();
    if !stopped() {
        println!("{}", table::one_side(size, &Row::new(mode, plan.pace, &[&measure]), plan.is_a()));
    }
    Ok(())
}

/// One side for a process that reads its figures: no bar, no table.
fn play(plan: &Plan) -> Result<Measure, Failure> {
    let transport = connect::connect(plan, || Ok(()))?;
    exchange::exchange(transport, plan.pace, plan.time)
}

fn progress(total: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:50} {percent:>3} %  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total.as_millis() as u64).with_style(style.progress_chars("━━╌"))
}

/// Moves the bar while `work` runs in a thread of its own, so that drawing is not measured with it.
fn watch<T: Send>(bar: &ProgressBar, time: Duration, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(work);
        let (from, began) = (bar.position(), Instant::now());
        while !worker.is_finished() {
            bar.set_position(from + began.elapsed().min(time).as_millis() as u64);
            thread::sleep(GLANCE);
        }
        bar.set_position(from + time.as_millis() as u64);
        worker.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}
