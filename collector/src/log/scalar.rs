//! One value of a log field, whatever its JSON type: logs write numbers as numbers or as text, and both mean the same.

use std::borrow::Cow;
use std::net::IpAddr;

use super::protocol;
use crate::fault::{Fault, Reason};

/// A value as it stood in the line. JSON's null is [`Scalar::Absent`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Scalar<'a> {
    /// The field is not there.
    #[default]
    Absent,
    /// A whole number from 0.
    Unsigned(u64),
    /// A negative whole number.
    Negative(i64),
    /// A number with a fraction or exponent, or too large for 64 bits.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// A truth value.
    Bool(bool),
}

/// Largest count that is believed: the range of ECS's `long`.
const LARGEST: u64 = i64::MAX as u64;
/// Up to here a float still holds every whole number.
const LARGEST_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;
/// Longest piece of a value that a fault repeats, bytes.
const LONGEST_SHOWN: usize = 64;

impl Scalar<'_> {
    /// The text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// True if it is exactly this text.
    pub(super) fn is(&self, text: &str) -> bool {
        self.text() == Some(text)
    }

    /// A whole number from 0, or `None` if absent. Numbers in text count where they are exact.
    ///
    /// # Errors
    /// `OutOfRange` for negative, fractional and absurdly large numbers, `BadLine` for what is no number.
    pub(super) fn unsigned(&self, field: &str) -> Result<Option<u64>, Fault> {
        self.up_to(LARGEST, field)
    }

    /// A whole number from 0 to 65535, or `None` if absent. Errors as [`Scalar::unsigned`].
    pub(super) fn port(&self, field: &str) -> Result<Option<u16>, Fault> {
        Ok(self.up_to(u64::from(u16::MAX), field)?.and_then(|port| u16::try_from(port).ok()))
    }

    /// A whole number from 0 to 255, or `None` if absent. Errors as [`Scalar::unsigned`].
    pub(super) fn byte(&self, field: &str) -> Result<Option<u8>, Fault> {
        Ok(self.up_to(u64::from(u8::MAX), field)?.and_then(|byte| u8::try_from(byte).ok()))
    }

    /// An IP address, or `None` if absent.
    ///
    /// # Errors
    /// `BadLine` for what is no address.
    pub(super) fn address(&self, field: &str) -> Result<Option<IpAddr>, Fault> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => match protocol::address(text) {
                Some(address) => Ok(Some(address)),
                None => Err(self.not(field, "an IP address")),
            },
            _ => Err(self.not(field, "an IP address")),
        }
    }

    fn up_to(&self, largest: u64, field: &str) -> Result<Option<u64>, Fault> {
        let number = match self {
            Self::Absent => return Ok(None),
            Self::Unsigned(number) => Some(*number),
            Self::Float(float) => whole(*float),
            Self::Negative(_) => None,
            Self::Bool(_) => return Err(self.not(field, "a number")),
            Self::Text(text) => match (text.parse::<u64>(), text.parse::<f64>()) {
                (Ok(number), _) => Some(number),
                (Err(_), Ok(float)) if float.is_finite() => whole(float),
                _ => return Err(self.not(field, "a number")),
            },
        };
        match number {
            Some(number) if number <= largest => Ok(Some(number)),
            _ => Err(Fault::new(
                Reason::OutOfRange,
                format!("{field} is {}; a whole number from 0 to {largest} was expected", self.shown()),
            )),
        }
    }

    /// The fault that this value is not what its field should hold.
    pub(super) fn not(&self, field: &str, expected: &str) -> Fault {
        Fault::new(Reason::BadLine, format!("{field} is {}; {expected} was expected", self.shown()))
    }

    /// The value for a person, cut to a bounded length.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Absent => "absent".to_owned(),
            Self::Unsigned(number) => number.to_string(),
            Self::Negative(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => shown(text),
        }
    }
}

/// Text for a person: quoted, control characters escaped, cut to a bounded length.
pub(super) fn shown(text: &str) -> String {
    let mut end = text.len().min(LONGEST_SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let more = if end < text.len() { "…" } else { "" };
    format!("{:?}{more}", text.get(..end).unwrap_or_default())
}

/// The whole number that a float holds exactly.
fn whole(float: f64) -> Option<u64> {
    let exact = float.fract() == 0.0 && (0.0..=LARGEST_EXACT_FLOAT).contains(&float);
    exact.then_some(float as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Scalar<'_> {
        Scalar::Text(Cow::Borrowed(text))
    }

    #[test]
    fn numbers_may_be_text() {
        assert_eq!(text("123").unsigned("n"), Ok(Some(123)));
        assert_eq!(text("1e3").unsigned("n"), Ok(Some(1000)));
        assert_eq!(Scalar::Float(12.0).unsigned("n"), Ok(Some(12)));
        assert_eq!(Scalar::Absent.unsigned("n"), Ok(None));
    }

    #[test]
    fn what_is_out_of_range_names_field_and_value() {
        for value in [Scalar::Negative(-5), text("-5"), Scalar::Float(1.5), Scalar::Float(1e300), text("1.5")] {
            let fault = value.unsigned("source.bytes").unwrap_err();
            assert_eq!(fault.reason, Reason::OutOfRange, "{fault}");
            assert!(fault.detail.starts_with("source.bytes is "), "{fault}");
        }
        let fault = Scalar::Unsigned(65_536).port("source.port").unwrap_err();
        assert_eq!(fault.detail, "source.port is 65536; a whole number from 0 to 65535 was expected");
    }

    #[test]
    fn what_is_no_number_is_a_bad_line() {
        for value in [text("many"), text(""), text("NaN"), text("inf"), Scalar::Bool(true)] {
            assert_eq!(value.unsigned("n").unwrap_err().reason, Reason::BadLine);
        }
    }

    #[test]
    fn faults_repeat_a_bounded_part_of_the_value() {
        let long = "é".repeat(1000);
        assert!(text(&long).unsigned("n").unwrap_err().detail.len() < 200);
    }
}
