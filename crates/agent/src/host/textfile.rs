//! `textfile`: metrics that others left in `*.prom` files of a folder.
//!
//! Limits: 4 MiB a file. A file that cannot be read sets `node_textfile_scrape_error` to 1 and counts with nothing;
//! timestamps in files are ignored, as node_exporter does.

use super::file::names;
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::{Entry, Format, Kind, Limits, Parser};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const MOST_BYTES: u64 = 4 * 1024 * 1024;

pub struct TextFile {
    folder: Option<PathBuf>,
}

impl TextFile {
    pub fn new(roots: &Roots) -> Self {
        TextFile { folder: roots.textfile.clone() }
    }
}

impl Collector for TextFile {
    fn name(&self) -> &'static str {
        "textfile"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let mut failed = false;
        if let Some(folder) = &self.folder {
            let files = names(folder).unwrap_or_else(|error| {
                tracing::warn!(folder = %folder.display(), %error, "textfile folder cannot be read");
                failed = true;
                Vec::new()
            });
            for name in files.iter().filter(|name| name.ends_with(".prom")) {
                let path = folder.join(name);
                let mark = out.len();
                match read(&path, buffer, out) {
                    Ok(seconds) => {
                        let file = path.to_string_lossy();
                        out.gauge("node_textfile_mtime_seconds", &[("file", &file)], seconds);
                    }
                    Err(error) => {
                        out.truncate(mark);
                        failed = true;
                        tracing::warn!(file = %path.display(), %error, "textfile cannot be used");
                    }
                }
            }
        }
        out.gauge("node_textfile_scrape_error", &[], f64::from(u8::from(failed)));
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum TextFileError {
    #[error("cannot be read: {0}")]
    Read(#[source] std::io::Error),
    #[error("longer than 4 MiB")]
    TooLong,
    #[error("{0}")]
    Parse(#[source] ers_wire::exposition::ParseError),
}

/// Takes one file over; its time of change in seconds.
fn read(path: &Path, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<f64, TextFileError> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(TextFileError::Read)?;
    let metadata = file.metadata().map_err(TextFileError::Read)?;
    if metadata.len() > MOST_BYTES {
        return Err(TextFileError::TooLong);
    }
    buffer.clear();
    file.take(MOST_BYTES).read_to_end(buffer).map_err(TextFileError::Read)?;
    let mut parser = Parser::new(buffer, Format::Text, Limits::default()).map_err(TextFileError::Parse)?;
    let mut kinds: HashMap<&str, Kind> = HashMap::new();
    while let Some(entry) = parser.next_entry().map_err(TextFileError::Parse)? {
        match entry {
            Entry::Type { name, kind } => {
                kinds.insert(name, kind);
            }
            Entry::Sample(sample) => {
                let name = &sample.series[..sample.series.find('{').unwrap_or(sample.series.len())];
                out.push_series(kind_of(name, &kinds), sample.series, sample.value);
            }
            Entry::Help { .. } | Entry::Unit { .. } => {}
        }
    }
    let changed = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(changed.map_or(0.0, |since| since.as_secs() as f64))
}

/// The kind of a sample's family: histograms and summaries are named without their samples' suffix.
pub fn kind_of(name: &str, kinds: &HashMap<&str, Kind>) -> Kind {
    if let Some(kind) = kinds.get(name) {
        return *kind;
    }
    for suffix in ["_bucket", "_sum", "_count", "_total", "_info", "_created"] {
        if let Some(kind) = name.strip_suffix(suffix).and_then(|family| kinds.get(family)) {
            return *kind;
        }
    }
    Kind::Untyped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_files_count_and_a_bad_one_is_reported() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.prom"), "# TYPE a counter\na{b=\"c\"} 1 1700000000000\n").expect("write");
        std::fs::write(folder.path().join("b.prom"), "good 1\nbad\n").expect("write");
        std::fs::write(folder.path().join("c.txt"), "nonsense").expect("write");
        let roots = Roots { textfile: Some(folder.path().into()), ..Roots::default() };
        let mut out = Samples::default();
        TextFile::new(&roots).collect(&mut Vec::new(), &mut out).expect("collect");
        let names: Vec<&str> = out.iter().map(|sample| sample.name).collect();
        assert_eq!(names, ["a", "node_textfile_mtime_seconds", "node_textfile_scrape_error"]);
        assert_eq!(out.iter().last().map(|sample| sample.value), Some(1.0));
    }
}
