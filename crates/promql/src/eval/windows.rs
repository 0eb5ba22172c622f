//! Which samples of a series lie in the range of each step.

use std::sync::Arc;

use super::Grid;

/// Where the ranges lie: left-open windows `(end - range, end]`, one per step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub grid: Grid,
    pub range: i64,
    /// How far the windows lie back from their step.
    pub offset: i64,
    /// All windows end here (less the offset), whatever the step.
    pub at: Option<i64>,
    /// How far an extended range looks beyond its ends.
    pub lookback: i64,
}

impl Frame {
    /// End of a step's window, included.
    pub fn end(&self, step: usize) -> i64 {
        self.at.unwrap_or_else(|| self.grid.time(step)) - self.offset
    }

    /// Start of a step's window, excluded.
    pub fn start(&self, step: usize) -> i64 {
        self.end(step) - self.range
    }
}

/// Index ranges of samples, one per step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows {
    pub from: Vec<u32>,
    pub to: Vec<u32>,
}

impl Windows {
    pub fn compute(&mut self, timestamps: &[i64], frame: &Frame) {
        self.from.clear();
        self.to.clear();
        let (mut from, mut to) = (0, 0);
        for step in 0..frame.grid.count {
            let end = frame.end(step);
            while to < timestamps.len() && timestamps[to] <= end {
                to += 1;
            }
            while from < to && timestamps[from] <= end - frame.range {
                from += 1;
            }
            self.from.push(from as u32);
            self.to.push(to as u32);
        }
    }

    pub fn get(&self, step: usize) -> (usize, usize) {
        (self.from[step] as usize, self.to[step] as usize)
    }

    /// Samples over all windows, for choosing between direct and prefix forms.
    pub fn total(&self) -> usize {
        self.from.iter().zip(&self.to).map(|(from, to)| (to - from) as usize).sum()
    }
}

/// Windows of the last column of times, for one frame; series of one scrape share theirs.
#[derive(Default)]
pub(crate) struct WindowCache {
    timestamps: Option<Arc<[i64]>>,
    windows: Windows,
}

impl WindowCache {
    pub fn windows(&mut self, timestamps: &Arc<[i64]>, frame: &Frame) -> &Windows {
        let known = self.timestamps.as_ref().is_some_and(|last| Arc::ptr_eq(last, timestamps));
        if !known {
            self.windows.compute(timestamps, frame);
            self.timestamps = Some(timestamps.clone());
        }
        &self.windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_open_on_the_left_and_closed_on_the_right() {
        let frame =
            Frame { grid: Grid { start: 100, step: 50, count: 3 }, range: 100, offset: 0, at: None, lookback: 0 };
        let mut windows = Windows::default();
        windows.compute(&[0, 50, 100, 150, 200], &frame);
        assert_eq!((windows.get(0), windows.get(1), windows.get(2)), ((1, 3), (2, 4), (3, 5)));
    }
}
