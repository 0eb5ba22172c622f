//! `series`, `labels`, `label/{name}/values`.

use std::io::{self, Write as _};
use std::time::Duration;

use ers_auth::Authorized;
use ers_auth::authz::ReadMetrics;
use ers_model::{Labels, TimeRange};
use ers_promql::SourceError;
use ers_tsdb::Listing;

use super::answer::{self, Body};
use super::number::write_string;
use super::params::{Params as _, bad_data};
use super::query::{enforced, turn, write_labels};
use crate::http::page::accepts_gzip;
use crate::http::{Answer, ApiError, Call};
use crate::query_string::QueryString;

/// Most items that are ever listed, asked for or not; the answer says when it was more.
const MOST: usize = 1_000_000;
/// How long a listing waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

fn range(query: &QueryString) -> Result<TimeRange, ApiError> {
    let start_ms = query.time("start")?.unwrap_or(i64::MIN);
    let end_ms = query.time("end")?.unwrap_or(i64::MAX);
    if end_ms < start_ms {
        return Err(bad_data("invalid parameter \"end\": end timestamp must not be before start timestamp"));
    }
    Ok(TimeRange { start_ms, end_ms })
}

pub async fn series(auth: Authorized<ReadMetrics>, call: Call) -> Answer {
    let query = QueryString::with_form(&call)?;
    let sets = query.selectors()?;
    if sets.is_empty() {
        return Err(bad_data("no match[] parameter provided"));
    }
    let (range, limit) = (range(&query)?, query.most("limit")?.min(MOST));
    let reader = call.app.samples.db().reader(enforced(&auth));
    let permit = turn(&call.app, TURN_TIMEOUT).await?;
    answer::blocking(accepts_gzip(&call), move |body| {
        let _permit = permit;
        let listing = reader.series(&sets, range, limit).map_err(unreadable)?;
        write(body, &listing, |out, labels: &Labels| write_labels(out, labels))
    })
    .await
}

pub async fn labels(auth: Authorized<ReadMetrics>, call: Call) -> Answer {
    let query = QueryString::with_form(&call)?;
    let (sets, range, limit) = (query.selectors()?, range(&query)?, query.most("limit")?.min(MOST));
    let reader = call.app.samples.db().reader(enforced(&auth));
    let permit = turn(&call.app, TURN_TIMEOUT).await?;
    answer::blocking(accepts_gzip(&call), move |body| {
        let _permit = permit;
        let listing = reader.label_names(&sets, range, limit).map_err(unreadable)?;
        write(body, &listing, |out, name: &String| write_string(out, name))
    })
    .await
}

pub async fn values(auth: Authorized<ReadMetrics>, call: Call) -> Answer {
    let query = QueryString::of(&call)?;
    let name = call.path_part("name").to_owned();
    if name.is_empty() || name.len() > 1_024 {
        return Err(bad_data(format!("invalid label name: {:?}", name.chars().take(100).collect::<String>())));
    }
    let (sets, range, limit) = (query.selectors()?, range(&query)?, query.most("limit")?.min(MOST));
    let reader = call.app.samples.db().reader(enforced(&auth));
    let permit = turn(&call.app, TURN_TIMEOUT).await?;
    answer::blocking(accepts_gzip(&call), move |body| {
        let _permit = permit;
        let listing = reader.label_values(&name, &sets, range, limit).map_err(unreadable)?;
        write(body, &listing, |out, value: &String| write_string(out, value))
    })
    .await
}

fn unreadable(error: SourceError) -> ApiError {
    ApiError::internal(&error)
}

fn write<T>(
    out: &mut Body,
    listing: &Listing<T>,
    mut one: impl FnMut(&mut Body, &T) -> io::Result<()>,
) -> Result<(), ApiError> {
    let written = (|| {
        out.write_all(br#"{"status":"success","data":["#)?;
        for (at, item) in listing.items.iter().enumerate() {
            if at > 0 {
                out.write_all(b",")?;
            }
            one(out, item)?;
        }
        out.write_all(b"]")?;
        if listing.truncated {
            out.write_all(br#","warnings":["results truncated due to limit"]"#)?;
        }
        out.write_all(b"}")
    })();
    written.map_err(|_: io::Error| ApiError::unavailable("canceled", "the caller went away"))
}
