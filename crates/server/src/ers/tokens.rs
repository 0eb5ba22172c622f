//! API tokens: list, make, revoke.

use actix_web::HttpResponse;
use ers_auth::authz::{CreateApiTokens, DeleteApiTokens, ReadApiTokens};
use ers_auth::token::{PresentedToken, TokenKind};
use ers_auth::{Authorized, Principal};
use ers_store::{ApiToken, NewApiToken, Scope};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::{Answer, ApiError, Call};
use crate::query_string::QueryString;
use crate::text::rfc3339;

const MAX_NAME: usize = 100;
const MAX_DAYS: u32 = 3_650;
const DAY_MS: i64 = 86_400_000;

pub fn shown(token: &ApiToken) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "scopes": token.scopes,
        "createdBy": token.created_by,
        "createdAt": rfc3339(token.created_at_ms),
        "expiresAt": token.expires_at_ms.map(rfc3339),
        "lastUsedAt": token.last_used_at_ms.map(rfc3339),
    })
}

pub async fn list(_auth: Authorized<ReadApiTokens>, call: Call) -> Answer {
    let query = QueryString::of(&call)?;
    let cursor = query.cursor()?;
    let limit = query.limit(100, 1_000)?;
    let tokens = call.app.store.tokens(call.app.tenant(), cursor, limit).await?;
    let full = tokens.len() as u64 == limit;
    let next = if full { tokens.last().map(|token| token.id) } else { None };
    let items: Vec<Value> = tokens.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({"items": items, "nextCursor": next})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateBody {
    name: String,
    scopes: Vec<Scope>,
    expires_in_days: Option<u32>,
}

pub async fn create(auth: Authorized<CreateApiTokens>, call: Call) -> Answer {
    let body: CreateBody = call.json()?;
    let now_ms = call.app.clock.now_ms();
    let (presented, new) = new_token(&body.name, &body.scopes, body.expires_in_days, now_ms)?;
    // A token must not make a stronger one: what it may not do itself it cannot hand on.
    if let Principal::ApiToken { scopes, .. } = auth.principal()
        && let Some(missing) = new.scopes.iter().find(|scope| !scopes.contains(scope))
    {
        let message = format!("this token has no scope {} to hand on", missing.as_str());
        return Err(ApiError::new(actix_web::http::StatusCode::FORBIDDEN, "Forbidden", message));
    }
    let audit = call.audit(auth.principal().actor());
    let token = call.app.store.create_token(&audit, presented.id, new).await?;
    let mut answer = shown(&token);
    answer["secret"] = json!(presented.reveal());
    Ok(HttpResponse::Created().json(answer))
}

/// Judges what was asked for; also for the command line.
pub fn new_token(
    name: &str,
    scopes: &[Scope],
    expires_in_days: Option<u32>,
    now_ms: i64,
) -> Result<(PresentedToken, NewApiToken), ApiError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ApiError::field("name", format!("the name needs 1 to {MAX_NAME} printable characters")));
    }
    let mut scopes = scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(ApiError::field("scopes", "at least one of read, write, admin is needed"));
    }
    if expires_in_days.is_some_and(|days| days == 0 || days > MAX_DAYS) {
        return Err(ApiError::field("expiresInDays", format!("must be 1 to {MAX_DAYS}, or null for no end")));
    }
    let presented = PresentedToken::random(TokenKind::Api);
    let expires_at_ms = expires_in_days.map(|days| now_ms + i64::from(days) * DAY_MS);
    let new = NewApiToken { name: name.to_owned(), secret: presented.hash(), scopes, expires_at_ms };
    Ok((presented, new))
}

pub async fn revoke(auth: Authorized<DeleteApiTokens>, call: Call) -> Answer {
    let id = Uuid::try_parse(call.path_part("id")).map_err(|_| ApiError::bad_request("the id is no UUID"))?;
    let audit = call.audit(auth.principal().actor());
    if call.app.store.delete_token(&audit, id).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::not_found("there is no such token"))
    }
}
