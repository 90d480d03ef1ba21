//! The plan: what is measured, section by section. Some need what earlier ones found.

use std::time::Duration;

use crate::contender::Poll::{Interval, Park};
use crate::jobs::Job;
use crate::peers::{quotes, request};
use crate::plan::{Axis, Entry, Group, Section, Unit};
use crate::report::Results;
use crate::runner::Pace;

pub const TRIP: Job = Job::RoundTrip { build_ns: 0 };
pub const STREAM: Job = Job::OneWay { build_ns: 0 };

/// The series of the document, by what they are called there.
pub mod series {
    pub const OURS: &str = "ours";
    pub const SERVED: &str = "ours, from a server";
    pub const COPIED: &str = "ours, send()";
    pub const BATCHED: &str = "ours, batch + drain";
    pub const PARK: &str = "ours, Park";
    pub const INTERVAL: &str = "ours, Interval 100 µs";
    pub const TAIL: &str = "ring: tail";
    pub const BATCH: &str = "ring: tail, batches form";
    pub const WORD: &str = "ring: word in slot";
    pub const RTRB: &str = "rtrb (threads)";
    pub const ICEORYX: &str = "iceoryx2";
    pub const ICEORYX_BEST: &str = "iceoryx2, its best case";
    pub const IPC_CHANNEL: &str = "ipc-channel";
    pub const SOCKET: &str = "Unix socket";
    pub const PIPE: &str = "pipe";
    pub const TASK: &str = "ours, tasks";
    pub const TASK_PARK: &str = "ours, tasks, Park";
    pub const TASK_COPIED: &str = "ours, tasks, send_async()";
    pub const TASK_BATCHED: &str = "ours, tasks, batch + drain";
    pub const BYTES: &str = "ours, into_io()";
    pub const BYTES_PARK: &str = "ours, into_io(), Park";
    pub const BYTES_DEFAULT: &str = "ours, into_io(), Park, default ring";
    pub const TASK_SOCKET: &str = "Unix socket, tokio";
    pub const TASK_PIPE: &str = "pipe, tokio";
    pub const NAMED: &str = "ours, arm() + poll: named, FIFO";
    pub const ANONYMOUS: &str = "ours, arm() + poll: anonymous, helper thread";
    pub const WAIT_SET: &str = "ours, WaitSet, Park";
    pub const EVENTFD: &str = "limit: eventfd + poll";
    pub const LINE: &str = "limit: cache line";
    pub const FUTEX: &str = "limit: futex";
    pub const MEMCPY: &str = "limit: memcpy";
    pub const WRITE: &str = "limit: write alone";
    pub const READ: &str = "limit: read alone";
    pub const IN_PROCESS: &str = "limit: Cap'n Proto in process";
    pub const THREADS: &str = "limit: Cap'n Proto between threads";
    pub const CAPNP_SOCKET: &str = "Cap'n Proto over Unix socket";
}
use series::*;

/// All sections, in the order of the document.
pub const ALL: &[fn(&Results, Pace) -> Section] = &[
    round_trip,
    one_way,
    built_1_us,
    capnp,
    capnp_sizes,
    zero_copy,
    seldom,
    burst,
    stamped,
    paced,
    one_core,
    crowd,
    slots,
    channels,
    served,
    runs,
    tasks,
    tasks_one_way,
    tasks_seldom,
    tasks_bytes,
    tasks_crowd,
    readiness,
    wait_set,
];

/// Columns that are also shown near and far apart.
pub fn apart(section: &str, x: f64) -> bool {
    match section {
        "round-trip" => x == 64.0,
        "one-way" => [56.0, 64.0, 1024.0].contains(&x),
        other => other.starts_with("capnp"),
    }
}

const SIZE: Axis = Axis { name: "bytes", format: bytes, plot: true, base: None };

fn bytes(n: f64) -> String {
    match n as u64 {
        n if n >= 1 << 20 => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 => format!("{} KiB", n >> 10),
        n => format!("{n} B"),
    }
}

fn count(n: f64) -> String {
    format!("{n}")
}

/// Everything that can do `job` with messages of `size` bytes, ours in each way to use it.
fn everybody(size: usize, job: Job) -> Vec<Entry> {
    let entry = |series, contender| Entry::new(series, contender, size, job);
    vec![
        entry(OURS, "ours"),
        entry(COPIED, "ours-copied"),
        entry(PARK, "ours").poll(Park),
        entry(INTERVAL, "ours").poll(Interval),
        entry(TAIL, "ring-tail"),
        entry(BATCH, "ring-batch"),
        entry(WORD, "ring-word"),
        entry(RTRB, "rtrb"),
        entry(ICEORYX, "iceoryx2"),
        entry(IPC_CHANNEL, "ipc-channel"),
        entry(SOCKET, "socket"),
        entry(PIPE, "pipe"),
    ]
}

fn round_trip(_: &Results, _: Pace) -> Section {
    let group = |size| {
        let mut entries = everybody(size, TRIP);
        entries.push(Entry::new(ICEORYX_BEST, "iceoryx2-best", size, TRIP));
        if size == 8 {
            entries.push(Entry::new(LINE, "line", size, TRIP));
            entries.push(Entry::new(FUTEX, "futex", size, TRIP));
        }
        Group::new(entries)
    };
    Section {
        id: "round-trip",
        title: "Round trip",
        about: "One request, one reply of the same size, one at a time. The medians are of rounds without a \
                clock in the loop; the percentiles are of trips that are stamped one by one.",
        axis: SIZE,
        unit: Unit::Nanos,
        groups: [8, 64, 1024, 64 << 10].map(group).into(),
    }
}

fn one_way(_: &Results, _: Pace) -> Section {
    let group = |size| {
        let mut entries = everybody(size, STREAM);
        entries.push(Entry::new(BATCHED, "ours-batched", size, STREAM));
        Group::new(entries)
    };
    Section {
        id: "one-way",
        title: "One way",
        about: "As many messages as will go in one direction, the receiver always at work. 1024 slots, or as \
                many as make 16 MiB. A byte stream's receiver reads many messages at once.",
        axis: SIZE,
        unit: Unit::Rate,
        groups: [8, 56, 64, 256, 1024, 64 << 10, 1 << 20].map(group).into(),
    }
}

fn built_1_us(_: &Results, _: Pace) -> Section {
    let group = |(x, job)| {
        let entry = |series, contender| Entry::new(series, contender, 64, job).at(x);
        Group::new(vec![
            entry(OURS, "ours"),
            entry(PARK, "ours").poll(Park),
            entry(TAIL, "ring-tail"),
            entry(BATCH, "ring-batch"),
            entry(WORD, "ring-word"),
            entry(ICEORYX, "iceoryx2"),
        ])
    };
    let what = |x| if x == 1.0 { "round trip".to_owned() } else { "one way".to_owned() };
    Section {
        id: "built-1-us",
        title: "A message that takes 1 µs to build",
        about: "64 bytes, written in place again and again for 1 µs before they are committed: does a poller \
                that watches the slot disturb its builder? A round trip has two such messages.",
        axis: Axis { name: "work", format: what, plot: false, base: None },
        unit: Unit::Nanos,
        groups: [(1.0, Job::RoundTrip { build_ns: 1000 }), (2.0, Job::OneWay { build_ns: 1000 })]
            .map(group)
            .into(),
    }
}

fn capnp(_: &Results, _: Pace) -> Section {
    let entry = |series, contender| Entry::new(series, contender, 8, TRIP).at(request::BYTES as f64);
    let ring = |series, contender| Entry::new(series, contender, request::BYTES, TRIP);
    Section {
        id: "capnp",
        title: "Cap'n Proto request and reply",
        about: "A struct with a text and a list of four structs with texts, every field written and read on \
                both ways. In process: the same two messages built and read in memory that is used again, \
                nothing sent.",
        axis: Axis { name: "frame bytes", format: bytes, plot: false, base: None },
        unit: Unit::Nanos,
        groups: vec![Group::new(vec![
            entry(OURS, "ours-request").slot_size(512),
            entry(PARK, "ours-request").slot_size(512).poll(Park),
            entry(IN_PROCESS, "request-in-process").slot_size(512),
            ring(TAIL, "ring-tail"),
            ring(WORD, "ring-word"),
            entry(CAPNP_SOCKET, "request-socket"),
        ])],
    }
}

/// Books of the messages of about 1, 12 and 100 KB.
pub const BOOKS: [usize; 3] = [2, 23, 193];

fn capnp_sizes(_: &Results, _: Pace) -> Section {
    let group = |books: usize| {
        let size = quotes::frame_bytes(books);
        let entry = |series, contender| {
            Entry::new(series, contender, 8, TRIP).slots(64).slot_size(size).parts(books).at(size as f64)
        };
        Group::new(vec![
            entry(OURS, "ours-quotes"),
            entry(PARK, "ours-quotes").poll(Park),
            entry(IN_PROCESS, "quotes-in-process"),
            entry(THREADS, "quotes-threads"),
            entry(CAPNP_SOCKET, "quotes-socket"),
        ])
    };
    Section {
        id: "capnp-sizes",
        title: "Larger Cap'n Proto requests and replies",
        about: "Books of orders, lists of numbers in structs in a list, every field written and read on both \
                ways; a message fills its slot, of which there are 64: so the lines of a long one have gone to \
                the cache that both processors share by the time it is built anew. In process: the same two \
                messages built and read on one processor, in memory that is used again, nothing sent. Between \
                threads: built by one and read by another in plain memory, one line saying where, which \
                is the least cost of a message's lines on two processors.",
        axis: Axis { name: "frame bytes", format: bytes, plot: false, base: None },
        unit: Unit::Nanos,
        groups: BOOKS.map(group).into(),
    }
}

/// From what fits the first cache to the default.
pub const ZERO_COPY_SLOTS: [usize; 5] = [1, 4, 16, 256, 1024];

fn zero_copy(_: &Results, _: Pace) -> Section {
    let group = |slots: usize| {
        let entry =
            |series, contender| Entry::new(series, contender, 64 << 10, STREAM).slots(slots).at(slots as f64);
        Group::new(vec![
            entry(OURS, "ours"),
            entry(TAIL, "ring-tail"),
            entry(BATCH, "ring-batch"),
            entry(MEMCPY, "memcpy"),
            entry(WRITE, "write"),
            entry(READ, "read"),
        ])
    };
    Section {
        id: "zero-copy",
        title: "64 KiB without a copy",
        about: "Written once in place and read once, against one thread that copies as many bytes between two \
                regions, each as large as the ring. With few slots the copier works in its own cache, while \
                a sent message must cross from one core's cache to the other's: the time beyond the longer \
                of writing and reading alone is for that crossing, for ours and for the minimal rings.",
        axis: Axis { name: "slots", format: count, plot: false, base: None },
        unit: Unit::Nanos,
        groups: ZERO_COPY_SLOTS.map(group).into(),
    }
}

/// Columns of messages that come now and then: milliseconds between two.
pub const PERIODS: [f64; 2] = [30.0, 1.0];

/// Entries for messages of 8 bytes that come now and then.
fn now_and_then(entries: impl Fn(&dyn Fn(&str, &'static str) -> Entry) -> Vec<Entry>) -> Vec<Group> {
    let group = |period_ms: f64| {
        let job = Job::Paced { period_ns: period_ms * 1e6 };
        let entry = |series: &str, contender| Entry::new(series, contender, 8, job).at(period_ms);
        let group = Group::new(entries(&entry));
        if period_ms > 10.0 { group.stretched(10.0).rounds(5) } else { group.stretched(2.0) }
    };
    PERIODS.map(group).into()
}

fn each_ms(ms: f64) -> String {
    format!("each {ms} ms")
}

fn seldom(_: &Results, _: Pace) -> Section {
    Section {
        id: "seldom",
        title: "One message now and then",
        about: "8 bytes; from the moment the message was due until it is read, and the processor time of the \
                receiving process. iceoryx2 is left out: its publish and subscribe has no blocking receive.",
        axis: Axis { name: "message", format: each_ms, plot: false, base: None },
        unit: Unit::Wake,
        groups: now_and_then(|entry| {
            vec![
                entry(OURS, "ours"),
                entry(PARK, "ours").poll(Park),
                entry(INTERVAL, "ours").poll(Interval),
                entry(FUTEX, "futex"),
                entry(SOCKET, "socket"),
                entry(PIPE, "pipe"),
                entry(IPC_CHANNEL, "ipc-channel"),
            ]
        }),
    }
}

fn burst(_: &Results, _: Pace) -> Section {
    let job = Job::Burst { burst: 64, idle_us: 5000 };
    let entry = |series, contender| Entry::new(series, contender, 64, job).at(64.0);
    Section {
        id: "burst",
        title: "Bursts after idle",
        about: "5 ms of nothing, then 64 messages of 64 bytes at once: from the start of the burst until its \
                last message is read.",
        axis: Axis { name: "messages", format: count, plot: false, base: None },
        unit: Unit::Wake,
        groups: vec![
            Group::new(vec![
                entry(OURS, "ours"),
                entry(PARK, "ours").poll(Park),
                entry(INTERVAL, "ours").poll(Interval),
                entry(TAIL, "ring-tail"),
                entry(BATCH, "ring-batch"),
                entry(ICEORYX, "iceoryx2"),
                entry(IPC_CHANNEL, "ipc-channel"),
                entry(SOCKET, "socket"),
                entry(PIPE, "pipe"),
            ])
            .stretched(3.0),
        ],
    }
}

const PACED: [(&str, &str); 7] = [
    (OURS, "ours"),
    (PARK, "ours"),
    (TAIL, "ring-tail"),
    (BATCH, "ring-batch"),
    (WORD, "ring-word"),
    (ICEORYX, "iceoryx2"),
    (SOCKET, "socket"),
];
/// These are paced alike, at a share of what the slowest of them takes.
const ALIKE: [&str; 5] = [OURS, PARK, TAIL, BATCH, WORD];

fn paced_entry(series: &str, contender: &'static str, period_ns: f64) -> Entry {
    let entry = Entry::new(series, contender, 64, Job::Paced { period_ns });
    if series == PARK { entry.poll(Park) } else { entry }
}

fn stamped(_: &Results, _: Pace) -> Section {
    let entries = PACED.map(|(series, contender)| paced_entry(series, contender, 0.0));
    Section {
        id: "stamped",
        title: "The maximum of a paced load",
        about: "64 bytes one way, each message stamped when it is sent and when it is read: the stamps bound \
                the rate. The next section offers shares of this.",
        axis: Axis { name: "bytes", format: bytes, plot: false, base: None },
        unit: Unit::Rate,
        groups: vec![Group::new(entries.into())],
    }
}

fn paced(results: &Results, pace: Pace) -> Section {
    let most = |series: &str| results.get("stamped", series, 64.0).map(|f| f.nanos);
    let alike = ALIKE.iter().filter_map(|s| most(s)).fold(0.0, f64::max);
    let group = |percent: f64| {
        let entries = PACED.iter().filter_map(|&(series, contender)| {
            let nanos = if ALIKE.contains(&series) { alike } else { most(series)? };
            Some(paced_entry(series, contender, nanos * 100.0 / percent).at(percent))
        });
        Group::new(entries.collect()).stretched(0.1).rounds(10 * pace.rounds)
    };
    Section {
        id: "paced",
        title: "Latency under load",
        about: "64 bytes at a share of the maximum. A message is due by the clock, and its latency counts \
                from then, also when the sender is held up: nothing is left out. Ours and the minimal rings \
                get the same load, a share of the slowest one's maximum; the others a share of their own. \
                Rounds are short and many, and the percentiles medians of theirs: a virtual machine that \
                takes a processor away for a millisecond now and then decides the p99.9 of any longer \
                round, in every contender's turn. The maxima show it.",
        axis: Axis { name: "load", format: |p| format!("{p} %"), plot: true, base: None },
        unit: Unit::Tail,
        groups: [10.0, 30.0, 50.0, 70.0, 90.0].map(group).into(),
    }
}

/// Columns of a core that the two sides share: with nobody, with a process that spins.
pub const ALONE: f64 = 0.0;
pub const BUSY: f64 = 1.0;

fn one_core(_: &Results, _: Pace) -> Section {
    let entry = |series, contender, x| Entry::new(series, contender, 64, TRIP).slots(16).one_core().at(x);
    let what = |x| if x == ALONE { "alone" } else { "beside a spinner" }.to_owned();
    let group = |x| {
        Group::new(vec![
            entry(OURS, "ours", x),
            entry(PARK, "ours", x).poll(Park),
            entry(SOCKET, "socket", x),
            entry(FUTEX, "futex", x),
        ])
    };
    let mut alone = group(ALONE);
    alone.entries.extend([entry(INTERVAL, "ours", ALONE).poll(Interval), entry(TAIL, "ring-tail", ALONE)]);
    Section {
        id: "one-core",
        title: "Both sides on one core",
        about: "64-byte round trips: a side that spins keeps the other from running, unless it yields. And \
                the same while a third process does nothing but spin on that core.",
        axis: Axis { name: "core", format: what, plot: false, base: None },
        unit: Unit::Nanos,
        groups: vec![alone, group(BUSY).beside_spinners(&[0]).stretched(3.0)],
    }
}

/// Pairs of a crowd; one has a spinner beside it on each core.
pub const PAIRS: [f64; 2] = [10.0, 1.0];

fn crowd(_: &Results, pace: Pace) -> Section {
    let job = Job::TripsFor { millis: 30 * pace.round.as_millis() as u64 };
    let group = |pairs: f64| {
        let entry = |series, contender| {
            Entry::new(series, contender, 64, job).slots(16).crowd(pairs as usize).at(pairs)
        };
        Group::new(vec![entry(PARK, "ours").poll(Park), entry(SOCKET, "socket"), entry(FUTEX, "futex")])
            .rounds(3)
    };
    let what = |pairs| match pairs {
        1.0 => "one pair, spinners".to_owned(),
        pairs => format!("{pairs} pairs"),
    };
    let [many, one] = PAIRS.map(group);
    Section {
        id: "crowd",
        title: "More processes than cores",
        about: "64-byte round trips for three seconds, three times, on two cores, nobody pinned: ten pairs of \
                processes at once; and one pair while on each core another process does nothing but spin.",
        axis: Axis { name: "pairs", format: what, plot: false, base: None },
        unit: Unit::Calls,
        groups: vec![many, one.beside_spinners(&[0, 1])],
    }
}

fn slots(_: &Results, _: Pace) -> Section {
    let group = |size: usize| {
        let mut entries = Vec::new();
        for slots in [16, 64, 256, 1024, 4096, 16384, 65536] {
            for (series, contender) in [(OURS, "ours"), (BATCH, "ring-batch")] {
                let series = format!("{series}, {}", bytes(size as f64));
                entries.push(Entry::new(&series, contender, size, STREAM).slots(slots).at(slots as f64));
            }
        }
        Group::new(entries)
    };
    Section {
        id: "slots",
        title: "Number of slots",
        about: "One way. In brackets: as a multiple of the same series at 1024 slots. Few slots leave no room \
                for a batch: the sides wait for each other's index every few messages. Where the ring no \
                longer fits the cache that both cores share (1 KiB slots from 16384 on), its lines come from \
                memory. The minimal ring shows what the hardware does to both.",
        axis: Axis { name: "slots", format: count, plot: true, base: Some(1024.0) },
        unit: Unit::Nanos,
        groups: [64, 1024].map(group).into(),
    }
}

fn channels(_: &Results, _: Pace) -> Section {
    let entry = |series, channels, job| {
        Entry::new(series, "ours-many", 64, job).slots(64).channels(channels).at(channels as f64)
    };
    let numbers = [1, 4, 16, 64, 256];
    Section {
        id: "channels",
        title: "Number of channels",
        about: "64 bytes over 64 slots, the channels used in turn by one thread on each side. In brackets: as \
                a multiple of one channel. Each channel has its own lines for its indices and slots, which \
                leave the core's own cache as channels are added.",
        axis: Axis { name: "channels", format: count, plot: true, base: Some(1.0) },
        unit: Unit::Nanos,
        groups: vec![
            Group::new(numbers.map(|n| entry("ours, round trip", n, TRIP)).into()),
            Group::new(numbers.map(|n| entry("ours, one way", n, STREAM)).into()),
        ],
    }
}

fn served(_: &Results, _: Pace) -> Section {
    let group = |job, x| {
        Group::new(vec![
            Entry::new(OURS, "ours", 64, job).at(x),
            Entry::new(SERVED, "ours-served", 64, job).at(x),
        ])
    };
    Section {
        id: "served",
        title: "A channel from a server",
        about: "64 bytes over a channel that a server gave its client, beside one that has a name of its own.",
        axis: Axis { name: "way", format: way, plot: false, base: None },
        unit: Unit::Nanos,
        groups: vec![group(TRIP, THERE_AND_BACK), group(STREAM, ONE_WAY)],
    }
}

/// Columns of the section about a channel from a server.
pub const ONE_WAY: f64 = 1.0;
pub const THERE_AND_BACK: f64 = 2.0;

fn way(n: f64) -> String {
    if n == ONE_WAY { "one way" } else { "round trip" }.to_owned()
}

fn runs(_: &Results, pace: Pace) -> Section {
    let lengths = if pace.round < Duration::from_millis(100) { [0.1, 0.3, 1.0] } else { [1.0, 10.0, 60.0] };
    let group = |seconds: f64| {
        let entry = Entry::new("ours, 64 B one way", "ours", 64, STREAM).at(seconds);
        Group::new(vec![entry]).rounds(1).stretched(seconds / pace.round.as_secs_f64())
    };
    let base = Some(lengths[0]);
    Section {
        id: "runs",
        title: "Length of a run",
        about: "One way, 64 bytes, without a break. In brackets: as a multiple of the shortest.",
        axis: Axis { name: "seconds", format: count, plot: false, base },
        unit: Unit::Nanos,
        groups: lengths.map(group).into(),
    }
}

fn tasks(_: &Results, _: Pace) -> Section {
    let entry = |series, contender| Entry::new(series, contender, 64, TRIP);
    Section {
        id: "tasks",
        title: "Round trip between two tasks",
        about: "64 bytes there and back between two tokio tasks in two processes, each the only one of a \
                runtime with one thread, against two threads that block: `reserve_async`, `commit`, \
                `recv_async`.",
        axis: Axis { plot: false, ..SIZE },
        unit: Unit::Nanos,
        groups: vec![Group::new(vec![
            entry(OURS, "ours"),
            entry(PARK, "ours").poll(Park),
            entry(TASK, "ours-task"),
            entry(TASK_PARK, "ours-task").poll(Park),
            entry(TASK_SOCKET, "socket-task"),
            entry(TASK_PIPE, "pipe-task"),
            entry(SOCKET, "socket"),
        ])],
    }
}

fn tasks_one_way(_: &Results, _: Pace) -> Section {
    let entry = |series, contender| Entry::new(series, contender, 64, STREAM);
    Section {
        id: "tasks-one-way",
        title: "One way between two tasks",
        about: "As many messages of 64 bytes as will go. `send_async` copies each message; *tasks* without a word \
                builds each in place. With batch and drain a task awaits the first slot and the first message of \
                each batch only.",
        axis: Axis { plot: false, ..SIZE },
        unit: Unit::Rate,
        groups: vec![Group::new(vec![
            entry(OURS, "ours"),
            entry(COPIED, "ours-copied"),
            entry(BATCHED, "ours-batched"),
            entry(TASK, "ours-task"),
            entry(TASK_PARK, "ours-task").poll(Park),
            entry(TASK_COPIED, "ours-task-copied"),
            entry(TASK_BATCHED, "ours-task-batched"),
            entry(TASK_SOCKET, "socket-task"),
        ])],
    }
}

fn tasks_seldom(_: &Results, _: Pace) -> Section {
    Section {
        id: "tasks-seldom",
        title: "One message now and then to a task",
        about: "8 bytes; from the moment the message was due until the task has read it, and the processor time \
                of the receiving process.",
        axis: Axis { name: "message", format: each_ms, plot: false, base: None },
        unit: Unit::Wake,
        groups: now_and_then(|entry| {
            vec![
                entry(TASK_PARK, "ours-task").poll(Park),
                entry(TASK, "ours-task"),
                entry(TASK_PIPE, "pipe-task"),
                entry(TASK_SOCKET, "socket-task"),
                entry(PARK, "ours").poll(Park),
                entry(PIPE, "pipe"),
            ]
        }),
    }
}

fn readiness(_: &Results, _: Pace) -> Section {
    Section {
        id: "readiness",
        title: "What wakes whom",
        about: "One message of 8 bytes now and then, by each way to wake a thread of another process: from the \
                moment the message was due until it is read. Ours with `arm` and the system's `poll`, as an event \
                loop uses it: for a named channel the peer writes to a FIFO beside it; for an anonymous one the \
                peer wakes a thread of the receiving process, which writes to the descriptor.",
        axis: Axis { name: "message", format: each_ms, plot: false, base: None },
        unit: Unit::Wake,
        groups: now_and_then(|entry| {
            vec![
                entry(NAMED, "ours-armed").poll(Park),
                entry(ANONYMOUS, "ours-armed-anonymous").poll(Park),
                entry(EVENTFD, "eventfd"),
                entry(FUTEX, "futex"),
                entry(PIPE, "pipe"),
                entry(PARK, "ours").poll(Park),
                entry(TASK_PARK, "ours-task").poll(Park),
            ]
        }),
    }
}

/// Channels in a wait set.
pub const SET: [usize; 4] = [1, 10, 100, 1000];

fn wait_set(_: &Results, _: Pace) -> Section {
    let job = Job::Paced { period_ns: 1e6 };
    let entry = |channels| {
        let entry = Entry::new(WAIT_SET, "ours-wait-set", 8, job).poll(Park).slots(16);
        entry.channels(channels).at(channels as f64)
    };
    Section {
        id: "wait-set",
        title: "A wait set",
        about: "One thread waits for many channels, one of which gets a message of 8 bytes each millisecond: from \
                the moment the message was due until it is read. In brackets: as a multiple of one channel.",
        axis: Axis { name: "channels", format: count, plot: false, base: Some(1.0) },
        unit: Unit::Wake,
        groups: vec![Group::new(SET.map(entry).into()).stretched(2.0)],
    }
}

fn tasks_bytes(_: &Results, _: Pace) -> Section {
    let entry = |series, contender| Entry::new(series, contender, 64 << 10, STREAM);
    Section {
        id: "tasks-bytes",
        title: "A stream of bytes between two tasks",
        about: "Written and read 64 KiB at a time, one way: `into_io()` over 64 slots of 64 KiB, and over the \
                default 1024 slots of 1 KiB. A ring that leaves the writer's own cache is read from the cache \
                that both share. The writer makes every word, and the reader sums it up.",
        axis: Axis { plot: false, ..SIZE },
        unit: Unit::Nanos,
        groups: vec![Group::new(vec![
            entry(BYTES, "ours-task-bytes").slots(64),
            entry(BYTES_PARK, "ours-task-bytes").slots(64).poll(Park),
            entry(BYTES_DEFAULT, "ours-task-bytes-default").poll(Park),
            entry(TASK_SOCKET, "socket-task"),
            entry(TASK_PIPE, "pipe-task"),
        ])],
    }
}

fn tasks_crowd(_: &Results, pace: Pace) -> Section {
    let job = Job::TripsFor { millis: 30 * pace.round.as_millis() as u64 };
    let [many, _] = PAIRS;
    let entry =
        |series, contender| Entry::new(series, contender, 64, job).slots(16).crowd(many as usize).at(many);
    Section {
        id: "tasks-crowd",
        title: "More tasks than cores",
        about: "64-byte round trips for three seconds, three times, between ten pairs of processes on two cores, \
                nobody pinned, each process a runtime with one thread.",
        axis: Axis { name: "pairs", format: count, plot: false, base: None },
        unit: Unit::Calls,
        groups: vec![
            Group::new(vec![
                entry(TASK_PARK, "ours-task").poll(Park),
                entry(PARK, "ours").poll(Park),
                entry(TASK_SOCKET, "socket-task"),
            ])
            .rounds(3),
        ],
    }
}
