//! Prometheus' own test scripts, run against this engine.
//!
//! The scripts lie beside the project, in `shared/data/promqltest`; `ERS_SHARED_DATA` names another place for `shared/data`.
//! What does not pass is listed, with the class of the reason, in `corpus_baseline.txt`. The test fails when an entry is
//! missing, when one passes, when its reason changes, and when a listed case or a script is gone.
//! `ERS_CORPUS_BASELINE=write` writes the list anew.

// Helpers of tests are tests too, which clippy's settings do not see outside of test functions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[path = "corpus/check.rs"]
mod check;
#[path = "corpus/memory.rs"]
mod memory;
#[path = "corpus/notation.rs"]
mod notation;
#[path = "corpus/script.rs"]
mod script;

use ers_promql::Engine;
use memory::Memory;
use script::Command;

/// Scripts of what every user of PromQL relies on.
const CORE: [&str; 13] = [
    "aggregators",
    "at_modifier",
    "collision",
    "functions",
    "histograms",
    "literals",
    "name_label_dropping",
    "operators",
    "range_queries",
    "selectors",
    "staleness",
    "subquery",
    "trig_functions",
];

const HISTOGRAMS: &str = "native histograms";

fn corpus() -> PathBuf {
    let data = match std::env::var_os("ERS_SHARED_DATA") {
        Some(place) => PathBuf::from(place),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    };
    let corpus = data.join("promqltest");
    assert!(
        corpus.is_dir(),
        "{} is missing: put shared/data beside the project, or name its place in ERS_SHARED_DATA",
        corpus.display()
    );
    corpus
}

#[derive(Default)]
struct Tally {
    total: usize,
    passed: usize,
    histograms: usize,
}

struct Outcome {
    /// By case: the class of the reason.
    failures: BTreeMap<String, String>,
    details: BTreeMap<String, String>,
    tallies: BTreeMap<String, Tally>,
}

fn run_corpus() -> Outcome {
    let mut outcome = Outcome { failures: BTreeMap::new(), details: BTreeMap::new(), tallies: BTreeMap::new() };
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(corpus())
        .expect("the corpus can be listed")
        .map(|entry| entry.expect("the corpus can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    scripts.sort();
    for path in scripts {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(&path).expect("a script can be read");
        run_script(&name, &text, &mut outcome);
    }
    outcome
}

fn run_script(name: &str, text: &str, outcome: &mut Outcome) {
    let engine = Engine {
        lookback_ms: 300_000,
        max_samples: 10_000_000,
        default_subquery_step_ms: 60_000,
        type_and_unit_labels: name == "type_and_unit",
        interrupt: None,
    };
    let tally = outcome.tallies.entry(name.to_owned()).or_default();
    let mut memory = Memory::default();
    for command in script::parse(text) {
        match command {
            Command::Clear => memory = Memory::default(),
            Command::Load { with_nhcb, series } => {
                memory.converted |= with_nhcb;
                memory.load(series);
            }
            Command::Eval(eval) => {
                tally.total += 1;
                let Err(failure) = check::run(&eval, &memory, &engine) else {
                    tally.passed += 1;
                    continue;
                };
                tally.histograms += usize::from(failure.class == HISTOGRAMS);
                let case = format!("{name}:{}", eval.line);
                outcome.details.insert(case.clone(), failure.detail);
                outcome.failures.insert(case, failure.class.to_owned());
            }
        }
    }
}

fn print_tallies(tallies: &BTreeMap<String, Tally>) {
    let mut sums = [Tally::default(), Tally::default()];
    for (name, tally) in tallies {
        let Tally { total, passed, histograms } = tally;
        println!("{name:24} {passed:4} of {total:4} pass, {histograms:4} need native histograms");
        let all = &mut sums[usize::from(CORE.contains(&name.as_str()))];
        all.total += total;
        all.passed += passed;
        all.histograms += histograms;
    }
    for (sum, name) in sums.iter().zip(["other scripts", "core scripts"]) {
        let floats = sum.total - sum.histograms;
        println!(
            "{name}: {} of {} pass; of those without native histograms {} of {floats}",
            sum.passed, sum.total, sum.passed
        );
    }
}

fn render(outcome: &Outcome) -> String {
    let mut text = String::from(
        "# Evals of the corpus that do not pass, with the class of the reason. Written by ERS_CORPUS_BASELINE=write.\n\
         # A `total` line says how many evals a script has, so that none can vanish.\n",
    );
    for (name, tally) in &outcome.tallies {
        writeln!(text, "{name}:total\t{}", tally.total).expect("writing to a string");
    }
    for (case, class) in &outcome.failures {
        writeln!(text, "{case}\t{class}").expect("writing to a string");
    }
    text
}

fn parse_baseline(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (case, class) = line.split_once('\t').expect("a line of the baseline is a case, a tab and a class");
            (case.to_owned(), class.to_owned())
        })
        .collect()
}

/// Everything in which the run and the list differ.
fn compare(
    found: &BTreeMap<String, String>,
    listed: &BTreeMap<String, String>,
    details: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (case, class) in found {
        match listed.get(case) {
            Some(known) if known == class => {}
            Some(known) => problems.push(format!("{case}: {known:?} became {class:?}")),
            None => {
                let detail = details.get(case).map_or("", String::as_str);
                problems.push(format!("{case}: new failure, {class}: {detail}"));
            }
        }
    }
    for case in listed.keys().filter(|case| !found.contains_key(*case)) {
        problems.push(format!("{case}: passes now or is gone; write the baseline anew"));
    }
    problems
}

#[test]
fn the_list_fails_closed_in_every_direction() {
    let listed = parse_baseline("# remark\na:total\t3\na:1\terror\na:2\tvalue\n");
    let judge = |text: &str| compare(&parse_baseline(text), &listed, &BTreeMap::new());
    assert!(judge("a:total\t3\na:1\terror\na:2\tvalue\n").is_empty());
    assert_eq!(judge("a:total\t3\na:1\terror\na:2\tvalue\na:3\tvalue\n"), ["a:3: new failure, value: "]);
    assert_eq!(judge("a:total\t3\na:2\tvalue\n"), ["a:1: passes now or is gone; write the baseline anew"]);
    assert_eq!(judge("a:total\t3\na:1\torder\na:2\tvalue\n"), ["a:1: \"error\" became \"order\""]);
    // A case that passed and vanished shows in the total.
    assert_eq!(judge("a:total\t2\na:1\terror\na:2\tvalue\n"), ["a:total: \"3\" became \"2\""]);
}

#[test]
fn the_corpus_passes_but_for_the_listed_cases() {
    let outcome = run_corpus();
    print_tallies(&outcome.tallies);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus_baseline.txt");
    let found = render(&outcome);
    if std::env::var("ERS_CORPUS_BASELINE").is_ok_and(|value| value == "write") {
        std::fs::write(&path, &found).expect("the baseline can be written");
        for (case, detail) in &outcome.details {
            println!("{case}\t{}\t{detail}", outcome.failures[case]);
        }
        return;
    }
    let listed = std::fs::read_to_string(&path).expect("the baseline is part of the repository");
    let problems = compare(&parse_baseline(&found), &parse_baseline(&listed), &outcome.details);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
