//! A sorted, duplicate-free set of name/value pairs: the identity of a series.

use serde::{Deserialize, Serialize};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One label of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label {
    pub name: Box<str>,
    pub value: Box<str>,
}

/// Labels sorted by name, each name once, no empty values (an empty value means "no such label" in Prometheus).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Labels(Vec<Label>);

impl Labels {
    /// Sorts, drops empty values, and lets the last of two equal names win.
    pub fn from_pairs<N: Into<Box<str>>, V: Into<Box<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut labels = Labels::default();
        for (name, value) in pairs {
            labels.set(name, value);
        }
        labels
    }

    /// Takes labels that are already sorted by name, unique and without empty values; checked in debug builds.
    pub fn from_sorted(labels: Vec<Label>) -> Self {
        debug_assert!(labels.windows(2).all(|pair| pair[0].name < pair[1].name));
        Labels(labels)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|label| (*label.name).cmp(name)).ok().map(|at| &*self.0[at].value)
    }

    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Sets or replaces one label; an empty value removes it.
    pub fn set<N: Into<Box<str>>, V: Into<Box<str>>>(&mut self, name: N, value: V) {
        let (name, value) = (name.into(), value.into());
        match self.0.binary_search_by(|label| label.name.cmp(&name)) {
            Ok(at) if value.is_empty() => {
                self.0.remove(at);
            }
            Ok(at) => self.0[at].value = value,
            Err(_) if value.is_empty() => {}
            Err(at) => self.0.insert(at, Label { name, value }),
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<Box<str>> {
        let at = self.0.binary_search_by(|label| (*label.name).cmp(name)).ok()?;
        Some(self.0.remove(at).value)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|label| (&*label.name, &*label.value))
    }

    pub fn as_slice(&self) -> &[Label] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn without_name(&self) -> Labels {
        Labels(self.0.iter().filter(|label| &*label.name != METRIC_NAME).cloned().collect())
    }

    /// Keeps only labels for which the predicate holds.
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Labels {
        Labels(self.0.iter().filter(|label| keep(&label.name)).cloned().collect())
    }
}

impl std::fmt::Display for Labels {
    /// `name{a="b", c="d"}`, the way Prometheus prints a series.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(name) = self.metric_name() {
            f.write_str(name)?;
            if self.len() == 1 {
                return Ok(());
            }
        }
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().filter(|(name, _)| *name != METRIC_NAME).enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_the_last_of_two_equal_names_wins() {
        let labels = Labels::from_pairs([("b", "1"), ("a", "2"), ("b", "3"), ("c", "")]);
        assert_eq!(labels.to_string(), r#"{a="2", b="3"}"#);
    }

    #[test]
    fn a_series_is_printed_with_its_name_in_front() {
        let labels = Labels::from_pairs([("job", "x"), (METRIC_NAME, "up")]);
        assert_eq!(labels.to_string(), r#"up{job="x"}"#);
        assert_eq!(Labels::from_pairs([(METRIC_NAME, "up")]).to_string(), "up");
    }
}
