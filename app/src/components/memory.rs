//! What models need of the device's memory.

use crate::format;
use crate::models::Pack;

/// The memory that the models need, as one sentence.
pub fn memory(packs: impl Iterator<Item = Pack>) -> String {
    let packs: Vec<Pack> = packs.collect();
    let total = format::bytes(packs.iter().map(Pack::memory).sum());
    match &packs[..] {
        [] => String::new(),
        [_] => format!("Needs up to {total} of memory: the weights, and the cache of a full context."),
        _ => {
            let parts: Vec<String> =
                packs.iter().map(|pack| format!("{} for {}", format::bytes(pack.memory()), pack.name)).collect();
            format!("Together they need up to {total} of memory: {}.", parts.join(", "))
        }
    }
}
