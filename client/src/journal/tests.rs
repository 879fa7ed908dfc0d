use nacre_model::Fid;

use super::*;

fn dirty(oid: u32) -> Record {
    Record::Dirty { fid: Fid { oid, ..Fid::ROOT } }
}

#[test]
fn the_next_process_finds_what_was_not_erased_and_nothing_else() {
    let file = tempfile::tempfile().unwrap();
    let first = Journal::take_up(file.try_clone().unwrap()).unwrap();
    assert!(first.inherited().is_none() && first.first_number() == 0);
    let (one, two) = (first.put(dirty(1)), first.put(dirty(2)));
    let change = Record::Change { request: 8, kind: 1, slot: 3, xid: 4, handle: 0 };
    let three = first.put(change);
    drop(one);
    assert!(!Journal::was_served(&file));
    first.change_header(|header| header.agreed = 7);
    assert!(Journal::was_served(&file));
    let uuid = first.header().unwrap().uuid;
    // As a killed process does.
    std::mem::forget((two, three));

    let next = Journal::take_up(file).unwrap();
    let header = next.inherited().unwrap();
    assert_eq!((header.life, header.uuid, header.agreed), (2, uuid, 7));
    assert!(next.first_number() > 0);
    let rest: Vec<_> = next.take_rest().into_iter().map(|(record, _)| record).collect();
    assert_eq!(rest, [dirty(2)]);
    assert!(next.take_of(8).is_empty(), "not sent again");
    let again = next.take_of(8 | RESENT);
    assert_eq!(again.iter().map(|(record, _)| *record).collect::<Vec<_>>(), [change]);
    assert!(next.take_of_requests().is_empty());
}

#[test]
fn the_journal_of_another_version_is_refused() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[1; record::LEN], 0).unwrap();
    assert!(matches!(Journal::take_up(file), Err(JournalError::Version(_))));
}

#[tokio::test]
async fn what_a_request_keeps_stands_until_it_is_answered() {
    let file = tempfile::tempfile().unwrap();
    let journal = Journal::take_up(file.try_clone().unwrap()).unwrap();
    let standing = || {
        let other = Journal::take_up(file.try_clone().unwrap()).unwrap();
        let count = other.of_requests().len();
        std::mem::forget(other.take_of_requests());
        count
    };
    Request::carry(journal.clone(), 6, async {
        let request = Request::current().unwrap();
        let entry =
            request.note(Record::Append { request: 6, fid: Fid::ROOT, offset: 0, owner: 0 });
        request.keep(entry, ());
        assert_eq!(standing(), 1);
    })
    .await;
    assert_eq!(standing(), 0);
    assert!(Request::current().is_none());
}
