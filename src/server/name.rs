//! A server's name: its holder, and the place where clients find it.
//!
//! A file beside the socket is locked as long as the server lives, so that the name belongs to one, and a dead one's is
//! reclaimed. The socket gets its name when it listens already, and loses it first.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::crash::step;
use crate::error::{ConfigError, CreateError, Failure, FileError, RemoveError, SegmentError};
use crate::protocol::{check_name, server_file_name};
use crate::system::{Host, Socket, Staged, System, fits_address, random};

/// How long a server that begins waits for a remover, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(200);

/// The two files of a server.
#[derive(Debug)]
pub(super) struct Paths {
    lock: PathBuf,
    pub(super) socket: PathBuf,
}

impl Paths {
    pub(super) fn of(name: &str, config: &Config) -> Result<Self, ConfigError> {
        check_name(name)?;
        let socket = format!("{name}.fs.socket");
        // The name that it listens under before it has its own is longer.
        fits_address(&format!("{socket}.{:016x}", 0)).map_err(|_| ConfigError::Name {
            name: name.to_owned(),
            reason: "a server's name is at most 59 bytes long: it becomes part of a socket's address",
        })?;
        let directory = config.directory_chosen();
        Ok(Self { lock: directory.join(server_file_name(name)), socket: directory.join(socket) })
    }
}

impl Paths {
    /// Removes sockets that never got their name.
    fn sweep(&self) {
        let Some((directory, name)) = self.socket.parent().zip(self.socket.file_name()) else { return };
        let prefix = format!("{}.", name.to_string_lossy());
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = Host::remove(&entry.path());
            }
        }
    }
}

/// A name that this process holds, and a socket that listens there. Dropping it gives both up.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) paths: Paths,
    lock: File,
    pub(super) socket: Socket,
    /// A forked child has this too, and no part in it.
    process: u32,
}

/// Takes the name. In use if a live server holds it.
pub(super) fn hold(name: &str, config: &Config) -> Result<Held, CreateError> {
    let paths = Paths::of(name, config)?;
    let mode = config.permissions_checked()?;
    let patient = Instant::now() + PATIENCE;
    let lock = loop {
        if let Some(lock) = lock(name, &paths.lock, mode, patient)? {
            break lock;
        }
    };
    step("bind: locked");
    // The socket of a dead one.
    Host::remove(&paths.socket).map_err(Failure::at("remove", &paths.socket))?;
    paths.sweep();
    let aside = paths.socket.with_extension(format!("socket.{:016x}", random()));
    let listening = Socket::listening(&aside).map_err(Failure::at("listen at", &aside))?;
    step("bind: listens");
    let named = std::fs::set_permissions(&aside, permissions(mode))
        .and_then(|()| std::fs::rename(&aside, &paths.socket));
    if let Err(error) = named {
        let _ = Host::remove(&aside);
        return Err(Failure::at("name", &paths.socket)(error).into());
    }
    step("bind: named");
    Ok(Held { paths, lock, socket: listening, process: std::process::id() })
}

fn permissions(mode: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}

/// The lock of the name; `None` if it has to be tried again.
fn lock(name: &str, path: &Path, mode: u32, patient: Instant) -> Result<Option<File>, CreateError> {
    if let Some(file) = left_of_dead(name, path, mode)? {
        if !Host::try_lock(&file).map_err(Failure::at("lock", path))? {
            return Err(Failure::in_use(name).into());
        }
        // A remover that is at work shall not hit what comes next. It has soon done.
        if !Host::try_claim(&file).map_err(Failure::at("lock", path))? {
            if Instant::now() > patient {
                return Err(Failure::in_use(name).into());
            }
            Host::unlock(&file);
            std::thread::sleep(PAUSE);
            return Ok(None);
        }
        // It may have been given up between our open and our lock.
        if !Host::same_file(&file, path) {
            return Ok(None);
        }
        if Host::mode(&file) != mode {
            file.set_permissions(permissions(mode)).map_err(Failure::at("set the mode of", path))?;
        }
        return Ok(Some(file));
    }
    let staged = <Host as System>::Staged::new(path, mode).map_err(Failure::at("create", path))?;
    let file = staged.file().try_clone().map_err(Failure::at("duplicate", path))?;
    // Locked before it has a name.
    let locked = Host::try_lock(&file).map_err(Failure::at("lock", path))?;
    let published = staged.publish(path).map_err(Failure::at("publish", path))?;
    Ok(Some(file).filter(|_| locked && published))
}

/// The lock that a dead server left. In use if a live one holds it; `None` if there is none.
fn left_of_dead(name: &str, path: &Path, mode: u32) -> Result<Option<File>, Failure> {
    let file = match Host::open(path, true) {
        Err(FileError::Missing) => return Ok(None),
        file => file.map_err(Failure::at("open", path))?,
    };
    let metadata = file.metadata().map_err(Failure::at("look at", path))?;
    // A file from this user's dead server may have had another mode.
    let checked = Host::check_owner(&metadata, None)
        .or_else(|_| Host::check_owner(&metadata, Some(mode)))
        .map_err(FileError::from);
    let checked = checked.and_then(|()| match metadata.is_file() {
        true => Ok(()),
        false => Err(SegmentError::NotAFile.into()),
    });
    checked.map_err(Failure::at("open", path))?;
    if Host::is_locked(&file).map_err(Failure::at("probe", path))? {
        return Err(Failure::in_use(name));
    }
    Ok(Some(file))
}

/// Removes a dead server's files, under a claim of its own: a remover is no server, and one that begins meanwhile waits.
pub(super) fn remove(name: &str, config: &Config) -> Result<(), RemoveError> {
    let paths = Paths::of(name, config)?;
    let left = left_of_dead(name, &paths.lock, config.permissions_checked()?)?;
    let left = left.ok_or_else(|| RemoveError::NotFound { name: name.to_owned() })?;
    if !Host::try_claim(&left).map_err(Failure::at("lock", &paths.lock))? {
        return Err(Failure::in_use(name).into());
    }
    let removed = remove_claimed(name, &paths, &left);
    // A child that was forked meanwhile has the same claim.
    Host::unlock(&left);
    removed
}

fn remove_claimed(name: &str, paths: &Paths, left: &File) -> Result<(), RemoveError> {
    // A server that has come before the claim has it too, or waits for it.
    if Host::is_locked(left).map_err(Failure::at("probe", &paths.lock))? {
        return Err(Failure::in_use(name).into());
    }
    if !Host::same_file(left, &paths.lock) {
        return Err(RemoveError::NotFound { name: name.to_owned() });
    }
    // The lock's own name goes last, as when a server ends.
    Host::remove(&paths.socket).map_err(Failure::at("remove", &paths.socket))?;
    paths.sweep();
    Ok(Host::remove(&paths.lock).map_err(Failure::at("remove", &paths.lock))?)
}

impl Drop for Held {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            return;
        }
        // The names are ours while we hold the lock; its own goes last. The next `bind` tries again if this fails.
        let _ = Host::remove(&self.paths.socket);
        step("unbind: socket removed");
        let _ = Host::remove(&self.paths.lock);
        step("unbind: lock removed");
        Host::unlock(&self.lock);
    }
}
