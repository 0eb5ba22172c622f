//! A real server over TLS on loopback, with a folder of its own, asked as its callers ask it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must end")]

mod cluster;
mod harness;
mod ingest;
mod live;
mod login;
mod objects;
mod process;
mod prometheus;
mod query;
mod routes;
mod tls;
mod tokens;
