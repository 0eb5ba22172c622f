//! Who may depend on whom. A new room or a new edge is an architectural decision: it gets a line here and in `docs/adr/`.

/// What one package may depend on.
pub struct Room {
    pub package: &'static str,
    pub may_depend_on: &'static [&'static str],
}

const fn room(package: &'static str, may_depend_on: &'static [&'static str]) -> Room {
    Room { package, may_depend_on }
}

/// L0: pure. No tokio, no I/O, no clock, no kube.
const L0: [Room; 3] = [room("ers-model", &[]), room("ers-promql", &["ers-model"]), room("ers-wire", &["ers-model"])];

/// L1: the cluster's API, and adapters of one outside system each.
const L1: [Room; 9] = [
    room("ers-crds", &["ers-model", "ers-promql"]),
    room("ers-plan", &["ers-model", "ers-crds"]),
    room("ers-source", &["ers-model", "ers-crds"]),
    room("ers-journal", &["ers-model"]),
    room("ers-tsdb", &["ers-model", "ers-promql", "ers-wire", "ers-journal"]),
    room("ers-store", &["ers-model"]),
    room("ers-secrets", &["ers-model"]),
    room("ers-auth", &["ers-model", "ers-store", "ers-secrets"]),
    room("ers-telemetry", &["ers-model"]),
];

/// L2: programs.
const L2: [Room; 5] = [
    room("ers-agent", &["ers-model", "ers-promql", "ers-wire", "ers-journal", "ers-telemetry"]),
    room(
        "ers-server",
        &[
            "ers-model",
            "ers-promql",
            "ers-wire",
            "ers-crds",
            "ers-plan",
            "ers-source",
            "ers-journal",
            "ers-tsdb",
            "ers-store",
            "ers-secrets",
            "ers-auth",
            "ers-telemetry",
        ],
    ),
    room("ers-controllers", &["ers-model", "ers-promql", "ers-wire", "ers-crds", "ers-plan", "ers-telemetry"]),
    room("ers-webhook", &["ers-crds", "ers-telemetry"]),
    // Composition root of the control plane; it names kinds and plans only to hand them on.
    room("ers-operator", &["ers-controllers", "ers-webhook", "ers-telemetry", "ers-crds", "ers-plan", "ers-model"]),
];

/// L3: never a dependency of product code, and free to depend on anything below.
pub const L3: [&str; 3] = ["ers-testkit", "ers-xtask", "ers-e2e"];

/// Crates that L0 must not reach by itself.
pub const NOT_IN_L0: [&str; 8] =
    ["tokio", "kube", "k8s-openapi", "reqwest", "actix-web", "sea-orm", "chrono", "futures"];

/// All rooms below L3.
pub fn rooms() -> impl Iterator<Item = &'static Room> {
    static ROOMS: [&[Room]; 3] = [&L0, &L1, &L2];
    ROOMS.iter().flat_map(|rooms| rooms.iter())
}

pub fn is_pure(package: &str) -> bool {
    L0.iter().any(|room| room.package == package)
}
