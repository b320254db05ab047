//! An NVIDIA GPU: CUDA's driver, loaded when it is asked for. All work goes to one stream, in order.
#![allow(unsafe_code, reason = "the driver is a C library")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::rc::Rc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute, CUfunction_attribute, CUmemPool_attribute};
use paddock_engine::backend::{DeviceInfo, DeviceKind};
use paddock_engine::{Error, Result};

use super::blas::Blas;
use super::compile;
use super::driver::{Driver, Operands, Product, Slice};
use super::formats::Formats;
use super::launch::{Argument, Launch};
use super::source::kernels;

/// The least compute capability: bf16 on tensor cores and asynchronous copies.
const LEAST_CAPABILITY: (i32, i32) = (8, 0);
/// Shared memory that a block may have without asking.
const SHARED: u32 = 48 * 1024;

/// An opened GPU. Cloning clones the handle.
#[derive(Clone)]
pub struct Device(Rc<Inner>);

/// How a GPU is opened.
#[derive(Debug, Clone, Copy)]
pub struct DeviceOptions {
    /// Which of this machine's GPUs.
    pub ordinal: usize,
    /// The formats to compute with.
    pub formats: Formats,
    /// Fill new memory with NaN, so that a kernel that leaves a gap is noticed.
    pub poison: bool,
}

struct Inner {
    name: String,
    options: DeviceOptions,
    device: sys::CUdevice,
    stream: sys::CUstream,
    module: sys::CUmodule,
    functions: HashMap<&'static str, Function>,
    blas: RefCell<Option<Blas>>,
}

struct Function {
    handle: sys::CUfunction,
    /// Shared memory that it may have by now.
    shared: Cell<u32>,
}

/// Memory of a GPU.
pub struct Buffer {
    device: Device,
    address: sys::CUdeviceptr,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated on this stream, and freed here alone, after all work that was asked for before.
        let _ = unsafe { result::free_async(self.address, self.device.0.stream) };
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.blas.take();
        // SAFETY: all three were made by `Device::open` and are given back here alone; a failure leaves nothing to do.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            let _ = result::module::unload(self.module);
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// Whether there is a driver, without opening anything.
pub fn is_present() -> bool {
    // SAFETY: it only tries to load the library.
    unsafe { sys::is_culib_present() }
}

fn no_device(problem: impl Into<String>) -> Error {
    Error::Device { device: "CUDA".into(), problem: problem.into() }
}

/// What the driver says, and its name of the error.
fn words(error: DriverError) -> String {
    format!("{:?}", error.0).trim_start_matches("CUDA_ERROR_").to_lowercase().replace('_', " ")
}

/// All memory of the first GPU, bytes.
///
/// # Errors
/// When there is no driver or no GPU.
pub fn total_memory() -> Result<u64> {
    if !is_present() {
        return Err(no_driver());
    }
    let failed = |error| no_device(format!("the NVIDIA driver refuses ({}); use --device cpu", words(error)));
    result::init().map_err(failed)?;
    let device = result::device::get(0).map_err(failed)?;
    // SAFETY: `device` was got from the driver.
    Ok(unsafe { result::device::total_mem(device) }.map_err(failed)? as u64)
}

fn no_driver() -> Error {
    no_device("no NVIDIA driver found: libcuda.so cannot be loaded; use --device cpu")
}

impl Device {
    /// Opens a GPU and loads the kernels for its formats, which are compiled the first time.
    ///
    /// # Errors
    /// When there is no driver, no such GPU, or an older one than kernels need; when NVRTC or cuBLASLt are missing.
    pub fn open(options: DeviceOptions) -> Result<Self> {
        if !is_present() {
            return Err(no_driver());
        }
        let failed = |error| no_device(format!("the NVIDIA driver refuses ({}); use --device cpu", words(error)));
        result::init().map_err(failed)?;
        let count = result::device::get_count().map_err(failed)?;
        let ordinal = i32::try_from(options.ordinal).ok().filter(|ordinal| *ordinal < count).ok_or_else(|| {
            no_device(format!("there is no GPU number {}: the driver shows {count}", options.ordinal))
        })?;
        let device = result::device::get(ordinal).map_err(failed)?;
        let name = result::device::get_name(device).map_err(failed)?;
        let attribute = |attribute| {
            // SAFETY: `device` was got from the driver.
            unsafe { result::device::get_attribute(device, attribute) }.map_err(failed)
        };
        let capability = (
            attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < LEAST_CAPABILITY {
            let ((major, minor), (least, _)) = (capability, LEAST_CAPABILITY);
            return Err(no_device(format!(
                "{name} has compute capability {major}.{minor}, and {least}.0 or more (A100, RTX 30) is needed; use \
                 --device wgpu or cpu"
            )));
        }
        let architecture = format!("sm_{}{}", capability.0, capability.1);
        let cubin = compile::cubin(options.formats, &architecture)?;
        // SAFETY: `device` was got from the driver; the context stays until `Inner` is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed)?;
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context) }.map_err(failed)?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed)?;
        // SAFETY: `cubin` is machine code that NVRTC made.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) }.map_err(|error| {
            compile::forget(options.formats, &architecture);
            no_device(format!("{name} does not take the kernels ({}); try again", words(error)))
        })?;
        keep_freed_memory(device).map_err(failed)?;
        let mut functions = HashMap::new();
        for kernel in kernels(options.formats) {
            let symbol = CString::new(kernel).map_err(|error| no_device(error.to_string()))?;
            // SAFETY: the module was just loaded.
            let handle = unsafe { result::module::get_function(module, symbol) }.map_err(failed)?;
            functions.insert(kernel, Function { handle, shared: Cell::new(SHARED) });
        }
        let inner = Inner { name, options, device, stream, module, functions, blas: RefCell::default() };
        let opened = Self(Rc::new(inner));
        let blas = Blas::new(&opened)?;
        opened.0.blas.replace(Some(blas));
        Ok(opened)
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.0.stream
    }

    /// Memory of the GPU: free and all, bytes.
    ///
    /// # Errors
    /// When the device fails.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let (free, total) = result::mem_get_info().map_err(|error| self.failed("telling its memory", error))?;
        Ok((free as u64, total as u64))
    }

    /// Waits for everything that was asked for.
    ///
    /// # Errors
    /// When the device failed in any of it.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream lives as long as the device.
        unsafe { result::stream::synchronize(self.0.stream) }.map_err(|error| self.failed("its work", error))
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Device { device: self.0.name.clone(), problem: problem.into() }
    }

    pub(super) fn failed(&self, what: &str, error: DriverError) -> Error {
        self.error(format!("{what} failed: {}", words(error)))
    }
}

/// Lets the driver keep memory that was freed: a step asks for the same again.
fn keep_freed_memory(device: sys::CUdevice) -> Result<(), DriverError> {
    let mut threshold = u64::MAX;
    // SAFETY: `device` was got from the driver, and the attribute is a u64.
    unsafe {
        let pool = result::device::get_default_mem_pool(device)?;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast())
    }
}

pub(super) fn address(slice: Slice<'_, Buffer>) -> sys::CUdeviceptr {
    slice.buffer.address + slice.offset as u64
}

impl Driver for Device {
    type Buffer = Buffer;

    fn info(&self) -> DeviceInfo {
        DeviceInfo { name: format!("{} (CUDA)", self.0.name), kind: DeviceKind::Gpu }
    }

    fn formats(&self) -> Formats {
        self.0.options.formats
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        // The driver refuses to give nothing.
        let bytes = bytes.max(256);
        // SAFETY: the stream lives as long as the device; the memory is used on it alone.
        let address = unsafe { result::malloc_async(self.0.stream, bytes) }.map_err(|error| {
            let memory = self
                .memory()
                .map_or(String::new(), |(free, total)| format!(" ({} of {} MiB are free)", free >> 20, total >> 20));
            self.error(format!(
                "{} MiB more are not to be had{memory}: {}; use --gradient-checkpointing, fewer --micro-batch-tokens \
                 or a shorter --context",
                bytes >> 20,
                words(error)
            ))
        })?;
        let buffer = Buffer { device: self.clone(), address };
        if self.0.options.poison {
            // SAFETY: the memory has `bytes` bytes.
            unsafe { result::memset_d8_async(address, 0xff, bytes, self.0.stream) }
                .map_err(|error| self.failed("filling memory", error))?;
        }
        Ok(buffer)
    }

    fn write(&self, to: Slice<'_, Buffer>, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: callers stay within the buffer; the driver has copied pageable memory when it returns.
        unsafe { result::memcpy_htod_async(address(to), bytes, self.0.stream) }
            .map_err(|error| self.failed("a copy to it", error))
    }

    fn read(&self, from: Slice<'_, Buffer>, bytes: &mut [u8]) -> Result<()> {
        if !bytes.is_empty() {
            // SAFETY: callers stay within the buffer; `bytes` lives until the stream is through, just below.
            unsafe { result::memcpy_dtoh_async(bytes, address(from), self.0.stream) }
                .map_err(|error| self.failed("a copy from it", error))?;
        }
        self.synchronize()
    }

    fn clear(&self, at: Slice<'_, Buffer>, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: callers stay within the buffer.
        unsafe { result::memset_d8_async(address(at), 0, bytes, self.0.stream) }
            .map_err(|error| self.failed("clearing memory", error))
    }

    fn copy(&self, from: Slice<'_, Buffer>, to: Slice<'_, Buffer>, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: callers stay within both buffers.
        unsafe { result::memcpy_dtod_async(address(to), address(from), bytes, self.0.stream) }
            .map_err(|error| self.failed("a copy", error))
    }

    fn launch(&self, launch: &Launch<'_, Buffer>) -> Result<()> {
        let kernel = launch.kernel;
        let function =
            self.0.functions.get(kernel).ok_or_else(|| self.error(format!("there is no kernel {kernel}")))?;
        if launch.shared > function.shared.get() {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is the module's.
            unsafe { result::function::set_function_attribute(function.handle, attribute, launch.shared as i32) }
                .map_err(|error| {
                    self.failed(&format!("{} bytes of shared memory for {kernel}", launch.shared), error)
                })?;
            function.shared.set(launch.shared);
        }
        // All arguments are little endian, so a narrow one is the beginning of its word.
        let mut words: Vec<u64> = launch.arguments.iter().map(word).collect();
        let mut pointers: Vec<*mut c_void> = words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let ([grid_x, grid_y], [threads_x, threads_y]) = (launch.grid, launch.threads);
        // SAFETY: number and kinds of the arguments are the kernel's, as the emulation checks for each of them; the
        // driver has copied them when it returns. Buffers live on this stream.
        unsafe {
            result::launch_kernel(
                function.handle,
                (grid_x, grid_y, 1),
                (threads_x, threads_y, 1),
                launch.shared,
                self.0.stream,
                &mut pointers,
            )
        }
        .map_err(|error| self.failed(kernel, error))
    }

    fn multiply(&self, product: &Product, operands: Operands<'_, Buffer>) -> Result<()> {
        let places = [Some(operands.a), Some(operands.b), operands.add, Some(operands.out)];
        match &mut *self.0.blas.borrow_mut() {
            Some(blas) => blas.multiply(self, product, places.map(|slice| slice.map_or(0, address))),
            None => Err(self.error("cuBLASLt is closed")),
        }
    }
}

fn word(argument: &Argument<'_, Buffer>) -> u64 {
    match argument {
        Argument::Pointer(slice) => slice.map_or(0, address),
        Argument::U32(value) => (*value).into(),
        Argument::U64(value) => *value,
        Argument::F32(value) => value.to_bits().into(),
    }
}
