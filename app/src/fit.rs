//! Whether a model fits into what a device allows.

use crate::models::Pack;

/// Most bytes that WebAssembly addresses, and with it a model on the processor.
const WASM: u64 = 4 << 30;
/// What is taken for a device that does not say how much memory it has, in GiB.
const USUAL: f64 = 4.0;

/// Bytes that a page may take on a device of so many GiB of memory (`navigator.deviceMemory`): on the GPU half of it,
/// which is what a graphics driver lends of the memory it shares; on the processor what other programs leave, three
/// quarters, and at most what WebAssembly addresses.
pub fn allowance(gibibytes: Option<f64>, gpu: bool) -> u64 {
    let quarter = (gibibytes.unwrap_or(USUAL) * f64::from(1 << 28)) as u64;
    if gpu { 2 * quarter } else { (3 * quarter).min(WASM) }
}

/// The largest other model of the same kind that fits into `allowance`.
pub fn smaller<'a>(packs: impl Iterator<Item = &'a Pack>, pack: &Pack, allowance: u64) -> Option<&'a Pack> {
    packs
        .filter(|other| other.kind == pack.kind && other.id() != pack.id() && other.memory() <= allowance)
        .max_by_key(|other| other.memory())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Index;

    #[test]
    fn the_processor_allows_more_of_a_small_memory_and_the_gpu_more_of_a_large_one() {
        assert_eq!([true, false].map(|gpu| allowance(Some(0.5), gpu)), [1 << 28, 3 << 27]);
        assert_eq!([true, false].map(|gpu| allowance(Some(8.0), gpu)), [4 << 30, 4 << 30]);
        assert_eq!([true, false].map(|gpu| allowance(Some(32.0), gpu)), [16 << 30, 4 << 30]);
        assert_eq!([true, false].map(|gpu| allowance(None, gpu)), [2 << 30, 3 << 30]);
    }

    #[test]
    fn the_largest_that_fits_is_offered() {
        let text = r#"{"models":[{"name":"a","path":"a","bytes":900},{"name":"b","path":"b","bytes":500},
            {"name":"c","path":"c","bytes":300},{"name":"s","path":"s","bytes":400,"kind":"score"}]}"#;
        let index = Index::from_json(text).unwrap();
        let name = |allowance| smaller(index.models.iter(), &index.models[0], allowance).map(|pack| pack.name.as_str());
        assert_eq!([name(600), name(450), name(100)], [Some("b"), Some("c"), None]);
    }
}
