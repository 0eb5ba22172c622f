//! The audit events, newest first.

use actix_web::HttpResponse;
use ers_auth::Authorized;
use ers_auth::authz::ReadAuditLog;
use ers_store::AuditEvent;
use serde_json::{Value, json};

use crate::http::{Answer, Call};
use crate::query_string::QueryString;
use crate::text::rfc3339_millis;

pub async fn list(_auth: Authorized<ReadAuditLog>, call: Call) -> Answer {
    let query = QueryString::of(&call)?;
    let cursor = query.cursor()?;
    let limit = query.limit(100, 1_000)?;
    let page = call.app.store.audit_events(call.app.tenant(), cursor, limit).await?;
    let items: Vec<Value> = page.events.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({"items": items, "nextCursor": page.next})))
}

fn shown(event: &AuditEvent) -> Value {
    let actor = if event.actor.name.is_empty() {
        event.actor.kind.clone()
    } else {
        format!("{}/{}", event.actor.kind, event.actor.name)
    };
    json!({
        "id": event.id,
        "at": rfc3339_millis(event.at_ms),
        "actor": actor,
        "action": event.action,
        "resource": event.resource,
        "outcome": event.outcome,
        "sourceAddress": event.source_ip,
        "requestId": event.request_id,
        "cluster": event.cluster,
        "region": event.region,
        "detail": event.detail,
    })
}
