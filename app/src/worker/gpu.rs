//! The GPU that the browser offers.

use js_sys::{Function, Object, Promise, Reflect};
use paddock_engine::backend::{DeviceKind, wgpu};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::scope::global;
use crate::protocol::Gpu;

/// Looks for a GPU without loading anything onto it.
pub async fn probe() -> Gpu {
    match wgpu::probe().await {
        Ok(info) if info.kind == DeviceKind::Gpu => Gpu::Real(name().await.unwrap_or_default()),
        Ok(_) => Gpu::Software(name().await.unwrap_or_default()),
        Err(_) => Gpu::Missing,
    }
}

/// The adapter's name as far as the browser discloses it: a description, or "nvidia ampere", or nothing. wgpu passes on
/// only descriptions, which browsers rarely give.
async fn name() -> Result<String, JsValue> {
    let gpu = Reflect::get(&Reflect::get(&global(), &"navigator".into())?, &"gpu".into())?;
    let options = Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into())?;
    let request: Function = Reflect::get(&gpu, &"requestAdapter".into())?.dyn_into()?;
    let adapter = JsFuture::from(request.call1(&gpu, &options)?.dyn_into::<Promise>()?).await?;
    let info = Reflect::get(&adapter, &"info".into())?;
    let text =
        |key: &str| Reflect::get(&info, &key.into()).ok().and_then(|value| value.as_string()).unwrap_or_default();
    let description = text("description");
    if description.is_empty() {
        return Ok(format!("{} {}", text("vendor"), text("architecture")).trim().to_string());
    }
    Ok(description)
}
