//! Codecs of others' formats: bytes in, values out. No I/O.

pub mod exposition;
pub mod remote_write;
pub mod series_writer;
