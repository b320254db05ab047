//! Every block format decodes to the values that ggml gives, bit for bit.

use paddock_engine::weights::{Encoding, dequantize};
use paddock_tests::fixture_source;
use safetensors::SafeTensors;

const ENCODINGS: [Encoding; 10] = [
    Encoding::F16,
    Encoding::BF16,
    Encoding::Q8_0,
    Encoding::Q4_0,
    Encoding::Q4_1,
    Encoding::Q5_0,
    Encoding::Q5_1,
    Encoding::Q4_K,
    Encoding::Q5_K,
    Encoding::Q6_K,
];

#[test]
fn every_block_kind_has_ggml_s_values() {
    let source = fixture_source("gguf-blocks");
    let tensors = SafeTensors::deserialize(&source.files["expected.safetensors"]).unwrap();
    for encoding in ENCODINGS {
        let bytes = tensors.tensor(&format!("{encoding:?}.bytes")).unwrap().data().to_vec();
        let values = tensors.tensor(&format!("{encoding:?}.values")).unwrap().data().to_vec();
        let expected: Vec<u32> = values.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let mut out = vec![0.0; expected.len()];
        dequantize(encoding, &bytes, &mut out).unwrap();
        let found: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
        assert!(expected.len() >= 24, "{encoding:?}");
        assert_eq!(found, expected, "{encoding:?}");
        assert!(dequantize(encoding, &bytes[1..], &mut out).is_err(), "{encoding:?}: a byte short is refused");
    }
}
