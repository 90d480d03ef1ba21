@0x8e2d7a765753d230;
# A struct that contains itself, with a field of every kind.

struct Tree {
  label @0 :Text;
  bytes @1 :Data;
  children @2 :List(Tree);
  numbers @3 :List(Int32);
  flags @4 :List(Bool);
  colour @5 :Colour;
  weight @6 :Float64 = 1.5;

  union {
    nothing @7 :Void;
    count @8 :Int64;
    twin @9 :Tree;
  }

  enum Colour {
    red @0;
    green @1;
    blue @2;
  }
}
