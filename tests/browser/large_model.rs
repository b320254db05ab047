//! Long campaigns: `cargo xtask soak` runs them.

use std::fs;

use paddock_engine::weights::Encoding;
use paddock_tests::gguf::{GgufFile, GgufTensor, Meta};
use paddock_tests::page::Page;
use paddock_tests::site::TestSite;
use tempfile::TempDir;

const HIDDEN: u64 = 2048;
const FEED_FORWARD: u64 = 5632;
const HEADS: u64 = 32;
const KV_HEADS: u64 = 8;
const HEAD_DIM: u64 = 64;
const BLOCKS: u64 = 22;
/// What a browser tab on a small device can give.
const HEAP_LIMIT: u64 = 256 << 20;

/// The shape of a 1-billion model with weights of noise and the tiny model's vocabulary: 0.6 GB as Q4_1.
fn large_model() -> GgufFile {
    let mut file = GgufFile::from_fixture("llama-mha", |_| Encoding::F32);
    for (key, value) in [
        ("llama.block_count", BLOCKS),
        ("llama.embedding_length", HIDDEN),
        ("llama.feed_forward_length", FEED_FORWARD),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", KV_HEADS),
        ("llama.attention.key_length", HEAD_DIM),
        ("llama.attention.value_length", HEAD_DIM),
        ("llama.rope.dimension_count", HEAD_DIM),
    ] {
        file.set(key, Meta::U32(value as u32));
    }
    let vocabulary = file.tensor_mut("token_embd.weight").dimensions[1];
    file.tensors =
        vec![noise("token_embd", HIDDEN, vocabulary), ones("output_norm"), noise("output", HIDDEN, vocabulary)];
    for block in 0..BLOCKS {
        let name = |part: &str| format!("blk.{block}.{part}");
        file.tensors.extend([
            ones(&name("attn_norm")),
            noise(&name("attn_q"), HIDDEN, HEADS * HEAD_DIM),
            noise(&name("attn_k"), HIDDEN, KV_HEADS * HEAD_DIM),
            noise(&name("attn_v"), HIDDEN, KV_HEADS * HEAD_DIM),
            noise(&name("attn_output"), HEADS * HEAD_DIM, HIDDEN),
            ones(&name("ffn_norm")),
            noise(&name("ffn_gate"), HIDDEN, FEED_FORWARD),
            noise(&name("ffn_up"), HIDDEN, FEED_FORWARD),
            noise(&name("ffn_down"), FEED_FORWARD, HIDDEN),
        ]);
    }
    file
}

/// A matrix of Q4_1 blocks: scale 0.01, minimum -0.075, and nibbles of a linear congruential generator (Knuth's MMIX).
fn noise(name: &str, cols: u64, rows: u64) -> GgufTensor {
    let mut state = cols ^ rows << 32;
    let mut bytes = Vec::with_capacity((cols * rows / 32 * 20) as usize);
    for _ in 0..cols * rows / 32 {
        bytes.extend([0x1f, 0x21, 0xcd, 0xac]);
        for _ in 0..2 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend(state.rotate_right(29).to_le_bytes());
        }
    }
    GgufTensor { name: format!("{name}.weight"), dimensions: vec![cols, rows], kind: 3, bytes }
}

fn ones(name: &str) -> GgufTensor {
    let bytes = (0..HIDDEN).flat_map(|_| 1_f32.to_le_bytes()).collect();
    GgufTensor { name: format!("{name}.weight"), dimensions: vec![HIDDEN], kind: 0, bytes }
}

/// Weights go from the network to the GPU a few rows at a time, however large the model is.
#[test]
#[ignore = "soak: more than half a gigabyte goes through the browser"]
fn the_heap_stays_small_for_a_large_model() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("large.gguf");
    let file = large_model().bytes();
    assert!(file.len() as u64 > 2 * HEAP_LIMIT, "{} bytes are not large", file.len());
    fs::write(&path, &file).expect("room for the model");
    drop(file);
    let Some(site) = TestSite::start(&[("large", &path)], &[]) else { return };
    let Some(page) = Page::open(site, "model=large&device=gpu&autoload=1") else { return };
    page.wait_for("ready");
    let heap = page.heap_bytes();
    eprintln!(
        "the heap's peak is {} MB for a model of {} MB",
        heap >> 20,
        path.metadata().expect("a file").len() >> 20
    );
    assert!(heap < HEAP_LIMIT, "the heap grew to {heap} bytes");
}
