//! One task that waits for everything at once: three channels, a socket and a timer, in one `select!`.
//!
//! `cargo run --release --features tokio --example async_select` starts all processes. Each of the three channels comes
//! from a process of its own, which sends as any thread does; a fourth process writes to the socket. Each arrival is
//! printed, with its time and where it came from.

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Channel, Config, SendError, Transport};
use clap::{Parser, Subcommand};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{interval, sleep_until, timeout};

/// Told by Ctrl-C.
static CTRL_C: Notify = Notify::const_new();
const PATIENCE: Duration = Duration::from_secs(5);

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Waits for three channels, a socket and a timer, and prints what comes.
#[derive(Parser)]
#[command(disable_help_subcommand = true)]
struct Args {
    /// How long
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The other processes.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Thermometer { name: String },
    #[command(hide = true)]
    Counter { name: String },
    #[command(hide = true)]
    Log { name: String },
    #[command(hide = true)]
    Socket { address: String },
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds = text.parse()?;
    if !(0.0..=1e9).contains(&seconds) {
        return Err("0 seconds at least, 1e9 at most".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn main() -> Result {
    let Args { seconds, role } = Args::parse();
    // Ctrl-C reaches every process of the terminal. Only the first listens to it: the others end when it does.
    ctrlc::set_handler(|| CTRL_C.notify_one())?;
    let Some(role) = role else { return watch(seconds) };
    match role {
        Role::Thermometer { name } => thermometer(&name),
        Role::Counter { name } => counter(&name),
        Role::Log { name } => log(&name),
        Role::Socket { address } => socket(&address),
    }
}

/// Receives everything in one task, on one thread.
#[tokio::main(flavor = "current_thread")]
async fn watch(time: Duration) -> Result {
    let name = |channel| format!("select-{channel}-{}", std::process::id());
    // The first type is sent, the second received. Nothing is sent here, so it is the smallest.
    let mut thermometer = Channel::<u8, f64>::create(&name("thermometer"), &Config::new())?;
    let mut counter = Channel::<u8, u64>::create(&name("counter"), &Config::new())?;
    let mut log = Transport::create(&name("log"), &Config::new())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;

    let mut children = Vec::new();
    for role in ["thermometer", "counter", "log"] {
        children.push(start(role, &name(role))?);
    }
    children.push(start("socket", &listener.local_addr()?.to_string())?);
    thermometer.wait_for_peer(PATIENCE)?;
    counter.wait_for_peer(PATIENCE)?;
    log.wait_for_peer(PATIENCE)?;
    let (socket, _) = timeout(PATIENCE, listener.accept()).await??;
    let mut lines = BufReader::new(socket).lines();

    let (began, mut seen) = (Instant::now(), Seen::default());
    let mut timer = interval(Duration::from_millis(250));
    let end = sleep_until((began + time).into());
    tokio::pin!(end);
    // A future that did not win is dropped, and has taken nothing: the message is there in the next round.
    loop {
        tokio::select! {
            degrees = thermometer.recv_async() => seen.note("thermometer", began, format!("{:.2} °C", *degrees?)),
            count = counter.recv_async() => seen.note("counter", began, *count?),
            text = log.recv_async() => seen.note("log", began, String::from_utf8_lossy(&text?)),
            line = lines.next_line() => seen.note("socket", began, line?.ok_or("the socket has closed")?),
            _ = timer.tick() => seen.note("timer", began, "tick"),
            () = CTRL_C.notified() => break,
            () = &mut end => break,
        }
    }
    println!("{}", seen.summary());

    // The other processes notice that this end is gone.
    drop((thermometer, counter, log, lines));
    for child in children {
        success(child)?;
    }
    Ok(())
}

/// How often each has spoken.
#[derive(Default)]
struct Seen(Vec<(&'static str, u32)>);

impl Seen {
    fn note(&mut self, source: &'static str, began: Instant, what: impl std::fmt::Display) {
        println!("{:>6.3} s  {source:<12} {what}", began.elapsed().as_secs_f64());
        match self.0.iter_mut().find(|(known, _)| *known == source) {
            Some((_, count)) => *count += 1,
            None => self.0.push((source, 1)),
        }
    }

    fn summary(mut self) -> String {
        self.0.sort_unstable();
        let counts: Vec<_> = self.0.iter().map(|(source, count)| format!("{source} {count}")).collect();
        format!("received: {}", counts.join(", "))
    }
}

fn thermometer(name: &str) -> Result {
    let mut channel = Channel::<f64, u8>::open(name, PATIENCE)?;
    let mut degrees = 20.0;
    until_closed(Duration::from_millis(100), || {
        degrees += 0.01;
        channel.send(&degrees)
    })
}

fn counter(name: &str) -> Result {
    let mut channel = Channel::<u64, u8>::open(name, PATIENCE)?;
    let mut count = 0;
    until_closed(Duration::from_millis(50), || {
        count += 1;
        channel.send(&count)
    })
}

fn log(name: &str) -> Result {
    let mut channel = Transport::open(name, PATIENCE)?;
    let mut lines = ["the pump runs", "the valve is open", "the tank is full"].iter().cycle();
    until_closed(Duration::from_millis(150), || {
        lines.next().map_or(Ok(()), |line| channel.send(line.as_bytes()))
    })
}

/// Sends at a pace until the receiver has closed.
fn until_closed(pause: Duration, mut send: impl FnMut() -> std::result::Result<(), SendError>) -> Result {
    loop {
        match send() {
            Ok(()) => sleep(pause),
            Err(SendError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn socket(address: &str) -> Result {
    let mut socket = TcpStream::connect(address)?;
    for number in 1.. {
        match socket.write_all(format!("line {number}\n").as_bytes()) {
            Ok(()) => sleep(Duration::from_millis(120)),
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn start(role: &str, address: &str) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?).args([role, address]).spawn()?)
}

fn success(mut child: Child) -> Result {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("another process failed: {status}").into()) }
}
