//! On the CPU, cached decoding equals the full forward and packed documents equal separate ones, bit for bit.

use paddock_engine::backend::{Cache, Cpu, Device, Segments};
use paddock_engine::model::CausalLm;
use paddock_tests::{block_on, fixture_source};

const MODELS: [&str; 3] = ["llama-mha", "llama-gqa-tied-sharded", "llama3-rope"];
const FIRST: [u32; 11] = [1, 323, 288, 430, 366, 325, 349, 324, 311, 346, 308];
const SECOND: [u32; 7] = [1, 505, 486, 346, 315, 366, 479];

async fn load(name: &str) -> CausalLm<Cpu> {
    let mut checkpoint = paddock_engine::weights::Checkpoint::open(fixture_source(name)).await.unwrap();
    CausalLm::load(&Cpu::with_threads(2), &mut checkpoint, &mut |_| {}).await.unwrap()
}

async fn logits(model: &CausalLm<Cpu>, ids: &[u32], segments: &Segments) -> Vec<f32> {
    let backend = model.backend();
    let logits = model.forward(&backend.tokens(ids).unwrap(), segments).unwrap();
    backend.read(&logits).await.unwrap()
}

#[test]
fn packed_documents_equal_separate_ones() {
    block_on(async {
        for name in MODELS {
            let model = load(name).await;
            let mut separate = logits(&model, &FIRST, &Segments::documents(&[FIRST.len()])).await;
            separate.extend(logits(&model, &SECOND, &Segments::documents(&[SECOND.len()])).await);
            let packed = [FIRST.as_slice(), &SECOND].concat();
            let packed = logits(&model, &packed, &Segments::documents(&[FIRST.len(), SECOND.len()])).await;
            assert!(packed == separate, "{name}: packing changed the logits");
            let as_one = [FIRST.as_slice(), &SECOND].concat();
            let as_one = logits(&model, &as_one, &Segments::documents(&[as_one.len()])).await;
            assert!(as_one != separate, "{name}: the comparison cannot fail");
        }
    });
}

#[test]
fn cached_decoding_equals_the_full_forward() {
    block_on(async {
        for name in MODELS {
            let model = load(name).await;
            let (backend, vocab) = (model.backend().clone(), model.config().vocab_size);
            let full = logits(&model, &FIRST, &Segments::documents(&[FIRST.len()])).await;
            let layers = model.config().num_hidden_layers;
            // Sequence 1 of two, so that a cache that mixes sequences up is noticed.
            let mut cache = backend.kv_cache(layers, model.trunk().heads(), 2, 16).unwrap();
            let mut past = 0;
            for chunk in [&FIRST[..4], &FIRST[4..5], &FIRST[5..6], &FIRST[6..]] {
                let segments = Segments::continuation(chunk.len(), past, 1);
                let row = model.forward_cached(&backend.tokens(chunk).unwrap(), &segments, &mut cache).unwrap();
                past += chunk.len();
                let row = backend.read(&row).await.unwrap();
                assert!(row == full[(past - 1) * vocab..past * vocab], "{name}: position {} differs", past - 1);
            }
        }
    });
}
