//! Strings with rules: each type writes the schema of its fields, so that a rule stands in one place.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Defines a string type whose schema carries a longest length in bytes and, where given, a pattern.
macro_rules! ruled_string {
    ($(#[$doc:meta])* $name:ident, max = $max:literal, pattern = $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub const MAX_LENGTH: usize = $max;
            pub const PATTERN: &'static str = $pattern;

            /// Takes the text as it is; the schema judges it.
            pub fn new(text: impl Into<String>) -> Self {
                $name(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.to_string())
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "minLength": 1, "maxLength": $max, "pattern": $pattern})
            }
        }
    };
}

ruled_string!(
    /// Name of an entry of a list in a spec: an RFC 1123 label.
    EntryName,
    max = 63,
    pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
);
ruled_string!(
    /// Name of an object in the same namespace: an RFC 1123 subdomain.
    ObjectName,
    max = 253,
    pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
);
ruled_string!(
    /// Key of a Secret.
    SecretKey,
    max = 253,
    pattern = "^[-._a-zA-Z0-9]+$"
);
ruled_string!(
    /// Key of a label or a taint, with its optional prefix: `kubernetes.io/os`.
    LabelKey,
    max = 317,
    pattern = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
);
ruled_string!(
    /// An absolute path of HTTP, with its query: `/metrics?format=text`.
    HttpPath,
    max = 1024,
    pattern = "^/[!-~]*$"
);

/// Value of a label; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabelValue(String);

impl LabelValue {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for LabelValue {
    fn from(text: &str) -> Self {
        LabelValue(text.to_string())
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for LabelValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "LabelValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"})
    }
}
