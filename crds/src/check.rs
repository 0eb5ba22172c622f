//! Manifests judged offline.
