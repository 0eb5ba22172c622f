//! Who may write: a Lease in the operator's namespace.
//!
//! | what | length |
//! |---|---|
//! | lease, as others see it | 12 s |
//! | renewed every | 3 s |
//! | given up by its holder after | 8 s without a renewal, counted from the start of the last one that worked |
//! | longest write | 3 s |
//!
//! A write may start only while more than its own timeout is left of the 8 s. So the last write of a holder that can
//! no longer renew ends 4 s before anybody else may take over, whatever the machine's clocks say: every length is
//! measured on a monotonic clock, and the times written in the Lease are for people. Kubernetes checks no fencing
//! token, so this is a bound by timing, not by the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::{Instant, sleep, timeout};

/// How long others wait for a holder that is silent.
pub const DURATION: Duration = Duration::from_secs(12);
/// How often the holder renews.
pub const RENEW: Duration = Duration::from_secs(3);
/// After this long without a renewal the holder is none any more.
pub const GIVE_UP: Duration = Duration::from_secs(8);
/// Longest single write, of the Lease or of anything else.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the others look.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the lease was lost: not renewed for {} s", GIVE_UP.as_secs())]
    Expired,
    #[error("the lease was lost: `{holder}` holds it")]
    Taken { holder: String },
    #[error("reading or writing the lease failed: {0}")]
    Api(String),
    #[error("somebody else wrote the lease at the same time")]
    Conflict,
}

/// What the Lease object says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub holder: String,
    pub renew_time: Option<String>,
    pub transitions: i32,
    pub resource_version: Option<String>,
}

/// Reads and writes one Lease. A write without a resource version creates; with one it replaces exactly that version.
pub trait LeaseApi: Send + Sync {
    fn read(&self) -> impl Future<Output = Result<Option<Record>, Error>> + Send;
    fn write(&self, record: Record, duration: Duration) -> impl Future<Output = Result<Record, Error>> + Send;
}

/// Tells whether this process may write; shared with everything that writes.
#[derive(Clone, Debug)]
pub struct Handle {
    start: Instant,
    /// Milliseconds after `start` at which the lease is given up; 0 while it is not held.
    until_ms: Arc<AtomicI64>,
    transitions: Arc<AtomicU64>,
}

impl Default for Handle {
    fn default() -> Self {
        Handle { start: Instant::now(), until_ms: Arc::default(), transitions: Arc::default() }
    }
}

impl Handle {
    /// How long the lease is still held; zero when it is not.
    pub fn remaining(&self) -> Duration {
        let until = self.until_ms.load(Ordering::Acquire);
        let now = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        Duration::from_millis(u64::try_from(until - now).unwrap_or(0))
    }

    /// Whether a write that takes up to `limit` may start now.
    pub fn permits(&self, limit: Duration) -> bool {
        self.remaining() > limit
    }

    pub fn is_leader(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// How often the Lease changed hands, as of our last write: names this term of office.
    pub fn transitions(&self) -> u64 {
        self.transitions.load(Ordering::Relaxed)
    }

    fn hold_until(&self, until: Instant, transitions: i32) {
        let ms = until.saturating_duration_since(self.start).as_millis();
        self.until_ms.store(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::Release);
        self.transitions.store(u64::try_from(transitions).unwrap_or(0), Ordering::Relaxed);
    }

    fn drop_it(&self) {
        self.until_ms.store(0, Ordering::Release);
    }
}

/// One candidate.
pub struct Elector<A> {
    api: A,
    identity: String,
    handle: Handle,
    /// The last record seen and when it was seen first.
    seen: Option<(Record, Instant)>,
}

impl<A: LeaseApi> Elector<A> {
    pub fn new(api: A, identity: String, handle: Handle) -> Self {
        Elector { api, identity, handle, seen: None }
    }

    /// Waits until the lease is ours. Errors of the API are logged and waited out.
    pub async fn acquire(&mut self) {
        loop {
            let wait = match self.try_acquire().await {
                Ok(None) => return,
                Ok(Some(wait)) => wait,
                Err(error) => {
                    tracing::warn!(error = %error, "asking for the lease failed; trying again");
                    LOOK
                }
            };
            sleep(wait).await;
        }
    }

    /// One try; `None` when the lease is ours, otherwise how long to wait before the next.
    async fn try_acquire(&mut self) -> Result<Option<Duration>, Error> {
        let read = timeout(WRITE_TIMEOUT, self.api.read()).await.map_err(|_| timed_out("read"))??;
        let now = Instant::now();
        if let Some(record) = &read
            && !record.holder.is_empty()
        {
            let since = match &self.seen {
                Some((before, since)) if before == record => *since,
                _ => {
                    self.seen = Some((record.clone(), now));
                    now
                }
            };
            // Our own name from an earlier life counts as anybody's: that process may still be writing.
            let left = DURATION.saturating_sub(now.saturating_duration_since(since));
            if !left.is_zero() {
                return Ok(Some(left.min(LOOK)));
            }
        }
        let before = read.unwrap_or_default();
        let wanted = Record {
            holder: self.identity.clone(),
            renew_time: None,
            transitions: before.transitions + i32::from(before.resource_version.is_some()),
            resource_version: before.resource_version,
        };
        match self.write(wanted).await {
            Ok(()) => Ok(None),
            Err(Error::Conflict) => Ok(Some(LOOK)),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self, record: Record) -> Result<(), Error> {
        let started = Instant::now();
        let written =
            timeout(WRITE_TIMEOUT, self.api.write(record, DURATION)).await.map_err(|_| timed_out("write"))??;
        self.handle.hold_until(started + GIVE_UP, written.transitions);
        self.seen = Some((written, started));
        Ok(())
    }

    /// Renews for as long as that works; returns only when the lease is lost, and always with an error.
    pub async fn hold(&mut self) -> Error {
        loop {
            let left = self.handle.remaining();
            if left.is_zero() {
                return Error::Expired;
            }
            // While renewals fail, try again sooner: the rest of the 8 s is all there is.
            let fresh = left > GIVE_UP - RENEW;
            let pause = if fresh { left - (GIVE_UP - RENEW) } else { Duration::from_millis(500) };
            sleep(pause.min(left)).await;
            match self.renew().await {
                Ok(()) => {}
                Err(Error::Taken { holder }) => {
                    self.handle.drop_it();
                    return Error::Taken { holder };
                }
                Err(error) => tracing::warn!(error = %error, "renewing the lease failed; trying again"),
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let Some((record, _)) = self.seen.clone() else { return Err(Error::Expired) };
        match self.write(record).await {
            Err(Error::Conflict) => {
                // Somebody touched the object: still ours? Then write over the version that is there now.
                let read = timeout(WRITE_TIMEOUT, self.api.read()).await.map_err(|_| timed_out("read"))??;
                let now = read.unwrap_or_default();
                if now.holder != self.identity && !now.holder.is_empty() {
                    return Err(Error::Taken { holder: now.holder });
                }
                let transitions = now.transitions;
                self.write(Record {
                    holder: self.identity.clone(),
                    renew_time: None,
                    transitions,
                    resource_version: now.resource_version,
                })
                .await
            }
            other => other,
        }
    }

    /// Gives the lease back, so that the next one need not wait. Nothing may be written after the call.
    pub async fn release(&mut self) {
        if !self.handle.is_leader() {
            return;
        }
        self.handle.drop_it();
        let Some((mut record, _)) = self.seen.take() else { return };
        record.holder = String::new();
        let released = timeout(WRITE_TIMEOUT, self.api.write(record, Duration::from_secs(1))).await;
        match released {
            Ok(Ok(_)) => tracing::info!("the lease was given back"),
            Ok(Err(error)) => tracing::warn!(error = %error, "giving the lease back failed; others wait it out"),
            Err(_) => tracing::warn!("giving the lease back took too long; others wait it out"),
        }
    }
}

fn timed_out(what: &str) -> Error {
    Error::Api(format!("{what} took longer than {} s", WRITE_TIMEOUT.as_secs()))
}

/// The Lease in a cluster.
pub struct ClusterLease {
    pub api: Api<Lease>,
    pub name: String,
    /// What the Lease goes with when the operator is uninstalled.
    pub owner: Option<OwnerReference>,
}

impl ClusterLease {
    fn error(error: kube::Error) -> Error {
        match error {
            kube::Error::Api(status) if status.code == 409 => Error::Conflict,
            other => Error::Api(other.to_string()),
        }
    }
}

fn record_of(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        renew_time: spec.renew_time.map(|time| time.0.to_string()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        resource_version: lease.metadata.resource_version.clone(),
    }
}

impl LeaseApi for ClusterLease {
    async fn read(&self) -> Result<Option<Record>, Error> {
        Ok(self.api.get_opt(&self.name).await.map_err(Self::error)?.as_ref().map(record_of))
    }

    async fn write(&self, record: Record, duration: Duration) -> Result<Record, Error> {
        let now = MicroTime(jiff::Timestamp::now());
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: record.resource_version.clone(),
                owner_references: self.owner.clone().map(|owner| vec![owner]),
                labels: Some([("app.kubernetes.io/managed-by".to_owned(), "ers-operator".to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(record.holder),
                lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
                lease_transitions: Some(record.transitions),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams { field_manager: Some("ers-operator/lease".to_owned()), ..PostParams::default() };
        let written = match record.resource_version {
            Some(_) => self.api.replace(&self.name, &params, &lease).await,
            None => self.api.create(&params, &lease).await,
        };
        Ok(record_of(&written.map_err(Self::error)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A Lease in memory: versions count up, and it can be switched off.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        record: Option<Record>,
        version: u64,
        down: bool,
        hangs: bool,
    }

    impl Memory {
        fn with(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.lock().unwrap());
        }

        fn holder(&self) -> String {
            self.0.lock().unwrap().record.as_ref().map(|record| record.holder.clone()).unwrap_or_default()
        }
    }

    impl LeaseApi for Memory {
        async fn read(&self) -> Result<Option<Record>, Error> {
            let state = self.0.lock().unwrap();
            if state.down { Err(Error::Api("down".into())) } else { Ok(state.record.clone()) }
        }

        async fn write(&self, mut record: Record, _duration: Duration) -> Result<Record, Error> {
            let hangs = self.0.lock().unwrap().hangs;
            if hangs {
                std::future::pending::<()>().await;
            }
            let mut state = self.0.lock().unwrap();
            if state.down {
                return Err(Error::Api("down".into()));
            }
            if state.record.as_ref().and_then(|record| record.resource_version.clone()) != record.resource_version {
                return Err(Error::Conflict);
            }
            state.version += 1;
            record.resource_version = Some(state.version.to_string());
            record.renew_time = record.resource_version.clone();
            state.record = Some(record.clone());
            Ok(record)
        }
    }

    fn candidate(api: &Memory, name: &str) -> (Elector<Memory>, Handle) {
        let handle = Handle::default();
        (Elector::new(api.clone(), name.to_owned(), handle.clone()), handle)
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_lease_is_taken_at_once_and_permits_writes() {
        let api = Memory::default();
        let (mut elector, handle) = candidate(&api, "a");
        assert!(!handle.permits(Duration::ZERO));
        elector.acquire().await;
        assert!(handle.permits(WRITE_TIMEOUT));
        assert_eq!(api.holder(), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_may_not_start_when_less_than_its_timeout_is_left() {
        let api = Memory::default();
        let (mut elector, handle) = candidate(&api, "a");
        elector.acquire().await;
        tokio::time::advance(GIVE_UP - WRITE_TIMEOUT - Duration::from_millis(10)).await;
        assert!(handle.permits(WRITE_TIMEOUT));
        tokio::time::advance(Duration::from_millis(10)).await;
        assert!(!handle.permits(WRITE_TIMEOUT));
        assert!(handle.is_leader());
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_waits_for_the_whole_lease_after_the_last_renewal_it_saw() {
        let api = Memory::default();
        let (mut first, first_handle) = candidate(&api, "a");
        first.acquire().await;
        let (mut second, second_handle) = candidate(&api, "b");
        let start = Instant::now();
        second.acquire().await;
        let waited = start.elapsed();
        assert!(waited >= DURATION && waited < Duration::from_secs(15), "{waited:?}");
        assert!(second_handle.permits(WRITE_TIMEOUT) && !first_handle.is_leader());
        assert_eq!(second_handle.transitions(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_renews_keeps_it() {
        let api = Memory::default();
        let (mut first, handle) = candidate(&api, "a");
        first.acquire().await;
        let (mut second, _) = candidate(&api, "b");
        tokio::select! {
            error = first.hold() => panic!("lost: {error}"),
            () = second.acquire() => panic!("taken"),
            () = sleep(Duration::from_secs(600)) => {}
        }
        assert!(handle.is_leader());
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_cannot_renew_gives_up_after_8_seconds() {
        let api = Memory::default();
        let (mut elector, handle) = candidate(&api, "a");
        elector.acquire().await;
        api.with(|state| state.down = true);
        let start = Instant::now();
        assert!(matches!(elector.hold().await, Error::Expired));
        assert_eq!(start.elapsed().as_secs(), GIVE_UP.as_secs());
        assert!(!handle.is_leader());
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_hangs_counts_as_one_that_is_down() {
        let api = Memory::default();
        let (mut elector, handle) = candidate(&api, "a");
        elector.acquire().await;
        api.with(|state| state.hangs = true);
        let start = Instant::now();
        assert!(matches!(elector.hold().await, Error::Expired));
        assert!(start.elapsed() < DURATION, "over before anybody else may take it");
        assert!(!handle.is_leader());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_outage_is_survived() {
        let api = Memory::default();
        let (mut elector, handle) = candidate(&api, "a");
        elector.acquire().await;
        api.with(|state| state.down = true);
        let back = async {
            sleep(Duration::from_secs(6)).await;
            api.with(|state| state.down = false);
            sleep(Duration::from_secs(20)).await;
        };
        tokio::select! {
            error = elector.hold() => panic!("lost: {error}"),
            () = back => {}
        }
        assert!(handle.permits(WRITE_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_somebody_took_ends_the_holder() {
        let api = Memory::default();
        let (mut elector, handle) = candidate(&api, "a");
        elector.acquire().await;
        api.with(|state| {
            state.record =
                Some(Record { holder: "b".into(), resource_version: Some("99".into()), ..Record::default() });
        });
        assert!(matches!(elector.hold().await, Error::Taken { holder } if holder == "b"));
        assert!(!handle.is_leader());
    }

    #[tokio::test(start_paused = true)]
    async fn a_label_edit_by_somebody_else_does_not_cost_the_lease() {
        let api = Memory::default();
        let (mut elector, _) = candidate(&api, "a");
        elector.acquire().await;
        api.with(|state| {
            if let Some(record) = &mut state.record {
                record.resource_version = Some("77".into());
            }
        });
        tokio::select! {
            error = elector.hold() => panic!("lost: {error}"),
            () = sleep(Duration::from_secs(30)) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_given_back_is_taken_without_waiting() {
        let api = Memory::default();
        let (mut first, handle) = candidate(&api, "a");
        first.acquire().await;
        first.release().await;
        assert!(!handle.is_leader());
        let (mut second, _) = candidate(&api, "b");
        let start = Instant::now();
        second.acquire().await;
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(api.holder(), "b");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_slept_through_its_lease_may_not_write_when_it_wakes() {
        let api = Memory::default();
        let (mut elector, handle) = candidate(&api, "a");
        elector.acquire().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!handle.permits(Duration::ZERO));
        assert!(matches!(elector.hold().await, Error::Expired));
    }
}
