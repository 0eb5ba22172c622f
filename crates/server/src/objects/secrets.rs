//! Whether the secrets that the policy names are there. Their values are read and dropped: knowing that they can be read is all that is wanted.

use ers_crds::validate::ValidatedReportPolicy;
use ers_secrets::SecretSource;

/// What a look at the secrets found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretsFact {
    Unknown,
    NoneNamed,
    Resolved(usize),
    Missing(String),
    Unreadable(String),
}

/// Most entries that a message names.
const MAX_NAMED: usize = 5;

pub async fn look(policy: &ValidatedReportPolicy, source: &dyn SecretSource) -> SecretsFact {
    if policy.secrets.is_empty() {
        return SecretsFact::NoneNamed;
    }
    let (mut missing, mut unreadable) = (Vec::new(), Vec::new());
    for entry in &policy.secrets {
        let (name, key) = (entry.secret_ref.name.as_str(), entry.secret_ref.key.as_str());
        match source.read(name, key).await {
            Ok(_) => {}
            Err(error) => {
                let list = if error.is_not_found() { &mut missing } else { &mut unreadable };
                list.push(format!("spec.secrets[{}]: {error}", entry.name.as_str()));
            }
        }
    }
    if !missing.is_empty() {
        return SecretsFact::Missing(shortened(missing));
    }
    if !unreadable.is_empty() {
        return SecretsFact::Unreadable(shortened(unreadable));
    }
    SecretsFact::Resolved(policy.secrets.len())
}

fn shortened(mut entries: Vec<String>) -> String {
    let more = entries.len().saturating_sub(MAX_NAMED);
    entries.truncate(MAX_NAMED);
    let mut text = entries.join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}
