//! Failed log-ins cost time. Per (user, address) the first three are free, then each doubles the wait, from 1 s to 15 min;
//! per address the first 30, then up to 10 s: behind one address there may be a whole office, which one stranger must not lock out.
//! An IPv6 address counts as its /64, since whoever has one address of it has them all.
//!
//! An attempt is counted when it begins, so that many at once gain nothing, and forgiven when it succeeds. Memory is bounded: beyond the cap the entry that failed longest ago goes.

use std::collections::HashMap;
use std::sync::Mutex;

const MAX_WAIT_SECONDS: u64 = 900;
const MAX_ADDRESS_WAIT_SECONDS: u64 = 10;
/// After this long without a failure the count starts anew.
const FORGET_MS: i64 = 3_600_000;
const FREE_PER_USER: u32 = 3;
const FREE_PER_ADDRESS: u32 = 30;
const MAX_ENTRIES: usize = 10_000;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    UserAt { user: String, address: String },
    Address(String),
}

impl Key {
    /// How many failures cost nothing, and the longest wait in seconds.
    fn terms(&self) -> (u32, u64) {
        match self {
            Key::UserAt { .. } => (FREE_PER_USER, MAX_WAIT_SECONDS),
            Key::Address(_) => (FREE_PER_ADDRESS, MAX_ADDRESS_WAIT_SECONDS),
        }
    }
}

struct Tries {
    count: u32,
    last_ms: i64,
    /// What `last_ms` was before the attempt that is under way, so that a success leaves no mark.
    before_ms: i64,
}

impl Tries {
    fn wait_seconds(&self, (free, longest): (u32, u64)) -> u64 {
        match self.count.checked_sub(free) {
            None | Some(0) => 0,
            Some(over) => 1_u64.checked_shl(over - 1).unwrap_or(longest).min(longest),
        }
    }
}

/// What an address counts as.
fn network_of(address: &str) -> String {
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        _ => address.to_owned(),
    }
}

#[derive(Default)]
pub struct LoginLimiter {
    tries: Mutex<HashMap<Key, Tries>>,
}

impl LoginLimiter {
    /// Counts an attempt; `Err` holds the seconds to wait and counts nothing.
    pub fn begin(&self, user: &str, address: &str, now_ms: i64) -> Result<(), u64> {
        let keys = Self::keys(user, address);
        let mut tries = self.tries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for key in &keys {
            let Some(entry) = tries.get(key) else { continue };
            if now_ms - entry.last_ms > FORGET_MS {
                tries.remove(key);
                continue;
            }
            let until_ms = entry.last_ms + i64::try_from(entry.wait_seconds(key.terms()) * 1_000).unwrap_or(i64::MAX);
            if now_ms < until_ms {
                return Err(u64::try_from(until_ms - now_ms).unwrap_or(0).div_ceil(1_000));
            }
        }
        for key in keys {
            if tries.len() >= MAX_ENTRIES && !tries.contains_key(&key) {
                let oldest = tries.iter().min_by_key(|(_, entry)| entry.last_ms).map(|(key, _)| key.clone());
                oldest.map(|key| tries.remove(&key));
            }
            let entry = tries.entry(key).or_insert(Tries { count: 0, last_ms: now_ms, before_ms: now_ms });
            entry.count = entry.count.saturating_add(1);
            entry.before_ms = entry.last_ms;
            entry.last_ms = now_ms;
        }
        Ok(())
    }

    /// The attempt was right after all. The address keeps what others failed from it, this one taken off.
    pub fn forgive(&self, user: &str, address: &str) {
        let mut tries = self.tries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for key in Self::keys(user, address) {
            match key {
                Key::UserAt { .. } => {
                    tries.remove(&key);
                }
                Key::Address(_) => {
                    if let Some(entry) = tries.get_mut(&key) {
                        entry.count = entry.count.saturating_sub(1);
                        entry.last_ms = entry.before_ms;
                    }
                }
            }
        }
    }

    fn keys(user: &str, address: &str) -> [Key; 2] {
        // A name longer than any that exists needs no key of its own size.
        let user = user.chars().take(128).collect();
        let address = network_of(address);
        [Key::UserAt { user, address: address.clone() }, Key::Address(address)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        let limiter = LoginLimiter::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..16 {
            let wait = match limiter.begin("anna", "192.0.2.1", now) {
                Ok(()) => 0,
                Err(wait) => wait,
            };
            waits.push(wait);
            now += i64::try_from(wait).unwrap() * 1_000;
            if wait > 0 {
                assert_eq!(limiter.begin("anna", "192.0.2.1", now), Ok(()));
            }
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
    }

    #[test]
    fn other_users_and_other_addresses_are_not_held_up() {
        let limiter = LoginLimiter::default();
        for _ in 0..4 {
            limiter.begin("anna", "192.0.2.1", 0).unwrap();
        }
        assert_eq!(limiter.begin("anna", "192.0.2.1", 0), Err(1));
        assert_eq!(limiter.begin("bert", "192.0.2.1", 0), Ok(()));
        assert_eq!(limiter.begin("anna", "192.0.2.2", 0), Ok(()));
    }

    #[test]
    fn an_address_that_tries_many_names_is_held_up_too() {
        let limiter = LoginLimiter::default();
        for number in 0..31 {
            limiter.begin(&format!("user{number}"), "192.0.2.1", 0).unwrap();
        }
        assert_eq!(limiter.begin("another", "192.0.2.1", 0), Err(1));
    }

    #[test]
    fn one_stranger_does_not_lock_out_everybody_behind_the_same_address() {
        let limiter = LoginLimiter::default();
        let mut now = 0;
        for number in 0..60 {
            while let Err(wait) = limiter.begin(&format!("stranger{number}"), "192.0.2.1", now) {
                assert!(wait <= MAX_ADDRESS_WAIT_SECONDS, "{wait} s");
                now += i64::try_from(wait).unwrap() * 1_000;
            }
        }
        now += i64::try_from(MAX_ADDRESS_WAIT_SECONDS).unwrap() * 1_000;
        assert_eq!(limiter.begin("anna", "192.0.2.1", now), Ok(()));
    }

    #[test]
    fn a_success_is_no_reason_to_remember_older_failures_for_longer() {
        let limiter = LoginLimiter::default();
        for number in 0..31 {
            limiter.begin(&format!("user{number}"), "192.0.2.1", 0).unwrap();
        }
        for minutes in [30, 59] {
            let now = minutes * 60_000;
            limiter.begin("anna", "192.0.2.1", now).unwrap();
            limiter.forgive("anna", "192.0.2.1");
        }
        let now = FORGET_MS + 1;
        for number in 0..30 {
            limiter.begin(&format!("user{number}"), "192.0.2.1", now).unwrap();
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let limiter = LoginLimiter::default();
        for number in 0..4 {
            limiter.begin("anna", &format!("2001:db8::{number}"), 0).unwrap();
        }
        assert_eq!(limiter.begin("anna", "2001:db8::ffff", 0), Err(1));
        assert_eq!(limiter.begin("anna", "2001:db8:1::1", 0), Ok(()));
    }

    #[test]
    fn success_and_an_hour_of_quiet_forgive() {
        let limiter = LoginLimiter::default();
        for _ in 0..4 {
            limiter.begin("anna", "a", 0).unwrap();
        }
        limiter.forgive("anna", "a");
        assert_eq!(limiter.begin("anna", "a", 0), Ok(()));
        for _ in 0..3 {
            limiter.begin("anna", "a", 0).unwrap();
        }
        assert_eq!(limiter.begin("anna", "a", 0), Err(1));
        assert_eq!(limiter.begin("anna", "a", FORGET_MS + 1), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = LoginLimiter::default();
        for number in 0..(MAX_ENTRIES + 50) {
            limiter.begin("x", &format!("address{number}"), i64::try_from(number).unwrap()).unwrap();
        }
        assert!(limiter.tries.lock().unwrap().len() <= MAX_ENTRIES);
    }
}
