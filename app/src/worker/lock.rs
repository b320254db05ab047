//! Locks that all tabs of this site share (Web Locks): no tab removes what another one writes.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::scope::{global, sleep};

/// The lock of one folder of the storage, until it is dropped.
pub struct FolderLock {
    release: Option<Function>,
}

/// A tab that has just been closed gives its locks back within so many tries, a tenth of a second apart.
const TRIES: u32 = 20;

impl FolderLock {
    /// As [`FolderLock::take`], after waiting for a tab that has just been closed.
    pub async fn wait(name: &str) -> Option<Self> {
        for _ in 0..TRIES {
            if let Some(lock) = Self::take(name).await {
                return Some(lock);
            }
            sleep(0.1).await;
        }
        None
    }

    /// The lock of the folder `name`; `None` while another tab, or another job of this one, has it. In a browser without
    /// locks everybody has it.
    pub async fn take(name: &str) -> Option<Self> {
        let locks = Reflect::get(&global().navigator(), &"locks".into()).ok().filter(JsValue::is_object);
        let Some(locks) = locks else { return Some(Self { release: None }) };
        let release = Rc::new(RefCell::new(None));
        let kept = release.clone();
        let asked = Promise::new(&mut |resolve, reject| {
            let kept = kept.clone();
            // The lock is held until the promise that this returns is settled.
            let hold = Closure::once_into_js(move |lock: JsValue| {
                if lock.is_null() {
                    resolve.call1(&JsValue::NULL, &false.into()).ok();
                    return JsValue::UNDEFINED;
                }
                let held = Promise::new(&mut |release, _| {
                    kept.replace(Some(release));
                });
                resolve.call1(&JsValue::NULL, &true.into()).ok();
                held.into()
            });
            let request = || -> Result<Promise, JsValue> {
                let options = js_sys::Object::new();
                Reflect::set(&options, &"ifAvailable".into(), &true.into())?;
                let request: Function = Reflect::get(&locks, &"request".into())?.dyn_into()?;
                request.call3(&locks, &format!("paddock/{name}").into(), &options, &hold)?.dyn_into()
            };
            if let Err(error) = request() {
                reject.call1(&JsValue::NULL, &error).ok();
            }
        });
        match JsFuture::from(asked).await {
            Ok(granted) if granted.is_falsy() => None,
            Ok(_) => Some(Self { release: release.take() }),
            // The browser refuses locks here; nothing else can be done.
            Err(_) => Some(Self { release: None }),
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        if let Some(release) = &self.release {
            release.call0(&JsValue::NULL).ok();
        }
    }
}
