//! Rows of a weight in memory, in their file's encoding.

use std::ops::Range;

use bytemuck::Zeroable;

use crate::Encoding;
use crate::lanes::{Kernel, Lanes, Simd};
use crate::packing::{GROUP, RowLayout};
use crate::plane::{Plane, PlaneKernel, run_for};
use crate::scales::{scales_per_group, unpack_scales};

/// Packed rows of one encoding.
#[derive(Debug)]
pub struct PackedRows {
    rows: usize,
    pub(crate) encoding: Encoding,
    pub(crate) layout: RowLayout,
    heads: Vec<u8>,
    /// Integers or floats, as words so that floats are aligned.
    bodies: Vec<u32>,
}

impl PackedRows {
    /// Zeros for `rows` rows of `cols` values, which are whole blocks; `None` when there is no room for them.
    #[inline(never)]
    pub fn zeros(encoding: Encoding, rows: usize, cols: usize) -> Option<Self> {
        let layout = RowLayout::new(encoding, cols);
        let heads = zeros(rows, layout.head_bytes)?;
        let bodies = zeros(rows, layout.body_words)?;
        Some(Self { rows, encoding, layout, heads, bodies })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How the values were encoded in the file.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Values of a row, filled up to whole groups of [`GROUP`].
    pub fn stride(&self) -> usize {
        self.layout.groups * GROUP
    }

    /// Packs rows of the file, `row_bytes` each, into the rows from `first` on.
    #[inline(never)]
    pub fn write(&mut self, first: usize, bytes: &[u8], row_bytes: usize) {
        let layout = self.layout;
        let bodies: &mut [u8] = bytemuck::cast_slice_mut(&mut self.bodies);
        let body_bytes = 4 * layout.body_words;
        for (index, row) in (first..).zip(bytes.chunks_exact(row_bytes)) {
            let head = &mut self.heads[index * layout.head_bytes..][..layout.head_bytes];
            let body = &mut bodies[index * body_bytes..][..body_bytes];
            body.fill(0);
            layout.pack(row, head, body);
        }
    }

    /// `rows` as floats into `out`, `width` values a row: the columns, or all groups with the zeros that fill the last.
    #[inline(never)]
    pub fn unpack(&self, simd: Simd, rows: Range<usize>, width: usize, out: &mut [f32]) {
        simd.run(UnpackRows { part: self, rows, width, out });
    }

    /// The integers or floats of all rows, as words of 32 bits. Floats are those of the file, [`Self::stride`] a row.
    pub fn words(&self) -> &[u32] {
        &self.bodies
    }

    /// As [`Self::words`], to be changed in place.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.bodies
    }

    /// Integers or floats of a row.
    #[inline(always)]
    pub(crate) fn groups<P: Plane>(&self, row: usize) -> &[P::Group] {
        let words = self.layout.body_words;
        bytemuck::cast_slice(&self.bodies[row * words..][..words])
    }

    /// Unpacks the scales of `rows` into `scales`.
    #[inline(always)]
    pub(crate) fn unpack_scales<L: Lanes>(&self, lanes: L, rows: Range<usize>, scales: &mut Vec<f32>) {
        let heads = &self.heads[rows.start * self.layout.head_bytes..rows.end * self.layout.head_bytes];
        scales.resize(rows.len() * self.layout.groups * scales_per_group(self.encoding), 0.0);
        unpack_scales(lanes, self.encoding, heads, scales);
    }
}

/// Zeros for `rows` rows of `len` elements, if there is room.
fn zeros<T: Zeroable + Clone>(rows: usize, len: usize) -> Option<Vec<T>> {
    let size = rows.checked_mul(len)?;
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(size).ok()?;
    zeros.resize(size, T::zeroed());
    Some(zeros)
}

/// See [`PackedRows::unpack`].
struct UnpackRows<'a> {
    part: &'a PackedRows,
    rows: Range<usize>,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for UnpackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let mut scales = Vec::new();
        self.part.unpack_scales(lanes, self.rows.clone(), &mut scales);
        run_for(lanes, self.part.encoding, UnpackScaled { rows: self, scales: &scales });
    }
}

struct UnpackScaled<'a, 'b> {
    rows: UnpackRows<'a>,
    scales: &'b [f32],
}

impl PlaneKernel for UnpackScaled<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes, P: Plane>(self, lanes: L) {
        let UnpackRows { part, rows, width, out } = self.rows;
        let groups = part.layout.groups;
        let scales: &[P::Scale] = bytemuck::cast_slice(self.scales);
        for (index, row) in rows.enumerate() {
            let (whole, rest) = out[index * width..][..width].as_chunks_mut::<GROUP>();
            for (group, packed) in part.groups::<P>(row).iter().enumerate() {
                let scale = if P::SCALED { &scales[index * groups + group] } else { &P::Scale::zeroed() };
                let [a, b, c, d] = P::unpack(lanes, packed, scale);
                let values = [lanes.store(a), lanes.store(b), lanes.store(c), lanes.store(d)];
                match whole.get_mut(group) {
                    Some(whole) => *bytemuck::cast_mut(whole) = values,
                    None => rest.copy_from_slice(&values.as_flattened()[..rest.len()]),
                }
            }
        }
    }
}
