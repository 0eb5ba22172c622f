//! `os`: the distribution, from `/etc/os-release` or `/usr/lib/os-release` (os-release(5)).

use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

const LABELS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];

pub struct Os {
    paths: [PathBuf; 2],
    read: Option<(SystemTime, HashMap<String, String>)>,
}

impl Os {
    pub fn new(roots: &Roots) -> Self {
        Os { paths: ["etc/os-release", "usr/lib/os-release"].map(|path| roots.root.join(path)), read: None }
    }

    /// Reads the file again only when it has changed: an upgrade, some time in a year.
    fn release(&mut self) -> Result<&HashMap<String, String>, CollectError> {
        for path in &self.paths {
            let changed = match std::fs::metadata(path).and_then(|metadata| metadata.modified()) {
                Ok(changed) => changed,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(CollectError::Read { path: path.clone(), source }),
            };
            if self.read.as_ref().is_none_or(|(read, _)| *read != changed) {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| CollectError::Read { path: path.clone(), source })?;
                self.read = Some((changed, parse(&text)));
            }
            return self.read.as_ref().map(|(_, values)| values).ok_or(CollectError::NoData);
        }
        Err(CollectError::NoData)
    }
}

impl Collector for Os {
    fn name(&self) -> &'static str {
        "os"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let release = self.release()?;
        let value = |label: &str| release.get(label).map_or("", String::as_str);
        let labels: Vec<(&str, &str)> = LABELS.iter().map(|label| (*label, value(label))).collect();
        out.gauge("node_os_info", &labels, 1.0);
        if let Some(version) = major_minor(value("version_id")) {
            let labels = [("id", value("id")), ("id_like", value("id_like")), ("name", value("name"))];
            out.gauge("node_os_version", &labels, version);
        }
        if let Some(seconds) = day_to_seconds(value("support_end")) {
            out.gauge("node_os_support_end_timestamp_seconds", &[], seconds);
        }
        Ok(())
    }
}

/// `KEY=value`, `KEY="value"` or `KEY='value'`, keys in lower case.
fn parse(text: &str) -> HashMap<String, String> {
    let mut values = HashMap::new();
    for line in text.lines().map(str::trim) {
        let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
        let value = match quote {
            Some(quote) => value.trim_matches(quote).replace("\\\"", "\"").replace("\\$", "$").replace("\\\\", "\\"),
            None => value.to_owned(),
        };
        values.insert(key.to_ascii_lowercase(), value);
    }
    values
}

/// `20.04.2` is 20.04, `12` is 12, nothing for a rolling release.
fn major_minor(version: &str) -> Option<f64> {
    let mut parts = version.split('.');
    let major = parts.next().filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))?;
    let minor = parts.next().map(|part| {
        let end = part.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(part.len());
        &part[..end]
    });
    let text = match minor.filter(|digits| !digits.is_empty()) {
        Some(minor) => format!("{major}.{minor}"),
        None => major.to_owned(),
    };
    text.parse().ok().filter(|version| *version > 0.0)
}

/// `2026-04-30` as seconds since the Unix epoch, by the days-from-civil rule (Howard Hinnant).
fn day_to_seconds(day: &str) -> Option<f64> {
    let mut parts = day.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(((era * 146_097 + day_of_era - 719_468) * 86_400) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_file_becomes_labels() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("etc")).expect("folder");
        let text = "NAME=\"Ubuntu\"\nVERSION=\"20.04.2 LTS (Focal Fossa)\"\nID=ubuntu\nID_LIKE=debian\n\
                    # a comment=1\nPRETTY_NAME=\"Ubuntu 20.04.2 LTS\"\nVERSION_ID=\"20.04\"\nSUPPORT_END=2025-05-29\n\
                    VERSION_CODENAME=focal\n";
        std::fs::write(folder.path().join("etc/os-release"), text).expect("write");
        let mut out = Samples::default();
        let roots = Roots::new("/proc".into(), "/sys".into(), folder.path().into());
        Os::new(&roots).collect(&mut Vec::new(), &mut out).expect("collect");
        let found: Vec<(&str, f64)> = out.iter().map(|sample| (sample.series, sample.value)).collect();
        assert_eq!(
            found,
            [
                (
                    r#"node_os_info{build_id="",id="ubuntu",id_like="debian",image_id="",image_version="",name="Ubuntu",pretty_name="Ubuntu 20.04.2 LTS",variant="",variant_id="",version="20.04.2 LTS (Focal Fossa)",version_codename="focal",version_id="20.04"}"#,
                    1.0
                ),
                (r#"node_os_version{id="ubuntu",id_like="debian",name="Ubuntu"}"#, 20.04),
                ("node_os_support_end_timestamp_seconds", 1_748_476_800.0),
            ]
        );
    }

    #[test]
    fn versions_are_read_as_far_as_they_are_numbers() {
        assert_eq!(major_minor("12"), Some(12.0));
        assert_eq!(major_minor("20.04.2"), Some(20.04));
        assert_eq!(major_minor("rolling"), None);
        assert_eq!(major_minor(""), None);
    }
}
