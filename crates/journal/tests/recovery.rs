//! What comes back after a crash, damage, or a plain restart.

mod common;

use common::{all, fill, from, open, options, payload, segments};
use ers_journal::{Journal, JournalError, JournalOptions, Position, Tenant};
use proptest::prelude::*;

#[test]
fn records_come_back_in_order_after_a_restart_and_over_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let written = {
        let (journal, report) = open(dir.path());
        assert_eq!(report, Default::default());
        fill(&journal, 50)
    };
    assert!(segments(dir.path()).len() > 3);
    let (journal, report) = open(dir.path());
    assert_eq!((report.records, report.torn_bytes, report.is_damaged()), (50, 0, false));
    assert_eq!(all(&journal), written);
    let ticket = journal.append(9, &[b"next"]).unwrap();
    assert_eq!(ticket.position.seq, written.last().unwrap().0 + 1);
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("wal");
    let (journal, _) = open(&dir);
    fill(&journal, 1);
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn a_reader_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let mut written = fill(&journal, 7);
    let mut reader = journal.read_from(Position::START).unwrap();
    for _ in 0..3 {
        reader.next_record().unwrap();
    }
    let position = reader.position();
    written.extend(fill(&journal, 30));
    assert_eq!(from(&journal, position), written[3..]);
    assert_eq!(from(&journal, Position::at_seq(position.seq)), written[3..]);
    assert_eq!(from(&journal, Position::at_seq(10_000)), []);
}

#[test]
fn truncation_removes_whole_files_and_the_sequence_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let written = fill(&journal, 40);
    let before = journal.stats();
    let freed = journal.truncate_before(Position::at_seq(20)).unwrap();
    let stats = journal.stats();
    assert_eq!(stats.bytes, before.bytes - freed);
    assert!(stats.oldest_seq > 1 && stats.oldest_seq <= 20);
    assert_eq!(from(&journal, Position::at_seq(20)), written[19..]);
    journal.rotate().unwrap();
    journal.truncate_before(Position::at_seq(u64::MAX)).unwrap();
    assert_eq!(all(&journal), []);
    drop(journal);
    let (journal, _) = open(dir.path());
    assert_eq!(journal.append(1, &[b"x"]).unwrap().position.seq, 41);
}

#[test]
fn the_oldest_file_can_be_dropped_until_only_the_open_one_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let written = fill(&journal, 30);
    let mut reader = journal.read_from(Position::START).unwrap();
    reader.next_record().unwrap();
    let mut first_left = 1;
    while let Some((first, freed)) = journal.drop_oldest().unwrap() {
        assert!(first > first_left && freed > 0);
        first_left = first;
    }
    assert_eq!(journal.stats().segments, 1);
    assert_eq!(all(&journal), written[first_left as usize - 1..]);
    let mut last = 0;
    while let Some(record) = reader.next_record().unwrap() {
        last = record.seq;
    }
    assert_eq!(last, 30, "a reader steps over files that were dropped under it");
}

#[test]
fn a_record_over_the_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let error = journal.append(1, &[&[0; 600], &[0; 401]]).unwrap_err();
    assert!(matches!(error, JournalError::RecordTooLarge { bytes: 1001, max: 1000 }), "{error}");
    journal.append(1, &[&[0; 1000]]).unwrap();
    assert_eq!(all(&journal).len(), 1);
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (_journal, _) = open(dir.path());
    assert!(matches!(Journal::open(dir.path(), options()), Err(JournalError::Locked { .. })));
}

#[test]
fn files_of_another_tenant_or_of_a_newer_version_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()).0, 1);
    let path = segments(dir.path()).remove(0);
    let before = std::fs::read(&path).unwrap();
    let other = JournalOptions { tenant: Tenant { uuid: uuid::Uuid::from_u128(2), number: 1 }, ..options() };
    assert!(matches!(Journal::open(dir.path(), other), Err(JournalError::ForeignTenant { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    for (at, value) in [(8, 2), (12, 1)] {
        let mut bytes = before.clone();
        bytes[at] = value;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let error = Journal::open(dir.path(), options()).err().unwrap();
        assert!(
            matches!(
                error,
                JournalError::UnsupportedVersion { found: 2, .. } | JournalError::UnknownKey { key_id: 1, .. }
            ),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_its_sequence_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let written = fill(&open(dir.path()).0, 5);
    let path = segments(dir.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let (journal, report) = open(dir.path());
    assert_eq!((report.records, report.torn_bytes, report.is_damaged()), (4, 56, false));
    assert_eq!(all(&journal), written[..4]);
    assert!(journal.append(1, &[b"x"]).unwrap().position.seq > 5);
}

#[test]
fn a_flipped_bit_costs_its_own_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let written = fill(&open(dir.path()).0, 30);
    let path = segments(dir.path()).remove(1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[64 + 57 + 20] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let (journal, report) = open(dir.path());
    assert_eq!((report.records, report.damage.len(), report.quarantined.len()), (29, 1, 0));
    assert_eq!((report.damage[0].from, report.damage[0].to), (64 + 57, 64 + 114));
    let left = all(&journal);
    assert_eq!(left.len(), 29);
    assert!(left.iter().all(|record| written.contains(record)));
}

#[test]
fn a_ruined_end_in_the_middle_is_set_aside_and_all_else_served() {
    let dir = tempfile::tempdir().unwrap();
    let written = fill(&open(dir.path()).0, 30);
    let path = segments(dir.path()).remove(1);
    let mut bytes = std::fs::read(&path).unwrap();
    let keep = 64 + 57;
    bytes[keep..].fill(0xAA);
    std::fs::write(&path, &bytes).unwrap();
    let (journal, report) = open(dir.path());
    assert_eq!(report.quarantined.len(), 1);
    let aside = &report.quarantined[0];
    assert!(aside.path.to_string_lossy().ends_with(".corrupt"));
    assert_eq!(std::fs::read(&aside.path).unwrap(), bytes[keep..]);
    let left = all(&journal);
    assert!(left.len() < 30 && left.iter().all(|record| written.contains(record)));
    assert_eq!(left.last(), written.last());
    drop(journal);
    assert!(!open(dir.path()).1.is_damaged(), "the second start finds nothing to mend");
}

#[test]
fn a_file_with_a_ruined_header_still_gives_its_records_and_one_with_nothing_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let written = fill(&open(dir.path()).0, 30);
    let paths = segments(dir.path());
    let mut bytes = std::fs::read(&paths[0]).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&paths[0], bytes).unwrap();
    std::fs::write(&paths[2], vec![7; 500]).unwrap();
    let (journal, report) = open(dir.path());
    assert_eq!((report.damage.len(), report.quarantined.len()), (1, 1));
    let left = all(&journal);
    assert_eq!(left[0], written[0]);
    assert_eq!(left.last(), written.last());
}

#[test]
fn a_ruined_last_file_does_not_let_sequences_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let written = fill(&open(dir.path()).0, 30);
    let path = segments(dir.path()).pop().unwrap();
    std::fs::write(&path, vec![7; 500]).unwrap();
    let (journal, report) = open(dir.path());
    assert_eq!(report.quarantined.len(), 1);
    assert!(journal.append(1, &[b"x"]).unwrap().position.seq > written.last().unwrap().0);
    journal.sync().unwrap();
    drop(journal);
    assert_eq!(all(&open(dir.path()).0).last().unwrap().2, b"x");
}

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Commit,
    Restart,
    /// Keeps the synced part and a share of what follows (of 255).
    Crash(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0_usize..300).prop_map(Op::Append),
        3 => Just(Op::Commit),
        1 => Just(Op::Restart),
        1 => any::<u8>().prop_map(Op::Crash),
    ];
    proptest::collection::vec(op, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_crash_all_committed_records_and_a_prefix_of_the_others_are_there(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let (options, disk) = common::faulty();
        let mut journal = Journal::open(dir.path(), options.clone()).unwrap().0;
        let mut written: Vec<(u64, u8, Vec<u8>)> = Vec::new();
        let mut committed = 0;
        let mut tickets = Vec::new();
        for op in ops {
            match op {
                Op::Append(bytes) => {
                    let bytes = payload(written.len() as u64, bytes);
                    let ticket = journal.append(1, &[&bytes]).unwrap();
                    written.push((ticket.position.seq, 1, bytes));
                    tickets.push(ticket);
                }
                Op::Commit => {
                    if let Some(ticket) = tickets.last() {
                        journal.commit(ticket).unwrap();
                    }
                    committed = written.len();
                }
                Op::Restart | Op::Crash(_) => {
                    // The cut lies anywhere between what was synced and what was written.
                    journal.flush().unwrap();
                    let lengths: Vec<_> = segments(dir.path()).iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
                    drop(journal);
                    if let Op::Crash(share) = op {
                        disk.lose_cache().unwrap();
                        for (path, bytes) in lengths.iter().filter(|(path, _)| path.exists()) {
                            let synced = std::fs::metadata(path).unwrap().len() as usize;
                            let keep = synced + (bytes.len() - synced) * usize::from(share) / 255;
                            std::fs::write(path, &bytes[..keep]).unwrap();
                            if keep < bytes.len() { break; }
                        }
                    } else {
                        committed = written.len();
                    }
                    tickets.clear();
                    let (reopened, report) = Journal::open(dir.path(), options.clone()).unwrap();
                    prop_assert!(report.damage.is_empty(), "{:?}", report);
                    journal = reopened;
                    let left = all(&journal);
                    prop_assert!(left.len() >= committed, "{} of {} committed", left.len(), committed);
                    prop_assert_eq!(&left[..], &written[..left.len()]);
                    written.truncate(left.len());
                    journal.sync().unwrap();
                    committed = written.len();
                }
            }
        }
        prop_assert_eq!(all(&journal), written);
    }

    #[test]
    fn any_flipped_bit_costs_at_most_the_record_it_hits(at in any::<prop::sample::Index>(), bit in 0_u8..8, count in 1_u64..40) {
        let dir = tempfile::tempdir().unwrap();
        let written = fill(&open(dir.path()).0, count);
        let sizes: Vec<(std::path::PathBuf, u64)> =
            segments(dir.path()).into_iter().map(|path| { let len = std::fs::metadata(&path).unwrap().len(); (path, len) }).collect();
        let mut offset = at.index(sizes.iter().map(|(_, len)| *len as usize).sum());
        for (path, len) in sizes {
            if offset < len as usize {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[offset] ^= 1 << bit;
                std::fs::write(&path, bytes).unwrap();
                break;
            }
            offset -= len as usize;
        }
        let (journal, _) = open(dir.path());
        let left = all(&journal);
        prop_assert!(left.len() as u64 >= count - 1);
        prop_assert!(left.iter().all(|record| written.contains(record)));
        let next = journal.append(1, &[b"x"]).unwrap().position.seq;
        prop_assert!(next > written.last().unwrap().0);
    }
}
