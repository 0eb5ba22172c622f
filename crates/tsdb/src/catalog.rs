//! Names, values and series without their samples.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use ers_model::{Labels, TimeRange};
use ers_promql::source::{LabelMatcher, SourceError};
use roaring::RoaringBitmap;

use crate::db::{Inner, Listing};
use crate::error::StorageError;
use crate::head::registry::Registry;
use crate::matching::{Postings, resolve};
use crate::segment::index::Index;
use crate::sync::{lock, read};

/// Keeps the first `limit` items in order; 0 = all.
struct Collector<T> {
    items: BTreeSet<T>,
    limit: usize,
    truncated: bool,
}

impl<T: Ord> Collector<T> {
    fn new(limit: usize) -> Self {
        Collector { items: BTreeSet::new(), limit, truncated: false }
    }

    fn add(&mut self, item: T) {
        self.items.insert(item);
        if self.limit > 0 && self.items.len() > self.limit {
            self.items.pop_last();
            self.truncated = true;
        }
    }

    fn finish(self) -> Listing<T> {
        Listing { items: self.items.into_iter().collect(), truncated: self.truncated }
    }
}

/// Matchers of one `match[]`, the enforced ones included.
type Set<'a> = Vec<&'a LabelMatcher>;

/// Calls the one or the other with each place that may hold matching series, and the ids of those.
fn visit(
    db: &Inner,
    sets: &[Set<'_>],
    range: TimeRange,
    mut head: impl FnMut(&Registry, &RoaringBitmap),
    mut segment: impl FnMut(&Index, &RoaringBitmap) -> Option<()>,
) -> Result<(), SourceError> {
    let range = db.visible(range);
    {
        let registry = read(&db.head.registry);
        let mut ids = any_of(&*registry, sets);
        let silent: Vec<u32> = ids
            .iter()
            .filter(|id| !registry.get(*id).is_some_and(|series| lock(&series.state).overlaps(range)))
            .collect();
        for id in silent {
            ids.remove(id);
        }
        head(&registry, &ids);
    }
    for file in db.segments_in(range) {
        let failed = |error: StorageError| {
            db.suspect(&file, &error);
            SourceError::Storage(error.to_string())
        };
        let index = file.index().map_err(failed)?;
        segment(&index, &any_of(&*index, sets)).ok_or_else(|| failed(file.damaged("index")))?;
        db.index_used(&file);
    }
    Ok(())
}

fn any_of(index: &dyn Postings, sets: &[Set<'_>]) -> RoaringBitmap {
    sets.iter().map(|set| resolve(index, set.iter().copied())).fold(RoaringBitmap::new(), |all, ids| all | ids)
}

pub(crate) fn label_names(
    db: &Inner,
    sets: &[Set<'_>],
    range: TimeRange,
    limit: usize,
) -> Result<Listing<String>, SourceError> {
    let mut names = BTreeSet::new();
    let mut add = |name: &str| {
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
    };
    let add = std::cell::RefCell::new(&mut add);
    visit(
        db,
        sets,
        range,
        |registry, ids| {
            let series = ids.iter().filter_map(|id| registry.get(id));
            series.flat_map(|series| &series.labels).for_each(|(name, _)| add.borrow_mut()(name));
        },
        |index, ids| {
            if ids.len() == u64::from(index.series_count()) {
                index.label_names().for_each(|name| add.borrow_mut()(name));
                return Some(());
            }
            for id in ids {
                index.labels(id)?.into_iter().for_each(|(name, _)| add.borrow_mut()(name));
            }
            Some(())
        },
    )?;
    let mut collector = Collector::new(limit);
    names.into_iter().for_each(|name| collector.add(name));
    Ok(collector.finish())
}

pub(crate) fn label_values(
    db: &Inner,
    name: &str,
    sets: &[Set<'_>],
    range: TimeRange,
    limit: usize,
) -> Result<Listing<String>, SourceError> {
    let collector = std::cell::RefCell::new(Collector::new(limit));
    let add_from = |index: &dyn Postings, ids: &RoaringBitmap| {
        index.each_value(name, "", &mut |value, with| {
            if !with.is_disjoint(ids) {
                collector.borrow_mut().add(value.to_owned());
            }
            ControlFlow::Continue(())
        });
    };
    visit(
        db,
        sets,
        range,
        |registry, ids| add_from(registry, ids),
        |index, ids| {
            add_from(index, ids);
            Some(())
        },
    )?;
    Ok(collector.into_inner().finish())
}

pub(crate) fn series(
    db: &Inner,
    sets: &[Set<'_>],
    range: TimeRange,
    limit: usize,
) -> Result<Listing<Labels>, SourceError> {
    let collector = std::cell::RefCell::new(Collector::new(limit));
    visit(
        db,
        sets,
        range,
        |registry, ids| {
            for series in ids.iter().filter_map(|id| registry.get(id)) {
                collector.borrow_mut().add((*series.shared_labels()).clone());
            }
        },
        |index, ids| {
            for id in ids {
                collector.borrow_mut().add(Labels::from_pairs(index.labels(id)?));
            }
            Some(())
        },
    )?;
    Ok(collector.into_inner().finish())
}
