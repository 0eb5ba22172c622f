//! A segment's index, as its sections lie in the file: looked into in place, nothing unpacked that is not asked for.

use std::ops::ControlFlow;

use roaring::RoaringBitmap;

use super::{MAX_CHUNK_SAMPLES, u32_at};
use crate::codec::{get_varint, unzigzag};
use crate::matching::Postings;

/// A time column in DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub offset: u64,
    pub len: u32,
    pub count: u32,
    pub min_ms: i64,
    pub max_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRef {
    pub column: u32,
    pub offset: u64,
    pub len: u32,
}

struct Name {
    symbol: u32,
    values: Vec<Value>,
}

/// A label's value and where its set of series lies in POSTINGS.
struct Value {
    symbol: u32,
    kind: u8,
    start: u32,
    len: u32,
}

pub(crate) struct Index {
    columns: Vec<Column>,
    symbols: Vec<u8>,
    series: Vec<u8>,
    postings: Vec<u8>,
    /// Sorted by symbol, which is the order of the texts.
    names: Vec<Name>,
}

/// The part of a table (count, end offsets, content) that belongs to one entry.
fn entry(table: &[u8], at: usize) -> Option<&[u8]> {
    let count = u32_at(table, 0) as usize;
    if at >= count {
        return None;
    }
    let content = 4 + count * 4;
    let start = if at == 0 { 0 } else { u32_at(table, at * 4) as usize };
    let end = u32_at(table, 4 + at * 4) as usize;
    table.get(content + start..content + end)
}

fn parse_columns(bytes: &[u8]) -> Option<Vec<Column>> {
    let mut at = 0;
    let count = get_varint(bytes, &mut at)?;
    // A column takes five bytes or more.
    let mut columns = Vec::with_capacity((count as usize).min(bytes.len() / 5 + 1));
    let (mut end, mut previous_ms) = (0_u64, 0_i64);
    for _ in 0..count {
        let offset = end.checked_add(get_varint(bytes, &mut at)?)?;
        let len = u32::try_from(get_varint(bytes, &mut at)?).ok()?;
        let count = get_varint(bytes, &mut at)?;
        if count > MAX_CHUNK_SAMPLES {
            return None;
        }
        let min_ms = previous_ms.wrapping_add(unzigzag(get_varint(bytes, &mut at)?));
        let max_ms = min_ms.wrapping_add(get_varint(bytes, &mut at)? as i64);
        columns.push(Column { offset, len, count: count as u32, min_ms, max_ms });
        end = offset + u64::from(len);
        previous_ms = min_ms;
    }
    Some(columns)
}

fn parse_names(bytes: &[u8]) -> Option<Vec<Name>> {
    let mut at = 0;
    let count = get_varint(bytes, &mut at)?;
    let mut names = Vec::new();
    for _ in 0..count {
        let symbol = u32::try_from(get_varint(bytes, &mut at)?).ok()?;
        let count = get_varint(bytes, &mut at)? as usize;
        let mut values = Vec::with_capacity(count.min(bytes.len() / 4 + 1));
        for _ in 0..count {
            let symbol = u32::try_from(get_varint(bytes, &mut at)?).ok()?;
            let kind = *bytes.get(at)?;
            at += 1;
            let len = u32::try_from(get_varint(bytes, &mut at)?).ok()?;
            values.push(Value { symbol, kind, start: u32::try_from(at).ok()?, len });
            at = at.checked_add(len as usize).filter(|end| *end <= bytes.len())?;
        }
        names.push(Name { symbol, values });
    }
    Some(names)
}

impl Index {
    /// `None` when the sections contradict themselves.
    pub fn parse(columns: &[u8], symbols: Vec<u8>, series: Vec<u8>, postings: Vec<u8>) -> Option<Self> {
        let columns = parse_columns(columns)?;
        let names = parse_names(&postings)?;
        Some(Index { columns, symbols, series, postings, names })
    }

    /// Memory it takes, about.
    pub fn bytes(&self) -> usize {
        let values: usize = self.names.iter().map(|name| name.values.len() * size_of::<Value>()).sum();
        let columns = self.columns.len() * size_of::<Column>();
        self.symbols.len() + self.series.len() + self.postings.len() + values + columns
    }

    pub fn series_count(&self) -> u32 {
        u32_at(&self.series, 0)
    }

    pub fn column(&self, id: u32) -> Option<&Column> {
        self.columns.get(id as usize)
    }

    fn symbol_count(&self) -> usize {
        u32_at(&self.symbols, 0) as usize
    }

    fn text(&self, symbol: u32) -> Option<&str> {
        std::str::from_utf8(entry(&self.symbols, symbol as usize)?).ok()
    }

    fn find_symbol(&self, text: &str) -> Option<u32> {
        let at = self.symbols_below(|held| held < text.as_bytes());
        (entry(&self.symbols, at)? == text.as_bytes()).then_some(at as u32)
    }

    /// The number of symbols for which `below` holds; they come first.
    fn symbols_below(&self, below: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.symbol_count());
        while low < high {
            let middle = low + (high - low) / 2;
            if entry(&self.symbols, middle).is_some_and(&below) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Labels of a series, sorted by name.
    pub fn labels(&self, id: u32) -> Option<Vec<(&str, &str)>> {
        let bytes = entry(&self.series, id as usize)?;
        let mut at = 0;
        let count = get_varint(bytes, &mut at)?;
        let mut labels = Vec::with_capacity((count as usize).min(bytes.len() / 2));
        for _ in 0..count {
            let name = self.text(u32::try_from(get_varint(bytes, &mut at)?).ok()?)?;
            let value = self.text(u32::try_from(get_varint(bytes, &mut at)?).ok()?)?;
            labels.push((name, value));
        }
        Some(labels)
    }

    /// Calls `each` with the chunks of a series. `None` when the entry is damaged.
    pub fn each_chunk(&self, id: u32, mut each: impl FnMut(ChunkRef, &Column)) -> Option<()> {
        let bytes = entry(&self.series, id as usize)?;
        let mut at = 0;
        for _ in 0..get_varint(bytes, &mut at)? * 2 {
            get_varint(bytes, &mut at)?;
        }
        let mut end = 0_u64;
        for _ in 0..get_varint(bytes, &mut at)? {
            let column = u32::try_from(get_varint(bytes, &mut at)?).ok()?;
            let offset = end.wrapping_add(unzigzag(get_varint(bytes, &mut at)?) as u64);
            let len = u32::try_from(get_varint(bytes, &mut at)?).ok()?;
            end = offset.checked_add(u64::from(len))?;
            each(ChunkRef { column, offset, len }, self.columns.get(column as usize)?);
        }
        Some(())
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let symbol = self.find_symbol(name)?;
        let at = self.names.binary_search_by_key(&symbol, |name| name.symbol).ok()?;
        Some(&self.names[at])
    }

    fn set(&self, value: &Value) -> RoaringBitmap {
        let start = value.start as usize;
        let bytes = self.postings.get(start..start + value.len as usize).unwrap_or(&[]);
        if value.kind == 1 {
            return RoaringBitmap::deserialize_from(bytes).unwrap_or_default();
        }
        let (mut at, mut id) = (0, 0_u32);
        let mut set = RoaringBitmap::new();
        while at < bytes.len() {
            let Some(step) = get_varint(bytes, &mut at).and_then(|step| u32::try_from(step).ok()) else { break };
            id = id.saturating_add(step);
            set.insert(id);
        }
        set
    }

    /// Names of all labels.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| self.text(name.symbol))
    }
}

impl Postings for Index {
    fn all(&self) -> RoaringBitmap {
        (0..self.series_count()).collect()
    }

    fn with_value(&self, name: &str, value: &str) -> RoaringBitmap {
        let found = self.name(name).zip(self.find_symbol(value)).and_then(|(name, symbol)| {
            let at = name.values.binary_search_by_key(&symbol, |value| value.symbol).ok()?;
            Some(self.set(&name.values[at]))
        });
        found.unwrap_or_default()
    }

    fn each_value(&self, name: &str, prefix: &str, each: &mut dyn FnMut(&str, &RoaringBitmap) -> ControlFlow<()>) {
        let Some(name) = self.name(name) else { return };
        let first = self.symbols_below(|held| held < prefix.as_bytes()) as u32;
        let start = name.values.partition_point(|value| value.symbol < first);
        for value in &name.values[start..] {
            let Some(text) = self.text(value.symbol) else { return };
            if !text.starts_with(prefix) || each(text, &self.set(value)).is_break() {
                return;
            }
        }
    }
}
