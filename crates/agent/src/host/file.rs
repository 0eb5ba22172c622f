//! Reading the kernel's small files, and taking their text apart.

use super::CollectError;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most that is read of one file: the largest that is known, `/proc/net/udp` of a busy machine, is a few MiB.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// A file that is read again and again: opened once, then read from its beginning with `pread`.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    file: Option<File>,
}

impl KeptFile {
    pub fn new(path: PathBuf) -> Self {
        KeptFile { path, file: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole content, into the buffer. A failed read opens the file anew the next time.
    pub fn read<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<Cow<'b, str>, CollectError> {
        let result = self.fill(buffer);
        match result {
            Ok(()) => Ok(String::from_utf8_lossy(buffer)),
            Err(source) => {
                self.file = None;
                Err(CollectError::read(&self.path, source))
            }
        }
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(File::open(&self.path)?),
        };
        let mut filled = 0;
        loop {
            if buffer.len() - filled < 4096 {
                buffer.resize((buffer.len() * 2).max(16 * 1024), 0);
            }
            match file.read_at(&mut buffer[filled..], filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if filled > MOST_BYTES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "file is longer than 32 MiB"));
            }
        }
        buffer.truncate(filled);
        Ok(())
    }

    pub fn malformed(&self, what: &'static str) -> CollectError {
        CollectError::malformed(&self.path, what)
    }
}

/// A small attribute file of sysfs, without its line break. Read with one `read`, since broken drivers answer
/// `EAGAIN` for ever; at most 4 KiB, one page, is what sysfs can give.
pub fn read_attribute(path: &Path) -> io::Result<String> {
    let mut bytes = [0_u8; 4096];
    let count = File::open(path)?.read(&mut bytes)?;
    Ok(to_valid_utf8(&bytes[..count]).trim().to_owned())
}

/// As [`read_attribute`], without trimming blanks at its ends.
pub fn read_attribute_untrimmed(path: &Path) -> io::Result<String> {
    let mut bytes = [0_u8; 4096];
    let count = File::open(path)?.read(&mut bytes)?;
    Ok(to_valid_utf8(&bytes[..count]).into_owned())
}

/// A whole number in an attribute file.
pub fn read_number(path: &Path) -> io::Result<u64> {
    let text = read_attribute(path)?;
    text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a whole number"))
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The digits behind a prefix, e.g. `12` for `cpu12`; `None` for any other name.
pub fn numbered<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let digits = name.strip_prefix(prefix)?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// Go's `strings.ToValidUTF8`: each run of invalid bytes becomes one replacement character.
pub fn to_valid_utf8(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(valid) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(valid);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    let mut in_run = false;
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            out.push_str(chunk.valid());
            in_run = false;
        }
        if !chunk.invalid().is_empty() && !in_run {
            out.push('\u{fffd}');
            in_run = true;
        }
    }
    Cow::Owned(out)
}

/// A number as a float; what cannot be read is `None`.
pub fn float(word: &str) -> Option<f64> {
    if word.len() <= 15 && !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(word.bytes().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0')) as f64);
    }
    word.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_read_anew_each_time() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("stat");
        std::fs::write(&path, "one").expect("write");
        let mut file = KeptFile::new(path.clone());
        let mut buffer = Vec::new();
        assert_eq!(file.read(&mut buffer).expect("first"), "one");
        std::fs::write(&path, "two and more").expect("write");
        assert_eq!(file.read(&mut buffer).expect("second"), "two and more");
    }

    #[test]
    fn a_file_larger_than_the_buffer_is_read_whole() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("big");
        let content = "x".repeat(100_000);
        std::fs::write(&path, &content).expect("write");
        let mut buffer = Vec::new();
        assert_eq!(KeptFile::new(path).read(&mut buffer).expect("read"), content);
    }

    #[test]
    fn a_missing_file_is_no_data() {
        let mut file = KeptFile::new("/nonexistent/file".into());
        assert!(matches!(file.read(&mut Vec::new()), Err(CollectError::NoData)));
    }

    #[test]
    fn runs_of_invalid_bytes_become_one_mark() {
        assert_eq!(to_valid_utf8(b"a\xff\xfeb\xff"), "a\u{fffd}b\u{fffd}");
    }
}
