//! An open device, and the handles to it and to what lies on it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::buffers::{Buffer, Pool, Purpose};
use super::encoding::KvEncoding;
use super::fault::Fault;
use super::frame::Frame;
use super::shaders::{Params, Variant};
use crate::backend::DeviceInfo;
use crate::{Error, Result};

/// The binding size that plain WebGPU promises, and what the plan assumes.
pub const DEFAULT_BINDING: u64 = 128 << 20;

/// Two ways to write the products, one for each kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// Workgroups share tiles and sums: for graphics processors.
    Workgroup,
    /// Every invocation works alone, without barriers: for adapters that are emulated on a processor, where this is
    /// ten times as fast.
    Serial,
}

/// How a [`Wgpu`] is made. The default suits every device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Use nothing beyond what plain WebGPU promises (bindings of 128 MiB, no subgroups, no shader-f16), whatever the
    /// adapter has.
    pub portable: bool,
    /// The kernels to use; `None` chooses: by timing both when there is a `clock`, else by the kind of device.
    pub kernels: Option<Kernels>,
    /// Seconds since some fixed moment. The engine has no clock of its own.
    pub clock: Option<fn() -> f64>,
    /// Bind no more than this many bytes at a time; `None` binds what the device allows.
    pub max_binding: Option<u64>,
    /// Encoding of the key-value cache; `None` keeps f32 while the cache is small ([`KvEncoding::for_cache`]).
    pub kv: Option<KvEncoding>,
}

/// Computes on a GPU. Cloning clones the handle.
#[derive(Clone)]
pub struct Wgpu(pub(super) Rc<Context>);

/// An activation `[tokens, features]` of f32 on the device. Cloning clones the handle.
#[derive(Clone)]
pub struct Tensor {
    pub(super) buffer: Buffer,
    pub(super) shape: [usize; 2],
}

/// Token ids on the device. Cloning clones the handle.
#[derive(Clone)]
pub struct Tokens {
    pub(super) buffer: Buffer,
    pub(super) len: usize,
}

/// What has been asked of the device since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Compute dispatches.
    pub dispatches: u64,
    /// Submits to the queue.
    pub submits: u64,
    /// Bind groups alive: constant while decoding.
    pub bind_groups: usize,
}

/// What all handles to one device share.
pub(super) struct Context {
    pub(super) device: wgpu::Device,
    pub(super) info: DeviceInfo,
    pub(super) options: Options,
    /// Largest storage binding that a weight may use.
    pub(super) max_binding: u64,
    /// Size of the subgroups when all of them have one size that the kernels can use.
    pub(super) subgroup: Option<u32>,
    /// The device has shader-f16 and may use it.
    pub(super) half: bool,
    pub(super) kernels: Cell<Kernels>,
    pub(super) pool: Rc<Pool>,
    pub(super) frame: RefCell<Frame>,
    pub(super) fault: Fault,
}

impl Drop for Context {
    /// In the browser, what lies on the device would otherwise wait for the garbage collector.
    fn drop(&mut self) {
        self.device.destroy();
    }
}

impl Context {
    /// An error of this device.
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        self.fault.error(problem)
    }

    /// See [`Frame::dispatch`].
    pub(super) fn dispatch(
        &self,
        variant: impl Into<Variant>,
        params: Params,
        buffers: &[&Buffer],
        grid: [u32; 3],
    ) -> Result<()> {
        self.frame.borrow_mut().dispatch(variant.into(), params, buffers, grid)
    }

    /// See [`Frame::table`].
    pub(super) fn table(&self, words: Vec<u32>) -> Result<u32> {
        self.frame.borrow_mut().table(words)
    }

    /// The buffer of all tables.
    pub(super) fn tables(&self) -> Buffer {
        self.frame.borrow().tables.clone()
    }

    /// Stands in for a buffer that a dispatch does not have (no bias, no scales).
    pub(super) fn zero(&self) -> Buffer {
        self.frame.borrow().zero.clone()
    }

    /// See [`Frame::write`].
    pub(super) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.frame.borrow_mut().write(buffer, offset, bytes)
    }

    /// See [`Frame::submit_recorded`].
    pub(super) fn submit_recorded(&self) -> Result<()> {
        self.frame.borrow_mut().submit_recorded()
    }
}

impl Wgpu {
    /// What has been asked of the device so far.
    pub fn work(&self) -> Work {
        let frame = self.0.frame.borrow();
        Work { dispatches: frame.dispatch_count, submits: frame.submit_count, bind_groups: frame.bind_groups() }
    }

    /// Bytes allocated on the device for a purpose.
    pub fn bytes(&self, purpose: Purpose) -> u64 {
        self.0.pool.bytes(purpose)
    }

    /// The kernels in use.
    pub fn kernels(&self) -> Kernels {
        self.0.kernels.get()
    }

    /// Size of the subgroups that the kernels use; `None` when they use none.
    pub fn subgroup_size(&self) -> Option<u32> {
        self.0.subgroup
    }

    /// Whether the kernels use f16.
    pub fn uses_f16(&self) -> bool {
        self.0.half
    }

    /// An activation with arbitrary contents.
    pub(super) fn empty(&self, shape: [usize; 2]) -> Result<Tensor> {
        let buffer = self.0.pool.take(&self.0.device, 4 * shape[0] as u64 * shape[1] as u64);
        if buffer.raw().size() > self.0.max_binding {
            return Err(self.0.error(format!(
                "an activation of {} × {} values is more than it can bind; use a smaller batch",
                shape[0], shape[1]
            )));
        }
        Ok(Tensor { buffer, shape })
    }
}
