//! Manifests judged offline: each object by the rules of its kind, and all together by the references among them.
//!
//! `ers-operator check FILE...` prints what this finds; standalone reads its folder through [`read_manifests`].

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::collector_target::HostAccess;
use crate::validate::{self, UnknownFields, Validated, Violation};
use crate::{API_VERSION, GROUP, Kind};

/// One document of our group, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub kind: Kind,
    /// File or other origin.
    pub origin: String,
    /// 1 for the first document of the file.
    pub document: usize,
    pub value: Value,
}

impl Manifest {
    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Empty if the manifest leaves it to `kubectl -n`.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{origin}: document {document} is no YAML")]
    NoYaml {
        origin: String,
        document: usize,
        #[source]
        source: serde_yaml_ng::Error,
    },
    #[error(
        "{origin}: document {document} is a {kind:?} of {api_version}; this version knows ReportPolicy and CollectorTarget of {API_VERSION}"
    )]
    UnknownKind { origin: String, document: usize, api_version: String, kind: String },
}

/// Reads a stream of YAML documents and keeps those of our group; a `List` counts as its items.
pub fn read_manifests(origin: &str, text: &str) -> Result<Vec<Manifest>, ReadError> {
    let mut manifests = Vec::new();
    for (document, value) in read_documents(origin, text)? {
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
        let (api_version, kind_name) = (field("apiVersion"), field("kind"));
        if api_version.split('/').next() != Some(GROUP) {
            continue;
        }
        match Kind::from_name(&kind_name) {
            Some(kind) if api_version == API_VERSION => {
                manifests.push(Manifest { kind, origin: origin.to_string(), document, value });
            }
            _ => {
                let origin = origin.to_string();
                return Err(ReadError::UnknownKind { origin, document, api_version, kind: kind_name });
            }
        }
    }
    Ok(manifests)
}

/// All documents with their numbers; empty ones are left out.
fn read_documents(origin: &str, text: &str) -> Result<Vec<(usize, Value)>, ReadError> {
    let mut documents = Vec::new();
    for (at, reader) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let document = at + 1;
        let mut value: Value = serde::Deserialize::deserialize(reader).map_err(|source| ReadError::NoYaml {
            origin: origin.to_string(),
            document,
            source,
        })?;
        let is_list = value.get("apiVersion").and_then(Value::as_str) == Some("v1")
            && value.get("kind").and_then(Value::as_str) == Some("List");
        if value.is_null() {
            continue;
        }
        match value.get_mut("items") {
            Some(Value::Array(items)) if is_list => {
                documents.extend(std::mem::take(items).into_iter().map(|item| (document, item)));
            }
            _ => documents.push((document, value)),
        }
    }
    Ok(documents)
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The cluster would refuse it.
    Error,
    /// The cluster would take it, but it can't become Ready with these files alone.
    Warning,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub origin: String,
    /// 0 if the whole file is meant.
    pub document: usize,
    /// `CollectorTarget demo/nodes`; empty if no object could be made out.
    pub object: String,
    pub violation: Violation,
}

impl fmt::Display for Finding {
    /// `manifests/a.yaml:2: error: CollectorTarget demo/nodes: spec.node: message [rule-id]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        f.write_str(&self.origin)?;
        if self.document > 0 {
            write!(f, " (document {})", self.document)?;
        }
        write!(f, ": {severity}: ")?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        let Violation { field, rule, message } = &self.violation;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        f.write_str(message)?;
        let id = format!("[{rule}]");
        if message.ends_with(&id) { Ok(()) } else { write!(f, " {id}") }
    }
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects of our group that were judged.
    pub objects: usize,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Judges files, given as pairs of origin and text: every object of our group by the code that the webhook runs, with
/// unknown fields refused; then names that are given twice, references among the files, and labels of namespaces that stand
/// in the files.
pub fn check_documents<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Report {
    let mut report = Report::default();
    let mut manifests = Vec::new();
    let mut namespaces = BTreeMap::new();
    for (origin, text) in files {
        match read_manifests(origin, text) {
            Ok(read) => manifests.extend(read),
            Err(error) => {
                let document = match &error {
                    ReadError::NoYaml { document, .. } | ReadError::UnknownKind { document, .. } => *document,
                };
                let (rule, message) = match error {
                    ReadError::NoYaml { source, .. } => ("no-yaml", format!("no YAML: {source}")),
                    ReadError::UnknownKind { api_version, kind, .. } => (
                        "unknown-kind",
                        format!(
                            "there is no kind {kind:?} in {api_version}; {API_VERSION} has ReportPolicy and CollectorTarget"
                        ),
                    ),
                };
                report.findings.push(Finding {
                    severity: Severity::Error,
                    origin: origin.to_string(),
                    document,
                    object: String::new(),
                    violation: Violation::new("", rule, message),
                });
            }
        }
        for (_, value) in read_documents(origin, text).unwrap_or_default() {
            if value.get("apiVersion").and_then(Value::as_str) == Some("v1")
                && value.get("kind").and_then(Value::as_str) == Some("Namespace")
                && let Some(name) = value.pointer("/metadata/name").and_then(Value::as_str)
            {
                namespaces.insert(name.to_string(), value.pointer("/metadata/labels").cloned().unwrap_or_default());
            }
        }
    }
    report.objects = manifests.len();
    let mut valid = Vec::new();
    for manifest in &manifests {
        match validate::document(manifest.kind, &manifest.value, None, UnknownFields::Refuse) {
            Ok(validated) => valid.push((manifest, validated)),
            Err(violations) => {
                for violation in violations.0 {
                    report.findings.push(finding(Severity::Error, manifest, violation));
                }
            }
        }
    }
    judge_names(&manifests, &mut report);
    judge_references(&manifests, &valid, &namespaces, &mut report);
    report.findings.sort_by(|a, b| (&a.origin, a.document, a.severity).cmp(&(&b.origin, b.document, b.severity)));
    report
}

fn finding(severity: Severity, manifest: &Manifest, violation: Violation) -> Finding {
    let namespace = manifest.namespace();
    let separator = if namespace.is_empty() { "" } else { "/" };
    Finding {
        severity,
        origin: manifest.origin.clone(),
        document: manifest.document,
        object: format!("{} {namespace}{separator}{}", manifest.kind, manifest.name()),
        violation,
    }
}

/// Each object once, and one ReportPolicy per namespace.
fn judge_names(manifests: &[Manifest], report: &mut Report) {
    let mut seen: BTreeMap<(Kind, &str, &str), &Manifest> = BTreeMap::new();
    let mut policies: BTreeMap<&str, &Manifest> = BTreeMap::new();
    for manifest in manifests {
        let place = |other: &Manifest| format!("{} (document {})", other.origin, other.document);
        let (namespace, name) = (manifest.namespace(), manifest.name());
        if let Some(first) = seen.insert((manifest.kind, namespace, name), manifest) {
            let message = format_args!("the same object stands in {} already", place(first)).to_string();
            let violation = Violation::of_rule("metadata.name", "object-once", message);
            report.findings.push(finding(Severity::Error, manifest, violation));
        } else if manifest.kind == Kind::ReportPolicy
            && let Some(first) = policies.insert(namespace, manifest)
        {
            let message =
                format!("a namespace has one ReportPolicy, and {:?} is in {} already", first.name(), place(first));
            let violation = Violation::of_rule("metadata.name", "reportpolicy-one-per-namespace", message);
            report.findings.push(finding(Severity::Error, manifest, violation));
        }
    }
}

fn judge_references(
    manifests: &[Manifest],
    valid: &[(&Manifest, Validated)],
    namespaces: &BTreeMap<String, Value>,
    report: &mut Report,
) {
    for (manifest, validated) in valid {
        let Validated::CollectorTarget(target) = validated else { continue };
        let mut policies = manifests
            .iter()
            .filter(|other| other.kind == Kind::ReportPolicy && other.namespace() == manifest.namespace());
        let missing = match &target.policy {
            Some(wanted) if !policies.any(|policy| policy.name() == wanted) => {
                Some(format!("there is no ReportPolicy {wanted:?} of this namespace in the files"))
            }
            None if policies.next().is_none() => {
                Some("there is no ReportPolicy of this namespace in the files".to_string())
            }
            _ => None,
        };
        if let Some(message) = missing {
            let message =
                format!("{message}; unless the cluster has it, Accepted stays Unknown with reason RefNotFound");
            let violation = Violation::of_rule("spec.reportPolicyRef", "ref-not-found", message);
            report.findings.push(finding(Severity::Warning, manifest, violation));
        }
        let label = ers_model::names::HOST_ACCESS_LABEL;
        let allowed = ers_model::names::HOST_ACCESS_ALLOWED;
        if (target.workload.host_access == HostAccess::ReadOnly || target.scrapes_kubelet())
            && let Some(labels) = namespaces.get(manifest.namespace())
            && labels.get(label).and_then(Value::as_str) != Some(allowed)
        {
            let message = format!(
                "the namespace lacks the label {label}={allowed}, so the target is refused with reason NamespaceNotAllowed"
            );
            let violation = Violation::of_rule("metadata.namespace", "namespace-host-access", message);
            report.findings.push(finding(Severity::Warning, manifest, violation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: reporting.ers.dev/v1alpha1\nkind: ReportPolicy\nmetadata: {name: reporting, namespace: demo}\nspec: {}\n";
    const NODES: &str = "apiVersion: reporting.ers.dev/v1alpha1\nkind: CollectorTarget\nmetadata: {name: nodes, namespace: demo}\nspec: {type: Node, node: {sources: [{name: host, kind: HostMetrics}]}}\n";

    #[track_caller]
    fn check(files: &[(&str, &str)], expect: &[&str]) {
        let report = check_documents(files.iter().copied());
        let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn good_manifests_have_no_findings_whatever_their_order() {
        check(&[("b.yaml", NODES), ("a.yaml", POLICY)], &[]);
        check(&[("all.yaml", &format!("---\n{NODES}---\n{POLICY}---\n"))], &[]);
    }

    #[test]
    fn a_list_counts_as_its_items() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: reporting.ers.dev/v1alpha1\n  kind: ReportPolicy\n  metadata: {name: a}\n  spec: {}\n";
        assert_eq!(check_documents([("l.yaml", list)]).objects, 1);
    }

    #[test]
    fn manifests_of_other_groups_are_passed_over() {
        let report = check_documents([("other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")]);
        assert_eq!(report, Report::default());
    }

    #[test]
    fn an_unknown_kind_of_our_group_is_an_error() {
        check(
            &[("a.yaml", "apiVersion: reporting.ers.dev/v1\nkind: ReportPolicy\n")],
            &[
                "a.yaml (document 1): error: there is no kind \"ReportPolicy\" in reporting.ers.dev/v1; reporting.ers.dev/v1alpha1 has ReportPolicy and CollectorTarget [unknown-kind]",
            ],
        );
    }

    #[test]
    fn text_that_is_no_yaml_is_told_with_its_place() {
        let report = check_documents([("a.yaml", "a: [1\nb: 2")]);
        assert!(report.has_errors());
        assert!(report.findings[0].to_string().starts_with("a.yaml (document 1): error: no YAML: "), "{report:?}");
    }

    #[test]
    fn a_reference_that_no_file_holds_is_a_warning() {
        check(
            &[("n.yaml", NODES)],
            &[
                "n.yaml (document 1): warning: CollectorTarget demo/nodes: spec.reportPolicyRef: there is no ReportPolicy of this namespace in the files; unless the cluster has it, Accepted stays Unknown with reason RefNotFound [ref-not-found]",
            ],
        );
    }

    #[test]
    fn a_second_policy_in_a_namespace_is_an_error() {
        let second = POLICY.replace("name: reporting", "name: other");
        check(
            &[("a.yaml", POLICY), ("b.yaml", &second)],
            &[
                "b.yaml (document 1): error: ReportPolicy demo/other: metadata.name: a namespace has one ReportPolicy, and \"reporting\" is in a.yaml (document 1) already [reportpolicy-one-per-namespace]",
            ],
        );
    }

    #[test]
    fn a_namespace_without_the_label_is_a_warning() {
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n---\n";
        check(
            &[("a.yaml", &format!("{namespace}{POLICY}---\n{NODES}"))],
            &[
                "a.yaml (document 3): warning: CollectorTarget demo/nodes: metadata.namespace: the namespace lacks the label reporting.ers.dev/host-access=allowed, so the target is refused with reason NamespaceNotAllowed [namespace-host-access]",
            ],
        );
        let labelled =
            namespace.replace("{name: demo}", "{name: demo, labels: {reporting.ers.dev/host-access: allowed}}");
        check(&[("a.yaml", &format!("{labelled}{POLICY}---\n{NODES}"))], &[]);
    }
}
