@0x800fdad53535e086;
# An order, as it was in the beginning.

struct Order @0x8f0726bf513ae623 {
  id @0 :UInt64;
  symbol @1 :Text;
}
