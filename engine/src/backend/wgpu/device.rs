//! Finding an adapter and opening its device.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::buffers::Pool;
use super::frame::Frame;
use super::pipelines::Pipelines;
use super::{KvEncoding, Wgpu};
use crate::backend::{DeviceInfo, DeviceKind};
use crate::{Error, Result};

/// The binding size that plain WebGPU promises, and what the plan assumes.
pub const DEFAULT_BINDING: u64 = 128 << 20;

/// Two ways to write the products, one for each kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// Workgroups share tiles and sums: for graphics processors.
    Workgroup,
    /// Every invocation works alone and without barriers: for adapters that are emulated on a processor, where this
    /// is ten times as fast.
    Serial,
}

/// How a [`Wgpu`] is to be made. The default suits every device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Use nothing beyond what plain WebGPU promises (bindings of 128 MiB, no subgroups, no shader-f16), whatever the adapter has.
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

/// All that one device shares: every [`Wgpu`], tensor and weight of it holds this.
pub(super) struct Context {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: DeviceInfo,
    pub(super) options: Options,
    /// Largest storage binding that a weight may use.
    pub(super) max_binding: u64,
    /// Size of the subgroups when all of them have one size that the kernels can use.
    pub(super) subgroup: Option<u32>,
    /// Shader-f16 is there and may be used.
    pub(super) half: bool,
    pub(super) kernels: Cell<Kernels>,
    pub(super) pool: Rc<Pool>,
    pub(super) pipelines: RefCell<Pipelines>,
    pub(super) frame: RefCell<Frame>,
    /// The first thing that the device complained about.
    pub(super) fault: Arc<Mutex<Option<String>>>,
}

/// The adapter that [`Wgpu::new`] would use; costs no device memory.
///
/// # Errors
/// When there is no adapter at all.
pub async fn probe() -> Result<DeviceInfo> {
    Ok(describe(&adapter().await?.get_info()))
}

pub(super) async fn open(options: Options) -> Result<Wgpu> {
    let adapter = adapter().await?;
    let adapter_info = adapter.get_info();
    let info = describe(&adapter_info);
    let subgroup = Some(adapter_info.subgroup_min_size).filter(|size| {
        !options.portable
            && adapter.features().contains(wgpu::Features::SUBGROUP)
            && *size == adapter_info.subgroup_max_size
            && (8..=64).contains(size)
    });
    let half = !options.portable && adapter.features().contains(wgpu::Features::SHADER_F16);
    let mut required_features = wgpu::Features::empty();
    required_features.set(wgpu::Features::SUBGROUP, subgroup.is_some());
    required_features.set(wgpu::Features::SHADER_F16, half);
    let limits =
        if options.portable { wgpu::Limits::default().using_alignment(adapter.limits()) } else { adapter.limits() };
    let allowed = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    let max_binding = options.max_binding.unwrap_or(allowed).min(allowed);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("paddock"),
        required_features,
        required_limits: limits.clone(),
        // Weights are large and live long: no room is kept for later.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| Error::Device {
        device: info.name.clone(),
        problem: format!("it refuses to open ({error}); use the CPU"),
    })?;
    let fault = Arc::new(Mutex::new(None));
    let first = fault.clone();
    device.on_uncaptured_error(Arc::new(move |error| report(&first, explain(&error))));
    let first = fault.clone();
    device.set_device_lost_callback(move |_, message| {
        report(&first, format!("it was lost ({message}); load the model again"));
    });
    let kernels = options.kernels.unwrap_or(match info.kind {
        DeviceKind::SoftwareGpu => Kernels::Serial,
        _ => Kernels::Workgroup,
    });
    let pool = Rc::new(Pool::default());
    let frame = Frame::new(&device, &pool, &limits);
    let gpu = Wgpu(Rc::new(Context {
        pipelines: RefCell::new(Pipelines::default()),
        frame: RefCell::new(frame),
        kernels: Cell::new(kernels),
        device,
        queue,
        info,
        options,
        max_binding,
        subgroup,
        half,
        pool,
        fault,
    }));
    if let (None, Some(clock)) = (options.kernels, options.clock) {
        gpu.tune(clock).await?;
    }
    Ok(gpu)
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
        Error::Device { device: self.info.name.clone(), problem: problem.into() }
    }

    /// Reports what the device has complained about so far. In the browser complaints arrive late: at the next wait.
    pub(super) fn check(&self) -> Result<()> {
        let fault = self.fault.lock().map(|fault| fault.clone()).unwrap_or_default();
        fault.map_or(Ok(()), |problem| Err(self.error(problem)))
    }
}

async fn adapter() -> Result<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let options =
        wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
    instance.request_adapter(&options).await.map_err(|_| Error::Device {
        device: "GPU".into(),
        problem: "no adapter was found; use the CPU, or a browser or driver with WebGPU, Vulkan, Metal or DX12".into(),
    })
}

fn describe(info: &wgpu::AdapterInfo) -> DeviceInfo {
    let backend = match info.backend {
        wgpu::Backend::BrowserWebGpu => "WebGPU".to_owned(),
        other => format!("{other:?}"),
    };
    let name = [&info.name, &info.driver].into_iter().find(|name| !name.is_empty()).map_or("GPU", String::as_str);
    let software = ["llvmpipe", "swiftshader", "basic render", "lavapipe"];
    let known = [&info.name, &info.driver, &info.driver_info].map(|text| text.to_lowercase());
    let emulated = info.device_type == wgpu::DeviceType::Cpu
        || known.iter().any(|text| software.iter().any(|name| text.contains(name)));
    DeviceInfo {
        name: format!("{name} ({backend})"),
        kind: if emulated { DeviceKind::SoftwareGpu } else { DeviceKind::Gpu },
    }
}

fn report(fault: &Mutex<Option<String>>, problem: String) {
    if let Ok(mut fault) = fault.lock() {
        fault.get_or_insert(problem);
    }
}

fn explain(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            "it is out of memory; choose a smaller model, a smaller quantisation or a shorter context".into()
        }
        other => {
            let words: Vec<String> = other.to_string().split_whitespace().map(str::to_owned).collect();
            format!("it refuses an operation ({}); please report this", words.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use pollster::block_on;

    use super::*;
    use crate::backend::{Device, Operations};

    #[test]
    fn a_lost_device_is_one_sentence() {
        let gpu = match block_on(open(Options { portable: true, ..Options::default() })) {
            Ok(gpu) => gpu,
            Err(error) => {
                let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
                assert!(!required.contains("gpu"), "PADDOCK_REQUIRE asks for gpu, but {error}");
                writeln!(std::io::stderr(), "SKIPPED a_lost_device_is_one_sentence: {error}").ok();
                return;
            }
        };
        let x = gpu.tensor([1, 2], &[1.0, 2.0]).unwrap();
        let twice = || gpu.add(&x, &x).and_then(|sum| block_on(gpu.read(&sum)));
        assert_eq!(twice().unwrap(), [2.0, 4.0]);
        gpu.0.device.destroy();
        // A driver tells at once; of this the device tells when it is asked.
        gpu.0.device.poll(wgpu::PollType::Poll).ok();
        for _ in 0..2 {
            let sentence = twice().unwrap_err().to_string();
            assert!(sentence.contains("it was lost") && sentence.ends_with("load the model again"), "{sentence}");
            assert!(sentence.starts_with(&gpu.device().name) && !sentence.contains('\n'), "{sentence}");
        }
    }

    #[test]
    fn a_full_device_and_a_refused_operation_are_one_sentence() {
        let full = explain(&wgpu::Error::OutOfMemory { source: "no memory".into() });
        assert!(full.contains("out of memory") && full.contains("a smaller model"), "{full}");
        let description = "Validation Error\n\nCaused by:\n  In Queue::submit\n".to_string();
        let refused = explain(&wgpu::Error::Validation { source: "no".into(), description });
        assert!(refused.contains("(Validation Error Caused by: In Queue::submit)"), "{refused}");
    }
}
