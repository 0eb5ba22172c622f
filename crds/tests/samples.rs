//! The samples that people copy are good, alone and together.

use std::path::Path;

use ers_crds::check::check_documents;

#[track_caller]
fn check(folder: &str, objects: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples").join(folder);
    let files: Vec<(String, String)> = std::fs::read_dir(&folder)
        .expect("the folder of samples")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("a sample")))
        .collect();
    let report = check_documents(files.iter().map(|(origin, text)| (origin.as_str(), text.as_str())));
    let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(report.objects, objects);
}

#[test]
fn the_samples_for_kubernetes_are_good() {
    check("kubernetes", 3);
}

#[test]
fn the_samples_for_standalone_are_good() {
    check("standalone", 2);
}
