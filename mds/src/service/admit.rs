//! From a client's change to a command: everything that the applier must know and the namespace
//! must not find out by itself.
//!
//! All of this runs on the applier, over the newest state: whoever opens, writes or unlinks the
//! same file comes wholly before or wholly after.

use std::sync::Arc;

use nacre_model::layout::ComponentTemplate;
use nacre_model::{ClusterMap, Fid, FileKind, LayoutTemplate, OstIndex};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use parking_lot::Mutex;

use super::check::touched;
use crate::command::{Command, Op, Origin};
use crate::error::Refusal;
use crate::namespace::{NsError, read};
use crate::placement::{PlacementError, Wish};
use crate::record::{Counters, Record, key};
use crate::shared::Shared;
use crate::store::View;

/// What admission has noted in the open table, to be settled after the outcome.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Nobody had them open: opens of them wait.
    pub(super) leaving: Vec<Fid>,
    /// Somebody had them open.
    pub(super) held: Vec<Fid>,
    /// A handle registered for the file that is expected to be made or found.
    pub(super) opened: Option<Fid>,
}

/// One change on its way to the applier.
pub(super) struct Admission {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Origin,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) op: Wire,
    pub(super) marks: Arc<Mutex<Marks>>,
}

impl Admission {
    /// The command. Errors of lookups are not told: the namespace, which also knows of resends,
    /// says what is wrong.
    pub(super) fn command(mut self, view: &dyn View) -> Result<Command, Refusal> {
        let mut marks = Marks::default();
        let mut written_by_others = Vec::new();
        let mut placement = Vec::new();
        if let Wire::Create(op) = &mut self.op {
            default_layout(&self.shared, view, op);
            marks.opened = open_created(&self.shared, view, self.origin.session, op);
        }
        match &self.op {
            Wire::Unlink(op) => self.victim(view, op.parent, &op.name, &mut marks),
            Wire::Rmdir(op) => self.victim(view, op.parent, &op.name, &mut marks),
            Wire::Rename(op) if !op.exchange => {
                self.victim(view, op.new_parent, &op.new_name, &mut marks);
            }
            Wire::Settle(op) => written_by_others.extend(self.written_by_others(op.fid)),
            Wire::Setattr(op) => written_by_others.extend(self.written_by_others(op.fid)),
            Wire::Instantiate(op) => placement = self.instantiate(view, op)?,
            Wire::Promote(op) if !op.commit => placement = self.promote(view, op)?,
            Wire::Create(_)
            | Wire::Rename(_)
            | Wire::Link(_)
            | Wire::Setxattr(_)
            | Wire::Removexattr(_)
            | Wire::WriteInline(_)
            | Wire::Promote(_)
            | Wire::SetLayout(_) => {}
        }
        let held_open = marks.held.clone();
        *self.marks.lock() = marks;
        let op = Op::Change {
            uid: self.uid,
            gid: self.gid,
            op: self.op,
            new_fid: None,
            placement,
            held_open,
            written_by_others,
        };
        Ok(Command { time: self.shared.clock.now(), origin: Some(self.origin), op })
    }

    fn victim(&self, view: &dyn View, parent: Option<v1::Fid>, name: &[u8], marks: &mut Marks) {
        let Some(parent) = parent.map(Fid::from) else { return };
        if let Ok(attr) = read::lookup(view, parent, name) {
            let held = self.shared.opens.lock().held_or_leaving(attr.fid);
            if held { marks.held.push(attr.fid) } else { marks.leaving.push(attr.fid) }
        }
    }

    fn written_by_others(&self, fid: Option<v1::Fid>) -> Option<Fid> {
        let fid = Fid::from(fid?);
        let opens = self.shared.opens.lock();
        opens.others_write(self.origin.session, fid).then_some(fid)
    }

    fn instantiate(
        &self,
        view: &dyn View,
        op: &v1::InstantiateOp,
    ) -> Result<Vec<(u16, Vec<OstIndex>)>, Refusal> {
        let Some(file) = op.fid.and_then(|fid| read::layout(view, fid.into()).ok()) else {
            return Ok(Vec::new());
        };
        let Some(layout) = file.layout else { return Ok(Vec::new()) };
        let wanted: Vec<usize> = layout
            .components
            .iter()
            .enumerate()
            .filter(|(index, component)| {
                !component.instantiated() && touched(&layout, *index, op.offset, op.len)
            })
            .map(|(index, _)| index)
            .collect();
        self.place(view, file.attr.fid, &wanted, &op.avoid)
    }

    fn promote(
        &self,
        view: &dyn View,
        op: &v1::PromoteOp,
    ) -> Result<Vec<(u16, Vec<OstIndex>)>, Refusal> {
        match op.fid.and_then(|fid| read::getattr(view, fid.into()).ok()) {
            // Inline bytes all lie in the first component.
            Some(attr) if attr.kind == FileKind::Regular => {
                self.place(view, attr.fid, &[0], &op.avoid)
            }
            Some(_) | None => Ok(Vec::new()),
        }
    }

    fn place(
        &self,
        view: &dyn View,
        fid: Fid,
        components: &[usize],
        avoid: &[u32],
    ) -> Result<Vec<(u16, Vec<OstIndex>)>, Refusal> {
        if components.is_empty() {
            return Ok(Vec::new());
        }
        let template = read::template(view, fid)?;
        let map = self.shared.osts.map().ok_or(PlacementError::NoSpace { count: 0 })?;
        let avoid: Vec<OstIndex> =
            avoid.iter().filter_map(|ost| u16::try_from(*ost).ok()).map(OstIndex).collect();
        let candidates = self.shared.osts.candidates(&map);
        let mut placement = Vec::with_capacity(components.len());
        for index in components {
            let component = template.components.get(*index);
            let component = component.ok_or(NsError::Inconsistent { fid, what: "template" })?;
            let wish = Wish { avoid: &avoid, ..wish(&map, component)? };
            let chosen = self.shared.placer.lock().place(&wish, &candidates)?;
            let index = u16::try_from(*index)
                .map_err(|_| NsError::Inconsistent { fid, what: "component" })?;
            placement.push((index, chosen));
        }
        Ok(placement)
    }
}

/// A component's wish, with the members of its pool.
fn wish<'a>(
    map: &'a ClusterMap,
    component: &'a ComponentTemplate,
) -> Result<Wish<'a>, PlacementError> {
    let pool = match component.pool.as_str() {
        "" => None,
        name => {
            let members = map.pools.get(name);
            Some((name, members.ok_or_else(|| PlacementError::NoPool(name.to_owned()))?.as_slice()))
        }
    };
    Ok(Wish {
        stripe_count: component.stripe_count.map(std::num::NonZeroU16::get),
        stripe_index: component.stripe_index,
        ost_list: &component.ost_list,
        pool,
        avoid: &[],
    })
}

/// Whether the file system has the pools and OSTs that a template names.
pub(super) fn exists(map: &ClusterMap, template: &LayoutTemplate) -> Result<(), PlacementError> {
    let known: Vec<_> = map.osts().map(|(index, _)| index).collect();
    for component in &template.components {
        let wish = wish(map, component)?;
        for ost in wish.ost_list.iter().chain(&wish.stripe_index).copied() {
            if !known.contains(&ost) {
                return Err(PlacementError::NoOst { ost, of: "in this file system".to_owned() });
            }
            if let Some((pool, members)) = wish.pool
                && !members.contains(&ost)
            {
                return Err(PlacementError::NoOst { ost, of: format!("in pool `{pool}`") });
            }
        }
    }
    Ok(())
}

/// A new file in a directory without a default of its own gets the cluster's, if it has one.
fn default_layout(shared: &Shared, view: &dyn View, op: &mut v1::CreateOp) {
    let regular = FileKind::from_mode(op.mode) == Some(FileKind::Regular);
    if !regular || op.layout.is_some() {
        return;
    }
    let Some(template) = shared.osts.map().and_then(|map| map.default_layout.clone()) else {
        return;
    };
    let Some(parent) = op.parent.map(Fid::from) else { return };
    if let Ok(None) = read::default_template(view, parent) {
        op.layout = Some(template.into());
    }
}

/// Registers the handle of a create that also opens, for the file that it will find or make.
fn open_created(shared: &Shared, view: &dyn View, session: u64, op: &v1::CreateOp) -> Option<Fid> {
    if op.handle == 0 {
        return None;
    }
    let parent = Fid::from(op.parent?);
    let found = match op.name.as_ref() {
        b"" => None,
        name => read::lookup(view, parent, name).ok(),
    };
    let fid = match found {
        // EEXIST, unless it is a resend: then the outcome says what to open.
        Some(_) if op.exclusive => return None,
        Some(attr) => attr.fid,
        None => next_fid(view)?,
    };
    let registered = shared.opens.lock().register(session, op.handle, fid, op.handle_write);
    matches!(registered, Ok(true)).then_some(fid)
}

/// The fid that the namespace will give to the next inode.
fn next_fid(view: &dyn View) -> Option<Fid> {
    let row = view.get(&key::counters()).ok()??;
    Counters::decode(row).ok()?.take_fid()
}
