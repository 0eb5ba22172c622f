//! Secrets from a folder: `<folder>/<name>/<key>`. One newline at the end of a file is not part of the value, since
//! editors and `echo` add it.

use std::io::Read;
use std::path::PathBuf;

use crate::{MAX_SECRET_BYTES, ReadSecret, Secret, SecretError, SecretSource, is_good_name};

pub struct FolderSecrets {
    folder: PathBuf,
}

impl FolderSecrets {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        FolderSecrets { folder: folder.into() }
    }

    /// Where a Secret's keys lie, for programs that want files (a certificate); `None` if it is no good name.
    pub fn folder_of(&self, name: &str) -> Option<PathBuf> {
        is_good_name(name, "key").then(|| self.folder.join(name))
    }

    fn open(&self, name: &str, key: &str) -> Result<Secret, SecretError> {
        if !is_good_name(name, key) {
            return Err(SecretError::BadName { name: name.to_string(), key: key.to_string() });
        }
        let folder = self.folder.join(name);
        let failed = |source| SecretError::Read { name: name.to_string(), key: key.to_string(), source };
        let file = match std::fs::File::open(folder.join(key)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder.is_dir() => {
                return Err(SecretError::KeyNotFound { name: name.to_string(), key: key.to_string() });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SecretError::NotFound { name: name.to_string() });
            }
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_SECRET_BYTES {
            return Err(SecretError::TooLarge { name: name.to_string(), key: key.to_string() });
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Ok(Secret::new(bytes))
    }
}

impl SecretSource for FolderSecrets {
    fn read<'a>(&'a self, name: &'a str, key: &'a str) -> ReadSecret<'a> {
        // A few bytes from a local disk: not worth a thread.
        Box::pin(std::future::ready(self.open(name, key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(secrets: &FolderSecrets, name: &str, key: &str) -> String {
        secrets.open(name, key).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_key_is_a_file_and_its_last_newline_is_no_part_of_it() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        std::fs::create_dir(folder.path().join("smtp")).expect("writes");
        std::fs::write(folder.path().join("smtp/password"), "s3cret\n").expect("writes");
        let secrets = FolderSecrets::new(folder.path());
        assert_eq!(secrets.open("smtp", "password").ok().as_ref().and_then(Secret::expose_text), Some("s3cret"));
        assert_eq!(error_of(&secrets, "smtp", "user"), "Secret smtp has no key user");
        assert_eq!(error_of(&secrets, "ldap", "user"), "Secret ldap does not exist");
    }

    #[test]
    fn names_can_not_leave_the_folder() {
        let secrets = FolderSecrets::new("/nonexistent");
        for (name, key) in [("..", "x"), ("a/b", "x"), ("a", "../x"), ("a", ".."), ("", "x"), ("a", ""), ("a", "x/y")] {
            assert!(error_of(&secrets, name, key).contains("is no name of a Secret"), "{name} {key}");
        }
    }
}
