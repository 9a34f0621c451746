//! The data section of a MaxMind DB file (<https://maxmind.github.io/MaxMind-DB/>, version 2.0): values that say their
//! type and size, among them maps, and pointers to values that stand elsewhere in the section.
//!
//! Nothing is unpacked: a map is searched for a key, and what stands before it is skipped.

/// Most values that are looked at for one answer: a record of the richest databases has some hundreds.
const MOST_VALUES: u32 = 1 << 12;

const POINTER: u8 = 1;
const TEXT: u8 = 2;
const UNSIGNED_16: u8 = 5;
const UNSIGNED_32: u8 = 6;
const MAP: u8 = 7;
const UNSIGNED_64: u8 = 9;
const ARRAY: u8 = 11;
const CONTAINER: u8 = 12;
const END: u8 = 13;
const BOOLEAN: u8 = 14;
const LAST: u8 = 15;

/// What is no value, and where: bytes from the start of the section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the data: {what}")]
pub struct Broken {
    at: usize,
    what: &'static str,
}

/// A section.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data<'a>(pub(super) &'a [u8]);

/// The head of a value.
#[derive(Debug, Clone, Copy)]
struct Head {
    kind: u8,
    /// Bytes of a plain value, values of an array, pairs of a map; of a pointer what it points to.
    size: usize,
    /// Where what follows the head begins.
    body: usize,
}

/// A value, as far as anybody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Unsigned(u64),
    /// A map, by where it is.
    Map(usize),
    Other,
}

impl<'a> Data<'a> {
    /// The value at this place, wherever it stands.
    pub(super) fn value(self, at: usize) -> Result<Value<'a>, Broken> {
        let head = self.resolve(at)?;
        Ok(match head.kind {
            TEXT => match std::str::from_utf8(self.bytes(head.body, head.size)?) {
                Ok(text) => Value::Text(text),
                Err(_) => return Err(Broken { at, what: "text that is not UTF-8" }),
            },
            UNSIGNED_16 | UNSIGNED_32 | UNSIGNED_64 if head.size <= 8 => {
                Value::Unsigned(self.number(head.body, head.size)?)
            }
            MAP => Value::Map(at),
            _ => Value::Other,
        })
    }

    /// Where the value of a key of a map is. A value that is no map has no keys.
    pub(super) fn get(self, map: usize, key: &str) -> Result<Option<usize>, Broken> {
        let head = self.resolve(map)?;
        if head.kind != MAP {
            return Ok(None);
        }
        let (mut at, mut left) = (head.body, MOST_VALUES);
        for _ in 0..head.size {
            let name = self.resolve(at)?;
            if name.kind != TEXT {
                return Err(Broken { at, what: "a key that is no text" });
            }
            let found = self.bytes(name.body, name.size)? == key.as_bytes();
            at = self.after(at, &mut left)?;
            if found {
                return Ok(Some(at));
            }
            at = self.after(at, &mut left)?;
        }
        Ok(None)
    }

    /// What stands behind the value at this place, whatever is in it.
    fn after(self, at: usize, left: &mut u32) -> Result<usize, Broken> {
        let (mut at, mut values) = (at, 1usize);
        while values > 0 {
            *left = left.checked_sub(1).ok_or(Broken { at, what: "a value of too many parts" })?;
            let head = self.head(at)?;
            values -= 1;
            at = match head.kind {
                POINTER | BOOLEAN => head.body,
                MAP => {
                    values += 2 * head.size;
                    head.body
                }
                ARRAY => {
                    values += head.size;
                    head.body
                }
                _ => head.body + head.size,
            };
        }
        Ok(at)
    }

    /// The head of the value at this place, or of what it points to.
    fn resolve(self, at: usize) -> Result<Head, Broken> {
        let head = self.head(at)?;
        if head.kind != POINTER {
            return Ok(head);
        }
        let target = self.head(head.size)?;
        match target.kind {
            POINTER => Err(Broken { at, what: "a pointer to a pointer" }),
            _ => Ok(target),
        }
    }

    fn head(self, at: usize) -> Result<Head, Broken> {
        let control = self.number(at, 1)? as u8;
        let (mut kind, mut body) = (control >> 5, at + 1);
        if kind == POINTER {
            let bytes = usize::from(control >> 3 & 3) + 1;
            let (high, low) = (usize::from(control & 7), self.number(body, bytes)? as usize);
            let target = match bytes {
                1 => high << 8 | low,
                2 => (high << 16 | low) + 2_048,
                3 => (high << 24 | low) + 526_336,
                _ => low,
            };
            return Ok(Head { kind, size: target, body: body + bytes });
        }
        if kind == 0 {
            kind = (self.number(body, 1)? as u8).saturating_add(7);
            body += 1;
        }
        if matches!(kind, CONTAINER | END) || !(TEXT..=LAST).contains(&kind) {
            return Err(Broken { at, what: "a value of no type that a record has" });
        }
        let (more, from) = match control & 31 {
            29 => (1, 29),
            30 => (2, 285),
            31 => (3, 65_821),
            size => (0, usize::from(size)),
        };
        let size = from + self.number(body, more)? as usize;
        Ok(Head { kind, size, body: body + more })
    }

    /// A number of up to eight bytes, the highest first.
    fn number(self, at: usize, bytes: usize) -> Result<u64, Broken> {
        Ok(self.bytes(at, bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn bytes(self, at: usize, bytes: usize) -> Result<&'a [u8], Broken> {
        let end = at.checked_add(bytes);
        end.and_then(|end| self.0.get(at..end)).ok_or(Broken { at, what: "the data end amid a value" })
    }
}
