//! A camera and its viewer: large frames one way, small commands the other, and no copy of a frame anywhere.
//!
//! `cargo run --release --example camera` starts both processes. The camera (side A) draws each frame in the slot that
//! carries it: 6 MB, 60 times a second. The viewer (side B) keeps the last three in a [`Window`] and computes over all
//! of them where they lie. By what it sees it sets exposure and gain, and in the end it says stop.
//!
//! Frames have whatever size the command line says, so this is a `Transport` with a `Pod` header at the front of each
//! slot, and its two directions have slots of their own size. With a size known at compile time, a `Channel<Frame,
//! Control>` of a `Pod` with an array would do the same.
//!
//! [`Window`]: capnproto_shm_transport::Window

mod camera;
mod frame;
mod mapping;
mod picture;
mod viewer;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends frames from one process to another, in place, and says what came of it.
#[derive(Parser)]
struct Args {
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Frames a second.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    fps: u32,
    /// Pixels of a line, one byte each.
    #[arg(long, default_value_t = 3072, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    width: u32,
    /// Lines of a frame.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    height: u32,
    /// The channel's name; one of this process by default.
    #[arg(long)]
    name: Option<String>,
    /// Be the camera of a viewer that is there already.
    #[arg(long, hide = true)]
    camera: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let name = args.name.clone().unwrap_or_else(|| format!("camera-{}", std::process::id()));
    // An interrupt of the terminal reaches both processes: the viewer ends the camera in order.
    let handled = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).map_err(Failure::from);
    let side = if args.camera { camera::run } else { viewer::run };
    match handled.and_then(|()| side(&args, &name)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("camera: {failure}");
            ExitCode::FAILURE
        }
    }
}
