//! A page of a listing, from keys in their order.

use std::collections::BTreeMap;
use std::ops::Bound;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// What to list.
#[derive(Debug, Clone, Default)]
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) after: Option<Place>,
    pub(super) max: usize,
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// At this key.
    Key(String),
    /// At what many keys begin with, all of which are behind it.
    Common(String),
}

impl Place {
    /// As a continuation token.
    pub(super) fn token(&self) -> String {
        let (mark, text) = match self {
            Self::Key(key) => ('k', key),
            Self::Common(prefix) => ('c', prefix),
        };
        BASE64_URL_SAFE_NO_PAD.encode(format!("{mark}{text}"))
    }

    pub(super) fn from_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let key = text.strip_prefix('k').map(|key| Self::Key(key.to_owned()));
        key.or_else(|| text.strip_prefix('c').map(|prefix| Self::Common(prefix.to_owned())))
    }

    /// Whether a key at or after the place's beginning is behind it.
    fn covers(&self, key: &str) -> bool {
        match self {
            Self::Key(last) => key <= last.as_str(),
            Self::Common(prefix) => key.starts_with(prefix) || key < prefix.as_str(),
        }
    }
}

/// What a page has.
#[derive(Debug)]
pub(super) struct Found<'a, T> {
    pub(super) objects: Vec<(&'a str, &'a T)>,
    pub(super) common: Vec<String>,
    /// Where it ended, if there is more.
    pub(super) next: Option<Place>,
}

pub(super) fn page<'a, T>(all: &'a BTreeMap<String, T>, query: &Query<'_>) -> Found<'a, T> {
    let from = match &query.after {
        Some(Place::Key(text) | Place::Common(text)) if text.as_str() > query.prefix => text,
        Some(_) | None => query.prefix,
    };
    let mut found = Found { objects: Vec::new(), common: Vec::new(), next: None };
    let mut last = query.after.clone();
    for (key, object) in all.range::<str, _>((Bound::Included(from), Bound::Unbounded)) {
        if !key.starts_with(query.prefix) {
            break;
        }
        if last.as_ref().is_some_and(|last| last.covers(key)) {
            continue;
        }
        if found.objects.len().saturating_add(found.common.len()) >= query.max {
            found.next = last;
            break;
        }
        last = Some(if let Some(prefix) = common(key, query) {
            found.common.push(prefix.clone());
            Place::Common(prefix)
        } else {
            found.objects.push((key, object));
            Place::Key(key.clone())
        });
    }
    found
}

/// What the key has in common with its neighbours, up to and with the delimiter.
fn common(key: &str, query: &Query<'_>) -> Option<String> {
    let rest = key.strip_prefix(query.prefix)?;
    let (before, _) = rest.split_once(query.delimiter?)?;
    Some(format!("{}{before}{}", query.prefix, query.delimiter?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pages, as (keys, common prefixes).
    fn pages(keys: &[&str], prefix: &str, delimiter: Option<&str>, max: usize) -> Vec<String> {
        let all = keys.iter().map(|key| ((*key).to_owned(), ())).collect();
        let mut query = Query { prefix, delimiter, after: None, max };
        let mut seen = Vec::new();
        loop {
            let found = page(&all, &query);
            assert!(found.objects.len() + found.common.len() <= max);
            seen.extend(found.objects.iter().map(|(key, ())| (*key).to_owned()));
            seen.extend(found.common);
            match found.next {
                Some(next) => query.after = Place::from_token(&next.token()),
                None => return seen,
            }
        }
    }

    #[test]
    fn pages_of_any_size_show_every_key_once() {
        let keys = ["a", "a/", "a/b", "a/c/d", "b", "b/x", "c", "ä"];
        for max in 1..10 {
            assert_eq!(pages(&keys, "", None, max), keys);
            assert_eq!(pages(&keys, "a/", None, max), ["a/", "a/b", "a/c/d"]);
        }
    }

    #[test]
    fn what_lies_deeper_is_one_entry_of_its_level() {
        let keys = ["a", "a/", "a/b", "a/c/d", "a0", "b/x", "b/y"];
        for max in 1..10 {
            let mut seen = pages(&keys, "", Some("/"), max);
            seen.sort();
            assert_eq!(seen, ["a", "a/", "a0", "b/"]);
            let mut seen = pages(&keys, "a/", Some("/"), max);
            seen.sort();
            assert_eq!(seen, ["a/", "a/b", "a/c/"]);
        }
    }
}
