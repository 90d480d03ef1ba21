//! Prints values of a `Pod` type by a small description: `id:u64 price:f64 flags:u8 _:7 name:s16 level:f32[4]`.
//!
//! Fields follow each other without gaps, in the byte order of the machine. A name and a type, with a number in brackets for an
//! array: `u8` to `u64`, `i8` to `i64`, `f32`, `f64`, `bool`, `sN` (text of N bytes, up to a NUL), `xN` (N bytes in
//! hexadecimal). `_:N` skips N bytes.

use std::fmt::Write;
use std::str::FromStr;

/// A description that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout(Vec<Field>);

#[derive(Clone, Debug, PartialEq)]
struct Field {
    /// None for bytes that are skipped.
    name: Option<String>,
    kind: Kind,
    /// Elements of an array.
    count: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
    Bool,
    Text(usize),
    Hex(usize),
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Unsigned(n) | Self::Signed(n) | Self::Float(n) | Self::Text(n) | Self::Hex(n) => n,
        }
    }

    fn print(self, bytes: &[u8]) -> String {
        let mut wide = [0; 8];
        match self {
            Self::Unsigned(n) | Self::Signed(n) | Self::Float(n) => {
                // Where small numbers lie in a wide one.
                let at = if cfg!(target_endian = "little") { 0 } else { 8 - n };
                wide[at..at + n].copy_from_slice(bytes);
                let number = u64::from_ne_bytes(wide);
                match self {
                    Self::Signed(_) => {
                        let unused = 64 - 8 * n as u32;
                        ((number << unused) as i64 >> unused).to_string()
                    }
                    Self::Float(4) => format!("{:?}", f32::from_bits(number as u32)),
                    Self::Float(_) => format!("{:?}", f64::from_bits(number)),
                    _ => number.to_string(),
                }
            }
            Self::Bool => (bytes != [0]).to_string(),
            Self::Text(_) => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                format!("{:?}", String::from_utf8_lossy(&bytes[..end]))
            }
            Self::Hex(_) => bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }),
        }
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields: Result<Vec<_>, _> = text.split_whitespace().map(field).collect();
        let fields = fields?;
        if fields.is_empty() {
            return Err("a layout has at least one field, as in \"id:u64 price:f64\"".to_owned());
        }
        Ok(Self(fields))
    }
}

fn field(text: &str) -> Result<Field, String> {
    let wrong =
        |what: &str| format!("field {text:?}: {what}; fields are like id:u64, price:f64, name:s16, _:4");
    let (name, kind) = text.split_once(':').ok_or_else(|| wrong("it has no type"))?;
    if name == "_" {
        let bytes = kind.parse().map_err(|_| wrong("what is skipped is a number of bytes"))?;
        return Ok(Field { name: None, kind: Kind::Hex(bytes), count: None });
    }
    let (kind, count) = match kind.split_once('[') {
        None => (kind, None),
        Some((kind, rest)) => {
            let count = rest.strip_suffix(']').and_then(|count| count.parse().ok());
            (kind, Some(count.ok_or_else(|| wrong("an array has a number in brackets"))?))
        }
    };
    let (letter, number) = kind.split_at(kind.find(|c: char| c.is_ascii_digit()).unwrap_or(kind.len()));
    let kind = match (letter, number.parse::<usize>()) {
        ("u", Ok(bits @ (8 | 16 | 32 | 64))) => Kind::Unsigned(bits / 8),
        ("i", Ok(bits @ (8 | 16 | 32 | 64))) => Kind::Signed(bits / 8),
        ("f", Ok(bits @ (32 | 64))) => Kind::Float(bits / 8),
        ("s", Ok(bytes @ 1..)) => Kind::Text(bytes),
        ("x", Ok(bytes @ 1..)) => Kind::Hex(bytes),
        ("bool", Err(_)) => Kind::Bool,
        _ => return Err(wrong("the type is unknown")),
    };
    Ok(Field { name: Some(name.to_owned()), kind, count })
}

impl Layout {
    /// Bytes of all fields.
    pub fn bytes(&self) -> usize {
        self.0
            .iter()
            .map(|field| field.kind.bytes().saturating_mul(field.count.unwrap_or(1)))
            .fold(0, usize::saturating_add)
    }

    /// The fields of a value. A field beyond the end of the value is printed as missing.
    pub fn print(&self, value: &[u8]) -> String {
        let (mut rest, mut parts) = (value, Vec::new());
        for Field { name, kind, count } in &self.0 {
            let mut elements = Vec::new();
            for _ in 0..count.unwrap_or(1) {
                let Some((bytes, after)) = rest.split_at_checked(kind.bytes()) else {
                    parts.push(format!("(only {} bytes of {})", value.len(), self.bytes()));
                    return parts.join(" ");
                };
                rest = after;
                elements.push(kind.print(bytes));
            }
            let Some(name) = name else { continue };
            match count {
                None => parts.push(format!("{name}={}", elements.concat())),
                Some(_) => parts.push(format!("{name}=[{}]", elements.join(", "))),
            }
        }
        if !rest.is_empty() {
            parts.push(format!("(and {} bytes)", rest.len()));
        }
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_printed_from_the_machines_bytes() {
        let layout: Layout = "a:u16 b:i8 ok:bool x:f32 _:4 y:f64 name:s6 raw:x2 z:i32[2]".parse().unwrap();
        let mut value = Vec::new();
        value.extend(7u16.to_ne_bytes());
        value.extend((-3i8).to_ne_bytes());
        value.push(1);
        value.extend(1.5f32.to_ne_bytes());
        value.extend([9; 4]);
        value.extend((-0.25f64).to_ne_bytes());
        value.extend(b"abc\0zz");
        value.extend([0xde, 0xad]);
        value.extend((-1i32).to_ne_bytes());
        value.extend(5i32.to_ne_bytes());
        assert_eq!(layout.bytes(), value.len());
        assert_eq!(layout.print(&value), "a=7 b=-3 ok=true x=1.5 y=-0.25 name=\"abc\" raw=dead z=[-1, 5]");
        assert_eq!(layout.print(&value[..3]), "a=7 b=-3 (only 3 bytes of 36)");
        value.push(0);
        assert!(layout.print(&value).ends_with("(and 1 bytes)"));
    }

    #[test]
    fn a_number_that_is_no_float_stays_short() {
        let layout: Layout = "x:f64 y:f32".parse().unwrap();
        let value = [45u64.to_ne_bytes().as_slice(), &1f32.to_ne_bytes()].concat();
        assert_eq!(layout.print(&value), "x=2.2e-322 y=1.0");
    }

    #[test]
    fn what_is_wrong_with_a_layout_is_said() {
        for wrong in ["", "id", "id:u7", "id:u64[", "_:x", "t:s0", "b:bool8"] {
            assert!(wrong.parse::<Layout>().is_err(), "{wrong}");
        }
    }
}
