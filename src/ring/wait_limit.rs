//! How long a call may wait, and the three forms in which every such call comes.

use std::time::{Duration, Instant};

/// How long a call may wait. Small enough to be passed in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitLimit {
    /// Not at all.
    None,
    AtMost(Duration),
    Endless,
}

impl WaitLimit {
    /// From now on.
    pub(crate) fn started(self) -> Deadline {
        match self {
            Self::None => Deadline::Past,
            // A time that the clock cannot reach has no end.
            Self::AtMost(time) => Instant::now().checked_add(time).map_or(Deadline::Never, Deadline::At),
            Self::Endless => Deadline::Never,
        }
    }
}

/// When a call that has begun stops waiting: a call that waits twice still ends on time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    /// It does not wait.
    Past,
    At(Instant),
    Never,
}

impl Deadline {
    pub(crate) fn instant(self) -> Option<Instant> {
        match self {
            Self::At(instant) => Some(instant),
            Self::Past | Self::Never => None,
        }
    }

    /// The time left.
    pub(crate) fn left(self) -> WaitLimit {
        match self {
            Self::Past => WaitLimit::None,
            Self::At(instant) => WaitLimit::AtMost(instant.saturating_duration_since(Instant::now())),
            Self::Never => WaitLimit::Endless,
        }
    }
}

const _: () = assert!(size_of::<WaitLimit>() <= 16);

/// Writes the forms of a call that may wait: `try_x` never does, `x` does without end, `x_timeout` does at most so long,
/// and `x_async` is a future, which does what `try_x` does once `ready` says that it would not wait.
///
/// ```text
/// waiting_forms! {
///     /// What the call does.
///     #[errors("Which, when, beyond those of every such call.")]
///     try_x, x, x_timeout, x_async(argument: Type) -> Output, Error = |half, limit| half.x_within(argument, limit),
///         ready |polling| half.poll_x(argument, polling);
/// }
/// ```
macro_rules! waiting_forms {
    ($(
        $(#[doc = $doc:literal])*
        #[errors($errors:literal)]
        $(#[inline($inline:ident)])?
        $try_name:ident, $name:ident, $timeout_name:ident $(, $async_name:ident)? ($($arg:ident : $type:ty),*)
            -> $output:ty, $error:ident
            = |$half:ident, $limit:ident| $call:expr $(, ready |$polling:ident| $ready:expr)?;
    )*) => {$(
        waiting_forms!(@form [$(#[doc = $doc])*] [" Never waits."]
            [concat!(" ", waiting_forms!(@not_now $error), " ", $errors)] [$($inline)?]
            $try_name [$($arg: $type),*] [] $output, $error, $half, $limit, $crate::ring::WaitLimit::None, $call);
        waiting_forms!(@form [$(#[doc = $doc])*] [" Waits as long as it takes."]
            [concat!(" ", $errors)] [$($inline)?]
            $name [$($arg: $type),*] [] $output, $error, $half, $limit, $crate::ring::WaitLimit::Endless, $call);
        waiting_forms!(@form [$(#[doc = $doc])*] [" Waits at most `wait`."]
            [concat!(" ", waiting_forms!(@timeout $error), " ", $errors)] [$($inline)?]
            $timeout_name [$($arg: $type),*] [wait: ::std::time::Duration] $output, $error, $half, $limit,
            $crate::ring::WaitLimit::AtMost(wait), $call);
        waiting_forms!(@async [$(#[doc = $doc])*] [$errors] [$($async_name: $polling $ready)?] [$($arg: $type),*]
            $output, $error, $half, $limit, $call);
    )*};
    (@async [$(#[doc = $doc:literal])*] [$errors:literal] [] $($rest:tt)*) => {};
    (@async [$(#[doc = $doc:literal])*] [$errors:literal] [$name:ident: $polling:ident $ready:expr] [$($arg:ident : $type:ty),*]
        $output:ty, $error:ident, $half:ident, $limit:ident, $call:expr
    ) => {
        $(#[doc = $doc])*
        /// A future, for any executor. Dropping it before it is ready takes nothing and loses nothing.
        ///
        /// # Errors
        ///
        #[doc = concat!(" ", waiting_forms!(@no_descriptor $error), " ", $errors)]
        #[doc = waiting_forms!(@common $error)]
        ///
        /// # Panics
        ///
        /// With the feature `tokio`, in a tokio runtime that was built without `enable_io`, as tokio's own types do.
        #[cfg(feature = "async")]
        #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
        #[inline(always)]
        pub fn $name(&mut self $(, $arg: $type)*) -> impl Future<Output = Result<$output, $error>> {
            $crate::ring::Call::new(self, move |$half, $polling| $ready, move |$half| {
                let $limit = $crate::ring::WaitLimit::None;
                $call
            })
        }
    };
    (@no_descriptor SendError) => {
        "[`SendError::NoDescriptor`](crate::SendError::NoDescriptor) if the system gives nothing to wait on."
    };
    (@no_descriptor RecvError) => {
        "[`RecvError::NoDescriptor`](crate::RecvError::NoDescriptor) if the system gives nothing to wait on."
    };
    (@not_now SendError) => { "[`SendError::Full`](crate::SendError::Full) if there is no room now." };
    (@not_now RecvError) => { "[`RecvError::Empty`](crate::RecvError::Empty) if there is no message now." };
    (@timeout SendError) => {
        "[`SendError::Timeout`](crate::SendError::Timeout) if there was no room in time, \
         [`SendError::NoPeer`](crate::SendError::NoPeer) if moreover nobody has attached yet."
    };
    (@timeout RecvError) => { "[`RecvError::Timeout`](crate::RecvError::Timeout) if no message came in time." };
    (@common SendError) => {
        " [`Closed`](crate::SendError::Closed), [`PeerDead`](crate::SendError::PeerDead) or \
         [`Superseded`](crate::SendError::Superseded) once the peer is known to be gone: at the latest when the ring \
         is full, or when this side's receiving half learns of it. \
         [`Corrupt`](crate::SendError::Corrupt) if the peer put something impossible into shared memory."
    };
    (@common RecvError) => {
        " When everything that was sent is received and the peer is gone: [`Closed`](crate::RecvError::Closed) if it \
         closed in order, [`PeerDead`](crate::RecvError::PeerDead) if it died (known within 100 ms by a caller that \
         waits or keeps trying), [`Superseded`](crate::RecvError::Superseded) if a new side A took the name. \
         [`Corrupt`](crate::RecvError::Corrupt) if the peer put something impossible into shared memory. \
         [`Interrupted`](crate::RecvError::Interrupted) if the call had to wait and an \
         [`Interrupter`](crate::Interrupter) ended that."
    };
    (@form [$(#[doc = $doc:literal])*] [$waits:literal] [$errors:expr] [$($inline:ident)?]
        $name:ident [$($arg:ident : $type:ty),*] [$($wait:ident : $duration:ty)?] $output:ty, $error:ident,
        $half:ident, $limit:ident, $limited:expr, $call:expr
    ) => {
        $(#[doc = $doc])*
        #[doc = $waits]
        ///
        /// # Errors
        ///
        #[doc = $errors]
        #[doc = waiting_forms!(@common $error)]
        $(#[inline($inline)])?
        pub fn $name(&mut self $(, $arg: $type)* $(, $wait: $duration)?) -> Result<$output, $error> {
            let $half = self;
            let $limit = $limited;
            $call
        }
    };
}
pub(crate) use waiting_forms;
