//! Waiting for a state of the world, with a deadline and the last thing that was seen.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Looks again and again until `look` answers `Ok(Some(value))`; fails after `within` with what was seen last.
///
/// `Ok(None)` and errors both mean "not yet"; the last error is part of the message.
pub async fn eventually<T, F, Fut>(what: &str, within: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + within;
    let mut ticks = interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = String::from("nothing");
    loop {
        ticks.tick().await;
        match look().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = format!("{error:#}"),
        }
        if Instant::now() > deadline {
            bail!("{what}: not seen within {} s; last: {last}", within.as_secs());
        }
    }
}

/// Lets time pass where time itself is what is tested (an outage of 60 s, three minutes at rest).
pub async fn for_the_length_of(length: Duration) {
    let mut ticks = interval(length);
    ticks.tick().await;
    ticks.tick().await;
}
