//! `doctor`: what is wrong with channels on this machine, and what to do.

use std::fs;
use std::io::{self, Write};

use capnproto_shm_transport::{ChannelInfo, Missing, OpenError, SegmentError};
use serde::Serialize;

use crate::args::{Doctor, Place};
use crate::channel::{Channel, FORMAT, State, look, servers};
use crate::process::Processes;
use crate::schema::Schemas;
use crate::{Exit, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It may cost speed.
    Note,
    /// Something should be done.
    Warning,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// The subject of the check.
    check: &'static str,
    /// The channel, if it is about one.
    channel: Option<String>,
    found: String,
    /// The remedy, if there is one.
    advice: Option<String>,
}

#[derive(Serialize)]
struct Report {
    format: u32,
    healthy: bool,
    findings: Vec<Finding>,
}

impl Finding {
    fn new(level: Level, check: &'static str, found: impl Into<String>, advice: &str) -> Self {
        let advice = (!advice.is_empty()).then(|| advice.to_owned());
        Self { level, check, channel: None, found: found.into(), advice }
    }

    fn about(channel: &str, check: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self { channel: Some(channel.to_owned()), ..Self::new(Level::Warning, check, found, advice) }
    }
}

pub fn run(place: &Place, options: &Doctor) -> anyhow::Result<Exit> {
    let look = look(place)?;
    let mut findings = Vec::new();
    let mut processes = Processes::default();
    for info in &look.channels {
        channel(info, &mut processes, &mut findings);
    }
    let directory = place.directory();
    for server in servers(place)? {
        let found = match (&*server.life, &server.problem) {
            ("dead", _) => {
                let files = ["server", "socket"].map(|end| format!("{}.fs.{end}", server.name));
                let files = files.into_iter().filter(|file| directory.join(file).symlink_metadata().is_ok());
                format!("a server died and left {}", files.collect::<Vec<_>>().join(" and "))
            }
            (_, Some(problem)) => problem.clone(),
            _ if server.stopped => format!("the server, {}, is stopped", process(server.pid)),
            _ => continue,
        };
        let advice = match (&*server.life, server.pid) {
            ("dead", _) => {
                let shell = text::quoted(&server.name);
                format!("`capnp-shm rm {shell}`; the next server of that name also takes them away")
            }
            (_, Some(pid)) => format!("`kill -CONT {pid}`"),
            _ => "it keeps the name from being used: move the file away if it is nobody's".to_owned(),
        };
        findings.push(Finding::about(&server.name, "server", found, &advice));
    }
    if findings.is_empty() {
        let count = text::counted(look.channels.len() as u64, "channel");
        findings.push(Finding::new(Level::Ok, "channels", format!("{count}, nothing wrong"), ""));
    }
    let used = look
        .channels
        .iter()
        .flat_map(|info| [&info.a_to_b, &info.b_to_a])
        .flatten()
        .map(|ring| ring.file_bytes);
    system(place, used.sum(), &mut findings);
    let healthy = findings.iter().all(|finding| finding.level < Level::Warning);
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &Report { format: FORMAT, healthy, findings })?;
        writeln!(out)?;
    } else {
        print(&mut out, &findings)?;
    }
    out.flush()?;
    Ok(if healthy { Exit::Success } else { Exit::Failure })
}

fn print(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        let sign = match finding.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "WARN",
        };
        let about =
            finding.channel.as_ref().map(|name| format!("{}: ", text::printable(name))).unwrap_or_default();
        let found = format!("{about}{}", text::printable(&finding.found));
        for (at, line) in text::wrapped(&found, 60).iter().enumerate() {
            let (sign, check) = if at == 0 { (sign, finding.check) } else { ("", "") };
            writeln!(out, "{sign:<5}{check:<14}{line}")?;
        }
        for (at, line) in text::wrapped(finding.advice.as_deref().unwrap_or(""), 57).iter().enumerate() {
            writeln!(out, "{:<19}{} {line}", "", if at == 0 { "->" } else { "  " })?;
        }
    }
    Ok(())
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"))
}

/// The faults of one channel.
fn channel(info: &ChannelInfo, processes: &mut Processes, findings: &mut Vec<Finding>) {
    let channel = Channel::of(info, [None, None], &Schemas::default(), processes);
    let name = &*channel.name;
    let who = |side: &crate::channel::Side| process(side.pid);
    match (&info.problem, channel.state) {
        (_, State::Leftover) => {
            let bytes: u64 =
                [&info.a_to_b, &info.b_to_a].into_iter().flatten().map(|ring| ring.file_bytes).sum();
            let found = format!(
                "left by {} ({}), {} old, {}",
                who(&channel.a),
                channel.a.life,
                channel.age(),
                text::bytes(bytes)
            );
            let shell = text::quoted(name);
            let advice = format!("`capnp-shm rm {shell}`; the next side A of that name also takes it away");
            findings.push(Finding::about(name, "leftover", found, &advice));
        }
        (Some(OpenError::Timeout { missing: Missing::Ready, .. }), _) => {
            let advice = "look again; if it stays so, end that process";
            findings.push(Finding::about(
                name,
                "half made",
                format!("{} has not finished it", who(&channel.a)),
                advice,
            ));
        }
        (Some(OpenError::Segment { source, path }), _) => {
            let advice = match source {
                SegmentError::Version { .. } => {
                    "build both programs and this one with the same version of the library"
                }
                SegmentError::Owner { .. } | SegmentError::OwnerUnknown { .. } => {
                    "it is another user's: ask there, or choose another name"
                }
                SegmentError::Mode { .. } => "give --permissions as both sides do",
                _ => "it keeps the name from being used: move the file away if it is nobody's",
            };
            findings.push(Finding::about(name, "file", format!("{}: {source}", path.display()), advice));
        }
        (Some(problem), _) => findings.push(Finding::about(name, "channel", problem.to_string(), "")),
        (None, State::Abandoned) => {
            let found = format!("side B ({}) is {}, and side A goes on", who(&channel.b), channel.b.life);
            findings.push(Finding::about(name, "side gone", found, "side A must create the channel anew"));
        }
        (None, _) => {}
    }
    for (word, side) in [("side A", &channel.a), ("side B", &channel.b)] {
        if side.stopped {
            let found = format!("{word}, {}, is stopped", who(side));
            let advice = side.pid.map(|pid| format!("`kill -CONT {pid}`")).unwrap_or_default();
            findings.push(Finding::about(name, "stopped", found, &advice));
        }
    }
    let ends = [(&channel.a_to_b, &channel.b, "side B"), (&channel.b_to_a, &channel.a, "side A")];
    for (ring, reader, word) in ends {
        let full = ring.as_ref().is_some_and(|ring| ring.is_full() && !ring.closed);
        if full && reader.life == "alive" {
            let does = if reader.stopped { "is stopped" } else { "does not receive" };
            let found = format!("the ring is full: its reader, {word} ({}), {does}", who(reader));
            let advice = "let it run, find out what it waits for, or give the ring more slots";
            findings.push(Finding::about(name, "full", found, advice));
        } else if full && reader.life == "absent" {
            let found = format!("the ring is full, and {word} has not come");
            findings.push(Finding::about(name, "full", found, "start it"));
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Advice about this machine.
fn system(place: &Place, used: u64, findings: &mut Vec<Finding>) {
    let directory = place.directory();
    if let Ok(space) = rustix::fs::statvfs(&directory) {
        let (all, free) = (space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize);
        let found = format!(
            "{}: {} of {} free, channels take {}",
            directory.display(),
            text::bytes(free),
            text::bytes(all),
            text::bytes(used)
        );
        let little = all > 0 && free < all / 10;
        let advice =
            "remove leftovers, or enlarge it (`mount -o remount,size=… /dev/shm`, `docker --shm-size`)";
        findings.push(Finding::new(
            if little { Level::Warning } else { Level::Ok },
            "space",
            found,
            if little { advice } else { "" },
        ));
    }
    #[cfg(target_os = "linux")]
    linux(findings);
}

#[cfg(target_os = "linux")]
fn linux(findings: &mut Vec<Finding>) {
    use rustix::process::{Resource, getrlimit};
    use rustix::thread::{MembarrierQuery, membarrier_query};

    let mut push = |good: bool, check, found: String, advice: &str| {
        let level = if good { Level::Ok } else { Level::Note };
        findings.push(Finding::new(level, check, found, if good { "" } else { advice }));
    };
    let barrier = membarrier_query().contains(MembarrierQuery::GLOBAL_EXPEDITED);
    push(
        barrier,
        "membarrier",
        if barrier { "available" } else { "not available" }.to_owned(),
        "each message costs a full fence, and deaths are known by the lock alone: allow `membarrier` in the sandbox",
    );
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    push(
        version >= (5, 16),
        "kernel",
        release.clone(),
        "before 5.16 a parked side learns of a death within 100 ms instead of at once",
    );
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    push(
        cpus > 1,
        "processors",
        format!("{cpus} for this process"),
        "two sides on one processor take turns: messages cost a switch each",
    );
    if let Some(setting) = read("/sys/kernel/mm/transparent_hugepage/shmem_enabled") {
        let able =
            ["[always]", "[within_size]", "[advise]", "[force]"].iter().any(|word| setting.contains(word));
        push(
            able,
            "huge pages",
            format!("shmem_enabled: {setting}"),
            "for Config::huge_pages write `advise` to /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        );
    }
    if let Some((name, latency)) = deepest_idle_state() {
        push(
            latency <= 50,
            "idle states",
            format!("{name} takes {latency} µs to wake from"),
            "a parked side wakes later: `cpupower idle-set -D 50`, or poll by `Spin`",
        );
    }
    let limit = |resource| getrlimit(resource).current;
    let (locked, files, size) = (limit(Resource::Memlock), limit(Resource::Nofile), limit(Resource::Fsize));
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), text::bytes);
    push(
        locked.is_none_or(|limit| limit >= 64 << 20),
        "locked memory",
        shown(locked),
        "Config::lock_memory takes as much as the segments: raise it (`ulimit -l`)",
    );
    push(
        files.is_none_or(|limit| limit >= 1024),
        "open files",
        files.map_or_else(|| "unlimited".to_owned(), |n| n.to_string()),
        "each channel takes two: raise it (`ulimit -n`)",
    );
    push(size.is_none(), "file size", shown(size), "no segment may be larger: raise it (`ulimit -f`)");
}

/// The idle state that takes longest to leave, of those that are on.
#[cfg(target_os = "linux")]
fn deepest_idle_state() -> Option<(String, u64)> {
    let states =
        fs::read_dir("/sys/devices/system/cpu/cpu0/cpuidle").ok()?.flatten().map(|entry| entry.path());
    let on =
        states.filter(|state| fs::read_to_string(state.join("disable")).is_ok_and(|off| off.trim() == "0"));
    let latency = |state: std::path::PathBuf| {
        let name = fs::read_to_string(state.join("name")).ok()?.trim().to_owned();
        Some((name, fs::read_to_string(state.join("latency")).ok()?.trim().parse().ok()?))
    };
    on.filter_map(latency).max_by_key(|(_, latency)| *latency)
}
