//! The rules of the house that a program can hold.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::edges::{L3, NOT_IN_L0, is_pure, rooms};
use crate::tree;

/// Most lines of a file that people write.
const MAX_LINES: usize = 600;
/// Endings of files that people write and that are held to the rules of text.
const WRITTEN: [&str; 13] =
    ["rs", "go", "js", "mjs", "ts", "css", "html", "sh", "toml", "yaml", "md", "service", "tpl"];
/// Endings whose length is limited: code, not tables.
const CODE: [&str; 7] = ["rs", "go", "js", "mjs", "ts", "css", "sh"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 3] = ["utils.rs", "helpers.rs", "common.rs"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal one, else `dev` or `build`.
    kind: Option<String>,
}

/// Everything that is not as it should be; empty when the tree is tidy.
pub fn faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for package in &metadata(root)?.packages {
        faults.extend(faults_of_package(root, package));
    }
    for path in tree::files(root)? {
        let Some(ending) = written_ending(&path) else { continue };
        let text =
            std::fs::read_to_string(root.join(&path)).with_context(|| format!("failed to read {path} as text"))?;
        faults.extend(faults_of_file(&path, ending, &text));
    }
    Ok(faults)
}

fn metadata(root: &Path) -> Result<Metadata> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("failed to run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cargo metadata wrote something else than its format 1")
}

fn faults_of_package(root: &Path, package: &Package) -> Vec<String> {
    let Package { name, manifest_path, dependencies } = package;
    let mut faults = Vec::new();
    let folder = Path::new(manifest_path).parent().and_then(|folder| folder.file_name()).unwrap_or_default();
    let expected = format!("ers-{}", folder.to_string_lossy());
    // Workspaces inside the tree that are no part of ours have names of their own.
    let is_ours = Path::new(manifest_path).starts_with(root);
    if is_ours && *name != expected {
        faults.push(format!("package {name} should be named {expected}, after its folder"));
    }
    let is_l3 = L3.contains(&name.as_str());
    let room = rooms().find(|room| room.package == name);
    if room.is_none() && !is_l3 {
        faults.push(format!(
            "package {name} is no room of the house: give it a line in crates/xtask/src/edges.rs and in docs/adr"
        ));
        return faults;
    }
    for Dependency { name: other, kind } in dependencies {
        let for_tests = kind.as_deref() == Some("dev");
        if is_pure(name) && !for_tests && NOT_IN_L0.contains(&other.as_str()) {
            faults.push(format!("{name} is pure and must not depend on {other}"));
        }
        if !other.starts_with("ers-") || is_l3 || other == name {
            continue;
        }
        let is_for_tests = for_tests && other == "ers-testkit";
        let permitted = is_for_tests || room.is_some_and(|room| room.may_depend_on.contains(&other.as_str()));
        if !permitted {
            faults.push(format!("{name} must not depend on {other}: the edge is not in crates/xtask/src/edges.rs"));
        }
    }
    faults
}

/// The ending of a file that people write; generated, vendored and recorded ones are not theirs.
fn written_ending(path: &str) -> Option<&'static str> {
    let others = ["vendor/", "node_modules/", "testdata/", "/golden/", "fixtures/", "baseline/"];
    if others.iter().any(|folder| path.contains(folder)) || path.ends_with(".min.js") {
        return None;
    }
    let (_, ending) = path.rsplit_once('.')?;
    WRITTEN.into_iter().find(|written| *written == ending)
}

fn faults_of_file(path: &str, ending: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = path.rsplit('/').next().unwrap_or(path);
    if EMPTY_NAMES.contains(&name) {
        faults.push(format!("{path}: the name says nothing; name it after what is inside"));
    }
    let lines = text.lines().count();
    if CODE.contains(&ending) && lines > MAX_LINES {
        faults.push(format!("{path} has {lines} lines, more than {MAX_LINES}"));
    }
    for (at, line) in text.lines().enumerate() {
        if let Some(word) = forbidden(line, ending) {
            faults.push(format!("{path}:{}: {word}", at + 1));
        }
    }
    faults
}

/// What must not stay in a line. The words are put together here, so that this file keeps its own rules.
fn forbidden(line: &str, ending: &str) -> Option<&'static str> {
    let is_word = |word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            ![before, after].into_iter().flatten().any(|c| c.is_alphanumeric() || c == '_')
        })
    };
    if is_word(concat!("TO", "DO")) || is_word(concat!("FIX", "ME")) {
        return Some("a note of work that is not done: do it, or file an issue");
    }
    if ending == "rs" && line.contains(concat!("#[ig", "nore")) {
        return Some("a test that never runs proves nothing");
    }
    let is_path_of_a_machine = ["work", "home", "root", "Users"].iter().any(|top| {
        let folder = format!("/{top}/");
        line.match_indices(&folder).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + folder.len()..].chars().next();
            let starts_a_path = !before.is_some_and(|c| c.is_alphanumeric() || "._-/:}$~".contains(c));
            starts_a_path && after.is_some_and(|c| c.is_ascii_lowercase())
        })
    });
    is_path_of_a_machine.then_some("a path of one machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() -> Result<()> {
        assert_eq!(faults(&tree::root()?)?, Vec::<String>::new());
        Ok(())
    }

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).to_string(), kind: kind.map(str::to_string) })
            .collect();
        let folder = name.trim_start_matches("ers-");
        Package { name: name.to_string(), manifest_path: format!("/tree/crates/{folder}/Cargo.toml"), dependencies }
    }

    #[track_caller]
    fn check(package: &Package, faults: &[&str]) {
        assert_eq!(faults_of_package(Path::new("/tree"), package), faults);
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_a_fault() {
        check(&package("ers-plan", &[("ers-crds", None), ("serde", None)]), &[]);
        check(
            &package("ers-plan", &[("ers-store", None)]),
            &["ers-plan must not depend on ers-store: the edge is not in crates/xtask/src/edges.rs"],
        );
        check(
            &package("ers-plan", &[("ers-store", Some("dev"))]),
            &["ers-plan must not depend on ers-store: the edge is not in crates/xtask/src/edges.rs"],
        );
    }

    #[test]
    fn tests_may_use_the_testkit_and_product_code_may_not() {
        check(&package("ers-tsdb", &[("ers-testkit", Some("dev"))]), &[]);
        check(
            &package("ers-tsdb", &[("ers-testkit", None)]),
            &["ers-tsdb must not depend on ers-testkit: the edge is not in crates/xtask/src/edges.rs"],
        );
    }

    #[test]
    fn the_pure_layer_knows_no_runtime() {
        check(&package("ers-wire", &[("tokio", None)]), &["ers-wire is pure and must not depend on tokio"]);
        check(&package("ers-wire", &[("tokio", Some("dev"))]), &[]);
    }

    #[test]
    fn a_room_that_nobody_opened_is_a_fault() {
        check(
            &package("ers-attic", &[]),
            &["package ers-attic is no room of the house: give it a line in crates/xtask/src/edges.rs and in docs/adr"],
        );
    }

    #[test]
    fn notes_of_work_and_paths_of_a_machine_are_found() {
        let todo = concat!("// TO", "DO: later");
        assert!(forbidden(todo, "rs").is_some());
        assert!(forbidden("let mastodon = 1;", "rs").is_none());
        assert!(forbidden(concat!("    #[ig", "nore]"), "rs").is_some());
        assert!(forbidden(concat!("see \"/wo", "rk/x\""), "md").is_some());
        assert!(forbidden("mounted at /host/root/etc", "md").is_none());
        assert!(forbidden("https://example.org/home/page", "md").is_none());
    }
}
