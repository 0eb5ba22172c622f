//! Our own API, under `/ers/v1`.

pub mod audit;
pub mod live;
pub mod objects;
pub mod openapi;
pub mod session;
pub mod tokens;
