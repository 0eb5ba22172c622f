//! The boot settings, named by their hash and never changed.

use ers_plan::ServerConfig;
use serde_json::json;

use super::{CONFIG_FILE, Input};
use crate::child::{Child, ChildKind};

pub(super) fn name(input: &Input<'_>, config: &ServerConfig) -> String {
    format!("{}-{}", input.name(), config.config_hash)
}

pub(super) fn build(input: &Input<'_>, config: &ServerConfig) -> Child {
    let text = serde_json::to_string_pretty(config).expect("a configuration always serializes");
    Child::new(
        ChildKind::ConfigMap,
        json!({"metadata": input.metadata(name(input, config)), "immutable": true, "data": {CONFIG_FILE: text}}),
    )
}
