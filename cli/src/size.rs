//! Sizes as people write them: `4096`, `64k`, `1M`, `2G`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: a number, then nothing, K, M, G, T or P (powers of 1024)")]
pub(crate) struct BadSize(String);

const UNITS: [(char, u32); 5] = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50)];

impl FromStr for ByteSize {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let plain = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
        let (digits, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| Some((plain.strip_suffix(*unit)?, *shift)))
            .unwrap_or((plain, 0));
        let number: u64 = digits.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

/// The largest unit that divides it: `4k`, `1M`, `1000`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match UNITS.iter().rev().find(|(_, shift)| fits(*shift)) {
            Some(('k', shift)) => write!(f, "{}k", self.0 >> shift),
            Some((unit, shift)) => write!(f, "{}{}", self.0 >> shift, unit.to_ascii_uppercase()),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64k", 65536), ("1MiB", 1 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        assert_eq!(ByteSize(1 << 20).to_string(), "1M");
        assert_eq!(ByteSize(1000).to_string(), "1000");
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in ["", "k", "-1", "1.5M", "99999999999P"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
