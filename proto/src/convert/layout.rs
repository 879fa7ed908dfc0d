use std::num::{NonZeroU16, NonZeroU64};

use nacre_model::layout::{COMPONENTS_MAX, ComponentTemplate, STRIPE_COUNT_MAX};
use nacre_model::{Component, Layout, LayoutTemplate, ObjectId, OstIndex};

use super::names::narrow;
use super::{BadMessage, required};
use crate::v1;

impl From<ObjectId> for v1::ObjectId {
    fn from(id: ObjectId) -> Self {
        Self {
            fid: Some(id.fid.into()),
            component: id.component.into(),
            stripe: id.stripe.into(),
            generation: id.generation,
        }
    }
}

impl TryFrom<v1::ObjectId> for ObjectId {
    type Error = BadMessage;

    fn try_from(wire: v1::ObjectId) -> Result<Self, BadMessage> {
        Ok(Self {
            fid: required("fid", wire.fid)?.into(),
            component: narrow("component", wire.component.into())?,
            stripe: narrow("stripe", wire.stripe.into())?,
            generation: wire.generation,
        })
    }
}

fn ost(index: u32) -> Result<OstIndex, BadMessage> {
    Ok(OstIndex(narrow("ost", index.into())?))
}

fn osts(list: Vec<u32>) -> Result<Vec<OstIndex>, BadMessage> {
    if list.len() > usize::from(STRIPE_COUNT_MAX) {
        return Err(BadMessage::Range { field: "osts", value: list.len() as u64 });
    }
    list.into_iter().map(ost).collect()
}

fn wire_osts(list: Vec<OstIndex>) -> Vec<u32> {
    list.into_iter().map(|index| index.0.into()).collect()
}

fn stripe_size(bytes: u64) -> Result<NonZeroU64, BadMessage> {
    NonZeroU64::new(bytes).ok_or(BadMessage::Range { field: "stripe_size", value: 0 })
}

impl From<Layout> for v1::Layout {
    fn from(layout: Layout) -> Self {
        Self {
            generation: layout.generation,
            components: layout.components.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Component> for v1::Component {
    fn from(component: Component) -> Self {
        Self {
            start: component.start,
            end: component.end,
            stripe_size: component.stripe_size.get(),
            stripe_count: component.stripe_count.get().into(),
            pool: component.pool,
            stripe_index: component.stripe_index.map(|index| index.0.into()),
            osts: wire_osts(component.osts),
            object_generation: component.object_generation,
        }
    }
}

impl TryFrom<v1::Layout> for Layout {
    type Error = BadMessage;

    fn try_from(wire: v1::Layout) -> Result<Self, BadMessage> {
        if wire.components.len() > COMPONENTS_MAX {
            return Err(BadMessage::Range {
                field: "components",
                value: wire.components.len() as u64,
            });
        }
        let mut components = Vec::with_capacity(wire.components.len());
        let mut at = 0;
        for wire in wire.components {
            let component = Component::try_from(wire)?;
            if component.start != at || component.end <= at {
                return Err(BadMessage::Range { field: "start", value: component.start });
            }
            at = component.end;
            components.push(component);
        }
        Ok(Self { generation: wire.generation, components })
    }
}

impl TryFrom<v1::Component> for Component {
    type Error = BadMessage;

    fn try_from(wire: v1::Component) -> Result<Self, BadMessage> {
        let value = u64::from(wire.stripe_count);
        let stripe_count: u16 = narrow("stripe_count", value)?;
        let osts = osts(wire.osts)?;
        if !osts.is_empty() && osts.len() != usize::from(stripe_count) {
            return Err(BadMessage::Range { field: "osts", value: osts.len() as u64 });
        }
        Ok(Self {
            start: wire.start,
            end: wire.end,
            stripe_size: stripe_size(wire.stripe_size)?,
            stripe_count: NonZeroU16::new(stripe_count)
                .ok_or(BadMessage::Range { field: "stripe_count", value })?,
            pool: wire.pool,
            stripe_index: wire.stripe_index.map(ost).transpose()?,
            osts,
            object_generation: wire.object_generation,
        })
    }
}

impl From<LayoutTemplate> for v1::LayoutTemplate {
    fn from(template: LayoutTemplate) -> Self {
        let components = template.components.into_iter();
        Self {
            components: components
                .map(|c| v1::ComponentTemplate {
                    end: c.end,
                    stripe_count: c.stripe_count.map_or(0, |count| count.get().into()),
                    stripe_size: c.stripe_size.get(),
                    stripe_index: c.stripe_index.map(|index| index.0.into()),
                    ost_list: wire_osts(c.ost_list),
                    pool: c.pool,
                })
                .collect(),
        }
    }
}

impl TryFrom<v1::LayoutTemplate> for LayoutTemplate {
    type Error = BadMessage;

    fn try_from(wire: v1::LayoutTemplate) -> Result<Self, BadMessage> {
        let template = Self {
            components: wire
                .components
                .into_iter()
                .take(COMPONENTS_MAX + 1)
                .map(|c| {
                    Ok(ComponentTemplate {
                        end: c.end,
                        stripe_count: NonZeroU16::new(narrow(
                            "stripe_count",
                            c.stripe_count.into(),
                        )?),
                        stripe_size: stripe_size(c.stripe_size)?,
                        stripe_index: c.stripe_index.map(ost).transpose()?,
                        ost_list: osts(c.ost_list)?,
                        pool: c.pool,
                    })
                })
                .collect::<Result<_, BadMessage>>()?,
        };
        template.validate()?;
        Ok(template)
    }
}
