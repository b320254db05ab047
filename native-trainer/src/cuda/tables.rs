//! What kernels must know of a ragged batch: made once for a batch, used by all its blocks.

use std::rc::Rc;

use paddock_engine::Result;
use paddock_engine::backend::Segments;

use super::driver::{Driver, Slice};
use super::launch::{AttentionKind, Tiles};
use super::{Cuda, launch};

/// Batches whose tables are kept: a batch asks for two kinds, with and without a cache.
const KEPT: usize = 4;
/// Words of a tile, as kernels/attention.cu reads them.
const TILE_WORDS: usize = 5;

/// Tables of one batch, in one buffer.
pub(super) struct Tables<B> {
    segments: Segments,
    /// Tokens of a sequence in the cache; without one, keys are the batch's own rows.
    capacity: Option<usize>,
    buffer: B,
    rows: usize,
    tiles: usize,
}

impl<B> Tables<B> {
    fn words(&self, first: usize) -> Slice<'_, B> {
        Slice::from(&self.buffer).after(4 * first)
    }

    /// The position of each row in its document.
    pub fn positions(&self) -> Slice<'_, B> {
        self.words(0)
    }

    /// The row of keys that each row has of its own: its slot in the cache.
    pub fn slots(&self) -> Slice<'_, B> {
        self.words(self.rows)
    }

    /// Tiles of the rows that the kernels of `kind` take.
    pub fn tiles(&self, kind: AttentionKind) -> Tiles<'_, B> {
        let first = 2 * self.rows;
        match kind {
            AttentionKind::Rows => Tiles { list: self.words(first), count: self.rows as u32 },
            AttentionKind::Tiled => {
                Tiles { list: self.words(first + self.rows * TILE_WORDS), count: self.tiles as u32 }
            }
        }
    }
}

/// Tiles of at most `height` rows; those that see most keys first, so that none of them is started last.
fn tiles(segments: &Segments, capacity: Option<usize>, height: usize) -> Vec<[u32; TILE_WORDS]> {
    let mut tiles = Vec::new();
    for segment in segments.iter() {
        let keys = capacity.map_or(segment.start, |capacity| segment.sequence * capacity);
        for row in (0..segment.len).step_by(height) {
            let rows = height.min(segment.len - row);
            let words = [segment.start + row, rows, segment.past + row, keys, segment.start + segment.len];
            tiles.push(words.map(|word| word as u32));
        }
    }
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile[2]));
    tiles
}

impl<D: Driver> Cuda<D> {
    /// The tables of a batch, for a cache of `capacity` tokens a sequence or without one.
    pub(super) fn tables(&self, segments: &Segments, capacity: Option<usize>) -> Result<Rc<Tables<D::Buffer>>> {
        let mut kept = self.0.tables.borrow_mut();
        if let Some(found) = kept.iter().find(|kept| kept.capacity == capacity && kept.segments == *segments) {
            return Ok(found.clone());
        }
        let rows = segments.rows();
        let single = tiles(segments, capacity, 1);
        let tiled = tiles(segments, capacity, launch::TILE_ROWS);
        let mut slots = vec![0; rows];
        single.iter().for_each(|[first, _, position, keys, _]| slots[*first as usize] = keys + position);
        let mut words = segments.positions();
        words.extend(slots);
        words.extend(single.iter().chain(&tiled).flatten());
        let tables = Tables {
            segments: segments.clone(),
            capacity,
            buffer: self.upload_words(&words)?,
            rows,
            tiles: tiled.len(),
        };
        kept.truncate(KEPT - 1);
        kept.insert(0, Rc::new(tables));
        Ok(kept[0].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_row_once_and_never_two_documents() {
        let mut segments = Segments::documents(&[70, 1, 64]);
        segments.push(3, 500, 2);
        for (height, count) in [(1, 138), (64, 5)] {
            let tiles = tiles(&segments, Some(600), height);
            assert_eq!(tiles.len(), count);
            let mut seen = vec![0; segments.rows()];
            for [first, rows, position, keys, end] in tiles {
                assert!(first + rows <= end && rows as usize <= height);
                let segment = segments.iter().find(|s| s.rows().contains(&(first as usize))).unwrap();
                assert_eq!(position as usize, segment.past + first as usize - segment.start);
                assert_eq!((keys as usize, end as usize), (segment.sequence * 600, segment.start + segment.len));
                (first..first + rows).for_each(|row| seen[row as usize] += 1);
            }
            assert!(seen.iter().all(|count| *count == 1));
        }
        assert_eq!(tiles(&segments, None, 64)[0], [135, 3, 500, 135, 138], "the row that sees most keys is first");
    }
}
