//! Buffers of the device, and the pool that activations come from.
//!
//! A decoding step asks for the same sizes in the same order every time. The pool always hands out its oldest free
//! buffer of a size, so every step gets the same buffers, and the bind groups made for one step serve all later ones.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Free bytes beyond which a returned buffer is given back to the device.
const FREE_LIMIT: u64 = 128 << 20;

/// What a buffer is for: memory in use and in the plan is counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Parameters of the model.
    Weights,
    /// Keys and values.
    KvCache,
    /// Everything that passes through the model, and its inputs.
    Activations,
    /// What the host reads from.
    Staging,
}

/// A buffer on the device; cloning clones the handle.
#[derive(Clone)]
pub(super) struct Buffer(Rc<Inner>);

struct Inner {
    raw: wgpu::Buffer,
    id: u64,
    purpose: Purpose,
    /// Goes back to the pool when the last handle is dropped.
    pooled: bool,
    pool: Rc<Pool>,
}

impl Buffer {
    /// The device's own handle.
    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.0.raw
    }

    /// Identifies the buffer in bind group keys; never reused.
    pub(super) fn id(&self) -> u64 {
        self.0.id
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pool.take_back(&self.raw, self.id, self.purpose, self.pooled);
    }
}

/// Creates all buffers, counts their bytes, and recycles those of activations.
#[derive(Default)]
pub(super) struct Pool {
    free: RefCell<BTreeMap<u64, BTreeMap<u64, wgpu::Buffer>>>,
    free_bytes: Cell<u64>,
    bytes: RefCell<BTreeMap<u8, u64>>,
    /// Destroyed buffers that bind groups may still refer to.
    gone: RefCell<BTreeSet<u64>>,
    next_id: Cell<u64>,
}

/// Sizes that pooled buffers come in: four steps to a doubling, so that at most a quarter is unused.
pub(super) fn pooled_size(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (bytes.next_power_of_two() / 8).max(256);
    bytes.div_ceil(step) * step
}

impl Pool {
    /// A zeroed buffer of exactly `bytes` (rounded up to 16).
    pub(super) fn create(self: &Rc<Self>, device: &wgpu::Device, label: &str, bytes: u64, purpose: Purpose) -> Buffer {
        self.buffer(device, label, exact_size(bytes), purpose, false)
    }

    /// A buffer of at least `bytes` with arbitrary contents, which returns to the pool when its last handle is dropped.
    pub(super) fn take(self: &Rc<Self>, device: &wgpu::Device, bytes: u64) -> Buffer {
        let size = pooled_size(bytes);
        let oldest = self.free.borrow_mut().get_mut(&size).and_then(BTreeMap::pop_first);
        match oldest {
            Some((id, raw)) => {
                self.free_bytes.set(self.free_bytes.get() - size);
                Buffer(Rc::new(Inner { raw, id, purpose: Purpose::Activations, pooled: true, pool: self.clone() }))
            }
            None => self.buffer(device, "activation", size, Purpose::Activations, true),
        }
    }

    fn buffer(
        self: &Rc<Self>,
        device: &wgpu::Device,
        label: &str,
        size: u64,
        purpose: Purpose,
        pooled: bool,
    ) -> Buffer {
        let raw = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage: usages(purpose),
            mapped_at_creation: false,
        });
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        *self.bytes.borrow_mut().entry(purpose as u8).or_default() += size;
        Buffer(Rc::new(Inner { raw, id, purpose, pooled, pool: self.clone() }))
    }

    fn take_back(&self, raw: &wgpu::Buffer, id: u64, purpose: Purpose, pooled: bool) {
        let size = raw.size();
        if pooled && self.free_bytes.get() + size <= FREE_LIMIT {
            self.free_bytes.set(self.free_bytes.get() + size);
            self.free.borrow_mut().entry(size).or_default().insert(id, raw.clone());
            return;
        }
        if let Some(bytes) = self.bytes.borrow_mut().get_mut(&(purpose as u8)) {
            *bytes -= size;
        }
        self.gone.borrow_mut().insert(id);
    }

    /// Bytes on the device for a purpose, free ones of the pool included.
    pub(super) fn bytes(&self, purpose: Purpose) -> u64 {
        self.bytes.borrow().get(&(purpose as u8)).copied().unwrap_or(0)
    }

    /// Buffers that have left the device since the last call.
    pub(super) fn take_gone(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.gone.borrow_mut())
    }
}

/// Sizes of buffers that are not pooled.
pub(super) fn exact_size(bytes: u64) -> u64 {
    bytes.max(16).next_multiple_of(16)
}

fn usages(purpose: Purpose) -> wgpu::BufferUsages {
    match purpose {
        Purpose::Staging => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        _ => wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
    }
}
