use super::*;
use ers_model::SystemClock;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn open(folder: &Path, max_bytes: u64) -> Queue {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Queue::open(folder, tenant("n", "t"), max_bytes, clock, AgentMetrics::default()).expect("open")
}

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn the_newest_and_the_oldest_are_taken_from_their_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let mut queue = open(folder.path(), 1 << 20);
    for text in ["a", "b", "c"] {
        queue.submit(1, body(text));
    }
    let newest = queue.next(Lane::Newest).expect("a batch");
    let oldest = queue.next(Lane::Oldest).expect("a batch");
    assert_eq!((&*newest.batch.body, &*oldest.batch.body), (b"c".as_slice(), b"a".as_slice()));
    assert_eq!(queue.waiting(), 1);
    queue.returned(newest.key);
    queue.acknowledged(oldest.key);
    assert_eq!(&*queue.next(Lane::Newest).expect("a batch").batch.body, b"c");
    assert!(queue.balance().holds());
}

#[test]
fn a_new_process_finds_what_was_not_acknowledged() {
    let folder = tempfile::tempdir().expect("folder");
    let mut queue = open(folder.path(), 1 << 20);
    for text in ["a", "b", "c"] {
        queue.submit(2, body(text));
    }
    let first = queue.next(Lane::Oldest).expect("a batch");
    queue.acknowledged(first.key);
    let id = queue.next(Lane::Oldest).expect("a batch").batch.id;
    // No flush, no destructor: the process is gone.
    std::mem::forget(queue);
    release_lock(folder.path());

    let mut again = open(folder.path(), 1 << 20);
    assert_eq!(again.balance().recovered, 4);
    let second = again.next(Lane::Oldest).expect("a batch");
    assert_eq!((&*second.batch.body, second.batch.id), (b"b".as_slice(), id));
    assert!(again.balance().holds());
}

/// The lock of a forgotten queue is held by this very process; a copy of the folder's files stands for another one.
fn release_lock(folder: &Path) {
    let spool = folder.join("spool");
    let copy = folder.join("copy");
    std::fs::rename(&spool, &copy).expect("rename");
    std::fs::create_dir(&spool).expect("folder");
    for entry in std::fs::read_dir(&copy).expect("list") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "log") {
            std::fs::copy(&path, spool.join(path.file_name().expect("name"))).expect("copy");
        }
    }
}

#[test]
fn a_full_spool_gives_up_its_oldest_and_counts_it() {
    let folder = tempfile::tempdir().expect("folder");
    let mut queue = open(folder.path(), 1 << 20);
    let long = Bytes::from(vec![7_u8; 60 * 1024]);
    // Eight megabytes into a spool of one; memory holds the newest four.
    for _ in 0..140 {
        queue.submit(10, long.clone());
    }
    let balance = queue.balance();
    assert!(balance.holds(), "{balance:?}");
    assert!(balance.dropped > 0, "{balance:?}");
    assert!(queue.journal().stats().bytes <= 1 << 20);
    let mut sent = 0;
    while let Some(sending) = queue.next(Lane::Oldest) {
        sent += u64::from(sending.batch.samples);
        queue.acknowledged(sending.key);
    }
    let after = queue.balance();
    assert_eq!(after.shipped, sent);
    assert_eq!(after.read, after.shipped + after.dropped);
}

#[test]
fn acknowledged_batches_leave_the_disk() {
    let folder = tempfile::tempdir().expect("folder");
    let mut queue = open(folder.path(), 64 << 20);
    let long = Bytes::from(vec![7_u8; 100 * 1024]);
    for _ in 0..100 {
        queue.submit(1, long.clone());
        let sending = queue.next(Lane::Newest).expect("a batch");
        queue.acknowledged(sending.key);
    }
    assert!(queue.journal().stats().bytes < 2 << 20, "{:?}", queue.journal().stats());
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn only_what_waits_asks_for_a_sync() {
    let folder = tempfile::tempdir().expect("folder");
    let mut queue = open(folder.path(), 1 << 20);
    assert_eq!(queue.wants_sync(), None);
    queue.submit(1, body("a"));
    assert_eq!(queue.wants_sync(), Some(false));
    let sending = queue.next(Lane::Newest).expect("a batch");
    queue.acknowledged(sending.key);
    assert_eq!(queue.wants_sync(), None);
    queue.submit(1, Bytes::from(vec![0_u8; 1 << 20]));
    assert_eq!(queue.wants_sync(), Some(true));
    queue.sync_begins();
    assert_eq!(queue.wants_sync(), None);
}

#[test]
fn refused_batches_are_kept_as_letters_and_only_the_newest() {
    let folder = tempfile::tempdir().expect("folder");
    let mut queue = open(folder.path(), 1 << 20);
    for _ in 0..20 {
        queue.submit(1, body("x"));
        let sending = queue.next(Lane::Newest).expect("a batch");
        queue.rejected(sending.key, &sending.batch, 400, "bad\nlabel");
    }
    assert_eq!(std::fs::read_dir(folder.path().join("dead-letters")).expect("list").count(), 32);
    assert!(queue.balance().holds());
    assert_eq!(queue.balance().dropped, 20);
}

#[test]
fn the_spool_of_another_target_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    drop(open(folder.path(), 1 << 20));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let other = Queue::open(folder.path(), tenant("n", "other"), 1 << 20, clock, AgentMetrics::default());
    assert!(other.is_err());
}

/// What may happen to a queue.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit(u16),
    Take(Lane),
    Acknowledge,
    Return,
    Reject,
    Sync,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u16..60_000).prop_map(Step::Submit),
        2 => Just(Step::Take(Lane::Newest)),
        2 => Just(Step::Take(Lane::Oldest)),
        3 => Just(Step::Acknowledge),
        1 => Just(Step::Return),
        1 => Just(Step::Reject),
        1 => Just(Step::Sync),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a plain set of bodies: whatever happens, each batch is acknowledged once, refused once, waiting, or counted.
    #[test]
    fn nothing_is_lost_or_doubled_whatever_happens(steps in steps()) {
        let folder = tempfile::tempdir().expect("folder");
        let mut queue = open(folder.path(), 64 << 20);
        let mut waiting: BTreeSet<u64> = BTreeSet::new();
        let mut taken: Vec<Sending> = Vec::new();
        let mut number = 0_u64;
        let content = |sending: &Sending| {
            u64::from_le_bytes(sending.batch.body[..8].try_into().expect("eight bytes"))
        };
        for step in steps {
            match step {
                Step::Submit(bytes) => {
                    let mut body = vec![0_u8; 8 + usize::from(bytes)];
                    body[..8].copy_from_slice(&number.to_le_bytes());
                    queue.submit(1, Bytes::from(body));
                    waiting.insert(number);
                    number += 1;
                }
                Step::Take(lane) => {
                    if let Some(sending) = queue.next(lane) {
                        let found = content(&sending);
                        prop_assert!(waiting.remove(&found), "{found} was handed out twice, or never submitted");
                        taken.push(sending);
                    }
                }
                Step::Acknowledge => {
                    if let Some(sending) = taken.pop() {
                        queue.acknowledged(sending.key);
                    }
                }
                Step::Return => {
                    if let Some(sending) = taken.pop() {
                        waiting.insert(content(&sending));
                        queue.returned(sending.key);
                    }
                }
                Step::Reject => {
                    if let Some(sending) = taken.pop() {
                        queue.rejected(sending.key, &sending.batch, 400, "no");
                    }
                }
                Step::Sync => {
                    queue.sync_begins();
                    queue.journal().sync().expect("synced");
                }
                Step::Restart => {
                    // What was being sent waits again.
                    waiting.extend(taken.drain(..).map(|sending| content(&sending)));
                    drop(queue);
                    queue = open(folder.path(), 64 << 20);
                    prop_assert_eq!(queue.balance().recovered, waiting.len() as u64);
                }
            }
            prop_assert!(queue.balance().holds(), "{:?}", queue.balance());
            prop_assert_eq!(queue.waiting(), waiting.len());
        }
        while let Some(sending) = queue.next(Lane::Oldest) {
            prop_assert!(waiting.remove(&content(&sending)));
            queue.acknowledged(sending.key);
        }
        prop_assert!(waiting.is_empty(), "never came: {waiting:?}");
    }
}
