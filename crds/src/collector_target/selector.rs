//! Which pods, in the shape of `metav1.LabelSelector`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::strings::{LabelKey, LabelValue};

/// Pods by their labels; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// Labels with the values that a pod must have. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: BTreeMap<String, LabelValue>,
    /// Further conditions on labels. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<MatchExpression>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0")
    .message("values are required for In and NotIn, and forbidden for Exists and DoesNotExist [selector-values-match-operator]")
    .field_path(".values"))]
pub struct MatchExpression {
    /// Key of the label.
    pub key: LabelKey,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: SelectorOperator,
    /// Values for `In` and `NotIn`. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub values: Vec<LabelValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectorOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl PodSelector {
    /// The selector in the API's query notation: `app=web,tier in (a,b),!canary`; empty selects everything.
    /// Equal selectors give equal text.
    pub fn to_query(&self) -> String {
        let mut terms: Vec<String> = self.match_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        for MatchExpression { key, operator, values } in &self.match_expressions {
            let mut sorted: Vec<&str> = values.iter().map(LabelValue::as_str).collect();
            sorted.sort_unstable();
            sorted.dedup();
            let list = sorted.join(",");
            terms.push(match operator {
                SelectorOperator::In => format!("{key} in ({list})"),
                SelectorOperator::NotIn => format!("{key} notin ({list})"),
                SelectorOperator::Exists => key.to_string(),
                SelectorOperator::DoesNotExist => format!("!{key}"),
            });
        }
        terms.sort_unstable();
        terms.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(key: &str, operator: SelectorOperator, values: &[&str]) -> MatchExpression {
        MatchExpression { key: key.into(), operator, values: values.iter().map(|value| (*value).into()).collect() }
    }

    #[test]
    fn a_selector_is_written_in_the_notation_of_the_api() {
        let selector = PodSelector {
            match_labels: BTreeMap::from([("app".to_string(), "web".into())]),
            match_expressions: vec![
                expression("tier", SelectorOperator::In, &["b", "a", "b"]),
                expression("canary", SelectorOperator::DoesNotExist, &[]),
                expression("team", SelectorOperator::Exists, &[]),
                expression("zone", SelectorOperator::NotIn, &["x"]),
            ],
        };
        assert_eq!(selector.to_query(), "!canary,app=web,team,tier in (a,b),zone notin (x)");
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert_eq!(PodSelector::default().to_query(), "");
    }
}
