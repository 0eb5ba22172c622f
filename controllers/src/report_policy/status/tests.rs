use ers_crds::ReportPolicySpec;
use ers_crds::conditions::{ConditionUpdate, find};

use super::*;
use crate::child::{Applied, Prepared, Resources};

const MINUTE: i64 = 60_000;

/// What a round found, and what the status said before; each test changes what it is about.
struct Round {
    before: ReportPolicyStatus,
    verdict: Verdict,
    state: Option<ManagementState>,
    in_force: Option<i64>,
    outcome: Outcome,
    ready: i32,
    proof: Result<(), String>,
    gone_since_ms: Option<i64>,
    now_ms: i64,
}

fn applied() -> Resources<Applied> {
    Resources::<Prepared>::new(Vec::new(), "hash".to_owned()).applied()
}

impl Default for Round {
    fn default() -> Self {
        Round {
            before: ReportPolicyStatus::default(),
            verdict: Verdict::Accepted,
            state: Some(ManagementState::Managed),
            in_force: Some(2),
            outcome: Outcome::Done(applied()),
            ready: 1,
            proof: Ok(()),
            gone_since_ms: None,
            now_ms: MINUTE,
        }
    }
}

impl Round {
    fn compute(self) -> (ReportPolicyStatus, Option<i64>) {
        let Round { before, verdict, state, in_force, outcome, ready, proof, gone_since_ms, now_ms } = self;
        let workload = Workload { observed: true, desired: 1, updated: 1, ready, config_hash: Some("hash".to_owned()) };
        compute(&Input {
            key: &Key::new("demo", "reporting"),
            generation: 2,
            before: &before,
            judged: &Judged { verdict, state, in_force_generation: in_force, outcome },
            found: &Found::default(),
            workload: Some(&workload),
            proof,
            progress_since_ms: 0,
            gone_since_ms,
            now_ms,
        })
    }

    #[track_caller]
    fn check(self, expect: [(&str, ConditionStatus, &str); 4]) -> (ReportPolicyStatus, Option<i64>) {
        let (status, next) = self.compute();
        for (type_, wanted, reason) in expect {
            let condition = find(&status.conditions, type_).expect("set on every visit");
            assert_eq!(
                (condition.status, condition.reason.as_str()),
                (wanted, reason),
                "{type_}: {}",
                condition.message
            );
            assert_eq!(condition.observed_generation, Some(2), "{type_}");
        }
        assert_eq!(status.observed_generation, Some(2));
        (status, next)
    }
}

use ConditionStatus::{False, True, Unknown};

/// A status in which generation 2 was proven.
fn proven_before() -> ReportPolicyStatus {
    Round::default().compute().0
}

/// A status in which generation 1 was proven.
fn generation_1() -> ReportPolicyStatus {
    let mut status = proven_before();
    for condition in &mut status.conditions {
        condition.observed_generation = Some(1);
    }
    ReportPolicyStatus { observed_generation: Some(1), active_generation: Some(1), ..status }
}

#[test]
fn proven_is_ready_and_asks_nothing_more() {
    let (status, next) = Round::default().check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", False, "AsExpected"),
        ("Ready", True, "Proven"),
    ]);
    assert_eq!(status.active_generation, Some(2));
    assert_eq!(next, None, "no timer at rest");
}

#[test]
fn the_second_round_says_exactly_the_same() {
    let first = proven_before();
    let second =
        Round { before: first.clone(), proof: Err("not asked".into()), now_ms: 99 * MINUTE, ..Round::default() };
    let (second, next) = second.compute();
    assert_eq!(second, first);
    assert_eq!(next, None);
}

#[test]
fn without_proof_it_is_progressing_and_asks_again() {
    let round = Round { proof: Err("no answer".into()), ready: 0, ..Round::default() };
    let (_, next) = round.check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", False, "AsExpected"),
        ("Ready", Unknown, "Progressing"),
    ]);
    assert_eq!(next, Some(15_000), "later and later: a quarter of the time so far");
}

#[test]
fn after_ten_minutes_without_proof_it_is_not_ready_and_asks_seldom() {
    let round = Round { proof: Err("no answer".into()), now_ms: 10 * MINUTE, ..Round::default() };
    let (_, next) = round.check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", False, "AsExpected"),
        ("Ready", False, "ProgressDeadlineExceeded"),
    ]);
    assert_eq!(next, Some(LAST_QUESTION_MS));
}

#[test]
fn a_new_generation_has_to_be_proven_anew() {
    let round = Round { before: generation_1(), proof: Err("old pods".into()), ..Round::default() };
    let (status, _) = round.check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", False, "AsExpected"),
        ("Ready", Unknown, "Progressing"),
    ]);
    assert_eq!(status.active_generation, Some(2));
}

#[test]
fn a_bad_edit_leaves_the_generation_before_in_force_and_says_so() {
    let refusal = Refusal::new(reasons::INVALID, "spec.x: broken");
    let round = Round {
        before: generation_1(),
        verdict: Verdict::Refused(refusal),
        state: None,
        in_force: Some(1),
        ..Round::default()
    };
    let (status, next) = round.check([
        ("Accepted", False, "Invalid"),
        ("Programmed", False, "PreviousGenerationInForce"),
        ("Degraded", True, "PreviousGenerationInForce"),
        ("Ready", False, "Invalid"),
    ]);
    assert_eq!(status.active_generation, Some(1));
    assert_eq!(next, None, "nothing to wait for but another edit");
}

#[test]
fn a_policy_that_was_never_good_has_nothing_in_force() {
    let refusal = Refusal::new(reasons::POLICY_CONFLICT, "another one serves");
    let round = Round {
        verdict: Verdict::Refused(refusal),
        state: None,
        in_force: None,
        outcome: Outcome::Untouched,
        ..Round::default()
    };
    let (status, _) = round.check([
        ("Accepted", False, "PolicyConflict"),
        ("Programmed", Unknown, "Pending"),
        ("Degraded", False, "AsExpected"),
        ("Ready", False, "PolicyConflict"),
    ]);
    assert_eq!((status.active_generation, status.endpoints), (None, None));
}

#[test]
fn a_failed_write_is_told_and_the_old_generation_stays_active() {
    let outcome = Outcome::Failed { message: "no right".into() };
    let round = Round { before: generation_1(), outcome, proof: Err("no right".into()), ..Round::default() };
    let (status, _) = round.check([
        ("Accepted", True, "Valid"),
        ("Programmed", False, "ApplyFailed"),
        ("Degraded", False, "AsExpected"),
        ("Ready", Unknown, "Progressing"),
    ]);
    assert_eq!(status.active_generation, Some(1));
}

#[test]
fn a_server_that_is_gone_is_degraded_at_once_and_not_ready_after_five_minutes() {
    let gone = |now_ms| Round { before: proven_before(), ready: 0, gone_since_ms: Some(0), now_ms, ..Round::default() };
    let (_, next) = gone(MINUTE).check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", True, "WorkloadUnavailable"),
        ("Ready", True, "Proven"),
    ]);
    assert_eq!(next, Some(4 * MINUTE));
    let (lost, next) = gone(5 * MINUTE).check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", True, "WorkloadUnavailable"),
        ("Ready", False, "WorkloadUnavailable"),
    ]);
    assert_eq!(next, None);
    let back = Round { before: lost, now_ms: 9 * MINUTE, proof: Err("not asked".into()), ..Round::default() };
    back.check([
        ("Accepted", True, "Valid"),
        ("Programmed", True, "Applied"),
        ("Degraded", False, "AsExpected"),
        ("Ready", True, "Proven"),
    ]);
}

#[test]
fn suspended_and_dry_run_are_ready_with_that_reason() {
    let suspended = Round {
        before: generation_1(),
        state: Some(ManagementState::Suspended),
        outcome: Outcome::Untouched,
        ..Round::default()
    };
    let (status, next) = suspended.check([
        ("Accepted", True, "Valid"),
        ("Programmed", Unknown, "Suspended"),
        ("Degraded", False, "AsExpected"),
        ("Ready", True, "Suspended"),
    ]);
    assert_eq!((status.active_generation, next), (Some(1), None));
    let dry = Round {
        state: Some(ManagementState::DryRun),
        outcome: Outcome::DryRun(vec!["create Service x".into()]),
        ..Round::default()
    };
    let (status, _) = dry.check([
        ("Accepted", True, "Valid"),
        ("Programmed", Unknown, "DryRun"),
        ("Degraded", False, "AsExpected"),
        ("Ready", True, "DryRun"),
    ]);
    assert_eq!(status.active_generation, None);
}

#[test]
fn conditions_of_the_server_are_not_the_operators_to_write() {
    let mut before = ReportPolicyStatus::default();
    let loaded = ConditionUpdate::new(types::LOADED, True, reasons::LOADED, "", 2);
    conditions::set(&mut before.conditions, loaded, 0);
    let (status, _) = Round { before, ..Round::default() }.compute();
    assert_eq!(status.conditions.len(), 4);
    assert!(find(&status.conditions, types::LOADED).is_none());
    let _ = ReportPolicySpec::default();
}
