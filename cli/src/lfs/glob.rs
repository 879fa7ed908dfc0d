//! Shell patterns, as `find -name` takes them: over bytes, since names are bytes.

use super::find::Case;

/// Shell patterns: `*`, `?`, `[a-z]`, `[!a]`, `\x`.
pub(super) fn glob(pattern: &[u8], text: &[u8], case: Case) -> bool {
    let folded: Vec<u8> = match case {
        Case::Sensitive => text.to_vec(),
        Case::Insensitive => text.to_ascii_lowercase(),
    };
    glob_bytes(pattern, &folded)
}

/// Backtracks to the last `*` only: linear in practice, quadratic at worst.
fn glob_bytes(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (pattern, text);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', rest)) = p.split_first() {
            retry = Some((rest, t));
            p = rest;
            continue;
        }
        let step = match t.split_first() {
            None if p.is_empty() => return true,
            None => return false,
            Some((byte, rest)) => one(p, *byte).map(|after| (after, rest)),
        };
        match (step, retry) {
            (Some((after, rest)), _) => (p, t) = (after, rest),
            (None, Some((after, from))) => {
                let Some((_, from)) = from.split_first() else { return false };
                retry = Some((after, from));
                (p, t) = (after, from);
            }
            (None, None) => return false,
        }
    }
}

/// Matches one byte; returns the pattern behind what matched it.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (first, rest) = pattern.split_first()?;
    match first {
        b'?' => Some(rest),
        b'[' => class(rest, byte),
        b'\\' => {
            let (literal, rest) = rest.split_first()?;
            (*literal == byte).then_some(rest)
        }
        literal => (*literal == byte).then_some(rest),
    }
}

fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match pattern.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        Some(_) | None => (false, pattern),
    };
    let (mut inside, mut first) = (false, true);
    loop {
        let (low, after) = rest.split_first()?;
        if *low == b']' && !first {
            return (inside != negated).then_some(after);
        }
        first = false;
        let high = match after {
            [b'-', high, ..] if *high != b']' => Some(*high),
            _ => None,
        };
        inside |= (*low..=high.unwrap_or(*low)).contains(&byte);
        rest = if high.is_some() { after.get(2..)? } else { after };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let matches = |pattern: &str, text: &str| glob_bytes(pattern.as_bytes(), text.as_bytes());
        for (pattern, text) in [
            ("*", ""),
            ("a*b*c", "axxbyybc"),
            ("?[a-c]*", "zb"),
            ("[!x]", "y"),
            ("\\*", "*"),
            ("[]]", "]"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a*b", "ac"), ("[a-c]", "d"), ("[!x]", "x"), ("[a", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
