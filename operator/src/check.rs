//! `ers-operator check`: judges manifests offline with the code of admission, and resolves references among them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ers_crds::check::check_documents;

use crate::arguments::Check;

/// Most bytes of one file: more than any object that the API server takes, many times over.
const LARGEST_FILE: u64 = 64 << 20;

/// Prints one line for each finding and a sum; fails if one is an error.
pub fn check(arguments: &Check) -> ExitCode {
    match read_all(&arguments.files) {
        Ok(files) => {
            let report = check_documents(files.iter().map(|(origin, text)| (origin.as_str(), text.as_str())));
            for finding in &report.findings {
                println!("{finding}");
            }
            println!("{} objects in {} files, {} findings", report.objects, files.len(), report.findings.len());
            if report.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("ers-operator: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let mut read = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().take(LARGEST_FILE).read_to_string(&mut text).context("reading standard input")?;
            read.push(("-".to_owned(), text));
            continue;
        }
        for file in files(path)? {
            let origin = file.display().to_string();
            let length = std::fs::metadata(&file).with_context(|| format!("reading {origin}"))?.len();
            anyhow::ensure!(length <= LARGEST_FILE, "{origin} has {length} bytes; at most {LARGEST_FILE} are read");
            let text = std::fs::read_to_string(&file).with_context(|| format!("reading {origin}"))?;
            read.push((origin, text));
        }
    }
    Ok(read)
}

/// The file itself, or the YAML files of a folder in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
        let file = entry.with_context(|| format!("reading {}", path.display()))?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if file.is_file() && matches!(extension, Some("yaml" | "yml")) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_manifests_in_order() {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["b.yaml", "a.yml", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        let found = files(folder.path()).expect("read");
        let names: Vec<_> = found.iter().filter_map(|file| file.file_name()?.to_str()).collect();
        assert_eq!(names, ["a.yml", "b.yaml"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read_all(&[PathBuf::from("/nowhere/x.yaml")]).expect_err("not there");
        assert!(format!("{error:#}").contains("/nowhere/x.yaml"));
    }
}
