//! The choices of a program, as keywords.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use transport::{Config, MessageKind, PollMode};

/// The keywords of every call that makes or joins a channel.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) config: Config,
    pub(crate) sends: MessageKind,
}

const NAMES: &str = "slot_size, slot_count, a_to_b, b_to_a, poll, tag, permissions, directory, prefault, lock_memory, \
                     huge_pages, numa_node, sends, receives";

impl Options {
    /// # Errors
    ///
    /// `TypeError` for a keyword that there is not, or a value of another type; `ValueError` for one that makes no sense.
    pub(crate) fn of(given: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut options = Self { config: Config::new(), sends: MessageKind::Bytes };
        for (name, value) in given.into_iter().flat_map(|given| given.iter()) {
            if !value.is_none() {
                options.config = options.with(&name.extract::<String>()?, &value)?;
            }
        }
        Ok(options)
    }

    fn with(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Config> {
        let config = self.config.clone();
        let slots = || value.extract::<(usize, usize)>();
        Ok(match name {
            "slot_size" => config.slot_size(value.extract()?),
            "slot_count" => config.slot_count(value.extract()?),
            "a_to_b" => slots().map(|(size, count)| config.a_to_b(size, count))?,
            "b_to_a" => slots().map(|(size, count)| config.b_to_a(size, count))?,
            "poll" => config.poll(poll_mode(value)?),
            "tag" => config.message_tag(&value.extract::<String>()?),
            "permissions" => config.permissions(value.extract()?),
            "directory" => config.directory(value.extract::<PathBuf>()?),
            "prefault" => config.prefault(value.extract()?),
            "lock_memory" => config.lock_memory(value.extract()?),
            "huge_pages" => config.huge_pages(value.extract()?),
            "numa_node" => config.numa_node(value.extract()?),
            "sends" => {
                self.sends = message_kind(value)?;
                config.sends(self.sends)
            }
            "receives" => config.receives(message_kind(value)?),
            _ => return Err(PyTypeError::new_err(format!("there is no option {name:?}; there are {NAMES}"))),
        })
    }
}

/// `"spin"`, `"park"`, or seconds between two looks.
pub(crate) fn poll_mode(value: &Bound<'_, PyAny>) -> PyResult<PollMode> {
    if let Ok(seconds) = value.extract::<f64>() {
        if let Some(interval) = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero()) {
            return Ok(PollMode::Interval(interval));
        }
    }
    match value.extract::<String>().as_deref() {
        Ok("spin") => Ok(PollMode::Spin),
        Ok("park") => Ok(PollMode::Park),
        _ => Err(PyValueError::new_err(format!(
            "poll={} is refused; give \"spin\", \"park\" or seconds between two looks",
            value.repr()?
        ))),
    }
}

/// The value that [`poll_mode`] takes.
pub(crate) fn poll_value(py: Python<'_>, mode: PollMode) -> PyResult<Bound<'_, PyAny>> {
    match mode {
        PollMode::Spin => Ok("spin".into_pyobject(py)?.into_any()),
        PollMode::Interval(time) => Ok(time.as_secs_f64().into_pyobject(py)?.into_any()),
        _ => Ok("park".into_pyobject(py)?.into_any()),
    }
}

/// `("values", size, alignment)` or `("capnp", type_id)`.
fn message_kind(value: &Bound<'_, PyAny>) -> PyResult<MessageKind> {
    let wrong = || {
        let given = value.repr().map_or_else(|_| "it".to_owned(), |text| text.to_string());
        let known = "(\"values\", size, alignment) or (\"capnp\", type_id)";
        PyValueError::new_err(format!("{given} is no kind of message; give {known}"))
    };
    let tuple = value.cast::<PyTuple>().map_err(|_| wrong())?;
    if let Ok((kind, size, align)) = tuple.extract::<(String, usize, usize)>() {
        if kind == "values" {
            return Ok(MessageKind::Pod { size, align });
        }
    }
    match tuple.extract::<(String, u64)>() {
        Ok((kind, type_id)) if kind == "capnp" => Ok(MessageKind::Capnp { type_id }),
        _ => Err(wrong()),
    }
}
