//! Percent-encoding, as keys have it in headers and in listings.

use std::fmt::Write as _;

/// Every byte that is not unreserved in a URL, but the slash stays.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}

/// Also reads a plus as a space, which is how S3 writes one. `None` if the text is not encoded,
/// or is not UTF-8 behind it.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)?.checked_mul(16)?.checked_add(hex(bytes.next()?)?)?,
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plus_is_a_space_and_a_percent_needs_two_digits() {
        assert_eq!(decode("a+b%2Bc%c3%A4").as_deref(), Some("a b+cä"));
        for odd in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn every_text_survives(text in ".{0,60}") {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }
    }
}
