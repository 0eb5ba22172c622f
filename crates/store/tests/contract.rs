//! What every back end of the state must do. One macro, run once per back end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must end")]

use std::sync::Arc;

use ers_store::{
    ActiveSpec, Actor, AuditContext, NewAgentKey, NewApiToken, NewSession, NewUser, Outcome, Role, Scope, SecretHash,
    Store, StoreError, Tenant, TenantId,
};
use uuid::Uuid;

fn tenant(number: u128) -> TenantId {
    TenantId(Uuid::from_u128(number))
}

fn audit(tenant: TenantId, at_ms: i64) -> AuditContext {
    AuditContext {
        tenant,
        at_ms,
        actor: Actor::new("User", "admin"),
        request_id: "request-1".to_owned(),
        source_ip: "192.0.2.1".to_owned(),
        cluster: "local".to_owned(),
        region: "here".to_owned(),
    }
}

fn new_user(name: &str) -> NewUser {
    NewUser { name: name.to_owned(), password_hash: "$argon2id$x".to_owned(), role: Role::Admin }
}

async fn actions(store: &Arc<dyn Store>, tenant: TenantId) -> Vec<String> {
    let page = store.audit_events(tenant, None, 100).await.unwrap();
    page.events.into_iter().rev().map(|event| event.action).collect()
}

async fn users_are_unique_by_name_within_a_tenant(store: Arc<dyn Store>) {
    let first = store.create_user(&audit(tenant(1), 5), new_user("anna")).await.unwrap();
    let again = store.create_user(&audit(tenant(1), 6), new_user("anna")).await;
    assert!(matches!(again, Err(StoreError::Exists { what: "user", .. })));
    let other = store.create_user(&audit(tenant(2), 7), new_user("anna")).await.unwrap();
    assert_ne!(first.id, other.id);
    let found = store.user_by_name(tenant(1), "anna").await.unwrap().unwrap();
    assert!(found == first && found.created_at_ms == 5);
    assert!(store.user(tenant(2), first.id).await.unwrap().is_none(), "a foreign tenant's user is not seen");
    assert_eq!(actions(&store, tenant(1)).await, ["CreateUser"], "the refused one left no event");
}

async fn a_new_password_ends_all_other_sessions_in_the_same_step(store: Arc<dyn Store>) {
    let user = store.create_user(&audit(tenant(1), 1), new_user("anna")).await.unwrap();
    for key in [1, 2, 3] {
        let session = NewSession { key: SecretHash([key; 32]), user: user.id, expires_at_ms: 1_000 };
        store.create_session(&audit(tenant(1), 2), session).await.unwrap();
    }
    let changed =
        store.set_password(&audit(tenant(1), 9), user.id, "$argon2id$y", Some(SecretHash([2; 32]))).await.unwrap();
    assert!(changed);
    assert!(store.session(tenant(1), SecretHash([1; 32])).await.unwrap().is_none());
    assert!(store.session(tenant(1), SecretHash([2; 32])).await.unwrap().is_some());
    let now = store.user(tenant(1), user.id).await.unwrap().unwrap();
    assert!(now.password_hash == "$argon2id$y" && now.password_changed_at_ms == 9);
    let page = store.audit_events(tenant(1), None, 1).await.unwrap();
    assert_eq!(page.events[0].action, "ChangePassword");
    assert_eq!(page.events[0].detail, serde_json::json!({"sessionsEnded": 2}));
    assert!(!store.set_password(&audit(tenant(2), 9), user.id, "$z", None).await.unwrap(), "not from another tenant");
}

async fn sessions_begin_are_used_and_end(store: Arc<dyn Store>) {
    let user = store.create_user(&audit(tenant(1), 1), new_user("anna")).await.unwrap();
    let key = SecretHash([7; 32]);
    let made = store
        .create_session(&audit(tenant(1), 10), NewSession { key, user: user.id, expires_at_ms: 50 })
        .await
        .unwrap();
    assert_eq!((made.created_at_ms, made.last_seen_at_ms, made.expires_at_ms), (10, 10, 50));
    store.touch_session(tenant(1), key, 20).await.unwrap();
    assert_eq!(store.session(tenant(1), key).await.unwrap().unwrap().last_seen_at_ms, 20);
    assert!(store.session(tenant(2), key).await.unwrap().is_none());
    // A later log-in sweeps what has ended.
    let later = NewSession { key: SecretHash([8; 32]), user: user.id, expires_at_ms: 500 };
    store.create_session(&audit(tenant(1), 60), later).await.unwrap();
    assert!(store.session(tenant(1), key).await.unwrap().is_none());
    assert!(store.delete_session(&audit(tenant(1), 61), SecretHash([8; 32])).await.unwrap());
    assert!(!store.delete_session(&audit(tenant(1), 62), SecretHash([8; 32])).await.unwrap());
    assert_eq!(actions(&store, tenant(1)).await, ["CreateUser", "LogIn", "LogIn", "LogOut"]);
}

async fn tokens_are_listed_newest_first_by_cursor(store: Arc<dyn Store>) {
    let mut ids = Vec::new();
    for at in 0..5 {
        let token = NewApiToken {
            name: format!("t{at}"),
            secret: SecretHash([1; 32]),
            scopes: vec![Scope::Read, Scope::Admin],
            expires_at_ms: Some(at),
        };
        let id = Uuid::now_v7();
        store.create_token(&audit(tenant(1), at), id, token).await.unwrap();
        ids.push(id);
    }
    let first = store.tokens(tenant(1), None, 3).await.unwrap();
    assert_eq!(first.iter().map(|token| token.id).collect::<Vec<_>>(), [ids[4], ids[3], ids[2]]);
    assert_eq!(first[0].scopes, [Scope::Read, Scope::Admin]);
    let rest = store.tokens(tenant(1), Some(first[2].id), 3).await.unwrap();
    assert_eq!(rest.iter().map(|token| token.id).collect::<Vec<_>>(), [ids[1], ids[0]]);
    store.touch_token(tenant(1), ids[0], 77).await.unwrap();
    assert_eq!(store.token(tenant(1), ids[0]).await.unwrap().unwrap().last_used_at_ms, Some(77));
    assert!(!store.delete_token(&audit(tenant(2), 1), ids[0]).await.unwrap(), "not from another tenant");
    assert!(store.delete_token(&audit(tenant(1), 1), ids[0]).await.unwrap());
    assert!(store.token(tenant(1), ids[0]).await.unwrap().is_none());
}

async fn an_agent_enrolled_again_has_one_key(store: Arc<dyn Store>) {
    let new =
        |byte| NewAgentKey { target: "nodes".to_owned(), node: "host".to_owned(), secret: SecretHash([byte; 32]) };
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    store.enroll_agent(&audit(tenant(1), 1), first, new(1)).await.unwrap();
    store.enroll_agent(&audit(tenant(1), 2), second, new(2)).await.unwrap();
    assert!(store.agent_key(tenant(1), first).await.unwrap().is_none());
    let key = store.agent_key(tenant(1), second).await.unwrap().unwrap();
    assert_eq!((key.target.as_str(), key.node.as_str()), ("nodes", "host"));
    assert_eq!(store.revoke_agents(&audit(tenant(1), 3), "nodes").await.unwrap(), 1);
    assert_eq!(store.revoke_agents(&audit(tenant(1), 4), "nodes").await.unwrap(), 0);
    assert_eq!(actions(&store, tenant(1)).await, ["EnrollAgent", "EnrollAgent", "RevokeAgent"]);
}

async fn audit_events_page_from_the_newest_and_stay_in_their_tenant(store: Arc<dyn Store>) {
    for number in 0..7 {
        let detail = serde_json::json!({"number": number});
        store.record(&audit(tenant(1), number), "LogIn", "user/x", Outcome::Denied, detail).await.unwrap();
    }
    store.record(&audit(tenant(2), 9), "LogIn", "user/y", Outcome::Denied, serde_json::json!({})).await.unwrap();
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.audit_events(tenant(1), cursor, 3).await.unwrap();
        seen.extend(page.events.iter().map(|event| event.at_ms));
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, [6, 5, 4, 3, 2, 1, 0]);
    let page = store.audit_events(tenant(2), None, 3).await.unwrap();
    assert_eq!(page.events.len(), 1);
    let event = &page.events[0];
    assert_eq!(
        (event.outcome.as_str(), event.source_ip.as_str(), event.cluster.as_str()),
        ("Denied", "192.0.2.1", "local")
    );
}

async fn the_spec_in_force_is_swapped_and_the_same_one_changes_nothing(store: Arc<dyn Store>) {
    let mut spec = ActiveSpec {
        uid: "u1".to_owned(),
        kind: "CollectorTarget".to_owned(),
        namespace: "demo".to_owned(),
        name: "nodes".to_owned(),
        generation: 1,
        spec: serde_json::json!({"a": 1}),
        hash: "h1".to_owned(),
    };
    assert!(store.activate_spec(&audit(tenant(1), 1), &spec).await.unwrap());
    assert!(!store.activate_spec(&audit(tenant(1), 2), &spec).await.unwrap());
    spec.generation = 2;
    spec.spec = serde_json::json!({"a": 2});
    assert!(store.activate_spec(&audit(tenant(1), 3), &spec).await.unwrap());
    assert_eq!(store.active_specs(tenant(1)).await.unwrap(), [spec]);
    assert!(store.active_specs(tenant(2)).await.unwrap().is_empty());
    assert!(store.deactivate_spec(&audit(tenant(1), 4), "CollectorTarget", "demo", "nodes").await.unwrap());
    assert!(!store.deactivate_spec(&audit(tenant(1), 5), "CollectorTarget", "demo", "nodes").await.unwrap());
    assert_eq!(actions(&store, tenant(1)).await, ["ActivateSpec", "ActivateSpec", "DeactivateSpec"]);
}

async fn a_tenant_is_added_once_and_the_probe_proves_writing(store: Arc<dyn Store>) {
    let one = Tenant {
        id: tenant(1),
        cluster: "local".to_owned(),
        namespace: "demo".to_owned(),
        policy: "reporting".to_owned(),
    };
    store.ensure_tenant(&audit(tenant(1), 1), &one).await.unwrap();
    store.ensure_tenant(&audit(tenant(1), 2), &one).await.unwrap();
    assert_eq!(store.tenants().await.unwrap(), [one]);
    assert_eq!(actions(&store, tenant(1)).await, ["CreateTenant"]);
    store.probe(tenant(1), 5).await.unwrap();
    store.probe(tenant(1), 6).await.unwrap();
    store.close().await.unwrap();
    assert!(store.probe(tenant(1), 7).await.is_err(), "a closed store says so");
}

async fn many_writers_at_once_wait_for_each_other(store: Arc<dyn Store>) {
    let mut tasks = Vec::new();
    for number in 0..40 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let detail = serde_json::json!({});
            store.record(&audit(tenant(1), number), "LogIn", "user/x", Outcome::Denied, detail).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.audit_events(tenant(1), None, 100).await.unwrap().events.len(), 40);
}

macro_rules! contract {
    ($backend:ident, $open:expr, [$($case:ident),* $(,)?]) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (store, _keep) = $open.await;
                    super::$case(store).await;
                }
            )*
        }
    };
}

async fn sqlite() -> (Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = ers_store::SqliteStore::open(&folder.path().join("state.db")).await.unwrap();
    (Arc::new(store), folder)
}

contract!(
    on_sqlite,
    super::sqlite(),
    [
        users_are_unique_by_name_within_a_tenant,
        a_new_password_ends_all_other_sessions_in_the_same_step,
        sessions_begin_are_used_and_end,
        tokens_are_listed_newest_first_by_cursor,
        an_agent_enrolled_again_has_one_key,
        audit_events_page_from_the_newest_and_stay_in_their_tenant,
        the_spec_in_force_is_swapped_and_the_same_one_changes_nothing,
        a_tenant_is_added_once_and_the_probe_proves_writing,
        many_writers_at_once_wait_for_each_other,
    ]
);
