//! How a channel comes to be, is joined, taken over and removed.
//!
//! Who holds the lock on `<name>.fs.a2b` owns the name: only that side A creates or removes the other file.
//! So a creator publishes a2b first, already locked and whole, and b2a second; an opener that finds the
//! first without the second, or two of different generations, finds a channel half made and waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::payload::{Payload, Payloads, agree};
use crate::config::{Config, Geometry, Mapping, check_name};
use crate::crash::step;
use crate::error::{ConfigError, CreateError, Missing, OpenError, RemoveError};
use crate::poll::{Fence, PollMode, has_barrier};
use crate::segment::{
    Access, CLAIM_IS_APART, Direction, End, Fixed, Lease, Link, Segment, SegmentOpenError, Side, path_of,
    random, sweep,
};

/// Side A: takes the name and makes both segments.
pub(crate) fn create(name: &str, config: &Config, payloads: Payloads) -> Result<Arc<Lease>, CreateError> {
    check_name(name)?;
    config.permissions_checked()?;
    let [(a2b, out), (b2a, back)] = headers(config, payloads)?;
    let (tx_path, rx_path) = (path_of(name, Direction::AToB), path_of(name, Direction::BToA));

    // What is left goes first: it may fill the file system that we need.
    let tx = loop {
        reclaim(name, true)?;
        if let Some(tx) = Segment::create(&tx_path, a2b, out, Access::Write, config)? {
            break tx;
        }
    };
    // The name is ours. If anything fails from here on, the guard takes the first file away again.
    let tx = Unfinished(Some(tx));
    let io = |action, path: &PathBuf| {
        let path = path.clone();
        move |source| CreateError::Io { action, path, source }
    };
    sweep(&tx_path);
    sweep(&rx_path);
    let rx = loop {
        // What a side A left that died between the two. Nobody but us makes or removes this file.
        match open_old(&rx_path, Direction::BToA) {
            // A remover that is at work shall not hit what we make next.
            Ok(old) if CLAIM_IS_APART && !old.try_claim().map_err(io("lock", &rx_path))? => {
                return Err(CreateError::InUse { name: name.to_owned() });
            }
            Ok(old) => old.unlink().map_err(io("remove", &rx_path))?,
            Err(SegmentOpenError::Missing) => {}
            Err(error) => return Err(create_error(error, rx_path)),
        }
        if let Some(rx) = Segment::create(&rx_path, b2a, back, Access::Read, config)? {
            break rx;
        }
    };
    Ok(start(Side::A, tx.finish(), rx, config))
}

/// Both directions' fixed headers, of a generation of their own.
fn headers(config: &Config, payloads: Payloads) -> Result<[(Fixed, Geometry); 2], ConfigError> {
    let tag = config.tag_checked()?;
    let generation = random();
    let header = |direction, payload: Payload| {
        let geometry = Geometry::new(payload.slot_size, config.slot_count)?;
        Ok((Fixed::new(&geometry, direction, generation, payload.identity, tag), geometry))
    };
    Ok([header(Direction::AToB, payloads.out)?, header(Direction::BToA, payloads.back)?])
}

/// Side A of a channel without a name.
#[cfg(target_os = "linux")]
pub(crate) fn create_anonymous(config: &Config, payloads: Payloads) -> Result<Arc<Lease>, CreateError> {
    let [(a2b, out), (b2a, back)] = headers(config, payloads)?;
    let tx = Segment::create_anonymous(a2b, out, Access::Write, config)?;
    let rx = Segment::create_anonymous(b2a, back, Access::Read, config)?;
    Ok(start(Side::A, tx, rx, config))
}

/// Side B of a channel without a name: all or nothing, there is nothing to wait for.
#[cfg(target_os = "linux")]
pub(crate) fn open_anonymous(
    [a2b, b2a]: [std::os::fd::OwnedFd; 2],
    config: &Config,
) -> Result<Arc<Lease>, OpenError> {
    config.tag_checked()?;
    let name = "(anonymous)";
    let open = |descriptor, direction, access| {
        Segment::from_descriptor(descriptor, direction, access, config.mapping)
            .map_err(|error| open_error(error, PathBuf::from(name)))
    };
    let rx = open(a2b, Direction::AToB, Access::Read)?;
    let tx = open(b2a, Direction::BToA, Access::Write)?;
    claim(name, config, None, tx, rx)?.map_err(|missing| OpenError::Timeout {
        name: name.to_owned(),
        waited: Duration::ZERO,
        missing,
    })
}

/// A first segment whose second is not there yet.
struct Unfinished(Option<Segment>);

impl Unfinished {
    #[allow(clippy::expect_used, reason = "taken here alone, which consumes it")]
    fn finish(mut self) -> Segment {
        self.0.take().expect("taken once")
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(segment) = self.0.take() {
            // What cannot be removed is left for the next `create`.
            let _ = segment.unlink();
        }
    }
}

/// Takes away what a dead side A left. `InUse` if it lives.
fn reclaim(name: &str, superseded: bool) -> Result<(), CreateError> {
    let (tx_path, rx_path) = (path_of(name, Direction::AToB), path_of(name, Direction::BToA));
    let in_use = || CreateError::InUse { name: name.to_owned() };
    let tx = match open_old(&tx_path, Direction::AToB) {
        Ok(segment) => segment,
        Err(SegmentOpenError::Missing) => return Ok(()),
        Err(error) => return Err(create_error(error, tx_path)),
    };
    let io = |action, path: &PathBuf| {
        let path = path.clone();
        move |source| CreateError::Io { action, path, source }
    };
    // A file is locked by its writer before it has its name, so one that is not is dead for good.
    if CLAIM_IS_APART && tx.is_locked().map_err(io("probe", &tx_path))? {
        return Err(in_use());
    }
    if !tx.try_claim().map_err(io("lock", &tx_path))? {
        return Err(in_use());
    }
    step("reclaim: locked");
    if !tx.is_named() {
        // Somebody reclaimed it between our open and our lock.
        return Ok(());
    }
    let rx = match open_old(&rx_path, Direction::BToA) {
        Ok(segment) => Some(segment),
        Err(SegmentOpenError::Missing) => None,
        Err(error) => return Err(create_error(error, rx_path)),
    };
    step("reclaim: opened");
    if superseded {
        // The dead A's ends: it produced into a2b and consumed from b2a. Side B waits at the other two.
        tx.words().producer_notice.supersede();
        tx.words().consumer_notice.wake(Fence::Full);
        // Only what is of the same generation is the dead side A's.
        if let Some(rx) = rx.as_ref().filter(|rx| rx.fixed.generation == tx.fixed.generation) {
            rx.words().consumer_notice.supersede();
            rx.words().producer_notice.wake(Fence::Full);
        }
    }
    step("reclaim: superseded");
    if let Some(rx) = &rx {
        rx.unlink().map_err(io("remove", &rx_path))?;
    }
    step("reclaim: second file removed");
    // The file that guards the name goes last.
    tx.unlink().map_err(io("remove", &tx_path))
}

fn open_old(path: &std::path::Path, direction: Direction) -> Result<Segment, SegmentOpenError> {
    Segment::open(path, direction, Access::Read, None, Mapping::default())
}

fn create_error(error: SegmentOpenError, path: PathBuf) -> CreateError {
    match error {
        SegmentOpenError::Segment(source) => CreateError::Segment { path, source },
        SegmentOpenError::Config(source) => CreateError::Config(source),
        SegmentOpenError::Missing => {
            CreateError::Io { action: "open", path, source: std::io::ErrorKind::NotFound.into() }
        }
        SegmentOpenError::Io(source) => CreateError::Io { action: "open", path, source },
    }
}

fn open_error(error: SegmentOpenError, path: PathBuf) -> OpenError {
    match error {
        SegmentOpenError::Segment(source) => OpenError::Segment { path, source },
        SegmentOpenError::Config(source) => OpenError::Config(source),
        SegmentOpenError::Missing => {
            OpenError::Io { action: "open", path, source: std::io::ErrorKind::NotFound.into() }
        }
        SegmentOpenError::Io(source) => OpenError::Io { action: "open", path, source },
    }
}

/// Removes what a dead side A left.
pub(crate) fn remove(name: &str) -> Result<(), RemoveError> {
    check_name(name)?;
    let paths = [Direction::AToB, Direction::BToA].map(|d| path_of(name, d));
    let removed = remove_both(name, &paths);
    if !matches!(removed, Err(RemoveError::InUse { .. })) {
        paths.iter().for_each(|path| sweep(path));
    }
    removed
}

fn remove_both(name: &str, paths: &[PathBuf; 2]) -> Result<(), RemoveError> {
    let present = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok();
    if !paths.iter().any(present) {
        return Err(RemoveError::NotFound { name: name.to_owned() });
    }
    let convert = |error| match error {
        CreateError::InUse { name } => RemoveError::InUse { name },
        CreateError::Segment { path, source } => RemoveError::Segment { path, source },
        CreateError::Io { action, path, source } => RemoveError::Io { action, path, source },
        CreateError::Config(source) => RemoveError::Config(source),
        CreateError::NoSpace { directory, .. } => RemoveError::Io {
            action: "remove",
            path: directory,
            source: std::io::ErrorKind::StorageFull.into(),
        },
    };
    reclaim(name, false).map_err(convert)?;
    // A second file without a first: its creator died between the two.
    if !present(&paths[0]) && present(&paths[1]) {
        match open_old(&paths[1], Direction::BToA) {
            Ok(old) => {
                let io = |action| {
                    let path = paths[1].clone();
                    move |source| RemoveError::Io { action, path, source }
                };
                // A side A that came meanwhile removes or replaces this file under the same claim.
                let claimed = old.try_claim().map_err(io("lock"))?;
                if !claimed || !old.is_named() || present(&paths[0]) {
                    return Err(RemoveError::InUse { name: name.to_owned() });
                }
                old.unlink().map_err(io("remove"))?;
            }
            Err(SegmentOpenError::Missing) => {}
            Err(error) => return Err(convert(create_error(error, paths[1].clone()))),
        }
    }
    Ok(())
}

/// Side B: joins a whole, live, fresh generation within `wait`, and not the one that it has `left`.
pub(crate) fn open(
    name: &str,
    wait: Duration,
    config: &Config,
    expected: Option<Payloads>,
    left: Option<u64>,
) -> Result<Arc<Lease>, OpenError> {
    check_name(name)?;
    config.tag_checked()?;
    config.permissions_checked()?;
    let deadline = Instant::now().checked_add(wait);
    let mut pause = Duration::from_micros(50);
    loop {
        let missing = match join(name, config, expected, left)? {
            Ok(lease) => return Ok(lease),
            Err(missing) => missing,
        };
        let remaining = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
        if remaining.is_zero() {
            return Err(OpenError::Timeout { name: name.to_owned(), waited: wait, missing });
        }
        thread::sleep(pause.min(remaining));
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// One try: joined, not yet, or never.
fn join(
    name: &str,
    config: &Config,
    expected: Option<Payloads>,
    left: Option<u64>,
) -> Result<Result<Arc<Lease>, Missing>, OpenError> {
    let open = |direction, access, missing| {
        let path = path_of(name, direction);
        let group = Some(config.permissions);
        match Segment::open(&path, direction, access, group, config.mapping) {
            Ok(segment) => Ok(Ok(segment)),
            Err(SegmentOpenError::Missing) => Ok(Err(missing)),
            Err(error) => Err(open_error(error, path)),
        }
    };
    let rx = match open(Direction::AToB, Access::Read, Missing::Channel)? {
        Ok(segment) => segment,
        Err(missing) => return Ok(Err(missing)),
    };
    if !side_a_lives(&rx)? {
        return Ok(Err(Missing::SideA));
    }
    if left == Some(rx.fixed.generation) {
        return Ok(Err(Missing::FreshGeneration));
    }
    let tx = match open(Direction::BToA, Access::Write, Missing::Ready)? {
        Ok(segment) if segment.fixed.generation == rx.fixed.generation => segment,
        Ok(_) => return Ok(Err(Missing::Ready)),
        Err(missing) => return Ok(Err(missing)),
    };
    claim(name, config, expected, tx, rx)
}

/// Whether the side A that made this segment still holds it, and the name.
fn side_a_lives(rx: &Segment) -> Result<bool, OpenError> {
    let probe = |source| OpenError::Io { action: "probe", path: rx.path(), source };
    Ok(rx.is_locked().map_err(probe)? && rx.is_named())
}

/// Becomes side B of two whole segments of one generation, if nobody ever was.
fn claim(
    name: &str,
    config: &Config,
    expected: Option<Payloads>,
    tx: Segment,
    rx: Segment,
) -> Result<Result<Arc<Lease>, Missing>, OpenError> {
    step("open: mapped");
    agree(name, config, expected, &tx, &rx)?;
    // Not to look like the side B that is gone, not even for a moment.
    if tx.words().control.attached.load(Ordering::Acquire) != 0 {
        let lives = tx.is_locked();
        return match lives.map_err(|source| OpenError::Io { action: "probe", path: tx.path(), source })? {
            true => Err(OpenError::InUse { name: name.to_owned() }),
            false => Ok(Err(Missing::FreshGeneration)),
        };
    }
    let locked = tx.try_lock();
    if !locked.map_err(|source| OpenError::Io { action: "lock", path: tx.path(), source })? {
        return Err(OpenError::InUse { name: name.to_owned() });
    }
    step("open: locked");
    if tx.words().control.attached.load(Ordering::Acquire) != 0 {
        return Ok(Err(Missing::FreshGeneration));
    }
    // Our lock is on a file that may have been replaced before we had it.
    let ends = [rx.words().producer_notice.ended(), tx.words().consumer_notice.ended()];
    let leaving = ends.iter().all(|end| *end != Ok(End::Open));
    if leaving || !tx.is_named() || !side_a_lives(&rx)? {
        return Ok(Err(Missing::SideA));
    }
    Ok(Ok(start(Side::B, tx, rx, config)))
}

/// Says that this side is there, and how it waits.
fn start(side: Side, tx: Segment, rx: Segment, config: &Config) -> Arc<Lease> {
    let link = Link::new(side, tx, rx);
    let asked = config.poll.map(PollMode::encode);
    let barrier = has_barrier();
    for segment in link.both() {
        let control = &segment.words().control;
        let mode = &control.poll[side.index()];
        // What the peer asked of us before we came holds, unless we were told otherwise.
        let kept = Some(mode.load(Ordering::Relaxed)).filter(|&word| PollMode::is_set(word));
        mode.store(asked.or(kept).unwrap_or(PollMode::Park.encode()), Ordering::Relaxed);
        control.barrier[side.index()].store(u32::from(barrier), Ordering::Relaxed);
    }
    step("start: modes");
    link.attach();
    step("start: attached");
    Arc::new(Lease { link: Arc::new(link) })
}
