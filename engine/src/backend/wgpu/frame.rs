//! Recording work, and submitting it.
//!
//! Dispatches are recorded as (pipeline, bind group, offset of the parameters, grid) and encoded into one compute pass
//! at the next submit. Parameters lie in one uniform buffer, row tables in one storage buffer. Equal ones are stored
//! once and stay until the buffer is full, so that a decoding step uploads only what is new: its position.

use std::collections::HashMap;
use std::rc::Rc;

use super::buffers::{Buffer, Pool, Purpose};
use super::fault::Fault;
use super::pipelines::Pipelines;
use super::shaders::{PARAMS, Params, Variant};
use crate::{Error, Result};

/// Distinct parameters that are kept.
pub(super) const PARAMS_SLOTS: u64 = 1024;
/// Words of all row tables that are kept.
pub(super) const TABLE_WORDS: usize = 1 << 17;

struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    offset: u32,
    grid: [u32; 3],
}

/// The work recorded since the last submit, and what all work shares.
pub(super) struct Frame {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pool: Rc<Pool>,
    fault: Fault,
    pipelines: Pipelines,
    dispatches: Vec<Dispatch>,
    params: Vec<u8>,
    params_sent: usize,
    params_at: HashMap<Params, u32>,
    params_stride: u64,
    params_buffer: wgpu::Buffer,
    table_words: Vec<u32>,
    table_words_sent: usize,
    tables_at: HashMap<Vec<u32>, u32>,
    /// The buffer of all tables.
    pub(super) tables: Buffer,
    /// Stands in for a buffer that a dispatch does not have (no bias, no scales).
    pub(super) zero: Buffer,
    max_grid: u32,
    /// Bytes handed to the queue since the last submit.
    unsent: u64,
    /// Dispatches submitted or recorded since the device was opened.
    pub(super) dispatch_count: u64,
    /// Submits since the device was opened.
    pub(super) submit_count: u64,
    /// Rows of the batch that passes through the model.
    pub(super) batch_rows: usize,
}

impl Frame {
    /// Nothing recorded. `half` tells whether kernels may use shader-f16.
    pub(super) fn new(
        device: &wgpu::Device,
        queue: wgpu::Queue,
        limits: &wgpu::Limits,
        half: bool,
        pool: &Rc<Pool>,
        fault: &Fault,
    ) -> Self {
        let params_stride = u64::from(limits.min_uniform_buffer_offset_alignment).max(4 * PARAMS as u64);
        Self {
            params_buffer: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size: params_stride * PARAMS_SLOTS,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
            tables: pool.create(device, "tables", 4 * TABLE_WORDS as u64, Purpose::Activations),
            zero: pool.create(device, "zero", 16, Purpose::Activations),
            pipelines: Pipelines::new(device, half),
            device: device.clone(),
            queue,
            pool: pool.clone(),
            fault: fault.clone(),
            dispatches: Vec::new(),
            params: Vec::new(),
            params_sent: 0,
            params_at: HashMap::new(),
            params_stride,
            table_words: Vec::new(),
            table_words_sent: 0,
            tables_at: HashMap::new(),
            max_grid: limits.max_compute_workgroups_per_dimension,
            unsent: 0,
            dispatch_count: 0,
            submit_count: 0,
            batch_rows: 0,
        }
    }

    /// Records `variant` on `buffers` (bindings from 1 on, in the order of the op's access string).
    pub(super) fn dispatch(
        &mut self,
        variant: Variant,
        params: Params,
        buffers: &[&Buffer],
        grid: [u32; 3],
    ) -> Result<()> {
        if grid.iter().any(|size| *size > self.max_grid) {
            return Err(Error::Request(format!(
                "{:?} needs a grid of {grid:?} workgroups and the device allows {}; use a smaller batch",
                variant.op, self.max_grid
            )));
        }
        if grid.contains(&0) {
            return Ok(());
        }
        let offset = self.params_offset(params)?;
        let (pipeline, bind_group) = self.pipelines.get(variant, &self.params_buffer, buffers);
        self.dispatches.push(Dispatch { pipeline, bind_group, offset, grid });
        self.dispatch_count += 1;
        Ok(())
    }

    /// Where parameters lie in their buffer, in bytes.
    fn params_offset(&mut self, params: Params) -> Result<u32> {
        if let Some(offset) = self.params_at.get(&params) {
            return Ok(*offset);
        }
        if self.params_at.len() as u64 == PARAMS_SLOTS {
            self.submit()?;
            self.params.clear();
            self.params_at.clear();
            self.params_sent = 0;
        }
        let offset = self.params.len();
        self.params.extend_from_slice(bytemuck::cast_slice(&params));
        self.params.resize(offset + self.params_stride as usize, 0);
        self.params_at.insert(params, offset as u32);
        Ok(offset as u32)
    }

    /// Stores a table and gives its offset in words, valid until the next call.
    pub(super) fn table(&mut self, words: Vec<u32>) -> Result<u32> {
        if words.len() > TABLE_WORDS {
            return Err(Error::Request(format!(
                "a batch of {} rows is too long; use a smaller batch",
                words.len() / 2
            )));
        }
        if let Some(offset) = self.tables_at.get(&words) {
            return Ok(*offset);
        }
        if self.table_words.len() + words.len() > TABLE_WORDS {
            self.submit()?;
            self.table_words.clear();
            self.tables_at.clear();
            self.table_words_sent = 0;
        }
        let offset = self.table_words.len() as u32;
        self.table_words.extend_from_slice(&words);
        self.tables_at.insert(words, offset);
        Ok(offset)
    }

    /// Copies bytes to a buffer, after all work recorded so far.
    pub(super) fn write(&mut self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        /// Natively the queue keeps its copy of written bytes until the next submit.
        const UNSENT_LIMIT: u64 = 16 << 20;
        self.submit_recorded()?;
        self.queue.write_buffer(buffer.raw(), offset, bytes);
        self.unsent += bytes.len() as u64;
        if self.unsent >= UNSENT_LIMIT {
            self.submit()?;
            // Lets the device free the copies it is done with; never waits in the browser.
            self.device
                .poll(wgpu::PollType::wait_indefinitely())
                .map_err(|error| self.fault.error(format!("it stopped working ({error}); load the model again")))?;
        }
        Ok(())
    }

    /// Submits what is recorded, if anything is.
    pub(super) fn submit_recorded(&mut self) -> Result<()> {
        if self.dispatches.is_empty() { Ok(()) } else { self.submit() }
    }

    fn submit(&mut self) -> Result<()> {
        self.submit_with(|_| {})
    }

    /// Submits everything recorded, then what `last` encodes.
    pub(super) fn submit_with(&mut self, last: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<()> {
        if let Some(new) = self.params.get(self.params_sent..).filter(|new| !new.is_empty()) {
            self.queue.write_buffer(&self.params_buffer, self.params_sent as u64, new);
            self.params_sent = self.params.len();
        }
        if let Some(new) = self.table_words.get(self.table_words_sent..).filter(|new| !new.is_empty()) {
            let offset = 4 * self.table_words_sent as u64;
            self.queue.write_buffer(self.tables.raw(), offset, bytemuck::cast_slice(new));
            self.table_words_sent = self.table_words.len();
        }
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if !self.dispatches.is_empty() {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for dispatch in self.dispatches.drain(..) {
                let [x, y, z] = dispatch.grid;
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.bind_group, &[dispatch.offset]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
        last(&mut encoder);
        self.queue.submit([encoder.finish()]);
        self.submit_count += 1;
        self.unsent = 0;
        self.pipelines.forget(&self.pool.take_gone());
        self.fault.check()
    }

    /// Number of bind groups alive.
    pub(super) fn bind_groups(&self) -> usize {
        self.pipelines.bind_groups()
    }
}
