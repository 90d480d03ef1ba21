//! Side B: looks at the last three frames, and tells the camera what it wants.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, Producer, RecvError, SendError, Transport};
use comfy_table::{Table, presets};
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use crate::frame::{Control, Frame, Header, TAG, now};
use crate::mapping::Addresses;
use crate::picture::{Look, look};
use crate::{Args, Failure, PATIENCE, STOP};

/// Frames that are looked at together.
const FRAMES: usize = 3;
/// The brightness that the viewer wants, of 255, and how near is near enough.
const BRIGHTNESS: f64 = 100.0;
const NEAR: f64 = 3.0;

pub fn run(args: &Args, name: &str) -> Result<(), Failure> {
    let mut camera = Camera::start(args, name)?;
    let mut channel = Transport::open_with(name, PATIENCE, &Config::new().message_tag(TAG))?;
    let (commands, frames) = channel.halves();
    let mut auto = Auto { asked: Control::FIRST, commands: 0, longest_us: 1_000_000 / args.fps };
    let mut seen = Seen::new(Addresses::new(name)?);
    let bar = progress(args.seconds);
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);

    let mut window = frames.window();
    loop {
        let held = window.len();
        let received = window.wait_for_timeout(FRAMES, PATIENCE);
        let received_at = now();
        // Frames that came before an error are in the window all the same.
        seen.frames += (window.len() - held) as u64;
        match received {
            Ok(()) => {}
            Err(RecvError::Closed) if auto.asked.stop != 0 => break,
            Err(error) => return Err(error.into()),
        }
        let [old, middle, new] = [0, 1, 2].map(|index| Frame::read(&window[index]));
        let (old, middle, new) = (old?, middle?, new?);
        if old.header.number + 2 != new.header.number {
            return Err("a frame is missing".into());
        }
        for message in window.iter() {
            seen.addresses.note(message)?;
        }
        seen.latencies.push(received_at.saturating_sub(new.header.taken_at));
        seen.last = Some(*new.header);
        seen.look = look([old.pixels, middle.pixels, new.pixels]);

        let left = end.saturating_duration_since(Instant::now());
        if auto.asked.stop == 0 && (left.is_zero() || STOP.load(Ordering::Relaxed)) {
            auto.stop(commands)?;
        } else {
            auto.adjust(old.header, seen.look.brightness, commands)?;
        }
        bar.set_position(bar.length().unwrap_or(0).saturating_sub(left.as_millis() as u64));
        bar.set_message(seen.line());
        // The oldest frame's slot is the camera's again.
        window.release(1);
    }
    drop(window);
    bar.finish_and_clear();
    camera.finish()?;
    println!("{}", seen.table(&auto, name));
    Ok(())
}

/// Sets exposure, and gain where that is not enough.
struct Auto {
    asked: Control,
    commands: u64,
    longest_us: u32,
}

impl Auto {
    /// Asks for other settings if these are wrong, and if even the oldest frame was taken by them.
    fn adjust(&mut self, oldest: &Header, brightness: f64, to: &mut Producer) -> Result<(), Failure> {
        let Control { exposure_us, gain, stop } = self.asked;
        let effective = (oldest.exposure_us, oldest.gain) == (exposure_us, gain);
        if stop != 0 || !effective || (brightness - BRIGHTNESS).abs() <= NEAR {
            return Ok(());
        }
        let light = f64::from(exposure_us) * f64::from(gain) * BRIGHTNESS / brightness.max(1.0);
        self.asked.exposure_us = light.clamp(1.0, self.longest_us.into()) as u32;
        self.asked.gain = (light / f64::from(self.asked.exposure_us)).clamp(1.0, 64.0) as f32;
        self.commands += 1;
        Ok(to.send_timeout(bytemuck::bytes_of(&self.asked), PATIENCE)?)
    }

    fn stop(&mut self, to: &mut Producer) -> Result<(), SendError> {
        self.asked.stop = 1;
        self.commands += 1;
        to.send_timeout(bytemuck::bytes_of(&self.asked), PATIENCE)
    }
}

/// The frames that came.
struct Seen {
    frames: u64,
    last: Option<Header>,
    latencies: Vec<u64>,
    look: Look,
    addresses: Addresses,
}

impl Seen {
    fn new(addresses: Addresses) -> Self {
        Self { frames: 0, last: None, latencies: Vec::new(), look: Look::default(), addresses }
    }

    fn line(&self) -> String {
        let dropped = self.last.map_or(0, |header| header.dropped);
        let Look { brightness, motion } = self.look;
        let moved = 100.0 * motion;
        format!("{} frames, {dropped} dropped, brightness {brightness:.0}, {moved:.1} % moved", self.frames)
    }

    fn table(mut self, auto: &Auto, name: &str) -> String {
        let Some(last) = self.last else { return "fewer than three frames came".to_owned() };
        self.latencies.sort_unstable();
        let latency = |share: f64| {
            let nanos = self.latencies[((self.latencies.len() - 1) as f64 * share) as usize];
            format!("{:.0} µs", nanos as f64 / 1000.0)
        };
        let bytes = Header::BYTES as u64 + u64::from(last.width) * u64::from(last.height);
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY);
        table.add_rows([
            ["frames sent".to_owned(), format!("{}, of {} each", last.number + 1, DecimalBytes(bytes))],
            ["seen".to_owned(), self.frames.to_string()],
            ["dropped, no slot free".to_owned(), last.dropped.to_string()],
            ["latency, median and p99".to_owned(), format!("{}, {}", latency(0.5), latency(0.99))],
            [
                "commands sent".to_owned(),
                format!("{}; exposure {} µs, gain {:.2}", auto.commands, last.exposure_us, last.gain),
            ],
            [
                "brightness, motion".to_owned(),
                format!("{:.0} of 255, {:.1} %", self.look.brightness, 100.0 * self.look.motion),
            ],
            ["copies of a frame".to_owned(), copies(self.addresses.count(), name)],
        ]);
        table.to_string()
    }
}

fn copies(addresses: usize, name: &str) -> String {
    if cfg!(target_os = "linux") {
        format!("none: all lay at {addresses} addresses in the mapping of {name}.fs.a2b")
    } else {
        format!("all lay at {addresses} addresses (this system does not say of which mapping)")
    }
}

fn progress(seconds: f64) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:30} {percent:>3} %  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new((seconds * 1000.0) as u64).with_style(style.progress_chars("━━╌"))
}

/// This program again, as side A. Killed when dropped before its end, and what it leaves is removed.
struct Camera {
    child: Child,
    name: String,
}

impl Camera {
    fn start(args: &Args, name: &str) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--camera", "--name", name]);
        for (option, value) in [("--fps", args.fps), ("--width", args.width), ("--height", args.height)] {
            command.arg(option).arg(value.to_string());
        }
        Ok(Self { child: command.stdin(Stdio::null()).spawn()?, name: name.to_owned() })
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the camera failed: {status}").into()) }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // It may have ended by itself, in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = Transport::remove(&self.name);
    }
}
