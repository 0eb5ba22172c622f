//! Admission of our kinds, and the certificate that the API server trusts us by.
//!
//! The webhook validates and never mutates. What is valid is decided by `ers_crds` alone; this crate translates
//! between its verdict and the API server's `AdmissionReview`.
//!
//! The certificate needs no outside help: the leader makes an authority and a leaf (`certificate`), keeps both in a
//! Secret and writes the authority into the webhook's configuration (`keeper`); every replica follows the Secret and
//! swaps the certificate under the running listener (`identity`).

pub mod admission;
pub mod certificate;
pub mod identity;
pub mod keeper;
pub mod server;
