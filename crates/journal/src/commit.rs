//! Who waits for which fdatasync, and what came of it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::JournalError;
use crate::journal::Position;

/// Records whose durability is decided by one fdatasync.
#[derive(Debug, Default)]
pub(crate) struct Batch(Mutex<Outcomes>);

#[derive(Debug, Default)]
struct Outcomes {
    /// Records that never reached the file: first and last sequence.
    unwritten: Vec<(u64, u64, JournalError)>,
    synced: Option<Result<(), JournalError>>,
}

impl Batch {
    pub(crate) fn fail_unwritten(&self, first: u64, last: u64, error: JournalError) {
        lock(&self.0).unwritten.push((first, last, error));
    }

    /// The first outcome stands: a batch that has failed cannot succeed later.
    pub(crate) fn finish(&self, result: Result<(), JournalError>) {
        lock(&self.0).synced.get_or_insert(result);
    }

    /// `None` while it is open.
    fn outcome(&self, seq: u64) -> Option<Result<(), JournalError>> {
        let outcomes = lock(&self.0);
        let unwritten = outcomes.unwritten.iter().find(|(first, last, _)| (*first..=*last).contains(&seq));
        match unwritten {
            Some((_, _, error)) => Some(Err(error.clone())),
            None => outcomes.synced.clone(),
        }
    }

    fn any_outcome(&self) -> Option<Result<(), JournalError>> {
        let outcomes = lock(&self.0);
        let synced = outcomes.synced.clone()?;
        Some(match outcomes.unwritten.first() {
            Some((_, _, error)) => Err(error.clone()),
            None => synced,
        })
    }
}

/// An appended record whose durability can be waited for with [`crate::Journal::commit`].
#[derive(Clone, Debug)]
pub struct Ticket {
    pub position: Position,
    pub(crate) batch: Arc<Batch>,
}

#[derive(Debug, Default)]
pub(crate) struct Committer {
    leading: Mutex<bool>,
    changed: Condvar,
}

/// Ends leadership even when the leader panics, so that followers do not wait for ever.
struct Leadership<'a>(&'a Committer);

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        *lock(&self.0.leading) = false;
        self.0.changed.notify_all();
    }
}

impl Committer {
    /// Waits until the record's fate is known. The first thread that comes while nobody syncs does the work (`lead`) for all that wait.
    pub(crate) fn wait(&self, ticket: &Ticket, lead: impl Fn()) -> Result<(), JournalError> {
        self.wait_for(|| ticket.batch.outcome(ticket.position.seq), lead)
    }

    /// As `wait`, for all records of a batch.
    pub(crate) fn wait_all(&self, batch: &Batch, lead: impl Fn()) -> Result<(), JournalError> {
        self.wait_for(|| batch.any_outcome(), lead)
    }

    fn wait_for(
        &self,
        outcome: impl Fn() -> Option<Result<(), JournalError>>,
        lead: impl Fn(),
    ) -> Result<(), JournalError> {
        let mut leading = lock(&self.leading);
        loop {
            if let Some(outcome) = outcome() {
                return outcome;
            }
            if *leading {
                leading = self.changed.wait(leading).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            *leading = true;
            drop(leading);
            let leadership = Leadership(self);
            lead();
            drop(leadership);
            leading = lock(&self.leading);
        }
    }
}

/// A panic elsewhere leaves our plain values usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
