//! What many channels cost while nothing is sent, each with a thread that waits in `recv`, or a task in
//! `recv_async`; and how soon those who wait know that the process on the other side was killed.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use capnproto_shm_transport::{Config, RecvError, Transport};
use clap::ValueEnum;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use serde::Serialize;

use crate::clock::{monotonic, process_cpu};
use crate::pair::JOINED;
use crate::peers::PATIENCE;
use crate::process::{self, Control, Killed};
use crate::sample::median;

pub const CHANNELS: usize = 100;

/// Who waits for each channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Waiter {
    /// A thread of its own.
    Thread,
    /// A task; all in one thread, in a tokio runtime.
    Task,
}

pub const WAITERS: [Waiter; 2] = [Waiter::Thread, Waiter::Task];

impl Waiter {
    pub fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Task => "task",
        }
    }
}

/// Until everybody sleeps.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Idle {
    pub waiter: Waiter,
    /// Processor time of the waiting process, over the time that passed.
    pub cpu: f64,
    /// From just before the kill until a receiver returns.
    pub median_ms: f64,
    pub max_ms: f64,
    /// Whether this kernel tells of a death by itself.
    pub told: bool,
}

/// Watches the idle process for `watched`, then kills its peer.
pub fn measure(waiter: Waiter, watched: Duration) -> Result<Idle> {
    let name = format!("peers-{}-idle", std::process::id());
    let (mut waiting, child) = process::start(&["idle", &name, waiter.name()])?;
    let mut process = Killed(child);
    waiting.expect(JOINED)?;
    let (mut other, child) = process::start(&["idle-peer", &name])?;
    let mut peer = Killed(child);
    other.expect(JOINED)?;
    waiting.say(&watched.as_millis().to_string())?;
    let cpu: f64 = waiting.answer()?.parse()?;
    let killed = monotonic();
    peer.0.kill()?;
    let answer = waiting.answer()?;
    // It takes its channels down.
    drop(waiting);
    process.0.wait()?;
    let ends: Vec<u64> = serde_json::from_str(&answer).context(answer)?;
    let millis = || ends.iter().map(|&end| end.saturating_sub(killed) as f64 / 1e6);
    let told = pidfd_open(getpid(), PidfdFlags::empty()).is_ok();
    Ok(Idle { waiter, cpu, median_ms: median(millis()), max_ms: millis().fold(0.0, f64::max), told })
}

/// When a receiver knew, and its channel, which is held until all know: to take it down would hold others up.
type Known = Result<(u64, Transport)>;

fn known<T>(end: Result<T, RecvError>) -> Result<u64> {
    let now = monotonic();
    let end = end.map(|_| ());
    ensure!(matches!(end, Err(RecvError::PeerDead)), "a receiver found {end:?}");
    Ok(now)
}

fn threads(channels: Vec<Transport>) -> JoinHandle<Vec<Known>> {
    let wait = |mut channel: Transport| thread::spawn(move || Ok((known(channel.recv())?, channel)));
    let threads: Vec<_> = channels.into_iter().map(wait).collect();
    thread::spawn(|| threads.into_iter().map(|thread| thread.join().expect("no receiver panics")).collect())
}

fn tasks(channels: Vec<Transport>) -> Result<JoinHandle<Vec<Known>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = async |mut channel: Transport| Ok((known(channel.recv_async().await)?, channel));
    let tasks: Vec<_> = channels.into_iter().map(|channel| runtime.spawn(wait(channel))).collect();
    Ok(thread::spawn(move || {
        runtime.block_on(async {
            let mut all = Vec::new();
            for task in tasks {
                all.push(task.await.expect("no receiver panics"));
            }
            all
        })
    }))
}

/// The life of the process that waits.
pub fn wait(name: &str, waiter: Waiter) -> Result<()> {
    let mut control = Control::inherited()?;
    let config = Config::new().slot_count(16);
    let channels = (0..CHANNELS).map(|i| Transport::create(&format!("{name}-{i}"), &config));
    let channels = channels.collect::<Result<_, _>>()?;
    let waiting = match waiter {
        Waiter::Thread => threads(channels),
        Waiter::Task => tasks(channels)?,
    };
    control.say(JOINED)?;
    let watched = Duration::from_millis(control.answer()?.parse()?);
    thread::sleep(SETTLE);
    let (began, cpu) = (monotonic(), process_cpu());
    thread::sleep(watched);
    let (took, cpu) = (monotonic() - began, process_cpu() - cpu);
    control.say(&(cpu as f64 / took as f64).to_string())?;
    let ends = waiting.join().expect("no receiver panics");
    match ends.into_iter().collect::<Result<Vec<_>>>() {
        Ok(ends) => {
            let ends: Vec<u64> = ends.iter().map(|end| end.0).collect();
            control.say(&serde_json::to_string(&ends)?)
        }
        Err(error) => control.say(&format!("{error:#}")),
    }
}

/// The life of its peer, until it is killed.
pub fn peer(name: &str) -> Result<()> {
    let mut control = Control::inherited()?;
    let channels = (0..CHANNELS).map(|i| Transport::open(&format!("{name}-{i}"), PATIENCE));
    let _channels = channels.collect::<Result<Vec<_>, _>>()?;
    control.say(JOINED)?;
    control.hear()?;
    Ok(())
}
