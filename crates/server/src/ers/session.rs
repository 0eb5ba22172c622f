//! Log in, look, log out, change one's password.

use actix_web::HttpResponse;
use actix_web::cookie::{Cookie, SameSite};
use ers_auth::authz::{DeleteSession, ReadSession, WritePassword};
use ers_auth::session::SessionSecret;
use ers_auth::{Authorized, LoggedIn, Login, Principal};
use ers_store::{Actor, Role};
use serde::Deserialize;
use serde_json::json;

use crate::http::dispatch::{SESSION_COOKIE, session_cookie};
use crate::http::{Answer, ApiError, Call};
use crate::text::rfc3339;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoginBody {
    username: String,
    password: String,
}

pub async fn log_in(call: Call) -> Answer {
    let body: LoginBody = call.json()?;
    // A page of somebody else's must not be able to log a browser in: modern browsers say where a request comes from.
    refuse_foreign_origin(&call)?;
    let audit = call.audit(Actor::new("Anonymous", ""));
    let login = Login { user_name: &body.username, password: &body.password, source_ip: &call.source_ip };
    let (logged_in, secret) =
        call.app.auth.log_in(&audit, login).await.inspect_err(|_| call.app.metrics.login(false))?;
    call.app.metrics.login(true);
    if let Some(before) = session_cookie(&call) {
        // The session that this browser had before ends: no id survives a log-in.
        call.app.store.delete_session(&call.audit(Actor::new("User", &logged_in.user.name)), before.key()).await?;
    }
    Ok(HttpResponse::Ok().cookie(cookie(secret.reveal())).json(shown(&logged_in)))
}

pub async fn show(_auth: Authorized<ReadSession>, call: Call) -> Answer {
    let secret = secret(&call)?;
    let logged_in = call.app.auth.session(&secret).await?;
    Ok(HttpResponse::Ok().json(shown(&logged_in)))
}

pub async fn log_out(auth: Authorized<DeleteSession>, call: Call) -> Answer {
    let secret = secret(&call)?;
    call.app.store.delete_session(&call.audit(auth.principal().actor()), secret.key()).await?;
    let mut gone = cookie(String::new());
    gone.make_removal();
    Ok(HttpResponse::NoContent().cookie(gone).finish())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordBody {
    current: String,
    new: String,
}

pub async fn change_password(auth: Authorized<WritePassword>, call: Call) -> Answer {
    let Principal::User { id, session, .. } = auth.principal() else {
        return Err(ApiError::bad_request("only a person has a password"));
    };
    let body: PasswordBody = call.json()?;
    let audit = call.audit(auth.principal().actor());
    call.app.auth.change_password(&audit, *id, *session, &body.current, &body.new).await.map_err(
        |error| match error {
            // 401 would tell the page that its session is gone.
            ers_auth::AuthError::InvalidCredentials => ApiError::field("current", "the present password is wrong"),
            other => other.into(),
        },
    )?;
    call.app.admin_password_changed(*id);
    Ok(HttpResponse::NoContent().finish())
}

fn secret(call: &Call) -> Result<SessionSecret, ApiError> {
    session_cookie(call).ok_or_else(|| ers_auth::AuthError::Unauthenticated("no session").into())
}

/// `__Host-`: only over TLS, only this host, path `/`. It ends with the browser; the server ends it earlier.
fn cookie(value: String) -> Cookie<'static> {
    Cookie::build(SESSION_COOKIE, value).path("/").secure(true).http_only(true).same_site(SameSite::Strict).finish()
}

fn shown(logged_in: &LoggedIn) -> serde_json::Value {
    let role = match logged_in.user.role {
        Role::Admin => "admin",
        Role::Viewer => "viewer",
    };
    json!({
        "user": {"id": logged_in.user.id, "username": logged_in.user.name, "role": role},
        "csrfToken": logged_in.csrf_token,
        "expiresAt": rfc3339(logged_in.ends_at_ms),
    })
}

/// If the browser says where a request comes from, it must be from this very host.
pub fn refuse_foreign_origin(call: &Call) -> Result<(), ApiError> {
    let Some(origin) = call.header("Origin") else { return Ok(()) };
    let host = call.request.connection_info().host().to_owned();
    if origin.strip_prefix("https://").is_some_and(|from| from.eq_ignore_ascii_case(&host)) {
        return Ok(());
    }
    Err(ApiError::new(
        actix_web::http::StatusCode::FORBIDDEN,
        "ForeignOrigin",
        "the request comes from a page of another origin",
    ))
}
