//! How a channel comes to be, is joined, taken over and removed.
//!
//! The holder of the lock on `<name>.fs.a2b` owns the name: only that side A creates or removes the other file. So a
//! creator publishes a2b first, already locked and whole, and b2a second. An opener that finds the first without the
//! second, or two of different generations, finds a channel half made and waits. Nobody maps a file before its lock
//! says that it is worth it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::payload::{Payload, Payloads, agree};
use crate::config::{Config, Slots};
use crate::crash::step;
use crate::error::{ConfigError, CreateError, Failure, FileError, Missing, OpenError, RemoveError};
use crate::protocol::{Direction, End, Fence, Fixed, Geometry, Half, PollMode, Side, check_name, file_name};
#[cfg(target_os = "linux")]
use crate::segment::Events;
use crate::segment::{Access, HostEvent, Lease, Segment, SegmentFile, SegmentPair, SideGuard};
use crate::system::{Event, Host, System, random};

/// How long a remover of old files waits for another remover, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(200);

/// The two files of a channel.
struct Paths {
    a_to_b: PathBuf,
    b_to_a: PathBuf,
}

impl Paths {
    fn of(name: &str, config: &Config) -> Result<Self, ConfigError> {
        check_name(name)?;
        let directory = config.directory_chosen();
        let path = |direction| directory.join(file_name(name, direction));
        Ok(Self { a_to_b: path(Direction::AToB), b_to_a: path(Direction::BToA) })
    }

    fn both(&self) -> [&Path; 2] {
        [&self.a_to_b, &self.b_to_a]
    }
}

/// Side A: takes the name and makes both segments.
pub(crate) fn create(
    name: &str,
    config: &Config,
    payloads: Payloads,
    lease: Lease,
) -> Result<Arc<SideGuard>, CreateError> {
    let paths = Paths::of(name, config)?;
    let mode = config.permissions_checked()?;
    let [(a_to_b, tx_geometry), (b_to_a, rx_geometry)] = headers(config, payloads)?;

    // Remove old files first: they may fill the file system that we need.
    let tx = loop {
        reclaim(name, &paths, true)?;
        let made = Segment::create(&paths.a_to_b, a_to_b, tx_geometry, Access::Write, mode, config.memory)?;
        if let Some(tx) = made {
            break tx;
        }
    };
    // The name is ours. If anything fails from here on, the guard takes the first file away again.
    let tx = Unfinished(Some(tx));
    paths.both().into_iter().for_each(Host::sweep);
    let rx = loop {
        // The file of a side A that died between the two. Nobody but us makes or removes this file.
        if let Some(old) = open_old(&paths.b_to_a, Direction::BToA)? {
            // A remover that is at work shall not hit what we make next.
            if Host::CLAIM_IS_APART {
                claim_left(&old, name, &paths.b_to_a)?;
            }
            old.unlink().map_err(Failure::at("remove", &paths.b_to_a))?;
        }
        let made = Segment::create(&paths.b_to_a, b_to_a, rx_geometry, Access::Read, mode, config.memory)?;
        if let Some(rx) = made {
            break rx;
        }
    };
    Ok(start(SegmentPair::new(Side::A, tx.finish(), rx), config, lease))
}

/// Both directions' fixed headers, of a generation of their own.
fn headers(config: &Config, payloads: Payloads) -> Result<[(Fixed, Geometry); 2], ConfigError> {
    let tag = config.tag.as_deref().unwrap_or("");
    let generation = random();
    let header = |direction, payload: Payload, configured: Slots| {
        let slots = payload.slots(configured)?;
        let geometry = Geometry::new(slots.size, slots.count)?;
        Ok((Fixed::new(&geometry, direction, generation, payload.identity, tag)?, geometry))
    };
    Ok([
        header(Direction::AToB, payloads.tx, config.a_to_b)?,
        header(Direction::BToA, payloads.rx, config.b_to_a)?,
    ])
}

/// Side A of a channel without a name. `events` wake both sides, if they are handed over too.
#[cfg(target_os = "linux")]
pub(crate) fn create_anonymous(
    config: &Config,
    payloads: Payloads,
    events: Events,
    lease: Lease,
) -> Result<Arc<SideGuard>, CreateError> {
    let [(a_to_b, tx), (b_to_a, rx)] = headers(config, payloads)?;
    let tx = Segment::create_anonymous(Direction::AToB, a_to_b, tx, Access::Write, config.memory)?;
    let rx = Segment::create_anonymous(Direction::BToA, b_to_a, rx, Access::Read, config.memory)?;
    Ok(start(SegmentPair::new(Side::A, tx, rx).with_events(events), config, lease))
}

/// Bytes that both segments of such a channel take.
pub(crate) fn bytes(config: &Config, payloads: Payloads) -> Result<u64, ConfigError> {
    Ok(headers(config, payloads)?.iter().map(|(fixed, _)| fixed.file_bytes).sum())
}

/// Side B of a channel without a name: all or nothing, there is nothing to wait for.
#[cfg(target_os = "linux")]
pub(crate) fn open_anonymous(
    name: &str,
    [a_to_b, b_to_a]: [std::os::fd::OwnedFd; 2],
    config: &Config,
    expected: Payloads,
    events: Events,
) -> Result<Arc<SideGuard>, OpenError> {
    let open = |descriptor, direction| {
        SegmentFile::from_descriptor(descriptor, direction).map_err(Failure::at("open", Path::new(name)))
    };
    let rx = open(a_to_b, Direction::AToB)?;
    let tx = open(b_to_a, Direction::BToA)?;
    if rx.fixed.generation != tx.fixed.generation {
        let source = crate::error::SegmentError::Geometry;
        return Err(OpenError::Segment { path: rx.path(), source });
    }
    let pair = claim(name, config, expected, tx, rx)?.map_err(|missing| OpenError::Timeout {
        name: name.to_owned(),
        waited: Duration::ZERO,
        missing,
    })?;
    Ok(start(pair.with_events(events), config, None))
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
            // The next `create` tries again if this fails.
            let _ = segment.unlink();
        }
    }
}

/// Removes the files of a dead side A. In use if it lives; `false` if another took it away meanwhile.
fn reclaim(name: &str, paths: &Paths, superseded: bool) -> Result<bool, Failure> {
    let Some(tx) = open_old(&paths.a_to_b, Direction::AToB)? else { return Ok(true) };
    // A file is locked by its writer before it has its name, so one that is not is dead for good.
    if Host::CLAIM_IS_APART && tx.is_locked().map_err(Failure::at("probe", &paths.a_to_b))? {
        return Err(Failure::in_use(name));
    }
    claim_left(&tx, name, &paths.a_to_b)?;
    step("reclaim: locked");
    if !tx.is_named() {
        // Somebody reclaimed it between our open and our lock.
        return Ok(false);
    }
    let rx = open_old(&paths.b_to_a, Direction::BToA)?;
    step("reclaim: opened");
    if superseded {
        // A side B that sleeps on a descriptor learns of its peer's death by itself.
        let watcher = || ();
        // The dead A's ends: it produced into a2b and consumed from b2a. Side B waits at the other two.
        let header = tx.header().map_err(Failure::at("map", &paths.a_to_b))?;
        header.words().producer_status.supersede();
        header.words().consumer_status.wake::<Host>(Fence::Full, None, watcher);
        // Only what is of the same generation is the dead side A's.
        if let Some(rx) = rx.as_ref().filter(|rx| rx.fixed.generation == tx.fixed.generation) {
            let header = rx.header().map_err(Failure::at("map", &paths.b_to_a))?;
            header.words().consumer_status.supersede();
            header.words().producer_status.wake::<Host>(Fence::Full, None, watcher);
        }
    }
    step("reclaim: superseded");
    for half in Half::BOTH {
        for side in [Side::A, Side::B] {
            // One that only another user may remove stays. No other generation meets it.
            let _ = tx.event_path(side, half).map(|path| HostEvent::remove(&path));
        }
    }
    step("reclaim: event names removed");
    if let Some(rx) = &rx {
        rx.unlink().map_err(Failure::at("remove", &paths.b_to_a))?;
    }
    step("reclaim: second file removed");
    // The file that guards the name goes last.
    tx.unlink().map_err(Failure::at("remove", &paths.a_to_b))?;
    Ok(true)
}

/// Takes the right to remove old files, after a wait for a remover that is at work and soon done. In use if it is not a
/// remover.
fn claim_left(left: &SegmentFile, name: &str, path: &Path) -> Result<(), Failure> {
    let patient = Instant::now() + PATIENCE;
    while !left.try_claim().map_err(Failure::at("lock", path))? {
        if !Host::CLAIM_IS_APART || Instant::now() > patient {
            return Err(Failure::in_use(name));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The file there, if there is one.
fn open_old(path: &Path, direction: Direction) -> Result<Option<SegmentFile>, Failure> {
    match SegmentFile::open(path, direction, Access::Read, None) {
        Ok(file) => Ok(Some(file)),
        Err(FileError::Missing) => Ok(None),
        Err(error) => Err(Failure::at("open", path)(error)),
    }
}

/// Removes the files of a dead side A.
pub(crate) fn remove(name: &str, config: &Config) -> Result<(), RemoveError> {
    let paths = Paths::of(name, config)?;
    let removed = remove_both(name, &paths);
    if !matches!(removed, Err(RemoveError::InUse { .. })) {
        paths.both().into_iter().for_each(Host::sweep);
    }
    removed
}

fn remove_both(name: &str, paths: &Paths) -> Result<(), RemoveError> {
    let present = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    if !paths.both().into_iter().any(present) {
        return Err(RemoveError::NotFound { name: name.to_owned() });
    }
    while !reclaim(name, paths, false)? {}
    if present(&paths.a_to_b) {
        // A new side A has made it anew.
        return Ok(());
    }
    // A second file without a first: its creator died between the two.
    if let Some(old) = open_old(&paths.b_to_a, Direction::BToA)? {
        // A side A that came meanwhile removes or replaces this file under the same claim.
        let claimed = old.try_claim().map_err(Failure::at("lock", &paths.b_to_a))?;
        if !claimed || !old.is_named() || present(&paths.a_to_b) {
            return Err(Failure::in_use(name).into());
        }
        old.unlink().map_err(Failure::at("remove", &paths.b_to_a))?;
    }
    Ok(())
}

/// Side B: joins a whole, live, fresh generation within `wait`, and not the one that it has `left`.
pub(crate) fn open(
    name: &str,
    wait: Duration,
    config: &Config,
    expected: Payloads,
    left: Option<u64>,
) -> Result<Arc<SideGuard>, OpenError> {
    let paths = Paths::of(name, config)?;
    config.permissions_checked()?;
    let deadline = Instant::now().checked_add(wait);
    let mut pause = Duration::from_micros(50);
    loop {
        let missing = match join(name, &paths, config, expected, left)? {
            Ok(guard) => return Ok(guard),
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
    paths: &Paths,
    config: &Config,
    expected: Payloads,
    left: Option<u64>,
) -> Result<Result<Arc<SideGuard>, Missing>, OpenError> {
    let open = |path: &Path, direction, access, missing| match SegmentFile::open(
        path,
        direction,
        access,
        Some(config.permissions),
    ) {
        Ok(file) => Ok(Ok(file)),
        Err(FileError::Missing) => Ok(Err(missing)),
        Err(error) => Err(Failure::at("open", path)(error)),
    };
    let rx = match open(&paths.a_to_b, Direction::AToB, Access::Read, Missing::Channel)? {
        Ok(file) => file,
        Err(missing) => return Ok(Err(missing)),
    };
    if !side_a_lives(&rx)? {
        return Ok(Err(Missing::SideA));
    }
    if left == Some(rx.fixed.generation) {
        return Ok(Err(Missing::FreshGeneration));
    }
    let tx = match open(&paths.b_to_a, Direction::BToA, Access::Write, Missing::Ready)? {
        Ok(file) if file.fixed.generation == rx.fixed.generation => file,
        Ok(_) => return Ok(Err(Missing::Ready)),
        Err(missing) => return Ok(Err(missing)),
    };
    for (file, path) in [(&rx, &paths.a_to_b), (&tx, &paths.b_to_a)] {
        // Somebody may have made the file with holes, and filled the file system since.
        file.keep_space().map_err(Failure::at("allocate", path))?;
    }
    Ok(claim(name, config, expected, tx, rx)?.map(|pair| start(pair, config, None)))
}

/// Whether the side A that made this segment still holds it, and the name.
fn side_a_lives(rx: &SegmentFile) -> Result<bool, Failure> {
    Ok(rx.is_locked().map_err(Failure::at("probe", &rx.path()))? && rx.is_named())
}

/// Becomes side B of two whole segments of one generation, if nobody ever was.
fn claim(
    name: &str,
    config: &Config,
    expected: Payloads,
    tx: SegmentFile,
    rx: SegmentFile,
) -> Result<Result<SegmentPair, Missing>, OpenError> {
    agree(name, config, expected, &tx, &rx)?;
    let map = |file: SegmentFile, access| {
        let path = file.path();
        file.map(access, config.memory).map_err(Failure::at("map", &path))
    };
    let (tx, rx) = (map(tx, Access::Write)?, map(rx, Access::Read)?);
    step("open: mapped");
    // Not to look like the side B that is gone, not even for a moment.
    if tx.words().control.attached.load(Ordering::Acquire) != 0 {
        return match tx.is_locked().map_err(Failure::at("probe", &tx.path()))? {
            true => Err(Failure::in_use(name).into()),
            false => Ok(Err(Missing::FreshGeneration)),
        };
    }
    if !tx.try_lock().map_err(Failure::at("lock", &tx.path()))? {
        return Err(Failure::in_use(name).into());
    }
    step("open: locked");
    if tx.words().control.attached.load(Ordering::Acquire) != 0 {
        return Ok(Err(Missing::FreshGeneration));
    }
    // Our lock is on a file that may have been replaced before we had it.
    let ends = [rx.words().producer_status.ended(), tx.words().consumer_status.ended()];
    let leaving = ends.iter().all(|end| *end != Ok(End::Open));
    if leaving || !tx.is_named() || !side_a_lives(&rx)? {
        return Ok(Err(Missing::SideA));
    }
    Ok(Ok(SegmentPair::new(Side::B, tx, rx)))
}

/// Says that this side is there, and how it waits.
fn start(pair: SegmentPair, config: &Config, lease: Lease) -> Arc<SideGuard> {
    let side = pair.side;
    let asked = config.poll.map(PollMode::encode);
    let capabilities = pair.capabilities();
    for segment in pair.both() {
        let control = &segment.words().control;
        let mode = &control.poll[side.index()];
        match asked {
            Some(mode_asked) => mode.store(mode_asked, Ordering::Relaxed),
            // The peer's requests from before we came hold.
            None => {
                let (unset, park) = (PollMode::UNSET, PollMode::Park.encode());
                let _ = mode.compare_exchange(unset, park, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        control.capabilities[side.index()].store(capabilities, Ordering::Relaxed);
        control.pid[side.index()].store(std::process::id(), Ordering::Relaxed);
    }
    step("start: modes");
    let guard = SideGuard::new(pair, lease);
    guard.pair.attach();
    step("start: attached");
    Arc::new(guard)
}
