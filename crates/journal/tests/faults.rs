//! Full volumes, failing syncs, many committing threads.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{all, faulty, payload, segments};
use ers_journal::{Journal, Position};

#[test]
fn a_full_volume_refuses_the_record_whole_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (options, disk) = faulty();
    let (journal, _) = Journal::open(dir.path(), options.clone()).unwrap();
    let mut kept = Vec::new();
    let mut refused = 0;
    disk.set_space(Some(1000));
    for number in 0..30 {
        if number == 25 {
            disk.set_space(Some(100_000));
        }
        let bytes = payload(number, 50);
        let outcome = journal.append(1, &[&bytes]).and_then(|ticket| journal.commit(&ticket).map(|()| ticket));
        match outcome {
            Ok(ticket) => kept.push((ticket.position.seq, 1, bytes)),
            Err(error) => {
                assert!(error.is_storage_full(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 5 && kept.len() > 10, "{refused} refused, {} kept", kept.len());
    assert_eq!(all(&journal), kept);
    drop(journal);
    let (journal, report) = Journal::open(dir.path(), options).unwrap();
    assert!(!report.is_damaged());
    assert_eq!(all(&journal), kept);
}

#[test]
fn a_full_volume_keeps_what_was_flushed_before() {
    let dir = tempfile::tempdir().unwrap();
    let (options, disk) = faulty();
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let first = journal.append(1, &[b"first"]).unwrap();
    journal.flush().unwrap();
    disk.set_space(Some(3));
    let second = journal.append(1, &[b"second"]).unwrap();
    assert!(journal.flush().unwrap_err().is_storage_full());
    journal.commit(&first).unwrap();
    assert!(journal.commit(&second).unwrap_err().is_storage_full());
    disk.set_space(None);
    let third = journal.append(1, &[b"third"]).unwrap();
    journal.commit(&third).unwrap();
    let payloads: Vec<_> = all(&journal).into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(payloads, [b"first".to_vec(), b"third".to_vec()]);
}

#[test]
fn on_a_full_volume_the_cursor_is_written_and_files_are_deleted_from_the_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let (options, disk) = faulty();
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let records = common::fill(&journal, 30);
    assert!(journal.stats().reserve_ready);
    disk.set_space(Some(0));
    journal.write_beside("cursor", b"12").unwrap();
    assert_eq!(std::fs::read(dir.path().join("cursor")).unwrap(), b"12");
    journal.truncate_before(Position::at_seq(records[20].0)).unwrap();
    let ticket = journal.append(1, &[b"after"]).unwrap();
    journal.commit(&ticket).unwrap();
    disk.set_space(None);
    assert!(journal.restore_reserve());
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_new_records_go_to_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let (options, disk) = faulty();
    let (journal, _) = Journal::open(dir.path(), options.clone()).unwrap();
    let kept = common::fill(&journal, 2);
    let files = segments(dir.path()).len();
    disk.fail_syncs(true);
    let ticket = journal.append(1, &[b"lost"]).unwrap();
    assert!(!journal.commit(&ticket).unwrap_err().is_storage_full());
    assert!(journal.commit(&ticket).is_err(), "the answer does not change later");
    disk.fail_syncs(false);
    assert!(journal.commit(&ticket).is_err());
    let ticket = journal.append(1, &[b"good"]).unwrap();
    journal.commit(&ticket).unwrap();
    assert_eq!(segments(dir.path()).len(), files + 1);
    drop(journal);
    disk.lose_cache().unwrap();
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let left = all(&journal);
    assert_eq!(left[..2], kept);
    assert_eq!(left.last().unwrap().2, b"good");
}

#[test]
fn a_write_error_that_is_not_a_full_volume_is_named_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let (options, disk) = faulty();
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    disk.fail_appends(true);
    let ticket = journal.append(1, &[b"x"]).unwrap();
    let error = journal.commit(&ticket).unwrap_err();
    assert!(error.to_string().contains("write") && error.to_string().contains(".log"), "{error}");
    disk.fail_appends(false);
    journal.commit(&journal.append(1, &[b"y"]).unwrap()).unwrap();
    assert_eq!(all(&journal).len(), 1);
}

#[test]
fn many_threads_share_one_sync_and_none_is_acknowledged_early() {
    let dir = tempfile::tempdir().unwrap();
    let (options, disk) = faulty();
    let (journal, _) = Journal::open(dir.path(), options.clone()).unwrap();
    let journal = Arc::new(journal);
    let committed = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (journal, committed) = (journal.clone(), committed.clone());
            scope.spawn(move || {
                for number in 0..200 {
                    let bytes = payload(thread * 1000 + number, 64);
                    let ticket = journal.append(1, &[&bytes]).unwrap();
                    journal.commit(&ticket).unwrap();
                    committed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(committed.load(Ordering::Relaxed), 1600);
    let Ok(journal) = Arc::try_unwrap(journal) else { panic!("still shared") };
    drop(journal);
    disk.lose_cache().unwrap();
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    assert_eq!(all(&journal).len(), 1600);
}
