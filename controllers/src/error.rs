//! Errors by what is done about them.

/// The three classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// May pass by itself: repeated, later and later.
    Transient,
    /// Somebody has to change something: told in a condition, not repeated.
    WaitForChange,
    /// Should not happen: logged and counted, repeated seldom.
    Bug,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Transient => "Transient",
            Class::WaitForChange => "WaitForChange",
            Class::Bug => "Bug",
        }
    }
}

/// What the API server's answer means for us.
pub fn class_of(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) => match status.code {
            // 403: a missing right, a quota, or a namespace that is going; all of them can change without us seeing it.
            403 | 404 | 409 | 410 | 429 => Class::Transient,
            400 | 405 | 406 | 415 | 422 => Class::Bug,
            _ => Class::Transient,
        },
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => Class::Bug,
        _ => Class::Transient,
    }
}

/// A one-line message, with the API server's own words where there are some.
pub fn message_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Service(source) => source.to_string(),
        other => other.to_string(),
    }
}

/// Whether the object was not there.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
