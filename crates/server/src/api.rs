//! Prometheus' API under `/api/v1`: its parameters, its answers, its errors.

mod answer;
mod number;
mod params;
pub mod query;
pub mod series;
pub mod status;
pub mod write;
