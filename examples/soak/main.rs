//! Hours of hard use in minutes: two processes exchange checked messages in both directions while everything
//! around them changes, and a third kills them.
//!
//! `cargo run --release --example soak -- --seconds 600` starts both sides, kills one now and then, starts it
//! again, and reports each minute. A message that is lost, torn or repeated, or a wrong answer, is an error, and the exit
//! code is then 1.

mod args;
mod dice;
mod message;
mod report;
mod session;
mod side;
mod worker;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{RemoveError, Side, Transport};
use indicatif::{ProgressBar, ProgressStyle};

use args::{Job, Plan};
use dice::Dice;
use report::Totals;
use worker::Worker;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);
const GLANCE: Duration = Duration::from_millis(20);
const MINUTE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let result = match args::parse() {
        Job::Soak(plan) => {
            let handled = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).map_err(Failure::from);
            handled.and_then(|()| soak(&plan))
        }
        Job::Side { side, name, seed } => {
            // An interrupt of the terminal reaches both: the one who started this one ends it in order.
            let handled = ctrlc::set_handler(|| ()).map_err(Failure::from);
            handled.map(|()| side::run(side, &name, seed)).map(|()| true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("soak: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs both sides until the time is over. Returns whether nothing was wrong.
fn soak(plan: &Plan) -> Result<bool, Failure> {
    let bar = progress(plan.time);
    println!("{} seconds, --seed {}", plan.time.as_secs_f64(), plan.seed);
    let mut totals = Totals::default();
    let mut dice = Dice::new(plan.seed);
    let mut workers = [Side::A, Side::B].map(|side| Worker::new(side, &plan.name));
    for worker in &mut workers {
        worker.start(dice.next())?;
    }
    let began = Instant::now();
    let (mut next_kill, mut next_report) = (began, began + MINUTE);
    while began.elapsed() < plan.time && !STOP.load(Ordering::Relaxed) && totals.errors.is_empty() {
        let now = Instant::now();
        if now >= next_kill {
            next_kill = now + Duration::from_millis(dice.below(600));
            let victim = &mut workers[dice.below(2) as usize];
            victim.kill(&mut totals)?;
            if dice.once_in(2) {
                // Long enough for the other side to find out before somebody takes the name.
                thread::sleep(Duration::from_millis(dice.below(60)));
            }
            victim.start(dice.next())?;
        }
        for worker in &mut workers {
            worker.collect(&mut totals);
        }
        if now >= next_report {
            next_report += MINUTE;
            bar.suspend(|| println!("{}", report::table(began.elapsed(), &totals)));
        }
        bar.set_position(began.elapsed().as_millis() as u64);
        bar.set_message(report::line(&totals));
        thread::sleep(GLANCE.min(next_kill.saturating_duration_since(Instant::now())));
    }
    for worker in &mut workers {
        worker.stop();
    }
    for worker in &mut workers {
        worker.finish(&mut totals)?;
    }
    match Transport::remove(&plan.name) {
        Err(RemoveError::NotFound { .. }) => {}
        left => totals.errors.push(format!("something was left in the file system: {left:?}")),
    }
    totals.check_deaths();
    bar.finish_and_clear();
    println!("{}", report::table(began.elapsed(), &totals));
    println!("guarantee: soak messages: {}", totals.messages);
    println!("guarantee: soak kills: {}", totals.kills);
    Ok(totals.errors.is_empty())
}

fn progress(total: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:40} {percent:>3} %  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total.as_millis() as u64).with_style(style.progress_chars("━━╌"))
}
