//! The methods that every kind of channel has, written once: its own, and those of its halves on it.

/// Gives a channel type the methods that every kind has.
macro_rules! duplex_methods {
    (
        [$($generics:tt)*] $channel:ident $types:tt where [$($made:tt)*];
        $sender:ty, $receiver:ty; $name:literal
    ) => { $crate::transport::duplex_methods! { @ [$($generics)*] [$channel $types] [$($made)*] $sender, $receiver, $name } };
    (@ [$($generics:tt)*] [$channel:ident [$($types:tt)*]] [$($made:tt)*] $sender:ty, $receiver:ty, $name:literal) => {
        impl<$($generics)*> $channel<$($types)*> where $($made)* {
            /// Side A: makes the channel `name` afresh. A dead side A's files are reclaimed.
            ///
            /// # Errors
            ///
            /// [`CreateError::Config`] for an invalid name, size or option, [`CreateError::InUse`] if a live side A
            /// holds the name, [`CreateError::Segment`] if a file is in the way that is not a leftover of ours,
            /// [`CreateError::NoSpace`], [`NoInodes`](CreateError::NoInodes) or
            /// [`FileSizeLimit`](CreateError::FileSizeLimit) if the segments do not fit, [`CreateError::Io`] if the
            /// system refuses.
            pub fn create(name: &str, config: &Config) -> Result<Self, CreateError> {
                Duplex::create(name, config).map(Self)
            }

            /// Side B: joins the channel `name`, waiting up to `wait` for a live side A to have made it.
            ///
            /// # Errors
            ///
            /// [`OpenError::Timeout`] if there was none to join, with the missing part; [`OpenError::InUse`] if a live
            /// side B is there; [`OpenError::Type`] unless side A receives what this side sends and sends what it
            /// receives; [`OpenError::Segment`] if a file there is not a whole segment of this user and version;
            /// [`OpenError::Config`] for an invalid name, [`OpenError::Io`] if the system refuses.
            pub fn open(name: &str, wait: Duration) -> Result<Self, OpenError> {
                Self::open_with(name, wait, &Config::new())
            }

            /// Side B with its own poll mode, permissions, directory and memory options, and the tag it expects. The
            /// geometry is side A's.
            ///
            /// # Errors
            ///
            /// As [`open`](Self::open), and [`OpenError::Tag`] if side A gave another `message_tag`.
            pub fn open_with(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError> {
                Duplex::open(name, wait, config).map(Self)
            }

            /// Side B, after the peer closed, died or was superseded: joins the next generation of the channel, waiting
            /// up to `wait` for it. It waits as this side was last told to. On failure the channel is as it was.
            ///
            /// # Errors
            ///
            /// As [`open_with`](Self::open_with), [`OpenError::WrongSide`] on side A, which creates anew, and
            /// [`OpenError::NoName`] for an anonymous channel.
            pub fn reopen(&mut self, wait: Duration) -> Result<(), OpenError> {
                self.0.reopen(wait)
            }

            /// Makes an anonymous channel over sealed memory files, and is its side A. The descriptors are for side B:
            /// let a child inherit them or send them over a Unix socket, then call [`from_fds`](Self::from_fds) there.
            ///
            /// Nobody can shorten the memory, so no mapping of it faults, and no file system is involved. Drop the
            /// descriptors once side B has its own. They close on `exec`; clear that flag for a child that is to
            /// inherit them.
            ///
            /// # Errors
            ///
            /// [`CreateError::Config`] for an invalid size or option, [`CreateError::Io`] if the system refuses.
            #[cfg(target_os = "linux")]
            pub fn pair(config: &Config) -> Result<(Self, [::std::os::fd::OwnedFd; 2]), CreateError> {
                Duplex::pair(config).map(|(side, descriptors)| (Self(side), descriptors))
            }

            /// Side B of an anonymous channel, from the descriptors that [`pair`](Self::pair) gave, in that order.
            ///
            /// # Errors
            ///
            /// [`OpenError::Segment`] if a descriptor is not a sealed segment of this version, [`OpenError::InUse`] if
            /// a live side B is there, [`OpenError::Tag`] and [`OpenError::Type`] if the two sides differ,
            /// [`OpenError::Timeout`] if side A is gone, [`OpenError::Io`] if the system refuses.
            #[cfg(target_os = "linux")]
            pub fn from_fds(
                descriptors: [::std::os::fd::OwnedFd; 2],
                config: &Config,
            ) -> Result<Self, OpenError> {
                Duplex::from_fds(descriptors, config).map(Self)
            }
        }

        impl<$($generics)*> $crate::transport::Kind for $channel<$($types)*> where $($made)* {
            fn declared(config: &Config) -> Result<$crate::transport::Declared, $crate::error::ConfigError> {
                Duplex::<$sender, $receiver>::payloads(config).map($crate::transport::Declared)
            }

            fn from_side(side: $crate::transport::NewSide) -> Self {
                Self(Duplex::from_side(side))
            }

            fn peer_attached(&self) -> bool {
                self.0.peer_attached()
            }

            fn peer_is_gone(&self) -> bool {
                self.0.peer_is_gone()
            }
        }

        impl<$($generics)*> $channel<$($types)*> {
            /// Splits the channel into its two halves: each is `Send`. The channel's name goes with the last.
            pub fn split(self) -> ($sender, $receiver) {
                (self.0.sender, self.0.receiver)
            }

            /// Both halves at once, for a caller that answers a message while it is borrowed.
            pub fn halves(&mut self) -> (&mut $sender, &mut $receiver) {
                (&mut self.0.sender, &mut self.0.receiver)
            }

            /// Which side of the channel this is.
            pub fn side(&self) -> Side {
                self.0.sender.producer().side()
            }

            /// The process on the other side, as the system attests it, for a channel between a server and its client. `None`
            /// for any other channel.
            pub fn peer(&self) -> Option<$crate::transport::Peer> {
                self.0.peer()
            }

            /// Whether the other side has ever been there. It may have gone since.
            pub fn peer_attached(&self) -> bool {
                self.0.peer_attached()
            }

            /// Waits until the other side has come, at most `wait`. It may have gone since.
            ///
            /// # Errors
            ///
            /// [`RecvError::Timeout`] if it has not come in time; [`RecvError::Interrupted`] if an [`Interrupter`]
            /// ended the wait.
            pub fn wait_for_peer(&mut self, wait: Duration) -> Result<(), RecvError> {
                self.0.wait_for_peer(wait)
            }

            /// Closes the direction in which this side sends, in order, once the peer has released everything that was
            /// sent, waiting for that at most `wait`. Then sending returns [`SendError::Closed`]; receiving goes on.
            /// On failure nothing is closed.
            ///
            /// # Errors
            ///
            /// As [`Producer::finish`](crate::Producer::finish).
            pub fn finish(&mut self, wait: Duration) -> Result<(), SendError> {
                self.0.finish(wait)
            }

            /// Leaves the channel as if this process had died: the peer receives everything that was sent, then learns
            /// `PeerDead` and not `Closed`. The name is free, as after closing. For a process that stands in for another
            /// one, such as a bridge between machines, when that other one has died.
            pub fn abandon(self) {
                self.0.abandon();
            }

            /// A handle by which another thread ends a wait for a message.
            pub fn interrupter(&self) -> Interrupter {
                self.0.receiver.consumer().interrupter()
            }

            /// Removes the files of a dead side A under `name`, with messages of any kind.
            ///
            /// # Errors
            ///
            /// [`RemoveError::NotFound`](crate::RemoveError::NotFound) if there is nothing,
            /// [`InUse`](crate::RemoveError::InUse) if a live side A holds the name,
            /// [`Segment`](crate::RemoveError::Segment) if a file there is not ours,
            /// [`Config`](crate::RemoveError::Config) for an invalid name, [`Io`](crate::RemoveError::Io) if the system
            /// refuses.
            pub fn remove(name: &str) -> Result<(), $crate::error::RemoveError> {
                Self::remove_with(name, &Config::new())
            }

            /// The same in the directory of a configuration; see [`Config::directory`].
            ///
            /// # Errors
            ///
            /// As [`remove`](Self::remove).
            pub fn remove_with(name: &str, config: &Config) -> Result<(), $crate::error::RemoveError> {
                $crate::transport::remove(name, config)
            }

            /// The tag that side A gave to [`Config::message_tag`]; empty if none.
            pub fn message_tag(&self) -> String {
                self.0.sender.producer().guard().pair.rx.fixed.tag()
            }

            /// The number of this life of the channel: another `create`, another number.
            pub fn generation(&self) -> u64 {
                self.0.sender.producer().guard().pair.rx.fixed.generation
            }

            /// Payload bytes of a slot in the direction this side sends.
            pub fn slot_size(&self) -> usize {
                self.0.sender.producer().slot_size()
            }

            /// Slots in the direction this side sends.
            pub fn slot_count(&self) -> usize {
                self.0.sender.producer().slot_count()
            }

            /// Figures of both rings, now.
            pub fn stats(&self) -> Stats {
                self.0.stats()
            }

            /// A handle on the figures of both rings, for another thread or while a message is borrowed.
            pub fn stats_handle(&self) -> $crate::transport::StatsHandle {
                self.0.stats_handle()
            }

            /// A handle on both sides' poll modes.
            pub fn poll_control(&self) -> PollControl {
                self.0.sender.producer().poll_control()
            }
        }

        impl<$($generics)*> ::std::fmt::Debug for $channel<$($types)*> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                self.0.fmt($name, f)
            }
        }
    };
}
pub(crate) use duplex_methods;

/// Repeats a half's methods on the whole channel.
macro_rules! delegate {
    ([$($generics:tt)*] $channel:ident [$($types:tt)*], $half:ident: $type:ident {
        $( $name:ident ( $($arg:ident : $kind:ty),* ) -> $result:ty; )*
    } async {
        $( $async_name:ident ( $($async_arg:ident : $async_kind:ty),* ) -> $async_result:ty; )*
    }) => {
        impl<$($generics)*> $channel<$($types)*> {
            $(
                #[doc = concat!("[`", stringify!($type), "::", stringify!($name), "`] of this side.")]
                ///
                /// # Errors
                ///
                #[doc = concat!("As [`", stringify!($type), "::", stringify!($name), "`].")]
                #[inline(always)]
                pub fn $name(&mut self, $($arg: $kind),*) -> $result {
                    self.0.$half.$name($($arg),*)
                }
            )*
            $(
                #[doc = concat!("[`", stringify!($type), "::", stringify!($async_name), "`] of this side.")]
                ///
                /// # Errors
                ///
                #[doc = concat!("As [`", stringify!($type), "::", stringify!($async_name), "`].")]
                #[cfg(feature = "async")]
                #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
                #[inline(always)]
                pub fn $async_name(
                    &mut self,
                    $($async_arg: $async_kind),*
                ) -> impl Future<Output = $async_result> {
                    self.0.$half.$async_name($($async_arg),*)
                }
            )*
        }
    };
}
pub(crate) use delegate;
