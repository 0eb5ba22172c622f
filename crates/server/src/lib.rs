//! The data plane of one ReportPolicy: takes samples, keeps them, answers PromQL, shows the page, says what it knows of its objects.
//!
//! [`run::start`] brings everything up in one process; `main` only reads arguments and waits for signals, so that tests start the real thing.
//!
//! A request's way: [`http::routes`] (the one table) -> [`http::dispatch`] (credential, permission, body) -> a handler in [`ers`] or [`health`].

pub mod admin;
pub mod app;
pub mod boot;
pub mod commands;
pub mod ers;
pub mod health;
pub mod http;
pub mod metrics;
mod own_metrics;
mod private_file;
mod query_string;
pub mod readiness;
pub mod run;
mod text;
pub mod tls;
