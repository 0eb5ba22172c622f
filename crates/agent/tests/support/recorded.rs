//! The recorded machines and dashboards that tests compare with, and baselines that move one way only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The shared test data. Missing data fails the test: what did not look has not passed.
pub fn shared_data() -> PathBuf {
    let folder = std::env::var_os("ERS_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    assert!(
        folder.is_dir(),
        "the shared test data is not at {}: set ERS_SHARED_DATA to the folder that holds node_exporter/ and grafana/",
        folder.display()
    );
    folder
}

#[allow(dead_code, reason = "each test binary uses its part of this module")]
pub fn node_exporter() -> PathBuf {
    shared_data().join("node_exporter/collector/fixtures")
}

/// Unpacks a `ttar` archive: lines of `Directory:`, `Path:` with `Lines:`, `SymlinkTo:`, `Mode:`.
#[allow(dead_code, reason = "each test binary uses its part of this module")]
pub fn unpack_ttar(archive: &Path, into: &Path) {
    let bytes = std::fs::read(archive).expect("the archive is there");
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut path = PathBuf::new();
    let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    while let Some(line) = lines.next() {
        if let Some(folder) = line.strip_prefix(b"Directory: ") {
            std::fs::create_dir_all(into.join(text(folder))).expect("folder");
        } else if let Some(file) = line.strip_prefix(b"Path: ") {
            path = into.join(text(file));
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
        } else if let Some(target) = line.strip_prefix(b"SymlinkTo: ") {
            std::os::unix::fs::symlink(text(target), &path).expect("link");
        } else if let Some(count) = line.strip_prefix(b"Lines: ") {
            let count: usize = text(count).trim().parse().expect("a number of lines");
            let mut content = Vec::new();
            for _ in 0..count {
                content.extend_from_slice(&unescape(lines.next().expect("a line")));
                content.push(b'\n');
            }
            // A last line without a line break is marked by `EOF` at its end.
            if content.ends_with(b"EOF\n") {
                content.truncate(content.len() - b"EOF\n".len());
            }
            std::fs::write(&path, content).expect("file");
        }
    }
}

/// ttar writes NUL as `NULLBYTE`.
fn unescape(line: &[u8]) -> Vec<u8> {
    replace(line, b"NULLBYTE", b"\0")
}

fn replace(haystack: &[u8], needle: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(haystack.len());
    let mut rest = haystack;
    while let Some(at) = rest.windows(needle.len()).position(|window| window == needle) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + needle.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn baseline(file: &str) -> (PathBuf, BTreeSet<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let lines = std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
    (path, lines)
}

fn write(path: &Path, lines: &BTreeSet<&str>) {
    let mut text = lines.iter().copied().collect::<Vec<_>>().join("\n");
    text.push('\n');
    std::fs::write(path, text).expect("baseline");
}

/// A list that may only get shorter. With `ERS_UPDATE_BASELINE=1` it is written anew, if it did.
#[allow(dead_code, reason = "each test binary uses its part of this module")]
pub fn check_shrinking(file: &str, now: &BTreeSet<&str>) {
    let (path, before) = baseline(file);
    println!("{} in {file}", now.len());
    let added: Vec<&&str> = now.iter().filter(|one| !before.contains(**one)).collect();
    assert!(before.is_empty() || added.is_empty(), "new in {file}, which must only shrink: {added:?}");
    finish(&path, &before, now);
}

/// A list that may only get longer.
#[allow(dead_code, reason = "each test binary uses its part of this module")]
pub fn check_growing(file: &str, now: &BTreeSet<&str>) {
    let (path, before) = baseline(file);
    println!("{} in {file}", now.len());
    let lost: Vec<&String> = before.iter().filter(|one| !now.contains(one.as_str())).collect();
    assert!(lost.is_empty(), "gone from {file}, which must only grow: {lost:?}");
    finish(&path, &before, now);
}

fn finish(path: &Path, before: &BTreeSet<String>, now: &BTreeSet<&str>) {
    let same = before.len() == now.len();
    if std::env::var_os("ERS_UPDATE_BASELINE").is_some() {
        write(path, now);
        return;
    }
    assert!(same, "{} has moved the right way: run with ERS_UPDATE_BASELINE=1 and commit it", path.display());
}
