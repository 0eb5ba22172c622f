//! The chart's rendering is committed for `kubectl apply -k`; here it is proven fresh, and its rights are looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml_ng::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn committed() -> String {
    std::fs::read_to_string(root().join("manifests/base/ers.yaml")).expect("manifests/base/ers.yaml")
}

fn documents() -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(&committed())
        .map(|document| serde::Deserialize::deserialize(document).expect("YAML"))
        .filter(|document: &Value| !document.is_null())
        .collect()
}

fn helm() -> Option<PathBuf> {
    let beside_tools = std::env::var_os("ERS_E2E_TOOLS").map(|folder| PathBuf::from(folder).join("helm"));
    let on_path = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|file| file.is_file()));
    beside_tools.filter(|file| file.is_file()).or(on_path)
}

/// Helm is taken from the tools of the local cluster or from the PATH.
#[test]
fn the_committed_rendering_is_the_charts() {
    let helm = helm().expect("there is no helm, neither in ERS_E2E_TOOLS nor on the PATH: `ers-cluster tools` builds it, `make test` does so");
    let output = Command::new(helm)
        .args(["template", "ers"])
        .arg(root().join("charts/ers"))
        .args(["--namespace", "ers-system", "--kube-version", "1.34.0"])
        .output()
        .expect("helm runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered = String::from_utf8(output.stdout).expect("text");
    if std::env::var_os("ERS_UPDATE_GOLDEN").is_some() {
        std::fs::write(root().join("manifests/base/ers.yaml"), &rendered).expect("written");
    }
    assert!(
        rendered == committed(),
        "manifests/base/ers.yaml is stale: ERS_UPDATE_GOLDEN=1 cargo test -p ers-controllers --test chart"
    );
}

/// `ClusterRole ers-operator: get list watch reporting.ers.dev/reportpolicies`, one line for each right.
fn rights() -> Vec<String> {
    let mut lines = Vec::new();
    let list = |value: &Value| -> Vec<String> {
        value.as_sequence().into_iter().flatten().filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
    };
    for document in documents() {
        let kind = document["kind"].as_str().unwrap_or_default();
        if kind != "ClusterRole" && kind != "Role" {
            continue;
        }
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        for rule in document["rules"].as_sequence().into_iter().flatten() {
            let verbs = list(&rule["verbs"]).join(" ");
            let names = list(&rule["resourceNames"]).join(",");
            let limited = if names.is_empty() { String::new() } else { format!(" [{names}]") };
            for url in list(&rule["nonResourceURLs"]) {
                lines.push(format!("{kind} {name}: {verbs} {url}"));
            }
            for group in list(&rule["apiGroups"]) {
                for resource in list(&rule["resources"]) {
                    lines.push(format!("{kind} {name}: {verbs} {group}/{resource}{limited}"));
                }
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn rights_are_those_that_were_agreed_on() {
    let text = rights().join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rights.txt");
    if std::env::var_os("ERS_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text);
}

#[test]
fn no_right_is_a_ladder() {
    for right in rights() {
        assert!(!right.contains('*'), "a wildcard: {right}");
        assert!(!right.contains("escalate") && !right.contains("impersonate"), "{right}");
        if right.contains("ers-operator") && right.contains("/secrets") {
            assert!(right.starts_with("Role "), "secrets beyond its own namespace: {right}");
        }
        if right.contains(" bind ") {
            assert!(right.ends_with("[ers-server,ers-agent,ers-kubelet-reader,ers-token-reviewer]"), "{right}");
        }
        if right.contains("clusterrolebindings") {
            assert!(right.ends_with("[ers-kubelet-reader,ers-token-reviewer]"), "{right}");
        }
    }
}
