//! What was read and is not acknowledged yet: in the spool on disk, with the newest kept in memory too.
//!
//! **What is promised.** A batch is in the kernel's hands before it is offered to the sender, so the end of the process
//! (`kill -9`, out of memory) loses nothing that was read. It is on the disk 500 ms later, or after 1 MiB, so a loss of
//! power loses at most the last 500 ms; a batch that was acknowledged by then is not synced at all. An acknowledgement
//! is written behind the batch and not synced: losing one sends the batch again, under the same name.
//!
//! **Full.** Over its size the spool gives up its oldest file; when the disk takes nothing, batches stay in memory up to
//! [`MOST_MEMORY_BYTES`], then the oldest go. Both are counted.
//!
//! **Invariant.** `read + recovered = shipped + spooled + in flight + dropped`, see [`Queue::balance`].

mod dead_letters;
mod record;

use crate::batch::{Batch, BatchId};
use crate::metrics::{AgentMetrics, DropReason};
use bytes::Bytes;
use ers_journal::{Journal, JournalError, JournalOptions, Position, Tenant};
use ers_model::Clock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use dead_letters::DeadLetters;
pub use record::{ACKNOWLEDGED, BATCH, acknowledged, decode};

/// Bodies kept in memory beside the spool, and all there is room for when the disk takes nothing.
pub const MOST_MEMORY_BYTES: usize = 4 * 1024 * 1024;
/// Bytes in the kernel's hands that call for a sync at once.
const SYNC_BYTES: u64 = 1024 * 1024;
/// An empty spool's file is replaced when it is this long.
const ROTATE_BYTES: u64 = 1024 * 1024;
/// A spool is at least so many files, so that giving up the oldest gives up little.
const LEAST_SEGMENTS: u64 = 8;
const MOST_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
const MOST_RECORD_BYTES: u32 = 2 * 1024 * 1024;

/// Where a batch is among those that wait; later ones are greater.
pub type Key = u64;

#[derive(Debug)]
struct Pending {
    id: BatchId,
    samples: u32,
    created_ms: i64,
    /// In the spool; `None` when the disk did not take it.
    position: Option<Position>,
    /// In memory; `None` when it must be read from the spool.
    body: Option<Bytes>,
    in_flight: bool,
}

/// A batch that was taken out to be sent.
#[derive(Clone, Debug)]
pub struct Sending {
    pub key: Key,
    pub batch: Batch,
}

/// Which end to send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Dashboards want the newest.
    Newest,
    /// The backlog is drained from its beginning.
    Oldest,
}

/// What the numbers of samples add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    pub read: u64,
    pub recovered: u64,
    pub shipped: u64,
    pub spooled: u64,
    pub in_flight: u64,
    pub dropped: u64,
}

impl Balance {
    pub fn holds(&self) -> bool {
        self.read + self.recovered == self.shipped + self.spooled + self.in_flight + self.dropped
    }
}

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("the spool cannot be opened: is another agent running on the same state directory?")]
    Open(#[source] JournalError),
    #[error("the spool cannot be read")]
    Read(#[source] JournalError),
    #[error("the folder {} cannot be made", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The tenant that an agent's spool belongs to: its target, so that a spool is never sent for another.
pub fn tenant(namespace: &str, target: &str) -> Tenant {
    let name = format!("{namespace}/{target}");
    Tenant { uuid: uuid::Uuid::from_u128(xxhash_rust::xxh3::xxh3_128(name.as_bytes())), number: 0 }
}

/// How the journal of a spool is kept.
pub fn journal_options(tenant: Tenant, max_bytes: u64, clock: Arc<dyn Clock>) -> JournalOptions {
    JournalOptions {
        max_segment_bytes: (max_bytes / LEAST_SEGMENTS).clamp(128 * 1024, MOST_SEGMENT_BYTES),
        max_record_bytes: MOST_RECORD_BYTES,
        reserve_bytes: (max_bytes / 64).min(1 << 20),
        ..JournalOptions::new(tenant, clock)
    }
}

/// All batches that wait. Used from one thread; the journal is shared with the thread that syncs.
pub struct Queue {
    journal: Arc<Journal>,
    dead_letters: DeadLetters,
    max_bytes: u64,
    clock: Arc<dyn Clock>,
    metrics: AgentMetrics,
    pending: BTreeMap<Key, Pending>,
    next_key: Key,
    epoch: u64,
    next_sequence: u64,
    memory_bytes: usize,
    /// No batch before this one has its body in memory.
    memory_from: Key,
    in_flight: usize,
    /// Samples that wait and are not being sent, and samples that are: kept up with, since there can be 100,000 batches.
    spooled_samples: u64,
    in_flight_samples: u64,
    /// Bytes handed to the kernel since the last sync.
    unsynced_bytes: u64,
    /// The newest batch that no sync has covered.
    unsynced_key: Option<Key>,
}

impl Queue {
    /// Opens the spool below a state directory and finds what an earlier process left.
    pub fn open(
        state_dir: &Path,
        tenant: Tenant,
        max_bytes: u64,
        clock: Arc<dyn Clock>,
        metrics: AgentMetrics,
    ) -> Result<Queue, QueueError> {
        let folder = state_dir.join("spool");
        let options = journal_options(tenant, max_bytes, clock.clone());
        let (journal, report) = Journal::open(&folder, options).map_err(QueueError::Open)?;
        if report.is_damaged() {
            tracing::warn!(
                damaged = report.damage.len(),
                quarantined = report.quarantined.len(),
                "spool was damaged; what could be read is kept"
            );
        }
        let epoch = clock.now_ms().unsigned_abs();
        let dead_letters = DeadLetters::new(state_dir.join("dead-letters"));
        let mut queue = Queue {
            journal: Arc::new(journal),
            dead_letters,
            max_bytes,
            clock,
            metrics,
            pending: BTreeMap::new(),
            next_key: 0,
            epoch,
            next_sequence: 1,
            memory_bytes: 0,
            memory_from: 0,
            in_flight: 0,
            spooled_samples: 0,
            in_flight_samples: 0,
            unsynced_bytes: 0,
            unsynced_key: None,
        };
        queue.recover()?;
        Ok(queue)
    }

    fn recover(&mut self) -> Result<(), QueueError> {
        let mut reader = self.journal.read_from(Position::START).map_err(QueueError::Read)?;
        let mut found: BTreeMap<u64, Pending> = BTreeMap::new();
        while let Some(record) = reader.next_record().map_err(QueueError::Read)? {
            match record.kind {
                BATCH => {
                    if let Some(batch) = decode(record.payload) {
                        let pending = Pending {
                            id: batch.id,
                            samples: batch.samples,
                            created_ms: batch.created_ms,
                            position: Some(record.position),
                            body: None,
                            in_flight: false,
                        };
                        found.insert(record.seq, pending);
                    }
                }
                ACKNOWLEDGED => {
                    for sequence in acknowledged(record.payload) {
                        found.remove(&sequence);
                    }
                }
                _ => {}
            }
        }
        self.metrics.spool_damaged_bytes.inc_by(reader.damaged_bytes());
        for pending in found.into_values() {
            self.metrics.samples_recovered.inc_by(u64::from(pending.samples));
            self.spooled_samples += u64::from(pending.samples);
            self.pending.insert(self.next_key, pending);
            self.next_key += 1;
        }
        if !self.pending.is_empty() {
            tracing::info!(batches = self.pending.len(), "spool holds batches of an earlier process");
        }
        self.update_gauges();
        Ok(())
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub fn metrics(&self) -> &AgentMetrics {
        &self.metrics
    }

    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Takes samples over. From here on they are shipped, or dropped and counted.
    pub fn submit(&mut self, samples: u32, body: Bytes) {
        self.metrics.samples_read.inc_by(u64::from(samples));
        let id = BatchId { epoch: self.epoch, sequence: self.next_sequence };
        self.next_sequence += 1;
        self.insert(Batch { id, samples, created_ms: self.clock.now_ms(), body });
        self.update_gauges();
    }

    /// Counts samples that were read and given up before they became part of a batch.
    pub fn count_dropped(&self, reason: DropReason, samples: u64) {
        self.metrics.samples_read.inc_by(samples);
        self.metrics.dropped(reason, samples);
    }

    fn insert(&mut self, batch: Batch) {
        let position = self.spool(&batch);
        let key = self.next_key;
        self.next_key += 1;
        self.memory_bytes += batch.body.len();
        if position.is_some() {
            self.unsynced_bytes += batch.body.len() as u64;
            self.unsynced_key = Some(key);
        }
        let pending = Pending {
            id: batch.id,
            samples: batch.samples,
            created_ms: batch.created_ms,
            position,
            body: Some(batch.body),
            in_flight: false,
        };
        self.spooled_samples += u64::from(batch.samples);
        self.pending.insert(key, pending);
        self.keep_size();
        self.free_memory();
    }

    /// Hands a batch to the kernel. `None` when the disk does not take it.
    fn spool(&mut self, batch: &Batch) -> Option<Position> {
        // The second attempt has the room of the oldest file.
        for attempt in 0..2 {
            let written = self
                .journal
                .append(BATCH, &[&record::encode_head(batch), &batch.body])
                .and_then(|ticket| self.journal.flush().map(|()| ticket.position));
            match written {
                Ok(position) => return Some(position),
                Err(error) => {
                    self.metrics.spool_errors.inc();
                    let full = error.is_storage_full();
                    tracing::warn!(error = &error as &dyn std::error::Error, "spool takes no batch, kept in memory");
                    if attempt == 1 || !full || !self.drop_oldest(DropReason::no_space) {
                        return None;
                    }
                }
            }
        }
        None
    }

    fn keep_size(&mut self) {
        while self.journal.stats().bytes > self.max_bytes {
            if !self.drop_oldest(DropReason::spool_full) {
                return;
            }
        }
    }

    /// Gives up the oldest file of the spool; `false` when there is none to give up.
    fn drop_oldest(&mut self, reason: DropReason) -> bool {
        let first = match self.journal.drop_oldest() {
            Ok(Some((first, _))) => first,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "spool's oldest file cannot be deleted");
                return false;
            }
        };
        let mut lost = 0;
        for pending in self.pending.values_mut() {
            if pending.position.is_some_and(|position| position.seq < first) {
                // What is still in memory can still be sent.
                pending.position = None;
            }
        }
        self.pending.retain(|_, pending| {
            let gone = pending.position.is_none() && pending.body.is_none() && !pending.in_flight;
            if gone {
                lost += u64::from(pending.samples);
            }
            !gone
        });
        self.spooled_samples -= lost;
        self.metrics.dropped(reason, lost);
        if lost > 0 {
            tracing::warn!(samples = lost, ?reason, "oldest samples of the spool dropped");
        }
        true
    }

    /// Keeps the newest bodies in memory; of those that are nowhere else, gives up the oldest when there is no room.
    fn free_memory(&mut self) {
        if self.memory_bytes <= MOST_MEMORY_BYTES {
            return;
        }
        for (&key, pending) in self.pending.range_mut(self.memory_from..) {
            if pending.position.is_none() {
                // Nowhere else: stays, and so does the mark.
                break;
            }
            self.memory_from = key + 1;
            if let Some(body) = pending.body.take() {
                self.memory_bytes -= body.len();
                if self.memory_bytes <= MOST_MEMORY_BYTES {
                    return;
                }
            }
        }
        // Behind one that is nowhere else there may be others that are.
        for pending in self.pending.range_mut(self.memory_from..).map(|(_, pending)| pending) {
            if pending.position.is_some()
                && let Some(body) = pending.body.take()
            {
                self.memory_bytes -= body.len();
                if self.memory_bytes <= MOST_MEMORY_BYTES {
                    return;
                }
            }
        }
        let mut lost = 0;
        while self.memory_bytes > MOST_MEMORY_BYTES {
            let oldest = self.pending.iter().find(|(_, pending)| pending.body.is_some() && !pending.in_flight);
            let Some((&key, _)) = oldest else {
                break;
            };
            lost += u64::from(self.remove(key).map_or(0, |pending| pending.samples));
        }
        if lost > 0 {
            self.metrics.dropped(DropReason::no_space, lost);
            tracing::warn!(samples = lost, "oldest samples dropped: the disk takes nothing and memory is full");
        }
    }

    /// Batches that wait and are not being sent.
    pub fn waiting(&self) -> usize {
        self.pending.len() - self.in_flight
    }

    /// How old the oldest waiting batch is, in milliseconds.
    pub fn oldest_age_ms(&self) -> i64 {
        let oldest = self.pending.values().next().map(|pending| pending.created_ms);
        oldest.map_or(0, |created| (self.clock.now_ms() - created).max(0))
    }

    /// Takes the next batch out to be sent; it stays in the spool.
    pub fn next(&mut self, lane: Lane) -> Option<Sending> {
        loop {
            let free = |(_, pending): &(&Key, &Pending)| !pending.in_flight;
            let (&key, _) = match lane {
                Lane::Newest => self.pending.iter().rev().find(free)?,
                Lane::Oldest => self.pending.iter().find(free)?,
            };
            let pending = self.pending.get(&key)?;
            let (id, samples, created_ms) = (pending.id, pending.samples, pending.created_ms);
            let body = match (&pending.body, pending.position) {
                (Some(body), _) => Some(body.clone()),
                (None, Some(position)) => self.read(position),
                (None, None) => None,
            };
            let Some(body) = body else {
                // The record is not readable any more: damaged, or deleted by hand.
                self.pending.remove(&key);
                self.spooled_samples -= u64::from(samples);
                self.metrics.dropped(DropReason::corrupt, u64::from(samples));
                tracing::warn!(batch = %id, samples, "batch cannot be read back from the spool and is dropped");
                continue;
            };
            if let Some(pending) = self.pending.get_mut(&key) {
                pending.in_flight = true;
            }
            self.in_flight += 1;
            self.spooled_samples -= u64::from(samples);
            self.in_flight_samples += u64::from(samples);
            self.update_gauges();
            return Some(Sending { key, batch: Batch { id, samples, created_ms, body } });
        }
    }

    fn read(&self, position: Position) -> Option<Bytes> {
        let mut reader = self.journal.read_from(position).ok()?;
        let record = reader.next_record().ok()??;
        (record.seq == position.seq && record.kind == BATCH).then(|| decode(record.payload).map(|batch| batch.body))?
    }

    fn remove(&mut self, key: Key) -> Option<Pending> {
        let pending = self.pending.remove(&key)?;
        if let Some(body) = &pending.body {
            self.memory_bytes -= body.len();
        }
        if pending.in_flight {
            self.in_flight -= 1;
            self.in_flight_samples -= u64::from(pending.samples);
        } else {
            self.spooled_samples -= u64::from(pending.samples);
        }
        Some(pending)
    }

    /// The server has the batch.
    pub fn acknowledged(&mut self, key: Key) {
        if let Some(pending) = self.remove(key) {
            self.metrics.samples_shipped.inc_by(u64::from(pending.samples));
            self.metrics.batches_shipped.inc();
            self.settle(pending.position);
        }
    }

    /// The server will never take the batch: it goes to the dead letters.
    pub fn rejected(&mut self, key: Key, batch: &Batch, status: u16, message: &str) {
        if let Some(pending) = self.remove(key) {
            self.metrics.dropped(DropReason::rejected, u64::from(pending.samples));
            self.dead_letters.keep(batch, status, message);
            self.settle(pending.position);
        }
    }

    /// The batch was too long for the server and is replaced by its parts.
    pub fn replaced(&mut self, key: Key, parts: Vec<(u32, Bytes)>) {
        let Some(whole) = self.remove(key) else {
            return;
        };
        for (samples, body) in parts {
            let id = BatchId { epoch: self.epoch, sequence: self.next_sequence };
            self.next_sequence += 1;
            self.insert(Batch { id, samples, created_ms: whole.created_ms, body });
        }
        // Only now: until then the parts are in the spool twice, never not at all.
        self.settle(whole.position);
    }

    /// The batch could not be sent this time.
    pub fn returned(&mut self, key: Key) {
        let Some(pending) = self.pending.get_mut(&key) else {
            return;
        };
        pending.in_flight = false;
        let samples = u64::from(pending.samples);
        let is_gone = pending.position.is_none() && pending.body.is_none();
        self.in_flight -= 1;
        self.in_flight_samples -= samples;
        if is_gone {
            // Its file was given up meanwhile.
            self.pending.remove(&key);
            self.metrics.dropped(DropReason::spool_full, samples);
        } else {
            self.spooled_samples += samples;
        }
        self.update_gauges();
    }

    /// Notes in the spool that a batch is done with, and deletes the files that are done with.
    fn settle(&mut self, position: Option<Position>) {
        if let Some(position) = position {
            let noted =
                self.journal.append(ACKNOWLEDGED, &[&position.seq.to_le_bytes()]).and_then(|_| self.journal.flush());
            if let Err(error) = noted {
                // Not fatal: after a restart the batch is sent once more, under the same name.
                self.metrics.spool_errors.inc();
                tracing::debug!(error = &error as &dyn std::error::Error, "acknowledgement cannot be noted");
            }
        }
        self.delete_done();
        self.update_gauges();
    }

    fn delete_done(&mut self) {
        let stats = self.journal.stats();
        // Batches are in the spool in the order of their keys.
        let oldest = self.pending.values().find_map(|pending| pending.position);
        let idle = oldest.is_none() && stats.bytes > ROTATE_BYTES;
        if idle && let Err(error) = self.journal.rotate() {
            tracing::debug!(error = &error as &dyn std::error::Error, "spool's file cannot be replaced");
        }
        let first = oldest.unwrap_or_else(|| Position::at_seq(self.journal.stats().next_seq));
        if (stats.segments > 1 || idle)
            && let Err(error) = self.journal.truncate_before(first)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "spool's file cannot be deleted");
        }
    }

    /// Whether there are batches that only the kernel's memory holds, and whether there are so many that it is time.
    pub fn wants_sync(&self) -> Option<bool> {
        // Batches that were acknowledged meanwhile need no sync.
        let key = self.unsynced_key?;
        let waits = self.pending.range(..=key).next_back().is_some();
        waits.then_some(self.unsynced_bytes >= SYNC_BYTES)
    }

    /// A sync of everything submitted so far begins.
    pub fn sync_begins(&mut self) {
        self.unsynced_key = None;
        self.unsynced_bytes = 0;
    }

    pub fn balance(&self) -> Balance {
        Balance {
            read: self.metrics.samples_read.get(),
            recovered: self.metrics.samples_recovered.get(),
            shipped: self.metrics.samples_shipped.get(),
            spooled: self.spooled_samples,
            in_flight: self.in_flight_samples,
            dropped: self.metrics.dropped_total(),
        }
    }

    /// Brings the gauges up to date: ages move without any event.
    pub fn refresh(&self) {
        self.update_gauges();
    }

    fn update_gauges(&self) {
        let balance = self.balance();
        self.metrics.samples_spooled.set(balance.spooled as i64);
        self.metrics.samples_in_flight.set(balance.in_flight as i64);
        self.metrics.batches_waiting.set(self.waiting() as i64);
        self.metrics.spool_bytes.set(self.journal.stats().bytes as i64);
        self.metrics.spool_oldest_age_seconds.set(self.oldest_age_ms() as f64 / 1000.0);
        debug_assert!(balance.holds(), "{balance:?}");
    }
}

#[cfg(test)]
mod tests;
