use ConditionStatus::{False, True, Unknown};
use ers_crds::conditions::find;

use super::*;
use crate::child::{Applied, Prepared, Resources};

const MINUTE: i64 = 60_000;

/// What a round found, and what the status said before; each test changes what it is about.
struct Round {
    before: CollectorTargetStatus,
    verdict: Verdict,
    state: Option<ManagementState>,
    in_force: Option<i64>,
    outcome: Outcome,
    fleet: Fleet,
    workload: Option<Workload>,
    proof: Result<(&'static str, String), String>,
    gone_since_ms: Option<i64>,
    now_ms: i64,
}

fn applied() -> Resources<Applied> {
    Resources::<Prepared>::new(Vec::new(), "hash".to_owned()).applied()
}

fn workload(ready: i32) -> Option<Workload> {
    Some(Workload { observed: true, desired: 3, updated: 3, ready, config_hash: Some("hash".to_owned()) })
}

fn in_force(generation: i64) -> InForce {
    let spec: ers_crds::CollectorTargetSpec = serde_json::from_value(json!({
        "type": "Node", "node": {"sources": [{"name": "host", "kind": "HostMetrics"}]},
    }))
    .expect("spec");
    let target = ers_crds::validate::collector_target(&CollectorTarget::new("t", spec.clone()), None).expect("valid");
    InForce { target, spec, policy: "p".to_owned(), generation }
}

impl Default for Round {
    fn default() -> Self {
        Round {
            before: CollectorTargetStatus::default(),
            verdict: Verdict::Accepted,
            state: Some(ManagementState::Managed),
            in_force: Some(2),
            outcome: Outcome::Done(applied()),
            fleet: Fleet { matching: 3, ready: 3, settled: vec!["a".into()], next_settles_ms: Some(20_000) },
            workload: workload(3),
            proof: Ok((reasons::PROVEN, "all".to_owned())),
            gone_since_ms: None,
            now_ms: MINUTE,
        }
    }
}

impl Round {
    fn compute(self) -> (CollectorTargetStatus, Option<i64>) {
        let Round {
            before,
            verdict,
            state,
            in_force: generation,
            outcome,
            fleet,
            workload,
            proof,
            gone_since_ms,
            now_ms,
        } = self;
        compute(&Input {
            generation: 2,
            before: &before,
            judged: &Judged { verdict, state, in_force: generation.map(in_force), outcome },
            fleet: Some(&fleet),
            workload: workload.as_ref(),
            proof,
            progress_since_ms: 0,
            gone_since_ms,
            now_ms,
        })
    }

    #[track_caller]
    fn check(self, expect: [(&str, ConditionStatus, &str); 4]) -> (CollectorTargetStatus, Option<i64>) {
        let (status, next) = self.compute();
        for (type_, wanted, reason) in expect {
            let condition = find(&status.conditions, type_).expect("set on every visit");
            assert_eq!(
                (condition.status, condition.reason.as_str()),
                (wanted, reason),
                "{type_}: {}",
                condition.message
            );
        }
        assert_eq!(status.observed_generation, Some(2));
        (status, next)
    }
}

fn proven_before() -> CollectorTargetStatus {
    Round::default().compute().0
}

fn generation_1() -> CollectorTargetStatus {
    let mut status = proven_before();
    for condition in &mut status.conditions {
        condition.observed_generation = Some(1);
    }
    CollectorTargetStatus {
        observed_generation: Some(1),
        active_generation: Some(1),
        config_hash: Some("old".to_owned()),
        ..status
    }
}

#[test]
fn a_proven_target_counts_its_agents_and_needs_no_timer() {
    let (status, next) = Round::default().check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", False, "AsExpected"),
        ("Ready", True, "Proven"),
    ]);
    assert_eq!(status.collectors.map(|counts| counts.ready_of_desired).as_deref(), Some("3/3"));
    assert_eq!((status.config_hash.as_deref(), status.active_generation, next), (Some("hash"), Some(2), None));
}

#[test]
fn the_second_round_says_exactly_the_same() {
    let first = proven_before();
    let second =
        Round { before: first.clone(), proof: Err("not asked".into()), now_ms: 99 * MINUTE, ..Round::default() };
    let (second, next) = second.compute();
    assert_eq!((second, next), (first, None));
}

#[test]
fn while_it_is_not_proven_only_a_nodes_minute_or_the_deadline_wakes_it() {
    let waiting = |now_ms| Round { proof: Err("2 of 3".into()), workload: workload(2), now_ms, ..Round::default() };
    let expect = [
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", False, "AsExpected"),
        ("Ready", Unknown, "Progressing"),
    ];
    assert_eq!(waiting(MINUTE).check(expect).1, Some(20_000));
    assert_eq!(waiting(10 * MINUTE - 1).check(expect).1, Some(1));
}

#[test]
fn a_reference_that_is_gone_waits_and_the_generation_before_runs_on() {
    let verdict = Verdict::Waiting { reason: reasons::REF_NOT_FOUND, message: "absent".to_owned() };
    let round = Round { before: generation_1(), verdict, state: None, in_force: Some(1), ..Round::default() };
    let (status, next) = round.check([
        ("Accepted", Unknown, "RefNotFound"),
        ("Programmed", False, "PreviousGenerationInForce"),
        ("Degraded", True, "PreviousGenerationInForce"),
        ("Ready", Unknown, "Progressing"),
    ]);
    assert_eq!(status.active_generation, Some(1));
    assert_eq!(next, Some(9 * MINUTE));
}

#[test]
fn a_permission_that_is_gone_leaves_nothing_in_force() {
    let refusal = Refusal { revokes: true, ..Refusal::new(reasons::NAMESPACE_NOT_ALLOWED, "label") };
    let round = Round {
        before: generation_1(),
        verdict: Verdict::Refused(refusal),
        state: None,
        in_force: None,
        outcome: Outcome::Revoked,
        workload: None,
        ..Round::default()
    };
    let (status, next) = round.check([
        ("Accepted", False, "NamespaceNotAllowed"),
        ("Programmed", Unknown, "Pending"),
        ("Degraded", False, "AsExpected"),
        ("Ready", False, "NamespaceNotAllowed"),
    ]);
    assert_eq!((status.active_generation, status.config_hash, status.collectors, next), (None, None, None, None));
}

#[test]
fn agents_that_are_missing_degrade_a_proven_target_and_losing_all_makes_it_not_ready() {
    let some = Round { before: proven_before(), workload: workload(2), ..Round::default() };
    some.check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", True, "PodsNotReady"),
        ("Ready", True, "Proven"),
    ]);
    let all = |now_ms| Round {
        before: proven_before(),
        workload: workload(0),
        gone_since_ms: Some(0),
        now_ms,
        ..Round::default()
    };
    let (_, next) = all(MINUTE).check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", True, "WorkloadUnavailable"),
        ("Ready", True, "Proven"),
    ]);
    assert_eq!(next, Some(4 * MINUTE));
    all(5 * MINUTE).check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", True, "WorkloadUnavailable"),
        ("Ready", False, "WorkloadUnavailable"),
    ]);
}

#[test]
fn no_matching_node_is_ready_with_that_reason() {
    let round = Round {
        fleet: Fleet::default(),
        workload: Some(Workload { observed: true, ..Workload::default() }),
        proof: Ok((reasons::NO_MATCHING_NODES, "no node matches".to_owned())),
        ..Round::default()
    };
    let (status, next) = round.check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", False, "AsExpected"),
        ("Ready", True, "NoMatchingNodes"),
    ]);
    assert_eq!(status.collectors.map(|counts| counts.ready_of_desired).as_deref(), Some("0/0"));
    assert_eq!(next, None);
}
