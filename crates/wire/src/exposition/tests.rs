use super::*;
use proptest::prelude::*;

fn parse(body: &[u8], format: Format) -> Result<Vec<String>, ParseError> {
    let mut parser = Parser::new(body, format, Limits { max_line_bytes: 200, max_labels: 3 })?;
    let mut out = Vec::new();
    while let Some(entry) = parser.next_entry()? {
        out.push(match entry {
            Entry::Sample(sample) => {
                let labels: Vec<String> =
                    parse_series(sample.series).map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} -> {} @{:?}", labels.join("|"), sample.value, sample.timestamp_ms)
            }
            Entry::Type { name, kind } => format!("TYPE {name} {}", kind.as_str()),
            Entry::Help { name, text } => format!("HELP {name} {text}"),
            Entry::Unit { name, unit } => format!("UNIT {name} {unit}"),
        });
    }
    Ok(out)
}

#[track_caller]
fn check(body: &str, expect: &[&str]) {
    assert_eq!(parse(body.as_bytes(), Format::Text).expect(body), expect);
}

#[track_caller]
fn check_error(body: &[u8], format: Format, expect: &str) {
    let error = parse(body, format).expect_err("must be refused");
    assert_eq!(error.to_string(), expect);
}

#[test]
fn samples_with_and_without_labels_are_read() {
    check("up 1\n", &["__name__=up -> 1 @None"]);
    check("up{} 1\n", &["__name__=up -> 1 @None"]);
    check("  up\t{ a = \"b\" , c=\"\" , } 1.5e3 1700\n", &["__name__=up|a=b|c= -> 1500 @Some(1700)"]);
    check("a{b=\"x\\\\y\\\"z\\n{},\"} NaN\r\n", &["__name__=a|b=x\\y\"z\n{}, -> NaN @None"]);
    check(
        "a +Inf\nb -Inf\nc -3\nd 0x1p\n".split("d ").next().expect("head"),
        &["__name__=a -> inf @None", "__name__=b -> -inf @None", "__name__=c -> -3 @None"],
    );
}

#[test]
fn names_in_quotes_are_read() {
    check("{\"my.metric\", \"a.b\"=\"c\"} 1\n", &["__name__=my.metric|a.b=c -> 1 @None"]);
}

#[test]
fn metadata_is_read_and_comments_are_skipped() {
    check(
        "# HELP a some  text \n#\tTYPE a counter\n# a comment\n#TYPE b untyped\n\na 1\n",
        &["HELP a some  text", "TYPE a counter", "TYPE b untyped", "__name__=a -> 1 @None"],
    );
}

#[test]
fn openmetrics_has_an_end_seconds_and_exemplars() {
    let body = b"# TYPE a counter\n# UNIT a bytes\na_total 3 1.5 # {trace=\"x\"} 1\n# EOF\n";
    let entries = parse(body, Format::OpenMetrics).expect("valid");
    assert_eq!(entries, ["TYPE a counter", "UNIT a bytes", "__name__=a_total -> 3 @Some(1500)"]);
    check_error(b"a 1\n", Format::OpenMetrics, "line 2, column 1: the body does not end in '# EOF'");
    check_error(b"# EOF\na 1\n", Format::OpenMetrics, "line 2, column 1: text after '# EOF'");
    check_error(b"\n# EOF\n", Format::OpenMetrics, "line 1, column 1: blank lines are not allowed in OpenMetrics");
}

#[test]
fn errors_name_their_line_and_column() {
    let text = Format::Text;
    check_error(b"up 1\n{} 2\n", text, "line 2, column 1: expected a metric name");
    check_error(b"up{1=\"a\"} 2\n", text, "line 1, column 4: expected a label name");
    check_error(b"up{a \"b\"} 2\n", text, "line 1, column 6: expected '=' after the label name");
    check_error(b"up{a=b} 2\n", text, "line 1, column 6: expected a value in double quotes");
    check_error(b"up{a=\"b} 2\n", text, "line 1, column 6: the quoted value does not end on its line");
    check_error(b"up{a=\"\\x\"} 2\n", text, "line 1, column 7: unknown escape: only \\\\, \\\" and \\n are allowed");
    check_error(b"up{a=\"b\";} 2\n", text, "line 1, column 9: expected ',' or '}'");
    check_error(b"up{a=\"b\",a=\"c\"} 2\n", text, "line 1, column 10: the label occurs twice");
    check_error(b"up\n", text, "line 1, column 3: expected a space before the value");
    check_error(b"up one\n", text, "line 1, column 4: expected a number");
    check_error(b"up 1 later\n", text, "line 1, column 6: expected a timestamp");
    check_error(b"up 1 2 3\n", text, "line 1, column 8: unexpected text after the sample");
    check_error(b"# TYPE up meter\n", text, "line 1, column 11: unknown metric type");
    check_error(b"up 1", text, "line 1, column 5: the last line has no line break");
    check_error(b"up 1\na{b=\"\xff\"} 1\n", text, "line 2, column 6: not valid UTF-8");
}

#[test]
fn limits_are_refusals_with_their_number() {
    let long = format!("a{{b=\"{}\"}} 1\n", "x".repeat(300));
    check_error(long.as_bytes(), Format::Text, "line 1, column 1: the line is longer than 200 bytes");
    check_error(
        b"a{b=\"\",c=\"\",d=\"\",e=\"\"} 1\n",
        Format::Text,
        "line 1, column 18: the series has more than 3 labels",
    );
}

#[test]
fn numbers_are_printed_as_exporters_print_them() {
    for (value, expect) in [
        (1_418_183_276.0, "1.418183276e+09"),
        (10870.69, "10870.69"),
        (65536.0, "65536"),
        (1e6, "1e+06"),
        (999_999.0, "999999"),
        (14.036781000000001, "14.036781000000001"),
        (2.045936778163039e6, "2.045936778163039e+06"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (-2.5, "-2.5"),
        (0.0, "0"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
    ] {
        let mut out = String::new();
        format_value(&mut out, value);
        assert_eq!(out, expect);
    }
}

#[test]
fn content_types_choose_the_format() {
    assert_eq!(Format::from_content_type("application/openmetrics-text; version=1.0.0"), Format::OpenMetrics);
    assert_eq!(Format::from_content_type("text/plain; version=0.0.4"), Format::Text);
    assert_eq!(Format::from_content_type(""), Format::Text);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300), open in any::<bool>()) {
        let format = if open { Format::OpenMetrics } else { Format::Text };
        let _ = parse(&body, format);
    }

    #[test]
    fn nearly_valid_text_never_panics(body in "[a{}=\"\\\\,# \\n1.eE+NTYPUIHL-]{0,120}") {
        for format in [Format::Text, Format::OpenMetrics] {
            if let Err(error) = parse(body.as_bytes(), format) {
                let lines: Vec<&str> = body.split('\n').collect();
                prop_assert!(error.line <= lines.len());
                prop_assert!(error.column <= lines[error.line - 1].len() + 1);
            }
        }
        let _ = parse_series(&body).count();
    }

    #[test]
    fn what_is_written_is_read_back(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,10}",
        label in "[a-zA-Z_][a-zA-Z0-9_]{0,6}",
        value in "[^\\r]{0,20}",
        number in any::<f64>(),
        at in proptest::option::of(any::<i64>()),
    ) {
        prop_assume!(label != "__name__");
        let mut body = String::new();
        Writer::new(&mut body).sample(&name, [(label.as_str(), value.as_str())], number, at);
        let mut parser = Parser::new(body.as_bytes(), Format::Text, Limits::default()).expect("utf-8");
        let Some(Entry::Sample(sample)) = parser.next_entry().expect("valid") else {
            return Err(TestCaseError::fail("no sample"));
        };
        let labels: Vec<(String, String)> =
            parse_series(sample.series).map(|(key, text)| (key.into_owned(), text.into_owned())).collect();
        prop_assert_eq!(labels, vec![("__name__".to_owned(), name), (label, value)]);
        prop_assert!(sample.value == number || (sample.value.is_nan() && number.is_nan()));
        prop_assert_eq!(sample.timestamp_ms, at);
    }
}
