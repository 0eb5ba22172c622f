//! The test scripts: `load`, `clear` and `eval` with their expectations.

use ers_model::Labels;
use ers_promql::duration::parse_duration;
use regex::Regex;

use super::notation::{Entry, parse_labels, parse_series};

#[derive(Debug)]
pub enum Command {
    Clear,
    Load { with_nhcb: bool, series: Vec<LoadedSeries> },
    Eval(Box<Eval>),
}

#[derive(Debug)]
pub struct LoadedSeries {
    pub labels: Labels,
    /// Time in milliseconds and value; none stands for a native histogram.
    pub samples: Vec<(i64, Option<f64>)>,
    pub has_start_times: bool,
}

#[derive(Debug)]
pub enum Text {
    Exact(String),
    Pattern(Regex),
    Any,
}

impl Text {
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Text::Exact(exact) => exact == text,
            Text::Pattern(pattern) => pattern.is_match(text),
            Text::Any => true,
        }
    }
}

#[derive(Debug)]
pub struct Eval {
    pub line: usize,
    pub expr: String,
    pub start: i64,
    pub end: i64,
    /// Zero for an instant query.
    pub step: i64,
    pub fail: Option<Text>,
    pub warn: Vec<Text>,
    pub info: Vec<Text>,
    pub no_warn: bool,
    pub no_info: bool,
    pub ordered: bool,
    pub string: Option<String>,
    /// Times of an expected range vector of an instant query.
    pub matrix: Option<(i64, i64, i64)>,
    pub scalar: Option<f64>,
    pub series: Vec<(Labels, Vec<Entry>)>,
}

impl Eval {
    pub fn is_range(&self) -> bool {
        self.step != 0
    }

    pub fn expects_histograms(&self) -> bool {
        self.series.iter().flat_map(|(_, entries)| entries).any(|entry| matches!(entry, Entry::Histogram))
    }
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the runner's own patterns are valid")
}

fn duration(text: &str) -> i64 {
    parse_duration(text).unwrap_or_else(|error| panic!("time {text:?}: {error}"))
}

pub fn parse(text: &str) -> Vec<Command> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let first = at;
        at += 1;
        let line = lines[first];
        if line.is_empty() {
            continue;
        }
        let word = line.split_whitespace().next().unwrap_or("").to_lowercase();
        if word == "clear" {
            commands.push(Command::Clear);
            continue;
        }
        while at < lines.len() && !lines[at].is_empty() {
            at += 1;
        }
        let block = &lines[first + 1..at];
        if word.starts_with("load") {
            commands.push(load(line, block));
        } else {
            assert!(word.starts_with("eval"), "line {}: invalid command {line:?}", first + 1);
            let (eval, used) = eval(first + 1, line, block);
            commands.push(Command::Eval(Box::new(eval)));
            // What follows an expected scalar is a command of its own.
            at = first + 1 + used;
        }
    }
    commands
}

fn load(line: &str, block: &[&str]) -> Command {
    let found = pattern(r"^load(?:_(\w+))?\s+(.+?)$").captures(line).expect("a load command names its step");
    let step = duration(&found[2]);
    let mut series: Vec<LoadedSeries> = Vec::new();
    let mut has_start_times = false;
    for definition in block {
        if definition.split_whitespace().next().is_some_and(|word| word.ends_with("@st"))
            || definition.contains("}@st ")
        {
            has_start_times = true;
            continue;
        }
        let (labels, entries) = parse_series(definition);
        let mut samples = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let time = index as i64 * step;
            match entry {
                Entry::Omitted => {}
                Entry::Float(value) => samples.push((time, Some(value))),
                Entry::Histogram => samples.push((time, None)),
            }
        }
        // Within one load the last definition of a series counts.
        series.retain(|known| known.labels != labels);
        series.push(LoadedSeries { labels, samples, has_start_times });
        has_start_times = false;
    }
    Command::Load { with_nhcb: found.get(1).is_some_and(|suffix| suffix.as_str() == "with_nhcb"), series }
}

fn eval(number: usize, line: &str, block: &[&str]) -> (Eval, usize) {
    let instant = pattern(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$");
    let range = pattern(r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$");
    let (mode, expr, start, end, step) = if let Some(found) = instant.captures(line) {
        let at = duration(&found[2]);
        (found.get(1).map(|mode| mode.as_str().to_owned()), found[3].to_owned(), at, at, 0)
    } else {
        let found = range.captures(line).unwrap_or_else(|| panic!("line {number}: invalid eval {line:?}"));
        let mode = found.get(1).map(|mode| mode.as_str().to_owned());
        (mode, found[5].to_owned(), duration(&found[2]), duration(&found[3]), duration(&found[4]))
    };
    let mut eval = Eval {
        line: number,
        expr,
        start,
        end,
        step,
        fail: None,
        warn: Vec::new(),
        info: Vec::new(),
        no_warn: false,
        no_info: false,
        ordered: false,
        string: None,
        matrix: None,
        scalar: None,
        series: Vec::new(),
    };
    match mode.as_deref() {
        Some("fail") => eval.fail = Some(Text::Any),
        Some("warn") => eval.warn.push(Text::Any),
        Some("info") => eval.info.push(Text::Any),
        Some("ordered") => eval.ordered = true,
        _ => {}
    }
    for (index, definition) in block.iter().enumerate() {
        if let Some(message) = definition.strip_prefix("expected_fail_message") {
            eval.fail = Some(Text::Exact(message.trim().to_owned()));
        } else if let Some(message) = definition.strip_prefix("expected_fail_regexp") {
            eval.fail = Some(Text::Pattern(pattern(message.trim())));
        } else if definition.split(' ').next() == Some("expect") {
            expectation(&mut eval, definition);
        } else if let Some(value) = super::notation::parse_number(definition) {
            eval.scalar = Some(value);
            return (eval, index + 1);
        } else {
            eval.series.push(parse_series(definition));
        }
    }
    (eval, block.len())
}

fn expectation(eval: &mut Eval, line: &str) {
    let vector = pattern(r"^expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$");
    if let Some(found) = vector.captures(line) {
        eval.matrix = Some((duration(&found[1]), duration(&found[2]), duration(&found[3])));
        return;
    }
    if let Some(literal) = line.strip_prefix("expect string ") {
        eval.string = Some(parse_labels(&format!("{{a={literal}}}")).get("a").unwrap_or("").to_owned());
        return;
    }
    let found = pattern(r"^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$")
        .captures(line)
        .unwrap_or_else(|| panic!("invalid expectation {line:?}"));
    let text = match (found.get(2).map(|kind| kind.as_str()), found.get(3)) {
        (Some("msg"), Some(text)) => Text::Exact(text.as_str().trim().to_owned()),
        (Some(_), Some(text)) => Text::Pattern(pattern(text.as_str().trim())),
        _ => Text::Any,
    };
    match &found[1] {
        "ordered" => eval.ordered = true,
        "fail" => eval.fail = Some(text),
        "warn" => eval.warn.push(text),
        "info" => eval.info.push(text),
        "no_warn" => eval.no_warn = true,
        _ => eval.no_info = true,
    }
}
