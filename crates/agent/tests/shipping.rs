//! The whole agent against a server that misbehaves: outages, refusals, restarts, tokens, authorities, a full spool.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use support::agent::{Agent, HOST};
use support::server::{Received, Reply, Server};

const SPOOL: u64 = 64 << 20;

fn accepted(received: &[Received]) -> Vec<&Received> {
    received.iter().filter(|one| (200..300).contains(&one.status)).collect()
}

/// Times of `up` of the host that the server acknowledged, and how often each.
fn host_times(received: &[Received]) -> BTreeMap<i64, usize> {
    let mut times = BTreeMap::new();
    for one in accepted(received) {
        for (name, _, at) in one.series() {
            if name.starts_with("up{") && name.contains("job=\"node-exporter\"") {
                *times.entry(at).or_insert(0) += 1;
            }
        }
    }
    times
}

/// Longest time between two neighbours, in milliseconds.
fn longest_gap(times: &BTreeMap<i64, usize>) -> i64 {
    let times: Vec<i64> = times.keys().copied().collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

#[test]
fn a_batch_says_who_sends_what_and_readiness_follows_its_acknowledgement() {
    let server = Server::start(|_| Reply::status(503));
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    agent.start(&[]);
    server.wait("a refused batch", |received| !received.is_empty());
    assert!(!agent.is_ready());
    server.answer(|_| Reply::status(204));
    let received = server.wait("an acknowledged batch", |received| !accepted(received).is_empty());
    let first = accepted(&received)[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/api/v1/write"));
    assert_eq!(first.header("authorization"), "Bearer first-token");
    assert_eq!(first.header("x-ers-target"), "t");
    assert_eq!(first.header("x-ers-config-hash"), "hash1");
    assert_eq!(first.header("content-encoding"), "snappy");
    assert_eq!(first.header("content-type"), "application/x-protobuf");
    assert_eq!(first.header("x-prometheus-remote-write-version"), "0.1.0");
    assert!(first.header("x-ers-batch").split_once('-').is_some_and(|(epoch, _)| epoch.len() == 13));
    let names: BTreeSet<String> = first.series().into_iter().map(|(name, _, _)| name).collect();
    assert!(names.contains(r#"up{ers_target="t", instance="node-1", job="node-exporter", node="node-1"}"#));
    assert!(names.iter().any(|name| name.starts_with("node_uname_info{") && name.contains("nodename=")));
    agent.wait_for_log("ready: the server acknowledged a batch");
    assert!(agent.is_ready());
    // The process is gone, its file is not: a leftover says nothing.
    agent.kill();
    assert!(agent.path("ready").exists());
    assert!(!agent.is_ready());
}

#[test]
fn the_agents_own_figures_travel_with_the_rest_and_add_up() {
    let server = Server::start(|_| Reply::status(204));
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    agent.start(&[]);
    let own = |received: &[Received]| {
        let mut values = BTreeMap::new();
        for (name, value, _) in accepted(received).into_iter().flat_map(Received::series) {
            if let Some(rest) = name.strip_prefix("ers_agent_") {
                values.insert(rest.split('{').next().unwrap_or_default().to_owned(), value);
            }
        }
        values
    };
    let received = server.wait("own figures twice", |received| {
        own(received).get("samples_shipped_total").is_some_and(|shipped| *shipped > 0.0)
    });
    let values = own(&received);
    let value = |name: &str| values.get(name).copied().unwrap_or(0.0);
    assert_eq!(
        value("samples_read_total") + value("samples_recovered_total"),
        value("samples_shipped_total")
            + value("samples_spooled")
            + value("samples_in_flight")
            + value("samples_dropped_total")
    );
    assert!(value("resident_memory_bytes") > 0.0);
}

#[test]
fn nothing_is_missing_after_an_outage_and_the_newest_comes_first() {
    let server = Server::start(|_| Reply::status(204));
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    agent.start(&[]);
    server.wait("the first batch", |received| !accepted(received).is_empty());
    server.answer(|_| Reply::status(503).with_header("retry-after", "0"));
    let before = server.received().len();
    let outage = |received: &[Received]| {
        let tried = &received[before..];
        tried.iter().filter(|one| one.status == 503).map(|one| one.header("x-ers-batch").to_owned()).collect()
    };
    // The newest is tried each time, so several names mean that several batches wait.
    server.wait("five batches in the outage", |received| {
        let tried: BTreeSet<String> = outage(received);
        tried.len() >= 5
    });
    server.answer(|_| Reply::status(204));
    let recovered = server.received().len();
    let received = server.wait("the backlog", |received| {
        let times = host_times(received);
        times.len() >= 8 && longest_gap(&times) <= 2_000
    });
    let after: Vec<i64> = accepted(&received[recovered..])
        .into_iter()
        .filter_map(|one| one.series().iter().map(|(_, _, at)| *at).max())
        .collect();
    assert!(after[0] >= *after.iter().take(3).max().expect("batches") - 2_000, "the newest first: {after:?}");
    assert!(!agent.spool("ls").0, "the spool of a running agent is locked");
    let (code, took) = agent.terminate();
    assert_eq!(code, Some(0));
    assert!(took.as_secs() < 5, "{took:?}");
    let (sound, said) = agent.spool("verify");
    assert!(sound, "{said}");
    assert!(said.starts_with("0 batches wait"), "{said}");
}

#[test]
fn a_killed_agent_loses_nothing_that_it_had_read() {
    // Nothing gets through until the end: whatever arrives then came from the disk.
    let server = Server::start(|_| Reply::status(503).with_header("retry-after", "0"));
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    let mut tried: BTreeSet<String> = BTreeSet::new();
    let names = |received: &[Received]| -> BTreeSet<String> {
        received.iter().map(|one| one.header("x-ers-batch").to_owned()).collect()
    };
    for round in 1..=3 {
        agent.start(&[]);
        let received = server.wait("two more batches", |received| names(received).len() >= 2 * round);
        agent.kill();
        tried.extend(names(&received));
    }
    tried.extend(names(&server.received()));
    server.answer(|_| Reply::status(204));
    agent.start(&[]);
    let received = server.wait("every batch that was ever tried", |received| {
        let arrived: BTreeSet<String> =
            accepted(received).iter().map(|one| one.header("x-ers-batch").to_owned()).collect();
        tried.is_subset(&arrived)
    });
    let mut arrivals: BTreeMap<&str, usize> = BTreeMap::new();
    for one in accepted(&received) {
        *arrivals.entry(one.header("x-ers-batch")).or_insert(0) += 1;
    }
    let twice = arrivals.values().filter(|count| **count > 1).count();
    assert_eq!(twice, 0, "{arrivals:?}");
}

#[test]
fn refused_tokens_are_waited_out_and_read_anew() {
    let server = Server::start(|received| {
        Reply::status(if received.header("authorization") == "Bearer second-token" { 204 } else { 401 })
    });
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    agent.start(&[]);
    server.wait("refusals", |received| received.iter().filter(|one| one.status == 401).count() >= 2);
    agent.wait_for_log("unauthorized");
    std::fs::write(agent.path("token"), "second-token").expect("token");
    let received = server.wait("acceptance", |received| accepted(received).len() >= 2);
    let refused: BTreeSet<&str> =
        received.iter().filter(|one| one.status == 401).map(|one| one.header("x-ers-batch")).collect();
    let received = server.wait("what was refused", |received| {
        let arrived: BTreeSet<&str> = accepted(received).iter().map(|one| one.header("x-ers-batch")).collect();
        refused.iter().all(|one| arrived.contains(one))
    });
    assert!(received.iter().all(|one| !String::from_utf8_lossy(&one.body).contains("token")));
}

#[test]
fn a_batch_that_is_refused_for_good_is_a_dead_letter_and_holds_nothing_up() {
    let mut first = None;
    let server = Server::start(move |received| {
        let batch = received.header("x-ers-batch").to_owned();
        let is_first = first.get_or_insert(batch.clone()) == &batch;
        if is_first { Reply::status(400).with_body("label \"x\" is bad") } else { Reply::status(204) }
    });
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    agent.start(&[]);
    let received = server.wait("later batches", |received| accepted(received).len() >= 2);
    let refused = received.iter().find(|one| one.status == 400).expect("refused").header("x-ers-batch").to_owned();
    agent.wait_for_log("moved to the dead letters");
    let letter = std::fs::read_to_string(agent.path(&format!("state/dead-letters/{refused}.txt"))).expect("letter");
    assert_eq!(letter, "400 label \"x\" is bad\n");
    assert_eq!(received.iter().filter(|one| one.header("x-ers-batch") == refused).count(), 1);
}

#[test]
fn a_batch_that_is_too_long_is_cut() {
    let server = Server::start(|received| Reply::status(if received.series().len() > 200 { 413 } else { 204 }));
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    agent.start(&[]);
    let received = server.wait("two whole collections in parts", |received| host_times(received).len() >= 2);
    assert!(received.iter().any(|one| one.status == 413));
    assert!(!agent.path("state/dead-letters").exists());
}

#[test]
fn resets_and_rate_limits_are_waited_out() {
    let mut count = 0;
    let server = Server::start(move |_| {
        count += 1;
        match count {
            1 | 3 => Reply::reset(),
            2 => Reply::status(429).with_header("retry-after", "0"),
            4 => Reply::status(500),
            _ => Reply::status(204),
        }
    });
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    agent.start(&[]);
    let received = server.wait("every batch", |received| {
        let tried: BTreeSet<&str> = received.iter().map(|one| one.header("x-ers-batch")).collect();
        let arrived: BTreeSet<&str> = accepted(received).iter().map(|one| one.header("x-ers-batch")).collect();
        arrived.len() >= 3 && tried == arrived
    });
    assert!(received.iter().any(|one| one.status == 429));
}

#[test]
fn the_authority_may_come_late() {
    let server = Server::start(|_| Reply::status(204));
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    let authority = agent.path("ca.crt");
    std::fs::remove_file(&authority).expect("removed");
    agent.start(&[]);
    agent.wait_for_log("is not there yet");
    std::fs::write(&authority, &server.authority).expect("authority");
    server.wait("a batch", |received| !accepted(received).is_empty());
}

#[test]
fn a_stranger_gets_nothing() {
    let server = Server::start(|_| Reply::status(204));
    let other = Server::start(|_| Reply::status(204));
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    std::fs::write(agent.path("ca.crt"), &other.authority).expect("authority");
    agent.start(&[]);
    agent.wait_for_log("tls_failed");
    assert!(server.received().is_empty());
}

#[test]
fn the_end_comes_at_once_even_when_nobody_answers() {
    let server = Server::start(|_| Reply::status(503));
    let mut agent = Agent::prepare(&server, HOST, SPOOL);
    agent.start(&[]);
    server.wait("a try", |received| !received.is_empty());
    let (code, took) = agent.terminate();
    assert_eq!(code, Some(0));
    assert!(took.as_secs() < 5, "{took:?}");
    let (_, said) = agent.spool("ls");
    assert!(!said.starts_with("0 batches wait"), "{said}");
}

#[test]
fn configurations_of_other_versions_are_refused_by_name() {
    let server = Server::start(|_| Reply::status(204));
    let agent = Agent::prepare(&server, HOST, SPOOL);
    let file = agent.path("agent.json");
    let text = std::fs::read_to_string(&file).expect("configuration");
    std::fs::write(&file, text.replace("\"version\": 1", "\"version\": 7")).expect("write");
    let path = file.to_string_lossy();
    for arguments in [vec!["check", "--config", &path], vec!["run", "--config", &path, "--state-dir", "/nonexistent"]] {
        let (succeeded, said) = Agent::ask(&arguments);
        assert!(!succeeded);
        assert!(said.contains("has version 7, this agent reads version 1"), "{said}");
    }
}
