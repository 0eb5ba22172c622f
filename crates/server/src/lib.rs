//! The data plane of one ReportPolicy: takes samples, keeps them, answers PromQL, shows the page, says what it knows of its objects.
//!
//! [`run::start`] brings everything up in one process; `main` only reads arguments and waits for signals, so that tests start the real thing.
//!
//! A request's way: [`http::routes`] (the one table) -> [`http::dispatch`] (credential, permission, body) -> a handler in [`api`], [`ers`] or [`health`].

pub mod admin;
pub mod api;
pub mod app;
pub mod boot;
mod cluster;
pub mod commands;
pub mod ers;
pub mod health;
pub mod http;
mod memory;
pub mod metrics;
pub mod objects;
pub mod overview;
mod own_metrics;
mod private_file;
mod query_string;
pub mod readiness;
pub mod run;
pub mod samples;
pub mod standalone;
mod text;
pub mod tls;
pub mod world;
