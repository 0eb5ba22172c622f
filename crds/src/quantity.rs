//! Amounts in Kubernetes' notation, and values that may be written as a number or as text.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// An amount such as `500m` (CPU), `64Mi` or `10Gi` (bytes): digits, at most three decimals, and a suffix out of
/// `m k M G T P Ki Mi Gi Ti Pi`. Whole numbers may be written without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Quantity(String);

impl Quantity {
    pub fn new(text: impl Into<String>) -> Self {
        Quantity(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The amount in thousandths of its unit, so that `500m` of CPU is 500 and `1Ki` of bytes is 1,024,000;
    /// `None` if the text is no quantity or does not fit.
    pub fn millis(&self) -> Option<u128> {
        let suffix_at = self.0.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(self.0.len());
        let (number, suffix) = self.0.split_at(suffix_at);
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 18 || decimals.len() > 3 || !all_digits(whole) || !all_digits(decimals) {
            return None;
        }
        let thousandths: u128 = format!("{whole}{decimals:0<3}").parse().ok()?;
        let factor: u128 = match suffix {
            "" => 1,
            "m" => return (decimals.is_empty()).then_some(thousandths / 1000),
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "P" => 1_000_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "Pi" => 1 << 50,
            _ => return None,
        };
        thousandths.checked_mul(factor)
    }

    /// The amount in whole units (bytes, CPUs), rounded up; `None` if it is no quantity or does not fit.
    pub fn units(&self) -> Option<u64> {
        u64::try_from(self.millis()?.div_ceil(1000)).ok()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Quantity(NumberOrText::deserialize(deserializer)?.into_text()))
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maxLength": 24,
            "pattern": "^[0-9]{1,15}(m|(\\.[0-9]{1,3})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?)$",
        })
    }
}

/// A port of a container: its number (1 to 65535) or its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Port(String);

impl Port {
    pub fn new(text: impl Into<String>) -> Self {
        Port(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a number; otherwise it is a name.
    pub fn is_number(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_digit())
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Port(NumberOrText::deserialize(deserializer)?.into_text()))
    }
}

impl JsonSchema for Port {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 1,
            "maximum": 65535,
            "maxLength": 15,
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        })
    }
}

/// How many of a set: a number (`2`) or a share (`10%`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct CountOrPercent(String);

impl CountOrPercent {
    pub fn new(text: impl Into<String>) -> Self {
        CountOrPercent(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for CountOrPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(CountOrPercent(NumberOrText::deserialize(deserializer)?.into_text()))
    }
}

impl JsonSchema for CountOrPercent {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "CountOrPercent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 1,
            "maximum": 10000,
            "maxLength": 5,
            "pattern": "^([1-9][0-9]{0,3}|10000|([1-9][0-9]?|100)%)$",
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl NumberOrText {
    fn into_text(self) -> String {
        match self {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, millis: Option<u128>) {
        assert_eq!(Quantity::new(text).millis(), millis, "{text}");
    }

    #[test]
    fn quantities_are_counted_in_thousandths() {
        check("0", Some(0));
        check("1", Some(1000));
        check("500m", Some(500));
        check("1.5", Some(1500));
        check("1.25Gi", Some(1250 * (1 << 30)));
        check("64Mi", Some(64_000 * (1 << 20)));
        check("2k", Some(2_000_000));
    }

    #[test]
    fn text_that_is_no_quantity_has_no_amount() {
        for text in ["", "Gi", "1.2345", "1Zi", "-1", "1 Gi", "1.5m", "9999999999999999999"] {
            check(text, None);
        }
    }

    #[test]
    fn whole_units_are_rounded_up() {
        assert_eq!(Quantity::new("1500m").units(), Some(2));
        assert_eq!(Quantity::new("1Ki").units(), Some(1024));
    }

    #[test]
    fn numbers_may_be_written_without_quotes() {
        assert_eq!(serde_json::from_str::<Quantity>("2").map(|q| q.0).ok().as_deref(), Some("2"));
        assert_eq!(serde_json::from_str::<Port>("9100").map(|p| p.0).ok().as_deref(), Some("9100"));
    }
}
