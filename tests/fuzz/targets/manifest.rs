//! A web pack's manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paddock_engine::weights::manifest::Manifest;

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = Manifest::parse(data) {
        assert_eq!(manifest.tensors.len(), manifest.config.params().len());
    }
});
