//! The page's files, which are compiled in. `/` and `/login` are documents, `/assets/*` is everything else; no other file of the folder is served.

use std::io::Write as _;
use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::http::header;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{EmbeddedFile, RustEmbed};

use super::call::Call;
use super::error::ApiError;
use super::headers::PAGE_POLICY;
use super::table::Answer;

#[derive(RustEmbed)]
#[folder = "web/"]
#[include = "index.html"]
#[include = "login.html"]
#[include = "assets/*"]
#[exclude = "*.md"]
struct Files;

/// Smaller files gain nothing from compression.
const MIN_COMPRESSED: usize = 1_024;

struct Packed {
    path: String,
    gzip: Vec<u8>,
}

/// The compressed form of every file that gains from it, made once.
fn packed(path: &str) -> Option<&'static [u8]> {
    static ALL: OnceLock<Vec<Packed>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let one = |path: std::borrow::Cow<'static, str>| {
            let file = Files::get(&path).filter(|file| file.data.len() >= MIN_COMPRESSED)?;
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&file.data).ok()?;
            Some(Packed { path: path.into_owned(), gzip: encoder.finish().ok()? })
        };
        Files::iter().filter_map(one).collect()
    });
    all.iter().find(|packed| packed.path == path).map(|packed| packed.gzip.as_slice())
}

pub async fn index(call: Call) -> Answer {
    serve(&call, "index.html")
}

pub async fn login(call: Call) -> Answer {
    serve(&call, "login.html")
}

pub async fn asset(call: Call) -> Answer {
    let path = format!("assets/{}", call.path_part("path"));
    serve(&call, &path)
}

fn serve(call: &Call, path: &str) -> Answer {
    let Some(file) = Files::get(path) else {
        return Err(ApiError::not_found("there is no such file"));
    };
    let tag = entity_tag(&file);
    let mut response = if call.header(header::IF_NONE_MATCH.as_str()) == Some(tag.as_str()) {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, tag.clone()))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::VARY, "Accept-Encoding"))
        .insert_header((header::CONTENT_SECURITY_POLICY, PAGE_POLICY));
    if call.header(header::IF_NONE_MATCH.as_str()) == Some(tag.as_str()) {
        return Ok(response.finish());
    }
    response.content_type(content_type(path));
    if accepts_gzip(call)
        && let Some(gzip) = packed(path)
    {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
        return Ok(response.body(gzip));
    }
    Ok(response.body(file.data.into_owned()))
}

pub fn accepts_gzip(call: &Call) -> bool {
    let accepted = call.header(header::ACCEPT_ENCODING.as_str()).unwrap_or_default();
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        matches!(parts.next(), Some("gzip" | "*")) && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
    })
}

fn entity_tag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
