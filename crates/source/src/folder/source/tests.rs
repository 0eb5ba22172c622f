use super::*;

const POLICY: &str =
    "apiVersion: reporting.ers.dev/v1alpha1\nkind: ReportPolicy\nmetadata: {name: reporting}\nspec: {}\n";

fn target(interval: u32) -> String {
    format!(
        "apiVersion: reporting.ers.dev/v1alpha1\nkind: CollectorTarget\nmetadata: {{name: nodes}}\nspec: {{type: Node, intervalSeconds: {interval}, node: {{sources: [{{name: host, kind: HostMetrics}}]}}}}\n"
    )
}

struct Tree {
    root: tempfile::TempDir,
    scanner: Scanner,
}

impl Tree {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder for the test");
        std::fs::create_dir(root.path().join("manifests")).expect("makes the folder");
        let scanner = scanner_of(root.path());
        Tree { root, scanner }
    }

    /// A process that starts anew on the same folder.
    fn restart(&mut self) {
        self.scanner = scanner_of(self.root.path());
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root.path().join("manifests").join(name);
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("makes the folder");
        std::fs::write(path, text).expect("writes the manifest");
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.root.path().join("manifests").join(name)).expect("removes the manifest");
    }

    #[track_caller]
    fn check(&mut self, expect: &[&str]) {
        let events = self.scanner.scan().expect("scans");
        assert_eq!(events.iter().map(tell).collect::<Vec<_>>(), expect);
    }
}

fn scanner_of(root: &Path) -> Scanner {
    FolderSource::new(root.join("manifests"), "local", root.join("objects.json"), Duration::from_secs(1)).scanner()
}

fn tell(event: &ObjectEvent) -> String {
    match event {
        ObjectEvent::Applied(object) => {
            let generation = match object {
                Object::ReportPolicy(policy) => policy.metadata.generation,
                Object::CollectorTarget(target) => target.metadata.generation,
            };
            format!("applied {} {}", object.key(), generation.unwrap_or_default())
        }
        ObjectEvent::Invalid(InvalidObject { key, generation, error }) => {
            format!("invalid {key} {generation}: {error}")
        }
        ObjectEvent::Deleted(key) => format!("deleted {key}"),
        ObjectEvent::Synced(kind) => format!("synced {kind}"),
    }
}

const SYNCED: [&str; 2] = ["synced ReportPolicy", "synced CollectorTarget"];

#[test]
fn everything_is_told_once_and_then_only_what_changed() {
    let mut tree = Tree::new();
    tree.write("all.yaml", &format!("{POLICY}---\n{}", target(10)));
    tree.check(&[
        "applied ReportPolicy local/reporting 1",
        "applied CollectorTarget local/nodes 1",
        SYNCED[0],
        SYNCED[1],
    ]);
    tree.check(&[]);
    tree.write("deep/er/nodes.yml", &target(20));
    tree.write("all.yaml", POLICY);
    tree.check(&["applied CollectorTarget local/nodes 2"]);
    tree.remove("deep/er/nodes.yml");
    tree.check(&["deleted CollectorTarget local/nodes"]);
}

#[test]
fn a_comment_is_no_new_generation() {
    let mut tree = Tree::new();
    tree.write("a.yaml", POLICY);
    tree.check(&["applied ReportPolicy local/reporting 1", SYNCED[0], SYNCED[1]]);
    tree.write("a.yaml", &format!("# for the team\n{POLICY}"));
    tree.check(&[]);
}

#[test]
fn generations_and_the_last_good_document_outlive_the_process() {
    let mut tree = Tree::new();
    tree.write("n.yaml", &target(10));
    tree.check(&["applied CollectorTarget local/nodes 1", SYNCED[0], SYNCED[1]]);
    tree.write("n.yaml", &target(1));
    let broken = "invalid CollectorTarget local/nodes 2: spec.intervalSeconds: Invalid value: 1: spec.intervalSeconds in body should be greater than or equal to 5";
    tree.check(&[broken]);
    tree.restart();
    tree.check(&["applied CollectorTarget local/nodes 1", broken, SYNCED[0], SYNCED[1]]);
    tree.write("n.yaml", &target(100));
    tree.check(&["applied CollectorTarget local/nodes 3"]);
}

#[test]
fn a_file_that_is_no_yaml_leaves_what_it_held_as_it_was() {
    let mut tree = Tree::new();
    tree.write("n.yaml", &target(10));
    tree.write("p.yaml", POLICY);
    tree.scanner.scan().expect("scans");
    tree.write("n.yaml", "spec: [unclosed");
    let events = tree.scanner.scan().expect("scans");
    let told: Vec<String> = events.iter().map(tell).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("invalid CollectorTarget local/nodes 1: ") && told[0].contains("can't be read"),
        "{told:?}"
    );
    tree.write("n.yaml", &target(10));
    tree.check(&["applied CollectorTarget local/nodes 1"]);
}

#[test]
fn a_rule_about_changes_is_held_against_the_document_before() {
    let mut tree = Tree::new();
    tree.write("n.yaml", &target(10));
    tree.scanner.scan().expect("scans");
    tree.write("n.yaml", "apiVersion: reporting.ers.dev/v1alpha1\nkind: CollectorTarget\nmetadata: {name: nodes}\nspec: {type: Pod, pod: {selector: {}, endpoints: [{port: 1}]}}\n");
    tree.check(&["invalid CollectorTarget local/nodes 2: spec.type: the type can't be changed: make a new CollectorTarget [collectortarget-type-immutable]"]);
}

#[test]
fn an_object_that_stands_twice_or_in_another_namespace_is_refused_and_others_are_not() {
    let mut tree = Tree::new();
    tree.write("a.yaml", POLICY);
    tree.write("b.yaml", POLICY);
    tree.write("c.yaml", &target(10).replace("{name: nodes}", "{name: nodes, namespace: far}"));
    tree.write("d.yaml", &target(10).replace("{name: nodes}", "{name: good, namespace: local}"));
    let events = tree.scanner.scan().expect("scans");
    let told: Vec<String> = events.iter().map(tell).collect();
    assert!(told[0].starts_with("invalid ReportPolicy local/reporting 1: it stands in "), "{told:?}");
    assert_eq!(
        told[1],
        "invalid CollectorTarget far/nodes 1: metadata.namespace: standalone serves namespace \"local\" only; leave it out"
    );
    assert_eq!(told[2], "applied CollectorTarget local/good 1");
}

#[test]
fn unknown_fields_are_refused() {
    let mut tree = Tree::new();
    tree.write("a.yaml", &POLICY.replace("spec: {}", "spec: {storge: {}}"));
    tree.check(&[
        "invalid ReportPolicy local/reporting 1: spec.storge: unknown field \"spec.storge\"",
        SYNCED[0],
        SYNCED[1],
    ]);
}

#[test]
fn a_missing_folder_is_an_error_that_names_it() {
    let root = tempfile::tempdir().expect("a folder for the test");
    let source =
        FolderSource::new(root.path().join("none"), "local", root.path().join("o.json"), Duration::from_secs(1));
    let error = source.read_once().expect_err("there is no folder");
    assert!(error.to_string().ends_with("none"), "{error}");
}

#[tokio::test]
async fn the_stream_tells_what_is_there_and_then_what_changes() {
    let tree = Tree::new();
    tree.write("p.yaml", POLICY);
    let source = FolderSource::new(
        tree.root.path().join("manifests"),
        "local",
        tree.root.path().join("objects.json"),
        Duration::from_millis(5),
    );
    let mut events = source.events();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(tell(&events.next().await.expect("never ends")));
    }
    assert_eq!(told, ["applied ReportPolicy local/reporting 1", SYNCED[0], SYNCED[1]]);
    tree.write("n.yaml", &target(10));
    assert_eq!(tell(&events.next().await.expect("never ends")), "applied CollectorTarget local/nodes 1");
}
