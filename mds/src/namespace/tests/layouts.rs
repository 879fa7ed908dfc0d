//! Layouts, and what the OSTs are told.

use nacre_model::{Layout, LayoutTemplate, Retry};

use super::*;
use crate::command::Work;

fn layout(outcome: Outcome) -> Layout {
    outcome.response.layout.unwrap().try_into().unwrap()
}

fn wide(stripe_size: u64) -> LayoutTemplate {
    LayoutTemplate::plain(None, stripe_size.try_into().unwrap())
}

fn set_layout(fs: &mut Fixture, fid: Fid, template: &LayoutTemplate) -> Result<Outcome, NsError> {
    let (fid, layout) = (Some(fid.into()), Some(template.clone().into()));
    fs.change(Wire::SetLayout(v1::SetLayoutOp { fid, layout }))
}

fn instantiate(fs: &mut Fixture, fid: Fid, offset: u64) -> Result<Outcome, NsError> {
    let op = v1::InstantiateOp { fid: Some(fid.into()), offset, len: 1, avoid: Vec::new() };
    fs.change(Wire::Instantiate(op))
}

fn truncate(fs: &mut Fixture, fid: Fid, size: u64) -> Outcome {
    let (fid, size) = (Some(fid.into()), Some(size));
    fs.change(Wire::Setattr(v1::SetattrOp { fid, size, ..Default::default() })).unwrap()
}

fn write(fs: &mut Fixture, fid: Fid, offset: u64, data: &'static [u8]) -> Result<Outcome, NsError> {
    let (fid, data) = (Some(fid.into()), Bytes::from_static(data));
    fs.change(Wire::WriteInline(v1::WriteInlineOp { fid, offset, data, ..Default::default() }))
}

fn promote(fs: &mut Fixture, fid: Fid, commit: Option<u32>) -> Result<Outcome, NsError> {
    fs.change(Wire::Promote(v1::PromoteOp {
        fid: Some(fid.into()),
        commit: commit.is_some(),
        object_generation: commit.unwrap_or(0),
        avoid: Vec::new(),
    }))
}

#[test]
fn the_root_default_holds_at_run_time_and_others_are_copied() {
    let mut fs = Fixture::new();
    let before = fs.make(Fid::ROOT, "before", FileKind::Directory).unwrap();
    set_layout(&mut fs, Fid::ROOT, &wide(64 << 10)).unwrap();
    let file = fs.make(before, "a", FileKind::Regular).unwrap();
    assert_eq!(read::template(&fs.store, file).unwrap(), wide(64 << 10));
    assert_eq!(read::layout(&fs.store, before).unwrap().directory_default, None);

    set_layout(&mut fs, before, &wide(128 << 10)).unwrap();
    let copied = fs.make(before, "dir", FileKind::Directory).unwrap();
    set_layout(&mut fs, before, &wide(192 << 10)).unwrap();
    let file = fs.make(copied, "b", FileKind::Regular).unwrap();
    assert_eq!(read::template(&fs.store, file).unwrap(), wide(128 << 10));
    let default = read::default_template(&fs.store, copied).unwrap();
    assert_eq!(default, Some(wide(128 << 10)));
    fs.assert_clean();
}

#[test]
fn all_osts_are_counted_when_there_are_some() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    let reply = set_layout(&mut fs, file, &wide(64 << 10)).unwrap();
    let count = nacre_model::layout::STRIPE_COUNT_ALL;
    assert_eq!(layout(reply).components[0].stripe_count, count);
    fs.placement = vec![(0, vec![OstIndex(4), OstIndex(2), OstIndex(9)])];
    let placed = layout(instantiate(&mut fs, file, 0).unwrap());
    assert_eq!(placed.components[0].stripe_count.get(), 3);
    assert_eq!(placed.generation, 2);
    assert_eq!(errno(set_layout(&mut fs, file, &wide(64 << 10))), Errno::EBUSY);
    truncate(&mut fs, file, 0);
    assert_eq!(read::template(&fs.store, file).unwrap(), wide(64 << 10));
    set_layout(&mut fs, file, &wide(128 << 10)).unwrap();
}

#[test]
fn a_placement_that_is_missing_asks_the_server_again() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    fs.placement.truncate(1);
    let error = instantiate(&mut fs, file, 64 << 20).unwrap_err();
    assert_eq!((error.errno(), error.retry()), (Errno::EAGAIN, Retry::SameTarget));
    instantiate(&mut fs, file, 0).unwrap();
}

#[test]
fn cutting_says_how_long_each_object_shall_be() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    instantiate(&mut fs, file, 0).unwrap();
    instantiate(&mut fs, file, 64 << 20).unwrap();
    let (m, stripe) = (1_u64 << 20, 4_u64 << 20);
    let sizes = |outcome: Outcome| -> Vec<(u16, u16, u64)> {
        let all = outcome.work.into_iter().flat_map(|(_, work)| match work {
            Work::Truncate { objects } => objects,
            Work::Destroy { .. } => panic!("destroyed"),
        });
        all.map(|(id, _, size)| (id.component, id.stripe, size)).collect()
    };
    // Lazy: objects may reach beyond any size, so growing cuts too.
    assert_eq!(sizes(truncate(&mut fs, file, 10 * m)), [(0, 0, 10 * m), (1, 0, 0), (1, 1, 0)]);
    // Component 1 has two stripes of 4 MiB, addressed from the start of the file: 70 MiB are 17
    // whole stripes and 2 MiB of the 18th, which is stripe 1.
    assert_eq!(
        sizes(truncate(&mut fs, file, 70 * m)),
        [(1, 0, 9 * stripe), (1, 1, 8 * stripe + 2 * m)]
    );
    let op = v1::SettleOp { fid: Some(file.into()), exact: true, ..Default::default() };
    fs.change(Wire::Settle(op)).unwrap();
    assert_eq!(sizes(truncate(&mut fs, file, 80 * m)), [], "growing a settled file");
    assert_eq!(sizes(truncate(&mut fs, file, 5)), [(0, 0, 5), (1, 0, 0), (1, 1, 0)]);
    fs.assert_clean();
}

#[test]
fn cutting_to_nothing_leaves_tombstones_and_freeing_does_not() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    let generation = layout(instantiate(&mut fs, file, 0).unwrap()).generation;
    let outcome = truncate(&mut fs, file, 0);
    let Work::Destroy { objects, tombstone } = &outcome.work[0].1 else { panic!("cut") };
    assert_eq!((objects.len(), *tombstone), (1, true));
    assert_eq!(objects[0].0.generation, 1);
    assert_eq!(layout(outcome).generation, generation + 1);
    write(&mut fs, file, 0, b"inline again").unwrap();
    truncate(&mut fs, file, 0);
    let again = layout(instantiate(&mut fs, file, 0).unwrap());
    assert!(again.components[0].object_generation > 1, "never a destroyed generation");
    let outcome = fs.unlink("a").unwrap();
    assert_eq!(outcome.unlinked, [file]);
    assert!(matches!(outcome.work[0].1, Work::Destroy { tombstone: false, .. }));
    fs.assert_clean();
}

#[test]
fn a_promotion_moves_the_bytes_unless_somebody_wrote_meanwhile() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    write(&mut fs, file, 3, b"bytes").unwrap();
    assert_eq!(errno(instantiate(&mut fs, file, 0)), Errno::EBUSY);

    let begun = promote(&mut fs, file, None).unwrap();
    assert_eq!(begun.response.attr.as_ref().unwrap().layout_gen, 0, "nothing visible");
    let reserved = layout(begun).components[0].object_generation;
    let overtaking = write(&mut fs, file, 0, b"x").unwrap();
    assert!(matches!(overtaking.work[0].1, Work::Destroy { tombstone: true, .. }));
    let error = promote(&mut fs, file, Some(reserved)).unwrap_err();
    assert_eq!((error.errno(), error.retry()), (Errno::ESTALE, Retry::AfterRefresh));
    assert_eq!(read::layout(&fs.store, file).unwrap().inline_data, &b"x\0\0bytes"[..]);

    let begun = layout(promote(&mut fs, file, None).unwrap());
    let done = promote(&mut fs, file, Some(begun.components[0].object_generation)).unwrap();
    assert_eq!(layout(done), begun);
    let seen = read::layout(&fs.store, file).unwrap();
    assert_eq!((seen.is_inline, seen.attr.size, seen.attr.size_lazy), (false, 8, true));
    let error = write(&mut fs, file, 0, b"y").unwrap_err();
    assert_eq!((error.errno(), error.retry()), (Errno::ESTALE, Retry::AfterRefresh));
    fs.assert_clean();
}

#[test]
fn a_hole_beyond_the_inode_needs_no_objects() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    truncate(&mut fs, file, 1 << 40);
    let seen = read::layout(&fs.store, file).unwrap();
    assert!(seen.is_inline && seen.inline_data.is_empty());
    assert_eq!((seen.attr.size, seen.attr.blocks), (1 << 40, 0));
    assert_eq!(errno(write(&mut fs, file, 1 << 20, b"far")), Errno::EFBIG);
    instantiate(&mut fs, file, 1 << 20).unwrap();
    assert_eq!(read::getattr(&fs.store, file).unwrap().size, 1 << 40);
    fs.assert_clean();
}

#[test]
fn a_layout_that_ends_bounds_the_file() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    let mut short = wide(64 << 10);
    short.components[0].end = 1 << 20;
    set_layout(&mut fs, file, &short).unwrap();
    assert_eq!(errno(instantiate(&mut fs, file, 1 << 20)), Errno::EFBIG);
    let (fid, size) = (Some(file.into()), Some((1 << 20) + 1));
    let op = v1::SetattrOp { fid, size, ..Default::default() };
    assert_eq!(errno(fs.change(Wire::Setattr(op))), Errno::EFBIG);
    truncate(&mut fs, file, 1 << 20);
}

#[test]
fn a_late_settle_does_not_grow_a_file_that_was_cut_to_nothing() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    instantiate(&mut fs, file, 0).unwrap();
    truncate(&mut fs, file, 0);
    let (fid, size) = (Some(file.into()), Some(100));
    fs.change(Wire::Settle(v1::SettleOp { fid, size, ..Default::default() })).unwrap();
    assert_eq!(read::getattr(&fs.store, file).unwrap().size, 0);
}

#[test]
fn who_writes_beside_others_leaves_the_size_to_the_objects_and_a_size_told_later_is_no_write() {
    let mut fs = Fixture::new();
    let file = fs.file("a");
    instantiate(&mut fs, file, 0).unwrap();
    let settle = |fs: &mut Fixture, size, mtime: Option<Timestamp>, exact| {
        let (fid, mtime) = (Some(file.into()), mtime.map(Into::into));
        let op = v1::SettleOp { fid, size, mtime, exact, ..Default::default() };
        fs.change(Wire::Settle(op)).unwrap();
        read::getattr(&fs.store, file).unwrap()
    };
    assert!(!settle(&mut fs, Some(7), None, true).size_lazy);
    let written = Timestamp { secs: 5, nanos: 1 };
    let beside = settle(&mut fs, None, Some(written), false);
    assert_eq!((beside.size, beside.size_lazy, beside.mtime), (7, true, written));
    let later = settle(&mut fs, Some(9), None, true);
    assert_eq!((later.size, later.size_lazy, later.mtime), (9, false, written));
    assert_eq!(later.ctime, beside.ctime);
}
