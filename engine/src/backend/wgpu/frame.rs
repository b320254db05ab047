//! Work that has been asked for and not yet submitted.
//!
//! Dispatches are recorded as (pipeline, bind group, offset of the parameters, grid) and encoded into one compute pass
//! at the next submit. Parameters lie in one uniform buffer, row tables in one storage buffer. Equal ones are stored
//! once and stay until the buffer is full, so that a decoding step uploads only what is new: its position.

use std::collections::HashMap;
use std::rc::Rc;

use super::buffers::{Buffer, Pool, Purpose};
use super::device::Context;
use super::shaders::Variant;
use crate::{Error, Result};

/// Words of a dispatch's parameters.
pub(super) const PARAMS: usize = 8;
/// Distinct parameters that are kept.
pub(super) const PARAMS_SLOTS: u64 = 1024;
/// Words of all row tables that are kept.
pub(super) const TABLE_WORDS: usize = 1 << 17;

/// Words at the start of a dispatch's parameters; the rest is zero.
pub(super) type Params = [u32; PARAMS];

struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    offset: u32,
    grid: [u32; 3],
}

/// See the module.
pub(super) struct Frame {
    dispatches: Vec<Dispatch>,
    params: Vec<u8>,
    params_sent: usize,
    params_at: HashMap<Params, u32>,
    params_stride: u64,
    tables: Vec<u32>,
    tables_sent: usize,
    tables_at: HashMap<Vec<u32>, u32>,
    params_buffer: wgpu::Buffer,
    tables_buffer: Buffer,
    zero_buffer: Buffer,
    max_grid: u32,
    /// Dispatches submitted or recorded since the device was opened.
    dispatch_count: u64,
    submit_count: u64,
    /// Bytes handed to the queue since the last submit.
    unsent: u64,
    batch_rows: usize,
}

impl Frame {
    pub(super) fn new(device: &wgpu::Device, pool: &Rc<Pool>, limits: &wgpu::Limits) -> Self {
        let params_stride = u64::from(limits.min_uniform_buffer_offset_alignment).max(4 * PARAMS as u64);
        Self {
            dispatches: Vec::new(),
            params: Vec::new(),
            params_sent: 0,
            params_at: HashMap::new(),
            params_stride,
            tables: Vec::new(),
            tables_sent: 0,
            tables_at: HashMap::new(),
            params_buffer: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size: params_stride * PARAMS_SLOTS,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
            tables_buffer: pool.create(device, "tables", 4 * TABLE_WORDS as u64, Purpose::Activations),
            zero_buffer: pool.create(device, "zero", 16, Purpose::Activations),
            max_grid: limits.max_compute_workgroups_per_dimension,
            dispatch_count: 0,
            submit_count: 0,
            unsent: 0,
            batch_rows: 0,
        }
    }
}

impl Context {
    /// Records `variant` on `buffers` (bindings from 1 on, in the order of the op's access string).
    pub(super) fn dispatch(&self, variant: Variant, params: Params, buffers: &[&Buffer], grid: [u32; 3]) -> Result<()> {
        let mut frame = self.frame.borrow_mut();
        if grid.iter().any(|size| *size > frame.max_grid) {
            return Err(Error::Request(format!(
                "{:?} needs a grid of {grid:?} workgroups and the device allows {}; use a smaller batch",
                variant.op, frame.max_grid
            )));
        }
        if grid.contains(&0) {
            return Ok(());
        }
        let offset = match frame.params_at.get(&params) {
            Some(offset) => *offset,
            None => {
                if frame.params_at.len() as u64 == PARAMS_SLOTS {
                    drop(frame);
                    self.submit()?;
                    frame = self.frame.borrow_mut();
                    frame.params.clear();
                    frame.params_at.clear();
                    frame.params_sent = 0;
                }
                let offset = frame.params.len();
                frame.params.extend_from_slice(bytemuck::cast_slice(&params));
                let end = offset + frame.params_stride as usize;
                frame.params.resize(end, 0);
                frame.params_at.insert(params, offset as u32);
                offset as u32
            }
        };
        let (pipeline, bind_group) = self.pipelines.borrow_mut().get(self, variant, &frame.params_buffer, buffers);
        frame.dispatches.push(Dispatch { pipeline, bind_group, offset, grid });
        frame.dispatch_count += 1;
        Ok(())
    }

    /// Stores a table and gives its offset in words, valid until the next call.
    pub(super) fn table(&self, words: Vec<u32>) -> Result<u32> {
        if words.len() > TABLE_WORDS {
            return Err(Error::Request(format!(
                "a batch of {} rows is too long; use a smaller batch",
                words.len() / 2
            )));
        }
        let mut frame = self.frame.borrow_mut();
        if let Some(offset) = frame.tables_at.get(&words) {
            return Ok(*offset);
        }
        if frame.tables.len() + words.len() > TABLE_WORDS {
            drop(frame);
            self.submit()?;
            frame = self.frame.borrow_mut();
            frame.tables.clear();
            frame.tables_at.clear();
            frame.tables_sent = 0;
        }
        let offset = frame.tables.len() as u32;
        frame.tables.extend_from_slice(&words);
        frame.tables_at.insert(words, offset);
        Ok(offset)
    }

    /// The buffer of all tables.
    pub(super) fn tables(&self) -> Buffer {
        self.frame.borrow().tables_buffer.clone()
    }

    /// Stands in for a buffer that a dispatch does not have (no bias, no scales).
    pub(super) fn zero(&self) -> Buffer {
        self.frame.borrow().zero_buffer.clone()
    }

    /// Copies bytes to a buffer, after all work recorded so far.
    pub(super) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        /// Natively the queue keeps its copy of written bytes until the next submit.
        const UNSENT_LIMIT: u64 = 16 << 20;
        self.submit_recorded()?;
        self.queue.write_buffer(buffer.raw(), offset, bytes);
        let unsent = self.frame.borrow().unsent + bytes.len() as u64;
        self.frame.borrow_mut().unsent = unsent;
        if unsent >= UNSENT_LIMIT {
            self.submit()?;
            // Lets the device free the copies it is done with; never waits in the browser.
            self.device
                .poll(wgpu::PollType::wait_indefinitely())
                .map_err(|error| self.error(format!("it stopped working ({error}); load the model again")))?;
        }
        Ok(())
    }

    /// Submits what is recorded, if anything is.
    pub(super) fn submit_recorded(&self) -> Result<()> {
        if self.frame.borrow().dispatches.is_empty() { Ok(()) } else { self.submit() }
    }

    fn submit(&self) -> Result<()> {
        self.submit_with(|_| {})
    }

    /// Submits everything recorded, then what `last` encodes.
    pub(super) fn submit_with(&self, last: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<()> {
        let mut frame = self.frame.borrow_mut();
        let frame = &mut *frame;
        if let Some(new) = frame.params.get(frame.params_sent..).filter(|new| !new.is_empty()) {
            self.queue.write_buffer(&frame.params_buffer, frame.params_sent as u64, new);
            frame.params_sent = frame.params.len();
        }
        if let Some(new) = frame.tables.get(frame.tables_sent..).filter(|new| !new.is_empty()) {
            let offset = 4 * frame.tables_sent as u64;
            self.queue.write_buffer(frame.tables_buffer.raw(), offset, bytemuck::cast_slice(new));
            frame.tables_sent = frame.tables.len();
        }
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if !frame.dispatches.is_empty() {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for dispatch in frame.dispatches.drain(..) {
                let [x, y, z] = dispatch.grid;
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.bind_group, &[dispatch.offset]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
        last(&mut encoder);
        self.queue.submit([encoder.finish()]);
        frame.submit_count += 1;
        frame.unsent = 0;
        self.pipelines.borrow_mut().forget(&self.pool.take_gone());
        self.check()
    }

    /// Dispatches and submits since the device was opened.
    pub(super) fn counts(&self) -> (u64, u64) {
        let frame = self.frame.borrow();
        (frame.dispatch_count, frame.submit_count)
    }

    /// Rows of the batch that passes through the model.
    pub(super) fn set_batch_rows(&self, rows: usize) {
        self.frame.borrow_mut().batch_rows = rows;
    }

    /// See [`Context::set_batch_rows`].
    pub(super) fn batch_rows(&self) -> usize {
        self.frame.borrow().batch_rows
    }
}
