//! What one collection produced: series as exposition text, and their values, in one arena that is used again.

use ers_wire::exposition::{Kind, Writer, write_label_value};

/// One sample of a collection.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    name_end: u32,
    end: u32,
    kind: Kind,
    value: f64,
}

/// A sample, borrowed from its collection.
#[derive(Clone, Copy, Debug)]
pub struct SampleView<'a> {
    /// `name{a="b"}`, escaped as the exposition format wants it.
    pub series: &'a str,
    pub name: &'a str,
    pub kind: Kind,
    pub value: f64,
}

/// The samples of one collection. Clearing keeps the memory, so a steady state allocates nothing.
#[derive(Debug, Default)]
pub struct Samples {
    text: String,
    entries: Vec<Entry>,
}

impl Samples {
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn gauge(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.push(Kind::Gauge, &[name], labels, value);
    }

    pub fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.push(Kind::Counter, &[name], labels, value);
    }

    pub fn untyped(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.push(Kind::Untyped, &[name], labels, value);
    }

    /// A sample whose name is put together from parts. Labels with an empty value are kept, as exporters print them.
    pub fn push(&mut self, kind: Kind, name: &[&str], labels: &[(&str, &str)], value: f64) {
        let start = self.text.len();
        for part in name {
            self.text.push_str(part);
        }
        let name_end = self.text.len();
        for (at, (label, text)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            write_label_value(&mut self.text, text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.finish(start, name_end, kind, value);
    }

    /// A sample whose series is exposition text already.
    pub fn push_series(&mut self, kind: Kind, series: &str, value: f64) {
        let start = self.text.len();
        self.text.push_str(series);
        let name_end = start + series.find('{').unwrap_or(series.len());
        self.finish(start, name_end, kind, value);
    }

    fn finish(&mut self, start: usize, name_end: usize, kind: Kind, value: f64) {
        // A collection stays far below 4 GiB: limits on bodies and on files that are read see to it.
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.entries.push(Entry {
            start: narrow(start),
            name_end: narrow(name_end),
            end: narrow(self.text.len()),
            kind,
            value,
        });
    }

    /// Forgets everything pushed after a point that [`Samples::len`] gave: a collector that failed leaves no half.
    pub fn truncate(&mut self, len: usize) {
        if let Some(first) = self.entries.get(len) {
            self.text.truncate(first.start as usize);
        }
        self.entries.truncate(len);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = SampleView<'_>> {
        self.entries.iter().map(|entry| self.view(entry))
    }

    fn view(&self, entry: &Entry) -> SampleView<'_> {
        SampleView {
            series: &self.text[entry.start as usize..entry.end as usize],
            name: &self.text[entry.start as usize..entry.name_end as usize],
            kind: entry.kind,
            value: entry.value,
        }
    }

    /// The collection as text format 0.0.4, families sorted by name and kept together.
    pub fn write_text(&self, out: &mut String) {
        let mut order: Vec<SampleView<'_>> = self.iter().collect();
        order.sort_by(|left, right| left.name.cmp(right.name));
        let mut family = "";
        let mut writer = Writer::new(out);
        for sample in order {
            if sample.name != family {
                family = sample.name;
                writer.family(family, sample.kind);
            }
            writer.series(sample.series, sample.value, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_written_with_its_families_together() {
        let mut samples = Samples::default();
        samples.gauge("b", &[("x", "1\"")], 1.0);
        samples.counter("a_total", &[], 2.0);
        samples.gauge("b", &[("x", "")], 3.0);
        let mut text = String::new();
        samples.write_text(&mut text);
        assert_eq!(text, "# TYPE a_total counter\na_total 2\n# TYPE b gauge\nb{x=\"1\\\"\"} 1\nb{x=\"\"} 3\n");
    }

    #[test]
    fn truncating_takes_back_what_was_pushed_since() {
        let mut samples = Samples::default();
        samples.gauge("a", &[], 1.0);
        let mark = samples.len();
        samples.gauge("b", &[("c", "d")], 1.0);
        samples.truncate(mark);
        samples.gauge("e", &[], 1.0);
        let names: Vec<&str> = samples.iter().map(|sample| sample.series).collect();
        assert_eq!(names, ["a", "e"]);
    }
}
