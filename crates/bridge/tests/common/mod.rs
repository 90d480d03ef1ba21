//! Two machines in miniature: two directories for channels, a bridge for each, and a link between that can be cut.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, RecvError, SendError, Transport};

/// Long enough for a loaded machine; nothing waits for it in order to be right.
pub const LONG: Duration = Duration::from_secs(60);

/// A directory for channels, removed with everything in it.
pub struct Site(pub PathBuf);

impl Site {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path =
            root.join(format!("t-bridge-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn config(&self) -> Config {
        Config::new().directory(&self.0).slot_size(64).slot_count(16)
    }

    /// What lies there now.
    pub fn left(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A bridge program. Killed when dropped.
pub struct Bridge {
    pub child: Child,
    /// What it says, read by a thread of its own: a bridge must never wait for whoever reads it.
    lines: Receiver<String>,
    pub said: Vec<String>,
}

impl Bridge {
    pub fn start(site: &Site, zenoh: &[&str], args: &[&str]) -> Self {
        Self::start_with(site, zenoh, args, log(site))
    }

    pub fn start_with(site: &Site, zenoh: &[&str], args: &[&str], stdout: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_capnp-shm-bridge"))
            .arg("--dir")
            .arg(&site.0)
            .args(["--key", "t"])
            .args(zenoh)
            .args(args)
            .env_remove("CAPNPROTO_SHM_DIR")
            .stderr(Stdio::piped())
            .stdout(stdout)
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line + "\n"))
        });
        let mut bridge = Self { child, lines, said: Vec::new() };
        bridge.hears("ready");
        bridge
    }

    /// Reads what it says until this comes.
    pub fn hears(&mut self, what: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv() else {
                panic!("it ended before it said {what:?}: {:#?}", self.said);
            };
            self.said.push(line.clone());
            if line.contains(what) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        use rustix::process::{Pid, kill_process};
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end; its exit code.
    pub fn end(mut self) -> (i32, String) {
        let rest: String = self.lines.iter().collect();
        let code = self.child.wait().unwrap().code().expect("it was killed");
        (code, self.said.concat() + &rest)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let rest: String = self.lines.iter().collect();
        // Shown if the test fails.
        println!("{}{rest}", self.said.concat());
    }
}

/// Where Zenoh's log goes, if `RUST_LOG` asks for one: a file in the directory `T_BRIDGE_LOG`.
fn log(site: &Site) -> Stdio {
    let Some(directory) = std::env::var_os("T_BRIDGE_LOG") else { return Stdio::null() };
    let name = site.0.file_name().unwrap();
    let path = Path::new(&directory).join(name).with_extension("log");
    std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().into()
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Two sites, a bridge each, and the link between.
pub struct World {
    pub a: Site,
    pub b: Site,
    pub link: Cable,
    listen: String,
    args: Vec<String>,
}

impl World {
    pub fn new(args: &[&str]) -> Self {
        let listens = free_port();
        let link = Cable::to(listens);
        let listen = format!("tcp/{listens}");
        Self {
            a: Site::new(),
            b: Site::new(),
            link,
            listen,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        }
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.args.iter().map(|arg| &**arg).chain(more.iter().copied()).collect()
    }

    /// The bridge beside side A, which connects.
    pub fn bridge_a(&self, more: &[&str]) -> Bridge {
        let connect = format!("tcp/{}", self.link.address);
        Bridge::start(&self.a, &["--connect", &connect, "--listen", "tcp/127.0.0.1:0"], &self.args(more))
    }

    /// The bridge beside side B, which listens.
    pub fn bridge_b(&self, more: &[&str]) -> Bridge {
        Bridge::start(&self.b, &["--listen", &self.listen], &self.args(more))
    }

    /// Where the bridge beside side B listens, not through the cable.
    pub fn listens(&self) -> &str {
        &self.listen
    }

    pub fn create(&self, name: &str) -> Transport {
        Transport::create(name, &self.a.config()).unwrap()
    }

    pub fn open(&self, name: &str) -> Transport {
        Transport::open_with(name, LONG, &self.b.config()).unwrap()
    }
}

/// What a cable does with the bytes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Passes,
    /// Keeps them, and everybody believes that they are on their way.
    Holds,
}

struct Wire {
    flow: Mutex<Flow>,
    changed: Condvar,
    streams: Mutex<Vec<TcpStream>>,
}

/// A TCP link that can be held and cut.
pub struct Cable {
    pub address: SocketAddr,
    wire: Arc<Wire>,
}

impl Cable {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Arc::new(Wire {
            flow: Mutex::new(Flow::Passes),
            changed: Condvar::new(),
            streams: Mutex::default(),
        });
        let shared = Arc::clone(&wire);
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let Ok(far) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let wire = Arc::clone(&shared);
                    thread::spawn(move || wire.pass(from, to));
                }
                shared.streams.lock().unwrap().extend([near, far]);
            }
        });
        Self { address, wire }
    }

    pub fn set(&self, flow: Flow) {
        *self.wire.flow.lock().unwrap() = flow;
        self.wire.changed.notify_all();
    }

    /// Breaks every connection. What was under way is lost.
    pub fn cut(&self) {
        for stream in self.wire.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Wire {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let mut flow = self.flow.lock().unwrap();
            while *flow == Flow::Holds {
                flow = self.changed.wait(flow).unwrap();
            }
            drop(flow);
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Message number `number`: of many lengths, and different from every other.
pub fn message(number: u64) -> Vec<u8> {
    let length = [8, 64, 9, 200, 33, 1000, 64, 0][(number % 8) as usize];
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(length, number as u8);
    bytes
}

pub fn send(to: &mut Transport, bytes: &[u8]) -> Result<(), SendError> {
    if bytes.len() <= to.slot_size() {
        return to.send(bytes);
    }
    let mut span = to.reserve_span(bytes.len())?;
    span.copy_from_slice(bytes);
    span.commit(bytes.len());
    Ok(())
}

pub fn receive(from: &mut Transport) -> Result<Vec<u8>, RecvError> {
    from.recv_timeout(LONG).map(|message| message.to_vec())
}

/// How the channel ended, after what still came.
pub fn end(from: &mut Transport) -> (usize, RecvError) {
    let mut came = 0;
    loop {
        match from.recv_timeout(LONG) {
            Ok(_) => came += 1,
            Err(error) => return (came, error),
        }
    }
}

pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "still not: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// This test binary again, as a program of its own that runs `part`.
pub fn program(part: &str, site: &Site, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["program", "--exact", "--nocapture"])
        .env("T_BRIDGE_PART", part)
        .env("T_BRIDGE_NAME", name)
        .env("CAPNPROTO_SHM_DIR", &site.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What [`program`] asked for, if this process is one.
pub fn asked() -> Option<(String, String)> {
    Some((std::env::var("T_BRIDGE_PART").ok()?, std::env::var("T_BRIDGE_NAME").ok()?))
}
