//! Tables: what parses and how it prints, and what does not parse, why and where.

use super::{MAX_DEPTH, parse, parse_selector};
use crate::ast::{NodeKind, ValueType};

/// Prints as expected, and what is printed prints the same again.
#[track_caller]
fn prints(text: &str, expect: &str) {
    let printed = parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string();
    assert_eq!(printed, expect);
    let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(again.to_string(), expect);
}

#[track_caller]
fn fails(text: &str, expect: &str) {
    match parse(text) {
        Ok(expr) => panic!("{text} parsed as {expr}"),
        Err(error) => assert_eq!(error.to_string(), expect, "{text}"),
    }
}

#[test]
fn numbers_are_read_as_go_reads_them() {
    prints("0x1F", "31");
    prints("0X_1f", "31");
    prints("010", "8");
    prints("1_000.5", "1000.5");
    prints(".5e-3", "0.0005");
    prints("+inf", "+Inf");
    prints("-Inf", "-Inf");
    prints("NaN", "NaN");
    prints("5m30s", "5m30s");
    prints("-1h", "-1h");
    fails("2.5.", "1:1: parse error: bad number or duration syntax: \"2.5.\"");
    fails("0deadbeef", "1:1: parse error: bad number or duration syntax: \"0de\"");
    fails("1__0", "1:1: parse error: bad number or duration syntax: \"1__\"");
    fails("5hs", "1:1: parse error: unknown unit \"hs\" in duration \"5hs\"");
    fails(
        &"9".repeat(309),
        &format!(
            "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"{}\": value out of range",
            "9".repeat(309)
        ),
    );
}

#[test]
fn operators_bind_as_in_prometheus() {
    prints("1 + 2 * 3 ^ 2", "1 + 2 * 3 ^ 2");
    for (text, outermost) in [("-a ^ b", '-'), ("-a * b", '*'), ("a + b * c", '+'), ("a or b and c", 'o')] {
        let expr = parse(text).unwrap();
        let found = match &expr.root().kind {
            NodeKind::Unary(_) => '-',
            NodeKind::Binary(binary) => binary.op.symbol().chars().next().unwrap(),
            _ => '?',
        };
        assert_eq!(found, outermost, "{text}");
    }
    let right = parse("a ^ b ^ c").unwrap();
    let NodeKind::Binary(power) = &right.root().kind else { panic!("not an operator") };
    assert_eq!((power.lhs.to_string(), power.rhs.to_string()), ("a".to_owned(), "b ^ c".to_owned()));
    prints("foo offset -2^2", "foo offset -2s ^ 2");
}

#[test]
fn selectors_in_all_their_forms() {
    prints("foo", "foo");
    prints("foo{}", "foo");
    prints("{\"metric.name\", a='b'}", "{__name__=\"metric.name\",a=\"b\"}");
    prints("foo{\"a b\"!~`x\"y`,}", "foo{\"a b\"!~\"x\\\"y\"}");
    prints("foo:bar{a=~'b|c'}[5m] offset -1w @ 10", "foo:bar{a=~\"b|c\"}[5m] @ 10.000 offset -1w");
    prints("sum{by='x'}", "sum{by=\"x\"}");
    prints("foo @ start() offset 5m", "foo @ start() offset 5m");
    prints("foo[300] @ -1.5e3", "foo[5m] @ -1500.000");
    prints("foo[5m] anchored", "foo[5m] anchored");
    prints("foo smoothed", "foo smoothed");
    prints("rate(foo[5m])[1h:30s] @ end()", "rate(foo[5m])[1h:30s] @ end()");
    prints("foo[1h:] offset 1d", "foo[1h:] offset 1d");
    prints("foo[step() * 2:max_of(step(), 5s)]", "foo[step() * 2:max_of(step(), 5s)]");
    prints("foo offset -(1h / 2)", "foo offset -(1h / 2)");
    assert_eq!(parse_selector("up{job='x'}").unwrap().len(), 2);
    assert_eq!(parse_selector("up[5m]").unwrap_err().to_string(), "1:3: parse error: unexpected \"[\"");
}

#[test]
fn modifiers_print_in_canonical_form() {
    prints("SUM(foo) BY (a, \"b c\",)", "sum by (a, \"b c\") (foo)");
    prints("count without() (foo)", "count without () (foo)");
    prints("topk(3, foo)", "topk(3, foo)");
    prints("a == bool on(x) group_left(y) b", "a == bool on (x) group_left (y) b");
    prints("a * ignoring(x) group_right b", "a * ignoring (x) group_right () b");
    prints("a + fill(0) b", "a + fill (0) b");
    prints("a + on(x) fill_right(1) fill_left(-2) b", "a + on (x) fill_left (-2) fill_right (1) b");
    prints("fill + fill", "fill + fill");
    prints("a unless on() b", "a unless on () b");
    prints("label_join(x, \"a\\n\", '')", "label_join(x, \"a\\n\", \"\")");
    prints("(1) # a remark\n + 2", "(1) + 2");
}

#[test]
fn errors_name_their_place() {
    fails("", "unknown position: parse error: no expression found in input");
    fails("1 +", "1:4: parse error: unexpected end of input");
    fails("1 +\n  )", "2:4: parse error: unexpected right parenthesis ')'");
    fails("(1", "1:3: parse error: unclosed left parenthesis");
    fails("*1", "1:1: parse error: unexpected <op:*>");
    fails("foo{a=}", "1:7: parse error: unexpected \"}\" in label matching, expected string");
    fails(
        "foo{a b}",
        "1:7: parse error: unexpected identifier \"b\" in label matching, expected label matching operator",
    );
    fails("foo{1}", "1:5: parse error: unexpected character inside braces: '1'");
    fails("foo{a=\"b\"", "1:10: parse error: unexpected end of input inside braces");
    fails("{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    fails("a{__name__=\"b\"}", "1:1: parse error: metric name must not be set twice: \"a\" or \"b\"");
    fails("foo[5m", "1:7: parse error: unclosed left bracket");
    fails(
        "foo[]",
        "1:5: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
    );
    fails("foo[0m]", "1:5: parse error: duration must be greater than 0");
    fails("foo[5m:1m", "1:10: parse error: unclosed left bracket");
    fails("(foo)[5m]", "1:6: parse error: ranges only allowed for vector selectors");
    fails("foo offset 1m[5m]", "1:14: parse error: no offset modifiers allowed before range");
    fails("foo offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times");
    fails(
        "1 offset 1m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    );
    fails(
        "foo offset x",
        "1:12: parse error: unexpected identifier \"x\" in offset, expected number, duration, step(), or range()",
    );
    fails("foo @ x", "1:7: parse error: unexpected identifier \"x\" in @, expected timestamp");
    fails("foo @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times");
    fails("sum(foo bar)", "1:9: parse error: unexpected identifier \"bar\" in aggregation");
    fails("sum by a (foo)", "1:8: parse error: unexpected identifier \"a\" in grouping opts, expected \"(\"");
    fails("sum by (1) (foo)", "1:9: parse error: unexpected number \"1\" in grouping opts, expected label");
    fails("'a\\q'", "1:1: parse error: unknown escape sequence U+0071 'q'");
    fails("\"a", "1:1: parse error: unterminated quoted string");
    fails("a =~ b", "1:3: parse error: unexpected character after '=': '~'");
}

#[test]
fn types_are_checked() {
    fails("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
    fails("sum(foo[5m])", "1:5: parse error: expected type instant vector in aggregation expression, got range vector");
    fails("sum()", "1:1: parse error: no arguments for aggregate expression provided");
    fails(
        "topk(foo)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    fails("count_values(5, foo)", "1:14: parse error: expected type string in aggregation parameter, got scalar");
    fails("floor()", "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 0");
    fails("hour(a, b)", "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2");
    fails("label_replace(a)", "1:1: parse error: expected 5 argument(s) in call to \"label_replace\", got 1");
    fails("no_such(a)", "1:1: parse error: unknown function with name \"no_such\"");
    fails("floor(a,)", "1:8: parse error: trailing commas not allowed in function call args");
    fails("1 == 2", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    fails("1 + bool 2", "1:3: parse error: bool modifier can only be used on comparison operators");
    fails("1 and foo", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    fails("a and on(x) group_left b", "1:1: parse error: no grouping allowed for \"and\" operation");
    fails("a + on(x) group_left(x) b", "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once");
    fails("1 + on(x) b", "1:1: parse error: vector matching only allowed between instant vectors");
    fails("foo[5m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types");
    fails(
        "-foo[5m]",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
    );
    fails("foo[5m][5m:]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead");
    fails("info(a, b)", "1:9: parse error: expected label selectors only, got vector selector instead");
    assert_eq!(parse("time() + 1").unwrap().value_type(), ValueType::Scalar);
}

#[test]
fn nesting_has_a_limit_rather_than_an_end_of_the_stack() {
    let deep = format!("{}1{}", "(".repeat(MAX_DEPTH * 4), ")".repeat(MAX_DEPTH * 4));
    let message = format!("expression is nested deeper than {MAX_DEPTH} levels");
    assert_eq!(parse(&deep).unwrap_err().message, message);
    let long = vec!["a"; MAX_DEPTH * 4].join(" or ");
    assert_eq!(parse(&long).unwrap_err().message, message);
    let minuses = format!("{}1", "-".repeat(MAX_DEPTH * 4));
    assert_eq!(parse(&minuses).unwrap_err().message, message);
    assert!(parse(&vec!["a"; MAX_DEPTH / 2].join(" + ")).is_ok());
    assert!(parse(&" ".repeat(super::MAX_QUERY_BYTES + 1)).is_err());
}

/// A small generator of pseudo-random numbers, so that failures can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            let selector = self.pick(&["foo", "bar{a=\"b\"}", "{__name__=~\"x.*\"}", "{\"u.t\"}", "sum", "a:b"]);
            return format!(
                "{selector}{}",
                self.pick(&["", " offset 5m", " @ 3", " @ end()", " offset -1m @ start()"])
            );
        }
        let inner = self.vector(depth - 1);
        match self.roll(8) {
            0 => format!("{}({inner})", self.pick(&["abs", "sort", "absent", "histogram_count"])),
            1 => format!("{} ({inner})", self.pick(&["sum", "avg by (a)", "max without (b, c)", "count"])),
            2 => format!("-{inner}"),
            3 => format!("({inner})"),
            4 => format!(
                "{}(({inner})[{}])",
                self.pick(&["rate", "max_over_time"]),
                self.pick(&["5m:", "1h:1m", "step():"])
            ),
            5 => format!("topk({}, {inner})", self.pick(&["3", "scalar(foo)", "2 ^ 2"])),
            6 => {
                format!("{inner} {} {}", self.pick(&["+", "*", "^", "== bool", "atan2"]), self.pick(&["2", "-1", "5m"]))
            }
            _ => {
                let other = self.vector(depth - 1);
                let op = self.pick(&[
                    "and",
                    "or",
                    "unless on (a)",
                    "/ ignoring (a) group_left (b)",
                    "< on ()",
                    "- fill (0)",
                ]);
                format!("({inner}) {op} ({other})")
            }
        }
    }
}

#[test]
fn what_is_printed_parses_to_the_same() {
    let mut dice = Dice(7);
    for _ in 0..2000 {
        let depth = dice.roll(5);
        let text = dice.vector(depth);
        let printed = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string();
        let again = parse(&printed).unwrap_or_else(|error| panic!("{text} as {printed}: {error}"));
        assert_eq!(again.to_string(), printed, "{text}");
    }
}

const DAMAGE: &[u8] = b"(){}[],:@\"'`\\-x5#\n\xc3";

#[test]
fn damaged_text_gives_an_error_within_the_text() {
    let mut dice = Dice(11);
    for _ in 0..5000 {
        let depth = dice.roll(4);
        let mut bytes = dice.vector(depth).into_bytes();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(bytes.len());
            match dice.roll(3) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, DAMAGE[dice.roll(DAMAGE.len())]),
                _ => bytes[at] = DAMAGE[dice.roll(DAMAGE.len())],
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Err(error) = parse(&text) {
            assert!(error.span.start <= text.len() && error.span.end <= text.len(), "{text}: {error:?}");
            assert!(!error.message.is_empty());
        }
    }
}
