//! Finding an adapter and opening its device.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::buffers::Pool;
use super::context::{Context, Kernels, Options, Wgpu};
use super::fault::{Fault, explain};
use super::frame::Frame;
use super::tune::tune;
use crate::backend::{DeviceInfo, DeviceKind};
use crate::{Error, Result};

/// The adapter that [`Wgpu::new`] would use; costs no device memory.
///
/// # Errors
/// When there is no adapter at all.
pub async fn probe() -> Result<DeviceInfo> {
    Ok(describe(&adapter().await?.get_info()))
}

impl Wgpu {
    /// Opens the adapter that [`probe`] describes.
    ///
    /// # Errors
    /// [`Error::Device`] when there is no adapter or it refuses to open.
    pub async fn new(options: Options) -> Result<Self> {
        open(options).await
    }
}

async fn open(options: Options) -> Result<Wgpu> {
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
    let fault = Fault::new(&info.name);
    let first = fault.clone();
    device.on_uncaptured_error(Arc::new(move |error| first.report(explain(&error))));
    let first = fault.clone();
    device.set_device_lost_callback(move |_, message| {
        first.report(format!("it was lost ({message}); load the model again"));
    });
    let kernels = options.kernels.unwrap_or(match info.kind {
        DeviceKind::SoftwareGpu => Kernels::Serial,
        _ => Kernels::Workgroup,
    });
    let pool = Rc::new(Pool::default());
    let frame = Frame::new(&device, queue, &limits, half, &pool, &fault);
    let gpu = Wgpu(Rc::new(Context {
        frame: RefCell::new(frame),
        kernels: Cell::new(kernels),
        device,
        info,
        options,
        max_binding,
        subgroup,
        half,
        pool,
        fault,
    }));
    if let (None, Some(clock)) = (options.kernels, options.clock) {
        tune(&gpu, clock).await?;
    }
    Ok(gpu)
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
}
