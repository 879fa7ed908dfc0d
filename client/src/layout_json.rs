//! Layouts as text: the value of the virtual extended attribute `nacre.layout`, through which
//! `lfs` shows and sets layouts.
//!
//! Getting it from a regular file gives its layout, from a directory the default of its new
//! files (without components if it has none). Setting it takes [`LayoutDoc`] too, of which only
//! `components` counts, and of those not `start`; removing it from a directory removes the
//! default. `nacre.fid` is the fid alone, as [`Fid`] prints.

use std::num::{NonZeroU16, NonZeroU64};

use nacre_model::layout::{BadTemplate, ComponentTemplate, EOF, STRIPE_COUNT_MAX};
use nacre_model::{Fid, Layout, LayoutTemplate, OstIndex};
use serde::{Deserialize, Serialize};

/// Name of the attribute that holds a [`LayoutDoc`].
pub const XATTR_LAYOUT: &str = "nacre.layout";
/// Name of the attribute that holds the fid.
pub const XATTR_FID: &str = "nacre.fid";

/// A layout, or a wish for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutDoc {
    /// Of the inode; empty in a wish.
    #[serde(default)]
    pub fid: String,
    /// The bytes of the file are in its inode still.
    #[serde(default)]
    pub inline: bool,
    /// Generation of the layout; 0 for a directory's default.
    #[serde(default)]
    pub generation: u32,
    /// By extent, ascending.
    pub components: Vec<ComponentDoc>,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentDoc {
    /// First byte.
    #[serde(default)]
    pub start: u64,
    /// Exclusive end; absent: to the end of the file.
    #[serde(default)]
    pub end: Option<u64>,
    /// Bytes.
    pub stripe_size: u64,
    /// -1: all OSTs.
    pub stripe_count: i32,
    /// The OST of stripe 0; -1: any.
    #[serde(default = "any")]
    pub stripe_index: i32,
    /// Empty: any.
    #[serde(default)]
    pub pool: String,
    /// Of a file: where its objects are, empty until they exist. Of a default or a wish: the OSTs
    /// to take, in this order.
    #[serde(default)]
    pub osts: Vec<u16>,
    /// Generation of the objects.
    #[serde(default)]
    pub object_generation: u32,
}

fn any() -> i32 {
    -1
}

/// The document is not a layout.
#[derive(Debug, thiserror::Error)]
pub enum BadDoc {
    /// Not JSON, or not of this form.
    #[error("layout document")]
    Json(#[from] serde_json::Error),
    /// A number that no layout has.
    #[error("{field} {value} is out of range")]
    Range {
        /// Which.
        field: &'static str,
        /// What it says.
        value: i64,
    },
    /// A layout that cannot be.
    #[error(transparent)]
    Template(#[from] BadTemplate),
}

impl LayoutDoc {
    /// Of a regular file.
    pub fn of_file(fid: Fid, layout: &Layout, inline: bool) -> Self {
        let components = layout.components.iter().map(|c| ComponentDoc {
            start: c.start,
            end: (c.end != EOF).then_some(c.end),
            stripe_size: c.stripe_size.get(),
            // More than there can be: as many as there are, once there are objects.
            stripe_count: match c.stripe_count.get() {
                count if count > STRIPE_COUNT_MAX => -1,
                count => count.into(),
            },
            stripe_index: c.stripe_index.map_or(-1, |ost| ost.0.into()),
            pool: c.pool.clone(),
            osts: c.osts.iter().map(|ost| ost.0).collect(),
            object_generation: c.object_generation,
        });
        let components = components.collect();
        Self { fid: fid.to_string(), inline, generation: layout.generation, components }
    }

    /// Of a directory, from its default.
    pub fn of_directory(fid: Fid, default: Option<&LayoutTemplate>) -> Self {
        let mut start = 0;
        let components = default.iter().flat_map(|template| &template.components).map(|c| {
            let before = std::mem::replace(&mut start, c.end);
            ComponentDoc {
                start: before,
                end: (c.end != EOF).then_some(c.end),
                stripe_size: c.stripe_size.get(),
                stripe_count: c.stripe_count.map_or(-1, |count| count.get().into()),
                stripe_index: c.stripe_index.map_or(-1, |ost| ost.0.into()),
                pool: c.pool.clone(),
                osts: c.ost_list.iter().map(|ost| ost.0).collect(),
                object_generation: 0,
            }
        });
        let components = components.collect();
        Self { fid: fid.to_string(), inline: false, generation: 0, components }
    }

    /// Reads a document.
    pub fn parse(json: &[u8]) -> Result<Self, BadDoc> {
        Ok(serde_json::from_slice(json)?)
    }

    /// Writes a document.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    /// What the document wishes for, checked.
    pub fn template(&self) -> Result<LayoutTemplate, BadDoc> {
        let components = self.components.iter().map(ComponentDoc::template);
        let template = LayoutTemplate { components: components.collect::<Result<_, _>>()? };
        template.validate()?;
        Ok(template)
    }
}

impl ComponentDoc {
    fn template(&self) -> Result<ComponentTemplate, BadDoc> {
        let range = |field, value: i32| BadDoc::Range { field, value: value.into() };
        let stripe_count = match self.stripe_count {
            -1 => None,
            count => {
                let count = u16::try_from(count).ok().and_then(NonZeroU16::new);
                Some(count.ok_or_else(|| range("stripe_count", self.stripe_count))?)
            }
        };
        let stripe_index = match self.stripe_index {
            -1 => None,
            index => {
                Some(OstIndex(u16::try_from(index).map_err(|_| range("stripe_index", index))?))
            }
        };
        let stripe_size = NonZeroU64::new(self.stripe_size).ok_or(BadTemplate::StripeSize(0))?;
        Ok(ComponentTemplate {
            end: self.end.unwrap_or(EOF),
            stripe_count,
            stripe_size,
            stripe_index,
            ost_list: self.osts.iter().copied().map(OstIndex).collect(),
            pool: self.pool.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_survives_the_text() {
        let mut template = LayoutTemplate::built_in();
        template.components[1].stripe_count = None;
        template.components[1].pool = "fast".to_owned();
        let doc = LayoutDoc::of_directory(Fid::ROOT, Some(&template));
        assert_eq!(doc.components[1].start, 64 << 20);
        let again = LayoutDoc::parse(&doc.to_json()).unwrap();
        assert_eq!(again, doc);
        assert_eq!(again.template().unwrap(), template);
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            "",
            "{}",
            r#"{"components":[]}"#,
            r#"{"components":[{"stripe_size":1,"stripe_count":1}]}"#,
            r#"{"components":[{"stripe_size":65536,"stripe_count":0}]}"#,
            r#"{"components":[{"stripe_size":65536,"stripe_count":2001}]}"#,
            r#"{"components":[{"stripe_size":65536,"stripe_count":1,"stripe_index":70000}]}"#,
        ] {
            assert!(
                LayoutDoc::parse(json.as_bytes()).and_then(|d| d.template()).is_err(),
                "{json}"
            );
        }
    }
}
