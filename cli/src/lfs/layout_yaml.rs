//! Layouts as `getstripe -y` prints them, Lustre's and ours, back to wishes.
//!
//! Only that form is read, one `key: value` a line; what a layout is without is passed over.

use nacre_client::layout_json::{ComponentDoc, LayoutDoc};
use nacre_model::layout::STRIPE_SIZE_DEFAULT;

/// Keys that say nothing of a new file's layout.
const PASSED_OVER: [&str; 15] = [
    "path",
    "fid",
    "lcm_layout_gen",
    "lcm_entry_count",
    "lcme_id",
    "lcme_mirror_id",
    "lcme_flags",
    "lcme_timestamp",
    "sub_layout",
    "lmm_magic",
    "lmm_seq",
    "lmm_object_id",
    "lmm_fid",
    "lmm_layout_gen",
    "l_fid",
];

/// The text is not one layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadYaml {
    /// Not `key: value`, or a key that no layout has.
    #[error("line {line}: `{text}` is not of a layout")]
    Line {
        /// From 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A value that its key does not take.
    #[error("line {line}: {key} cannot be `{value}`")]
    Value {
        /// From 1.
        line: usize,
        /// Of what.
        key: String,
        /// What stands there.
        value: String,
    },
    /// The layouts of several files.
    #[error("line {line}: a second layout begins")]
    Second {
        /// From 1.
        line: usize,
    },
    /// Nothing that could be set.
    #[error("there is no layout in it")]
    None,
}

fn component() -> ComponentDoc {
    ComponentDoc {
        start: 0,
        end: None,
        stripe_size: STRIPE_SIZE_DEFAULT,
        stripe_count: 1,
        stripe_index: -1,
        pool: String::new(),
        osts: Vec::new(),
        object_generation: 0,
    }
}

/// Reads the layout of one file or folder.
pub(super) fn parse(text: &str) -> Result<LayoutDoc, BadYaml> {
    let (mut components, mut seen): (Vec<ComponentDoc>, bool) = (Vec::new(), false);
    for (line, whole) in (1..).zip(text.lines()) {
        let plain = whole.trim().trim_start_matches("- ");
        if plain.is_empty() || plain.starts_with('#') || plain == "---" {
            continue;
        }
        let bad = || BadYaml::Line { line, text: whole.trim().to_owned() };
        let (key, value) = plain.split_once(':').ok_or_else(bad)?;
        let value = value.trim().trim_matches('"');
        if key == "path" || (key == "lcm_layout_gen" && !components.is_empty()) {
            if std::mem::replace(&mut seen, true) || !components.is_empty() {
                return Err(BadYaml::Second { line });
            }
            continue;
        }
        if key.strip_prefix("component").is_some_and(|number| number.parse::<u16>().is_ok()) {
            components.push(component());
            continue;
        }
        if PASSED_OVER.contains(&key) {
            continue;
        }
        if components.is_empty() && key != "lcm_mirror_count" {
            components.push(component());
        }
        let wrong = || BadYaml::Value { line, key: key.to_owned(), value: value.to_owned() };
        match (key, components.last_mut()) {
            ("lcm_mirror_count", _) if value == "1" => {}
            ("lcm_mirror_count", _) => return Err(wrong()),
            (_, Some(component)) => match set(component, key, value) {
                Set::Done => {}
                Set::BadValue => return Err(wrong()),
                Set::UnknownKey => return Err(bad()),
            },
            (_, None) => return Err(bad()),
        }
    }
    if components.is_empty() {
        return Err(BadYaml::None);
    }
    for component in components.iter_mut().filter(|component| !component.osts.is_empty()) {
        // The list says it, too.
        component.stripe_index = -1;
    }
    Ok(LayoutDoc { fid: String::new(), inline: false, generation: 0, components })
}

enum Set {
    Done,
    BadValue,
    UnknownKey,
}

fn set(component: &mut ComponentDoc, key: &str, value: &str) -> Set {
    let put = |place: &mut _, number: Option<_>| match number {
        Some(number) => {
            *place = number;
            Set::Done
        }
        None => Set::BadValue,
    };
    match key {
        "lmm_stripe_count" => put(&mut component.stripe_count, value.parse().ok()),
        "lmm_stripe_offset" => put(&mut component.stripe_index, value.parse().ok()),
        "lmm_pattern" if value == "raid0" => Set::Done,
        "lmm_objects" if value.is_empty() => Set::Done,
        "lmm_pattern" | "lmm_objects" => Set::BadValue,
        "lmm_pool" => {
            value.clone_into(&mut component.pool);
            Set::Done
        }
        "lmm_stripe_size" => value.parse().map_or(Set::BadValue, |size| {
            component.stripe_size = size;
            Set::Done
        }),
        "lcme_extent.e_start" => value.parse().map_or(Set::BadValue, |start| {
            component.start = start;
            Set::Done
        }),
        "lcme_extent.e_end" if value == "EOF" => {
            component.end = None;
            Set::Done
        }
        "lcme_extent.e_end" => value.parse().map_or(Set::BadValue, |end| {
            component.end = Some(end);
            Set::Done
        }),
        "l_ost_idx" => value.parse().map_or(Set::BadValue, |ost| {
            component.osts.push(ost);
            Set::Done
        }),
        _ => Set::UnknownKey,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::getstripe;
    use super::*;

    fn shown(doc: &LayoutDoc, directory: bool) -> String {
        let mut text = String::new();
        getstripe::yaml(&mut text, Path::new("/m/a: \"b\""), doc, directory);
        text
    }

    fn doc(components: Vec<ComponentDoc>) -> LayoutDoc {
        LayoutDoc {
            fid: "[0x200000400:0x2:0x0]".to_owned(),
            inline: false,
            generation: 3,
            components,
        }
    }

    #[test]
    fn what_getstripe_prints_is_the_same_layout_again() {
        let plain = ComponentDoc { stripe_count: -1, stripe_index: 2, ..component() };
        let pool = "fast".to_owned();
        let first = ComponentDoc {
            end: Some(64 << 20),
            stripe_size: 1 << 20,
            stripe_count: 2,
            osts: vec![3, 1],
            pool,
            ..component()
        };
        let last = ComponentDoc { start: 64 << 20, stripe_count: -1, ..component() };
        for components in
            [vec![plain], vec![first.clone(), last], vec![ComponentDoc { end: None, ..first }]]
        {
            for directory in [false, true] {
                let doc = doc(components.clone());
                let text = shown(&doc, directory);
                let again = parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                assert_eq!(again.components, doc.components, "{text}");
                again.template().unwrap();
            }
        }
    }

    #[test]
    fn what_is_no_layout_is_refused_with_its_line() {
        let bad = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(bad(""), "there is no layout in it");
        assert_eq!(bad("- path: \"a\"\n  fid: \"x\"\n"), "there is no layout in it");
        assert_eq!(bad("lmm_stripe_count: two"), "line 1: lmm_stripe_count cannot be `two`");
        assert_eq!(bad("\nstripes: 2"), "line 2: `stripes: 2` is not of a layout");
        assert_eq!(bad("lmm_pattern: mdt"), "line 1: lmm_pattern cannot be `mdt`");
        assert_eq!(bad("lcm_mirror_count: 2"), "line 1: lcm_mirror_count cannot be `2`");
        let one = shown(&doc(vec![component()]), false);
        assert!(bad(&format!("{one}{one}")).contains("a second layout begins"));
    }
}
