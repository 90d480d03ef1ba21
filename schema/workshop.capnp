@0xc81d9360cc6e67b0;

# Everything that RPC can do, for tests and benchmarks.
interface Workshop {
  echo @0 (payload :Data) -> (payload :Data);
  # A workshop in this one, one deeper.
  inner @1 () -> (workshop :Workshop);
  depth @2 () -> (depth :UInt32);
  # An exception of this kind: 0 failed, 1 overloaded, 2 disconnected, 3 unimplemented.
  fail @3 (kind :UInt16, reason :Text) -> ();
  # Never returns. The witness goes when the call is canceled.
  hang @4 (witness :Workshop) -> ();
  # Calls of hang that were canceled.
  canceled @5 () -> (count :UInt32);
  # Has the other side's workshop echo, and returns what it said.
  through @6 (workshop :Workshop, payload :Data) -> (payload :Data);
  # Keeps a workshop; inner ones ask for it.
  keep @7 (workshop :Workshop) -> ();
  kept @8 () -> (workshop :Workshop);
  piece @9 (payload :Data) -> stream;
  # Pieces since the last time, and their bytes.
  pieces @10 () -> (count :UInt64, bytes :UInt64);
  # Which call this is: 0, 1, 2.
  count @11 () -> (number :UInt64);
  # Sends so many pieces to the other side's workshop.
  send @12 (workshop :Workshop, count :UInt32, size :UInt32) -> ();
  # Ends the process at once.
  die @13 () -> ();
}
