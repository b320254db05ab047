//! CUDA: the backend and its adjoints on NVIDIA GPUs.
//!
//! [`Cuda`] is written against [`Driver`]: memory, kernels by name, products. Its kernels lie in `kernels/<op>.cu` and
//! become one program for one set of number [`Formats`]; how each is started is in [`launch`]. The tests run the same
//! kernels on an emulation of a device, since a GPU is not at hand everywhere.
//!
//! Every gradient is summed in a fixed order, without atomics: a step has the same bits each time.

mod adjoint;
mod attention;
mod backend;
mod blas;
mod compile;
mod device;
mod driver;
mod formats;
mod kv_cache;
pub mod launch;
mod logprobs;
mod nccl;
mod sample;
pub mod source;
mod store;
mod tables;
mod tensor;
mod weight;

use std::cell::RefCell;
use std::rc::Rc;

use paddock_engine::backend::check::shape as expect;
use paddock_engine::{Error, Result};

pub use compile::{Compiled, compile, is_present as has_nvrtc};
pub use device::{Device, DeviceOptions, is_present as has_driver, total_memory};
pub use driver::{Driver, Layout, Operands, Product, Slice};
pub use formats::{Dtype, Formats};
pub use kv_cache::KvCache;
pub use nccl::Nccl;
pub use sample::Sampler;
pub use store::State;
pub use tensor::{Tensor, Tokens};
pub use weight::{Gradient, Weight};

use launch::Launch;
use tables::Tables;

/// Computes on the device of `D`. Cloning clones the handle.
pub struct Cuda<D: Driver>(Rc<Inner<D>>);

struct Inner<D: Driver> {
    driver: D,
    formats: Formats,
    /// Those of the last batches: all blocks of a model ask for the same.
    tables: RefCell<Vec<Rc<Tables<D::Buffer>>>>,
    /// The magnitudes of both maps of moments in eight bits, once there is such a moment.
    moment_maps: RefCell<Option<Rc<D::Buffer>>>,
}

impl<D: Driver> Clone for Cuda<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Driver> Cuda<D> {
    /// A backend on `driver`.
    pub fn new(driver: D) -> Self {
        let formats = driver.formats();
        Self(Rc::new(Inner { driver, formats, tables: RefCell::default(), moment_maps: RefCell::default() }))
    }

    /// The device.
    pub fn driver(&self) -> &D {
        &self.0.driver
    }

    /// The formats of its program.
    pub fn formats(&self) -> Formats {
        self.0.formats
    }

    /// The format of activations.
    fn values(&self) -> Dtype {
        self.0.formats.values
    }

    /// Starts a kernel, unless it has nothing to do.
    fn launch(&self, launch: Launch<'_, D::Buffer>) -> Result<()> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        match launch.excess() {
            Some(excess) => Err(Error::Unsupported(format!("{excess}; use the CPU"))),
            None => self.driver().launch(&launch),
        }
    }

    /// A product, unless it has nothing to do.
    fn multiply(&self, product: Product, operands: Operands<'_, D::Buffer>) -> Result<()> {
        if product.m == 0 || product.n == 0 { Ok(()) } else { self.driver().multiply(&product, operands) }
    }

    /// New memory with `bytes` in it.
    fn upload(&self, bytes: &[u8]) -> Result<D::Buffer> {
        let buffer = self.driver().alloc(bytes.len())?;
        self.driver().write(Slice::from(&buffer), bytes)?;
        Ok(buffer)
    }

    /// New memory with `words` in it.
    fn upload_words(&self, words: &[u32]) -> Result<D::Buffer> {
        self.upload(bytemuck::cast_slice(words))
    }
}

/// Sizes as kernels take them; [`Tensor`]s are not larger.
fn sizes(shape: [usize; 2]) -> [u32; 2] {
    shape.map(|size| size as u32)
}
