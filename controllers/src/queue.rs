//! What is to be reconciled, and when: each key once, never twice at the same time, at most [`CONCURRENCY`] together.
//!
//! A key that is added while it is being worked on is worked on again afterwards. Starting work on a key forgets its
//! timer: the round that begins now decides anew when to look again.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Most keys of one kind that are worked on at the same time.
pub const CONCURRENCY: usize = 16;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// When to look at a key again, decided by the round that just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Only when something changes.
    OnChange,
    After(Duration),
    /// It failed in a way that may pass: later and later, with jitter.
    Backoff,
}

impl Next {
    /// As decided, or after `longest` if that is sooner.
    #[must_use]
    pub fn at_latest(self, longest: Duration) -> Next {
        match self {
            Next::OnChange => Next::After(longest),
            Next::After(delay) => Next::After(delay.min(longest)),
            Next::Backoff => Next::Backoff,
        }
    }
}

/// Shared between those who add keys and the one that works on them.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<(K, Instant)>,
    queued: HashSet<K>,
    running: HashSet<K>,
    again: HashSet<K>,
    timers: BTreeSet<(Instant, K)>,
    timer_of: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Queue {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                running: HashSet::new(),
                again: HashSet::new(),
                timers: BTreeSet::new(),
                timer_of: HashMap::new(),
                failures: HashMap::new(),
            }),
            wake: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn push(&mut self, key: K) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back((key, Instant::now()));
        }
    }

    fn clear_timer(&mut self, key: &K) {
        if let Some(at) = self.timer_of.remove(key) {
            self.timers.remove(&(at, key.clone()));
        }
    }

    fn set_timer(&mut self, key: K, at: Instant) {
        self.clear_timer(&key);
        self.timers.insert((at, key.clone()));
        self.timer_of.insert(key, at);
    }

    fn pop(&mut self, now: Instant) -> Option<(K, Instant)> {
        while let Some((at, key)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.clear_timer(&key);
            self.push(key);
        }
        let (key, since) = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.clear_timer(&key);
        self.running.insert(key.clone());
        Some((key, since))
    }
}

impl<K: Clone + Eq + Hash + Ord + Send + 'static> Queue<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something about this key changed.
    pub fn add(&self, key: K) {
        self.lock().push(key);
        self.wake.notify_one();
    }

    /// How many keys wait to be worked on.
    pub fn depth(&self) -> usize {
        self.lock().ready.len()
    }

    /// The earliest timer, if any is set.
    pub fn next_timer(&self) -> Option<Instant> {
        self.lock().timers.first().map(|(at, _)| *at)
    }

    fn done(&self, key: K, next: Next) {
        let mut state = self.lock();
        state.running.remove(&key);
        if next != Next::Backoff {
            state.failures.remove(&key);
        }
        match next {
            Next::OnChange => {}
            Next::After(delay) => state.set_timer(key.clone(), Instant::now() + delay),
            Next::Backoff => {
                let failures = state.failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                let delay = backoff(&key, *failures);
                state.set_timer(key.clone(), Instant::now() + delay);
            }
        }
        if state.again.remove(&key) {
            state.push(key);
        }
    }

    /// Works on keys for ever. `work` gets the key and how long it waited.
    pub async fn run<F>(self: Arc<Self>, work: impl Fn(K, Duration) -> F)
    where
        F: Future<Output = Next> + Send + 'static,
    {
        let mut tasks: JoinSet<()> = JoinSet::new();
        loop {
            while tasks.len() < CONCURRENCY {
                let popped = self.lock().pop(Instant::now());
                let Some((key, since)) = popped else { break };
                let round = work(key.clone(), since.elapsed());
                let finish = Finish { queue: Arc::clone(&self), key: Some(key) };
                tasks.spawn(async move {
                    let next = round.await;
                    finish.with(next);
                });
            }
            let timer = self.next_timer().filter(|_| tasks.len() < CONCURRENCY);
            let timer_fires = async {
                match timer {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                () = self.wake.notified() => {}
                () = timer_fires => {}
            }
        }
    }
}

/// Gives the key back even if its round panicked: one object's bug must not lock it for ever.
struct Finish<K: Clone + Eq + Hash + Ord + Send + 'static> {
    queue: Arc<Queue<K>>,
    key: Option<K>,
}

impl<K: Clone + Eq + Hash + Ord + Send + 'static> Finish<K> {
    fn with(mut self, next: Next) {
        if let Some(key) = self.key.take() {
            self.queue.done(key, next);
        }
    }
}

impl<K: Clone + Eq + Hash + Ord + Send + 'static> Drop for Finish<K> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.queue.done(key, Next::Backoff);
        }
    }
}

/// 1 s, 2 s, 4 s ... 300 s, each shortened by up to half, by an amount that is fixed for the key and the attempt.
fn backoff<K: Hash>(key: &K, failures: u32) -> Duration {
    let full = FIRST_RETRY.saturating_mul(1 << (failures.saturating_sub(1)).min(16)).min(LONGEST_RETRY);
    let mut hasher = DefaultHasher::new();
    (key, failures).hash(&mut hasher);
    let permille = u32::try_from(hasher.finish() % 500).unwrap_or(0);
    full - full * permille / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = Arc<Mutex<Vec<(&'static str, u64)>>>;

    fn logged(log: &Log) -> Vec<(&'static str, u64)> {
        log.lock().unwrap().clone()
    }

    async fn run_for(
        seconds: u64,
        queue: &Arc<Queue<&'static str>>,
        log: &Log,
        answer: impl Fn(&'static str, usize) -> Next + Send + Sync + 'static,
    ) {
        let start = Instant::now();
        let answer = Arc::new(answer);
        let work = |key: &'static str, _| {
            let (log, answer) = (Arc::clone(log), Arc::clone(&answer));
            async move {
                let mut log = log.lock().unwrap();
                log.push((key, start.elapsed().as_secs()));
                let times = log.iter().filter(|(logged, _)| *logged == key).count();
                answer(key, times)
            }
        };
        tokio::select! {
            () = Arc::clone(queue).run(work) => {}
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn equal_keys_are_worked_on_once() {
        let (queue, log) = (Arc::new(Queue::default()), Log::default());
        for key in ["a", "b", "a", "a"] {
            queue.add(key);
        }
        assert_eq!(queue.depth(), 2);
        run_for(3_600, &queue, &log, |_, _| Next::OnChange).await;
        assert_eq!(logged(&log), [("a", 0), ("b", 0)]);
        assert_eq!(queue.next_timer(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_comes_back_when_its_round_asked_for_it() {
        let (queue, log) = (Arc::new(Queue::default()), Log::default());
        queue.add("a");
        run_for(
            3_600,
            &queue,
            &log,
            |_, times| {
                if times < 3 { Next::After(Duration::from_secs(60)) } else { Next::OnChange }
            },
        )
        .await;
        assert_eq!(logged(&log), [("a", 0), ("a", 60), ("a", 120)]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_repeated_later_and_later_and_a_success_resets_them() {
        let (queue, log) = (Arc::new(Queue::default()), Log::default());
        queue.add("a");
        run_for(3_600, &queue, &log, |_, _| Next::Backoff).await;
        let times = logged(&log).len();
        assert!((15..=30).contains(&times), "{times} attempts in an hour");
        assert!(backoff(&"a", 1) <= FIRST_RETRY && backoff(&"a", 1) >= FIRST_RETRY / 2);
        assert!(backoff(&"a", 99) <= LONGEST_RETRY && backoff(&"a", 99) >= LONGEST_RETRY / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_during_its_round_gets_another_round_afterwards_not_beside_it() {
        let queue = Arc::new(Queue::default());
        let rounds = Arc::new(Mutex::new((0, 0)));
        queue.add("a");
        let work = |key: &'static str, _| {
            let (queue, rounds) = (Arc::clone(&queue), Arc::clone(&rounds));
            async move {
                {
                    let mut rounds = rounds.lock().unwrap();
                    rounds.0 += 1;
                    rounds.1 += 1;
                    assert_eq!(rounds.0, 1, "two rounds at the same time");
                    if rounds.1 == 1 {
                        queue.add(key);
                        queue.add(key);
                    }
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                rounds.lock().unwrap().0 -= 1;
                Next::OnChange
            }
        };
        tokio::select! {
            () = Arc::clone(&queue).run(work) => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
        assert_eq!(rounds.lock().unwrap().1, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_sixteen_keys_are_worked_on_together() {
        let queue = Arc::new(Queue::default());
        let together = Arc::new(Mutex::new((0usize, 0usize)));
        for key in 0..100 {
            queue.add(key);
        }
        let work = |_, _| {
            let together = Arc::clone(&together);
            async move {
                {
                    let mut together = together.lock().unwrap();
                    together.0 += 1;
                    together.1 = together.1.max(together.0);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                together.lock().unwrap().0 -= 1;
                Next::OnChange
            }
        };
        tokio::select! {
            () = Arc::clone(&queue).run(work) => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
        assert_eq!(together.lock().unwrap().1, CONCURRENCY);
        assert_eq!(queue.depth(), 0);
    }
}
