//! A process that is killed in mid-load loses nothing that it acknowledged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{T0, TestClock, everything, files, labels, open, options, sample};
use ers_tsdb::DbOptions;

const DIR: &str = "ERS_TSDB_CRASH_DIR";
const FIRST: &str = "ERS_TSDB_CRASH_FIRST";
const THREADS: usize = 4;

fn crash_options() -> DbOptions {
    DbOptions { block_ms: 60_000, ..options(&TestClock::at(T0)) }
}

/// The child: writes until it is killed and says what was acknowledged. As a test of its own it does nothing.
#[test]
fn child_that_writes_until_it_is_killed() {
    let (Ok(dir), Ok(first)) = (std::env::var(DIR), std::env::var(FIRST)) else { return };
    let first: i64 = first.parse().unwrap();
    let (db, _) = open(Path::new(&dir), crash_options());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let db = &db;
            scope.spawn(move || {
                for number in first.. {
                    let series = labels(&[("__name__", "m"), ("t", &thread.to_string())]);
                    let at_ms = T0 + number * 100;
                    let body = common::body(&[(series, vec![sample(at_ms, number as f64)])]);
                    assert_eq!(db.append_remote_write(&[], &body, at_ms).unwrap().accepted, 1);
                    // One write, so that lines of several threads do not mix.
                    std::io::stdout().write_all(format!("\nack {thread} {number}\n").as_bytes()).unwrap();
                }
            });
        }
        // Files come and go while it is killed.
        scope.spawn(|| {
            for round in 0.. {
                let now = T0 + round;
                if round % 3 == 0 { db.flush_all(now) } else { db.maintain(now) }.unwrap();
            }
        });
    });
}

#[test]
fn no_acknowledged_sample_is_lost_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<Vec<i64>> = vec![Vec::new(); THREADS];
    let mut first = 0;
    for round in 0..15_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_writes_until_it_is_killed", "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = 0;
        let wanted = 20 + round * 37 % 300;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let Ok(line) = line else { break };
            let mut words = line.split(' ');
            if words.next() != Some("ack") {
                continue;
            }
            let (Some(thread), Some(number)) = (words.next(), words.next()) else { continue };
            acknowledged[thread.parse::<usize>().unwrap()].push(number.parse().unwrap());
            seen += 1;
            if seen == wanted {
                // What it says after this is read as well, up to its end.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= wanted, "round {round}: it ended by itself after {seen}");
        first = acknowledged.iter().flatten().max().unwrap() + 100;
        let (db, report) = open(dir.path(), crash_options());
        assert!(!report.is_damaged(), "round {round}: {report:?}");
        let content = everything(&db);
        for (thread, numbers) in acknowledged.iter().enumerate() {
            let samples = &content[&format!("m{{t=\"{thread}\"}}")];
            for number in numbers {
                let wanted = (T0 + number * 100, (*number as f64).to_bits());
                assert!(samples.binary_search(&wanted).is_ok(), "round {round}: lost {number} of thread {thread}");
            }
        }
    }
    assert!(!files(dir.path(), ".seg").is_empty(), "segments were written meanwhile");
}
