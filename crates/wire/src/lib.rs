//! Codecs of others' formats: bytes in, values out. No I/O.

pub mod exposition;
