use nacre_model::Timestamp;

use super::node::Mode;
use super::*;

const SESSION: u64 = 7;
const DIR: Fid = Fid { seq: 0x2_0000_0401, oid: 1, ver: 0 };
pub(crate) const FILE: Fid = Fid { oid: 2, ..DIR };

fn cache() -> Cache {
    let cache = Cache::new();
    assert!(cache.begin(SESSION).is_empty());
    cache
}

pub(crate) fn attr(fid: Fid, perm: u32) -> Attr {
    let now = Timestamp::default();
    let kind = if fid == DIR { FileKind::Directory } else { FileKind::Regular };
    Attr {
        fid,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        size_lazy: false,
        released: false,
        layout_gen: 0,
        xattr_count: 0,
    }
}

fn lease(mode: Mode, number: u64) -> v1::Lease {
    v1::Lease { mode: v1::LeaseMode::from(mode) as i32, number }
}

fn name() -> Bytes {
    Bytes::from_static(b"name")
}

/// Returns what is given back: how it was held, and how it still is.
fn recall(cache: &Cache, fid: Fid, keep: Mode, number: u64) -> (Mode, Mode) {
    let revoked = cache.revoke(|table| table.recalled(fid, keep, number));
    assert_eq!(revoked.number, number);
    (revoked.before, revoked.keep)
}

#[test]
fn what_came_with_a_lease_is_known_until_it_is_recalled() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn(asked, FILE, Some(lease(Mode::Shared, 1)), Some(&attr(FILE, 0o600)));
    assert_eq!(cache.attr(FILE).map(|attr| attr.perm), Some(0o600));
    assert_eq!(cache.xattr(FILE, b"user.x"), Xattr::Absent, "it has none at all");
    recall(&cache, FILE, Mode::None, 1);
    assert_eq!((cache.attr(FILE), cache.mode(FILE)), (None, Mode::None));
    assert_eq!(cache.xattr(FILE, b"user.x"), Xattr::Unknown);
    assert_eq!(cache.held_count(), 0);
}

#[test]
fn without_a_lease_nothing_is_kept() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn(asked, FILE, None, Some(&attr(FILE, 0o600)));
    cache.learn_name(asked, DIR, None, name(), Some(FILE));
    assert_eq!((cache.attr(FILE), cache.name(DIR, b"name")), (None, Known::Nothing));
}

#[test]
fn a_reply_that_a_recall_has_overtaken_brings_no_lease() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    recall(&cache, FILE, Mode::None, 5);
    cache.learn(asked, FILE, Some(lease(Mode::Shared, 5)), Some(&attr(FILE, 0o600)));
    assert_eq!(cache.mode(FILE), Mode::None);
    cache.learn(asked, FILE, Some(lease(Mode::Shared, 6)), Some(&attr(FILE, 0o600)));
    assert_eq!(cache.mode(FILE), Mode::Shared);
}

#[test]
fn what_a_recall_leaves_is_not_given_back() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    assert_eq!(recall(&cache, FILE, Mode::Shared, 5), (Mode::None, Mode::None));
    cache.learn(asked, FILE, Some(lease(Mode::Shared, 6)), None);
    // The reply with the exclusive lease is on its way still.
    assert_eq!(recall(&cache, FILE, Mode::Shared, 7), (Mode::Shared, Mode::Shared));
    cache.learn(asked, FILE, Some(lease(Mode::Exclusive, 7)), None);
    assert_eq!(cache.mode(FILE), Mode::Shared);
    cache.learn(asked, FILE, Some(lease(Mode::Exclusive, 8)), None);
    assert_eq!(recall(&cache, FILE, Mode::Shared, 8), (Mode::Exclusive, Mode::Shared));
    assert_eq!(recall(&cache, FILE, Mode::None, 8), (Mode::Shared, Mode::None));
}

#[test]
fn an_answer_older_than_an_own_change_is_not_kept() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn(asked, FILE, Some(lease(Mode::Shared, 1)), Some(&attr(FILE, 0o600)));
    let early = cache.ask(SESSION);
    let changing = cache.change(&[FILE]);
    cache.learn(cache.ask(SESSION), FILE, Some(lease(Mode::Shared, 2)), Some(&attr(FILE, 0o600)));
    changing.done(&[(FILE, Effect::Attr(&attr(FILE, 0o644)))]);
    assert_eq!(cache.attr(FILE).map(|attr| attr.perm), Some(0o644));
    cache.learn(early, FILE, Some(lease(Mode::Shared, 3)), Some(&attr(FILE, 0o600)));
    assert_eq!(cache.attr(FILE).map(|attr| attr.perm), Some(0o644));
}

#[test]
fn of_changes_at_a_time_no_answer_is_kept() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn(asked, FILE, Some(lease(Mode::Shared, 1)), Some(&attr(FILE, 0o600)));
    let (one, two) = (cache.change(&[FILE]), cache.change(&[FILE]));
    two.done(&[(FILE, Effect::Attr(&attr(FILE, 0o644)))]);
    assert_eq!(cache.attr(FILE), None);
    one.done(&[(FILE, Effect::Attr(&attr(FILE, 0o640)))]);
    assert_eq!((cache.attr(FILE), cache.mode(FILE)), (None, Mode::Shared));
    let last = cache.change(&[FILE, FILE]);
    last.done(&[(FILE, Effect::Attr(&attr(FILE, 0o604)))]);
    assert_eq!(cache.attr(FILE).map(|attr| attr.perm), Some(0o604));
}

#[test]
fn a_change_of_unknown_end_leaves_nothing_known() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn_name(asked, DIR, Some(lease(Mode::Shared, 1)), name(), Some(FILE));
    drop(cache.change(&[DIR]));
    assert_eq!((cache.name(DIR, b"name"), cache.mode(DIR)), (Known::Nothing, Mode::Shared));
}

#[test]
fn a_directory_that_was_made_here_has_no_other_names() {
    let cache = cache();
    let changing = cache.change(&[Fid::ROOT]);
    changing.made(DIR, Some(lease(Mode::Shared, 1)), &attr(DIR, 0o755));
    changing.done(&[(Fid::ROOT, Effect::Name(name(), Some(DIR)))]);
    assert_eq!(cache.name(DIR, b"name"), Known::Absent);
    let changing = cache.change(&[DIR]);
    changing.done(&[(DIR, Effect::Name(name(), Some(FILE)))]);
    assert_eq!(cache.name(DIR, b"name"), Known::To(FILE));
    assert_eq!(cache.name(DIR, b"other"), Known::Absent);
}

#[test]
fn a_lease_counts_for_answers_begun_under_it() {
    let cache = cache();
    let before = cache.stamp();
    let asked = cache.ask(SESSION);
    cache.learn(asked, DIR, Some(lease(Mode::Shared, 1)), None);
    let under = cache.stamp();
    assert!(!cache.stood(DIR, before) && cache.stood(DIR, under));
    recall(&cache, DIR, Mode::None, 1);
    cache.learn(cache.ask(SESSION), DIR, Some(lease(Mode::Shared, 2)), None);
    assert!(!cache.stood(DIR, under), "it was away meanwhile");
    assert!(cache.stood(DIR, cache.stamp()));
}

#[test]
fn while_the_server_is_silent_nothing_is_answered_and_nothing_lost() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn(asked, FILE, Some(lease(Mode::Exclusive, 1)), Some(&attr(FILE, 0o600)));
    assert!(cache.suspend() && !cache.suspend());
    assert_eq!((cache.attr(FILE), cache.mode(FILE)), (None, Mode::None));
    assert!(cache.may_hold_data(FILE), "nobody else can have it yet");
    cache.resume();
    assert!(cache.attr(FILE).is_some());
}

#[test]
fn a_new_session_holds_nothing_and_numbers_begin_anew() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn(asked, FILE, Some(lease(Mode::Exclusive, 9)), Some(&attr(FILE, 0o600)));
    assert_eq!(cache.begin(SESSION + 1), [FILE]);
    assert_eq!(cache.mode(FILE), Mode::None);
    cache.learn(asked, FILE, Some(lease(Mode::Shared, 10)), None);
    assert_eq!(cache.mode(FILE), Mode::None, "of the old session");
    cache.learn(cache.ask(SESSION + 1), FILE, Some(lease(Mode::Shared, 1)), None);
    assert_eq!(cache.mode(FILE), Mode::Shared);
}

#[test]
fn a_downgraded_lease_keeps_what_is_known() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn(asked, FILE, Some(lease(Mode::Exclusive, 1)), Some(&attr(FILE, 0o600)));
    recall(&cache, FILE, Mode::Shared, 1);
    assert_eq!(cache.mode(FILE), Mode::Shared);
    assert!(cache.attr(FILE).is_some() && !cache.may_hold_data(FILE));
}

#[test]
fn a_reply_from_before_a_lost_lease_is_not_kept_under_the_next_one() {
    let cache = cache();
    let early = cache.ask(SESSION);
    let asked = cache.ask(SESSION);
    cache.learn(asked, FILE, Some(lease(Mode::Shared, 1)), Some(&attr(FILE, 0o600)));
    recall(&cache, FILE, Mode::None, 1);
    cache.learn(cache.ask(SESSION), FILE, Some(lease(Mode::Shared, 2)), Some(&attr(FILE, 0o644)));
    cache.learn(early, FILE, Some(lease(Mode::Shared, 1)), Some(&attr(FILE, 0o600)));
    cache.learn(early, FILE, None, Some(&attr(FILE, 0o600)));
    assert_eq!(cache.attr(FILE).map(|attr| attr.perm), Some(0o644));
}

#[test]
fn an_own_change_during_which_the_lease_was_lost_tells_nothing() {
    let cache = cache();
    let asked = cache.ask(SESSION);
    cache.learn_name(asked, DIR, Some(lease(Mode::Shared, 1)), name(), Some(FILE));
    let removing = cache.change(&[DIR]);
    recall(&cache, DIR, Mode::None, 1);
    // Somebody else has made the name again.
    cache.learn_name(cache.ask(SESSION), DIR, Some(lease(Mode::Shared, 2)), name(), Some(DIR));
    removing.done(&[(DIR, Effect::Name(name(), None))]);
    assert_eq!((cache.name(DIR, b"name"), cache.mode(DIR)), (Known::Nothing, Mode::Shared));
}
