//! A real server over TLS on loopback, with a folder of its own, asked as its callers ask it.

mod harness;
mod login;
mod routes;
mod tls;
mod tokens;
