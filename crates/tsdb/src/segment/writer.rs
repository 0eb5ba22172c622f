//! Writes one segment, series by series.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ers_journal::Tenant;
use ers_journal::disk::{Disk, DiskFile};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::{CHECK_BYTES, END_MAGIC, Extent, HEADER_BYTES, Meta, SECTIONS, SUFFIX, TEMPORARY_SUFFIX, encode_header};
use crate::codec::{put_varint, zigzag};
use crate::error::StorageError;

const BUFFER_BYTES: usize = 256 * 1024;
/// Sets of at most so many ids are written as plain numbers.
const SMALL_SET: u64 = 64;

/// A time column as it lies in DATA.
struct Column {
    offset: u64,
    len: u32,
    count: u32,
    min_ms: i64,
    max_ms: i64,
}

struct ChunkRef {
    column: u32,
    offset: u64,
    len: u32,
}

/// An encoded time column that may already be in the file.
pub(crate) struct TimesRef<'a> {
    pub bytes: &'a [u8],
    pub count: u32,
    pub min_ms: i64,
    pub max_ms: i64,
}

pub(crate) struct Writer<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    temporary: PathBuf,
    id: Uuid,
    level: u32,
    created_ms: i64,
    sources: Vec<Uuid>,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
    sha: Sha256,
    checks: Vec<u32>,
    check: crc32fast::Hasher,
    /// Bytes of DATA in the block that `check` is about.
    check_bytes: u64,
    columns: Vec<Column>,
    /// By content: a 128-bit hash is identity enough for bytes that we made ourselves.
    known_columns: HashMap<u128, u32>,
    symbols: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// Label symbols of all series in one row, and the end of each series in it.
    labels: Vec<u32>,
    label_ends: Vec<u32>,
    chunks: Vec<ChunkRef>,
    chunk_ends: Vec<u32>,
    samples: u64,
    bounds: Option<(i64, i64)>,
}

impl<'a> Writer<'a> {
    pub fn create(
        disk: &'a dyn Disk,
        dir: &Path,
        tenant: Tenant,
        id: Uuid,
        level: u32,
        created_ms: i64,
        sources: Vec<Uuid>,
    ) -> Result<Self, StorageError> {
        let temporary = dir.join(format!("{id}.{TEMPORARY_SUFFIX}"));
        let file = disk.create(&temporary).map_err(|error| StorageError::io("create", &temporary, error))?;
        let header = encode_header(tenant, level, created_ms);
        let mut sha = Sha256::new();
        sha.update(header);
        Ok(Writer {
            disk,
            dir: dir.into(),
            temporary,
            id,
            level,
            created_ms,
            sources,
            file,
            buffer: header.to_vec(),
            written: 0,
            sha,
            checks: Vec::new(),
            check: crc32fast::Hasher::new(),
            check_bytes: 0,
            columns: Vec::new(),
            known_columns: HashMap::new(),
            symbols: HashMap::new(),
            texts: Vec::new(),
            labels: Vec::new(),
            label_ends: Vec::new(),
            chunks: Vec::new(),
            chunk_ends: Vec::new(),
            samples: 0,
            bounds: None,
        })
    }

    /// The series whose chunks follow. Series come in the order of their labels; each has a chunk.
    pub fn begin_series<'l>(&mut self, labels: impl Iterator<Item = (&'l str, &'l str)>) {
        for text in labels.flat_map(|(name, value)| [name, value]) {
            let symbol = match self.symbols.get(text) {
                Some(symbol) => *symbol,
                None => {
                    let shared: Arc<str> = text.into();
                    let symbol = self.texts.len() as u32;
                    self.texts.push(shared.clone());
                    self.symbols.insert(shared, symbol);
                    symbol
                }
            };
            self.labels.push(symbol);
        }
        self.label_ends.push(self.labels.len() as u32);
        self.chunk_ends.push(self.chunks.len() as u32);
    }

    /// A chunk of the series that was begun last.
    pub fn push_chunk(&mut self, times: &TimesRef<'_>, values: &[u8]) -> Result<(), StorageError> {
        let mut key = xxh3_128(times.bytes);
        key ^= u128::from(times.count) << 64;
        let column = match self.known_columns.get(&key) {
            Some(column) => *column,
            None => {
                let offset = self.data_offset();
                self.put_data(times.bytes)?;
                let column = self.columns.len() as u32;
                let len = times.bytes.len() as u32;
                let (count, min_ms, max_ms) = (times.count, times.min_ms, times.max_ms);
                self.columns.push(Column { offset, len, count, min_ms, max_ms });
                self.known_columns.insert(key, column);
                column
            }
        };
        let offset = self.data_offset();
        self.put_data(values)?;
        self.chunks.push(ChunkRef { column, offset, len: values.len() as u32 });
        if let Some(end) = self.chunk_ends.last_mut() {
            *end += 1;
        }
        self.samples += u64::from(times.count);
        let (min, max) = self.bounds.unwrap_or((times.min_ms, times.max_ms));
        self.bounds = Some((min.min(times.min_ms), max.max(times.max_ms)));
        Ok(())
    }

    fn data_offset(&self) -> u64 {
        self.written + self.buffer.len() as u64 - HEADER_BYTES as u64
    }

    fn put_data(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        self.put(bytes)?;
        while !bytes.is_empty() {
            let now = (CHECK_BYTES - self.check_bytes).min(bytes.len() as u64) as usize;
            self.check.update(&bytes[..now]);
            self.check_bytes += now as u64;
            bytes = &bytes[now..];
            if self.check_bytes == CHECK_BYTES {
                self.end_check();
            }
        }
        Ok(())
    }

    fn end_check(&mut self) {
        let check = std::mem::take(&mut self.check);
        self.checks.push(check.finalize());
        self.check_bytes = 0;
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.sha.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.drain() } else { Ok(()) }
    }

    fn drain(&mut self) -> Result<(), StorageError> {
        self.file.append(&self.buffer).map_err(|error| StorageError::io("write", &self.temporary, error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the file durable under its own name. Without a single chunk nothing is written.
    pub fn finish(mut self) -> Result<Option<(PathBuf, Meta)>, StorageError> {
        let Some((min_ms, max_ms)) = self.bounds else {
            self.discard();
            return Ok(None);
        };
        match self.finish_file(min_ms, max_ms) {
            Ok(done) => Ok(Some(done)),
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    /// Removes what was written so far.
    pub fn discard(self) {
        // Left behind, it is removed at the next start.
        let _ = self.disk.remove(&self.temporary);
    }

    fn finish_file(&mut self, min_ms: i64, max_ms: i64) -> Result<(PathBuf, Meta), StorageError> {
        if self.check_bytes > 0 {
            self.end_check();
        }
        let mut extents = [Extent::default(); SECTIONS.len()];
        // DATA has its own checks.
        extents[0] = Extent { crc: 0, offset: HEADER_BYTES as u64, len: self.data_offset() };
        let checks: Vec<u8> = self.checks.iter().flat_map(|check| check.to_le_bytes()).collect();
        extents[1] = self.put_section(&checks)?;
        let columns = self.encode_columns();
        extents[2] = self.put_section(&columns)?;
        let order = self.symbol_order();
        let symbols = self.encode_symbols(&order);
        extents[3] = self.put_section(&symbols)?;
        drop(symbols);
        let mut rank = vec![0_u32; order.len()];
        for (place, symbol) in order.iter().enumerate() {
            rank[*symbol as usize] = place as u32;
        }
        let series = self.encode_series(&rank);
        extents[4] = self.put_section(&series)?;
        drop(series);
        let postings = self.encode_postings(&rank);
        extents[5] = self.put_section(&postings)?;
        drop(postings);
        let meta = Meta {
            id: self.id,
            level: self.level,
            created_ms: self.created_ms,
            series: self.label_ends.len() as u64,
            samples: self.samples,
            min_ms,
            max_ms,
            sources: self.sources.clone(),
        };
        let footer = self.encode_footer(&extents, &meta);
        self.put(&footer)?;
        self.drain()?;
        let io = |operation, error| StorageError::io(operation, &self.temporary, error);
        self.file.sync_data().map_err(|error| io("sync", error))?;
        let path = self.dir.join(format!("{}.{SUFFIX}", self.id));
        self.disk.rename(&self.temporary, &path).map_err(|error| io("rename", error))?;
        self.disk.sync_dir(&self.dir).map_err(|error| {
            // Not known to be durable: it must not be taken for it.
            let _ = self.disk.rename(&path, &self.temporary);
            io("sync", error)
        })?;
        Ok((path, meta))
    }

    fn put_section(&mut self, bytes: &[u8]) -> Result<Extent, StorageError> {
        let offset = self.written + self.buffer.len() as u64;
        self.put(bytes)?;
        Ok(Extent { crc: crc32fast::hash(bytes), offset, len: bytes.len() as u64 })
    }

    fn encode_columns(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.columns.len() * 8);
        put_varint(&mut bytes, self.columns.len() as u64);
        let (mut end, mut previous_ms) = (0, 0_i64);
        for column in &self.columns {
            put_varint(&mut bytes, column.offset - end);
            put_varint(&mut bytes, u64::from(column.len));
            put_varint(&mut bytes, u64::from(column.count));
            put_varint(&mut bytes, zigzag(column.min_ms.wrapping_sub(previous_ms)));
            put_varint(&mut bytes, column.max_ms.wrapping_sub(column.min_ms) as u64);
            end = column.offset + u64::from(column.len);
            previous_ms = column.min_ms;
        }
        bytes
    }

    fn symbol_order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.texts.len() as u32).collect();
        order.sort_unstable_by(|left, right| self.texts[*left as usize].cmp(&self.texts[*right as usize]));
        order
    }

    fn encode_symbols(&self, order: &[u32]) -> Vec<u8> {
        with_table(order.len(), |at, into| into.extend_from_slice(self.texts[order[at] as usize].as_bytes()))
    }

    fn encode_series(&self, rank: &[u32]) -> Vec<u8> {
        let (mut label_start, mut chunk_start, mut end) = (0, 0, 0_u64);
        with_table(self.label_ends.len(), |at, into| {
            let labels = &self.labels[label_start..self.label_ends[at] as usize];
            let chunks = &self.chunks[chunk_start..self.chunk_ends[at] as usize];
            label_start += labels.len();
            chunk_start += chunks.len();
            put_varint(into, labels.len() as u64 / 2);
            for symbol in labels {
                put_varint(into, u64::from(rank[*symbol as usize]));
            }
            put_varint(into, chunks.len() as u64);
            // Each series can be read alone: its first offset is whole.
            end = 0;
            for chunk in chunks {
                put_varint(into, u64::from(chunk.column));
                put_varint(into, zigzag(chunk.offset.wrapping_sub(end) as i64));
                put_varint(into, u64::from(chunk.len));
                end = chunk.offset + u64::from(chunk.len);
            }
        })
    }

    fn encode_postings(&self, rank: &[u32]) -> Vec<u8> {
        // (name, value, series), all by rank: sorting it groups it.
        let mut entries: Vec<(u32, u32, u32)> = Vec::with_capacity(self.labels.len() / 2);
        let mut start = 0;
        for (series, end) in self.label_ends.iter().enumerate() {
            for pair in self.labels[start..*end as usize].chunks_exact(2) {
                entries.push((rank[pair[0] as usize], rank[pair[1] as usize], series as u32));
            }
            start = *end as usize;
        }
        entries.sort_unstable();
        let mut bytes = Vec::with_capacity(entries.len() * 2);
        let names: Vec<_> = entries.chunk_by(|left, right| left.0 == right.0).collect();
        put_varint(&mut bytes, names.len() as u64);
        for name in names {
            put_varint(&mut bytes, u64::from(name[0].0));
            let values: Vec<_> = name.chunk_by(|left, right| left.1 == right.1).collect();
            put_varint(&mut bytes, values.len() as u64);
            for value in values {
                put_varint(&mut bytes, u64::from(value[0].1));
                put_set(&mut bytes, value.iter().map(|entry| entry.2));
            }
        }
        bytes
    }

    fn encode_footer(&self, extents: &[Extent], meta: &Meta) -> Vec<u8> {
        let mut footer = Vec::with_capacity(256);
        for (section, extent) in SECTIONS.iter().zip(extents) {
            footer.extend_from_slice(&(*section as u32).to_le_bytes());
            footer.extend_from_slice(&extent.crc.to_le_bytes());
            footer.extend_from_slice(&extent.offset.to_le_bytes());
            footer.extend_from_slice(&extent.len.to_le_bytes());
        }
        footer.extend_from_slice(&meta.series.to_le_bytes());
        footer.extend_from_slice(&meta.samples.to_le_bytes());
        footer.extend_from_slice(&meta.min_ms.to_le_bytes());
        footer.extend_from_slice(&meta.max_ms.to_le_bytes());
        footer.extend_from_slice(&(meta.sources.len() as u32).to_le_bytes());
        for source in &meta.sources {
            footer.extend_from_slice(source.as_bytes());
        }
        footer.extend_from_slice(&self.sha.clone().finalize());
        let len = footer.len() as u32;
        let crc = crc32fast::hash(&footer);
        footer.extend_from_slice(&len.to_le_bytes());
        footer.extend_from_slice(&crc.to_le_bytes());
        footer.extend_from_slice(&END_MAGIC);
        footer
    }
}

/// Count, a table of end offsets, and what `each` writes.
fn with_table(count: usize, mut each: impl FnMut(usize, &mut Vec<u8>)) -> Vec<u8> {
    let mut table = Vec::with_capacity(4 + count * 4);
    table.extend_from_slice(&(count as u32).to_le_bytes());
    let mut content = Vec::with_capacity(count * 16);
    for at in 0..count {
        each(at, &mut content);
        table.extend_from_slice(&(content.len() as u32).to_le_bytes());
    }
    table.extend_from_slice(&content);
    table
}

/// Rising ids.
fn put_set(into: &mut Vec<u8>, ids: impl ExactSizeIterator<Item = u32>) {
    let mut content = Vec::new();
    let small = ids.len() as u64 <= SMALL_SET;
    if small {
        let mut previous = 0;
        for id in ids {
            put_varint(&mut content, u64::from(id - previous));
            previous = id;
        }
    } else {
        let mut set: RoaringBitmap = ids.collect();
        set.optimize();
        // Writing to memory does not fail.
        let _ = set.serialize_into(&mut content);
    }
    into.push(u8::from(!small));
    put_varint(into, content.len() as u64);
    into.extend_from_slice(&content);
}

/// An id for a segment that is younger than all others.
pub(crate) fn new_id(now_ms: i64, last: Option<Uuid>) -> Uuid {
    let now_ms = u64::try_from(now_ms).unwrap_or(0);
    let last_ms = last.and_then(|last| last.get_timestamp()).map_or(0, |stamp| {
        let (seconds, nanos) = stamp.to_unix();
        seconds * 1000 + u64::from(nanos) / 1_000_000
    });
    // Of two segments with a sample of the same time the older one wins, so their order is never left to chance or to a clock set back.
    let now_ms = now_ms.max(last_ms + 1);
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, now_ms / 1000, (now_ms % 1000) as u32 * 1_000_000);
    Uuid::new_v7(stamp)
}
