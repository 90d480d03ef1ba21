//! Death at every step of every operation, on either side: the survivor receives all that was committed and
//! nothing else, learns how its peer ended, and the name is usable at once.
//!
//! A child runs the operation once in peace and says which steps it has. Then, for each step, another child
//! kills itself there. The step alone decides exactly what the survivor must see.
//!
//! The promise is 100 ms. A loaded machine may stop the survivor itself for longer, so the test allows
//! twenty times as much and prints what it measured, counted from before the operation began.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::Side;

use crate::child::{self, OPERATIONS, Operation};
use crate::survivor::{Death, Seen};

const ALLOWED: Duration = Duration::from_secs(2);
/// A survivor that is awake when it should sleep gives an operation other steps; so often it is tried again.
const TRIES: usize = 50;
/// So often all is tried again, until each step of the source was one to die at.
const ROUNDS: usize = 5;

#[test]
fn child() {
    child::play();
}

/// The results of the deaths in one operation.
struct Report {
    /// The last step of each child.
    died_at: Vec<String>,
    slowest: Duration,
}

fn die_at_each_step(operation: &Operation, side: Side) -> Report {
    let alive = Death::new(operation, side, 0, &[]).run();
    assert!(alive.lived, "nothing kills a child that is not armed");
    let (steps, mut slowest, mut died_at) = (alive.begun, alive.noticed, Vec::new());
    for step in 1..=steps.len() {
        let mut deaths = (0..TRIES).map(|_| Death::new(operation, side, step, &steps).run());
        let Seen { begun, noticed, .. } = deaths
            .find(|seen| !seen.lived)
            .unwrap_or_else(|| panic!("{} never came to step {step}", operation.name));
        let last = begun.last().cloned().unwrap_or_default();
        assert!(noticed < ALLOWED, "{} {side:?} {last}: {noticed:?}", operation.name);
        slowest = slowest.max(noticed);
        died_at.push(last);
    }
    println!("side {side:?}, {:<26} {:>2} steps, found out within {slowest:?}", operation.name, steps.len());
    Report { died_at, slowest }
}

fn die_at_each_step_of_each_operation() -> Vec<Report> {
    let cases =
        OPERATIONS.iter().flat_map(|operation| operation.sides.iter().map(move |side| (operation, *side)));
    let cases = Mutex::new(cases);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let case = cases.lock().unwrap().next();
            let Some((operation, side)) = case else { return reports };
            reports.push(die_at_each_step(operation, side));
        }
    };
    thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn the_survivor_is_told_the_truth_wherever_its_peer_dies() {
    // A server's steps are another test's.
    let mut steps = steps_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    steps.retain(|step| !SERVERS.iter().any(|operation| step.starts_with(operation)));

    let mut reports = Vec::new();
    let mut killed_at = BTreeSet::new();
    for _ in 0..ROUNDS {
        reports.extend(die_at_each_step_of_each_operation());
        killed_at.extend(reports.iter().flat_map(|report| report.died_at.iter().cloned()));
        if killed_at == steps {
            break;
        }
    }
    assert_eq!(killed_at, steps, "each step of the source");
    let slowest = reports.iter().map(|report| report.slowest).max().unwrap();
    let killed: usize = reports.iter().map(|report| report.died_at.len()).sum();
    println!("{} different steps; every death found out within {slowest:?}", killed_at.len());
    println!("guarantee: steps killed: {killed}");
}

/// The beginnings of the names of servers' and clients' steps.
pub const SERVERS: [&str; 4] = ["bind: ", "unbind: ", "accept: ", "connect: "];

/// The names of all steps in the source.
pub fn steps_in(directory: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(steps_in(&path));
        } else {
            let source = fs::read_to_string(path).unwrap();
            let calls = source.split("step(\"").skip(1);
            names.extend(calls.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    names
}
