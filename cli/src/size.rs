//! Sizes as people write them, `4096`, `64k`, `1M`, `2G`, shown in the same way.

use std::fmt;
use std::str::FromStr;

use nacre_node::config::{BadSize, Size};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

const UNITS: [(char, u32); 5] = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50)];

impl FromStr for ByteSize {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        text.parse::<Size>().map(|size| Self(size.0))
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
