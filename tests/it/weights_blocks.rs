//! Every block format decodes to the values that ggml gives, bit for bit.

use paddock_engine::weights::dequantize;
use paddock_tests::fixture_source;
use paddock_tests::gguf::BLOCK_ENCODINGS;
use safetensors::SafeTensors;

#[test]
fn every_block_kind_has_ggml_s_values() {
    let source = fixture_source("gguf-blocks");
    let tensors = SafeTensors::deserialize(&source.files["expected.safetensors"]).unwrap();
    for encoding in BLOCK_ENCODINGS {
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
