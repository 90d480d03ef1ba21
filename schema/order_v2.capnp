@0xdb59bebc2d96dd33;
# An order of the same type id, with fields that came later.

struct Order @0x8f0726bf513ae623 {
  id @0 :UInt64;
  symbol @1 :Text;
  amount @2 :UInt32 = 100;
  tags @3 :List(Text);
}
