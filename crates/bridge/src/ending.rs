//! How a generation ends.

/// How one generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// A program closed the channel in order, and the other one learned so.
    Closed,
    /// A program died: the other one learned `PeerDead`.
    Died,
    /// The other bridge died or was cut off: the program here learned `PeerDead`.
    BridgeGone,
    /// Nothing was heard of the other bridge for the configured time: the program here learned `PeerDead`.
    NetworkGone,
    /// The other bridge sent what no bridge sends: the program here learned `PeerDead`.
    Broken(String),
    /// This bridge was told to leave: both programs learned `Closed`.
    Left,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("closed in order"),
            Self::Died => f.write_str("a program has died"),
            Self::BridgeGone => f.write_str("the other bridge is gone"),
            Self::NetworkGone => f.write_str("the network to the other bridge is gone"),
            Self::Broken(what) => f.write_str(what),
            Self::Left => f.write_str("this bridge leaves"),
        }
    }
}
