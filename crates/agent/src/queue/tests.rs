use super::*;
use ers_model::SystemClock;

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
