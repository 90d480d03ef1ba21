@0xa7f7d715cc9db510;

# What example rpc_pubsub serves.
interface Topic {
  # Dropping the subscription ends it.
  subscribe @0 (subscriber :Subscriber) -> (subscription :Subscription);
  publish @1 (text :Text) -> (subscribers :UInt32);

  interface Subscription {}

  interface Subscriber {
    # Flow control: a slow subscriber holds up those pieces of news that are for it.
    push @0 (number :UInt64, text :Text) -> stream;
  }
}
