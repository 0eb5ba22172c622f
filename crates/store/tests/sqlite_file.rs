//! What is particular to the SQLite file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must end")]

use ers_store::{Actor, AuditContext, AuditLog, Outcome, SqliteStore, Store, StoreError, TenantId};
use uuid::Uuid;

fn audit() -> AuditContext {
    AuditContext {
        tenant: TenantId(Uuid::from_u128(1)),
        at_ms: 1,
        actor: Actor::system(),
        request_id: String::new(),
        source_ip: String::new(),
        cluster: "local".to_owned(),
        region: String::new(),
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.record(&audit(), "LogIn", "user/x", Outcome::Denied, serde_json::json!({})).await.unwrap();
    // Dropped, not closed: as after a crash.
    drop(store);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.audit_events(audit().tenant, None, 10).await.unwrap().events.len(), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(&path, vec![7_u8; 8192]).unwrap();
    let Err(error) = SqliteStore::open(&path).await else { panic!("it was opened") };
    assert!(matches!(error, StoreError::Open { .. } | StoreError::Migrate { .. }));
    assert!(error.to_string().contains("state.db"), "{error}");
}
