//! GGUF's names of tensors and of encodings (llama.cpp `tensor_mapping.py`, `ggml.h`).

use crate::weights::Encoding;

/// The GGUF name of the tensor that Hugging Face calls `name`; `None` when LLaMA has no such tensor.
pub fn gguf_name(name: &str) -> Option<String> {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        "score.weight" => Some("cls.output.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(whole.to_string());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

/// The encoding with number `kind` in `enum ggml_type`, when it is read here.
pub(super) fn encoding(kind: u32) -> Option<Encoding> {
    Some(match kind {
        0 => Encoding::F32,
        1 => Encoding::F16,
        2 => Encoding::Q4_0,
        3 => Encoding::Q4_1,
        6 => Encoding::Q5_0,
        7 => Encoding::Q5_1,
        8 => Encoding::Q8_0,
        12 => Encoding::Q4_K,
        13 => Encoding::Q5_K,
        14 => Encoding::Q6_K,
        30 => Encoding::BF16,
        _ => return None,
    })
}

/// The number of an encoding in `enum ggml_type`.
pub fn ggml_type(encoding: Encoding) -> u32 {
    match encoding {
        Encoding::F32 => 0,
        Encoding::F16 => 1,
        Encoding::Q4_0 => 2,
        Encoding::Q4_1 => 3,
        Encoding::Q5_0 => 6,
        Encoding::Q5_1 => 7,
        Encoding::Q8_0 => 8,
        Encoding::Q4_K => 12,
        Encoding::Q5_K => 13,
        Encoding::Q6_K => 14,
        Encoding::BF16 => 30,
    }
}

/// What ggml calls the type `kind`, for errors.
pub(super) fn type_name(kind: u32) -> String {
    const OTHERS: [(u32, &str); 20] = [
        (10, "Q2_K"),
        (11, "Q3_K"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
    ];
    match (encoding(kind), OTHERS.iter().find(|(number, _)| *number == kind)) {
        (Some(encoding), _) => format!("{encoding:?}"),
        (None, Some((_, name))) => (*name).to_string(),
        (None, None) => format!("ggml type {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hugging_face_names_become_gguf_names() {
        assert_eq!(gguf_name("model.layers.12.self_attn.q_proj.bias").unwrap(), "blk.12.attn_q.bias");
        assert_eq!(gguf_name("model.layers.0.post_attention_layernorm.weight").unwrap(), "blk.0.ffn_norm.weight");
        assert_eq!(gguf_name("lm_head.weight").unwrap(), "output.weight");
        assert_eq!(gguf_name("score.weight").unwrap(), "cls.output.weight");
        assert_eq!(gguf_name("model.layers.0.mlp.experts.weight"), None);
    }

    #[test]
    fn types_are_read_as_they_are_written() {
        // `enum ggml_type`.
        for (kind, encoding) in [
            (0, Encoding::F32),
            (1, Encoding::F16),
            (2, Encoding::Q4_0),
            (3, Encoding::Q4_1),
            (6, Encoding::Q5_0),
            (7, Encoding::Q5_1),
            (8, Encoding::Q8_0),
            (12, Encoding::Q4_K),
            (13, Encoding::Q5_K),
            (14, Encoding::Q6_K),
            (30, Encoding::BF16),
        ] {
            assert_eq!((super::encoding(kind), ggml_type(encoding)), (Some(encoding), kind));
        }
    }

    #[test]
    fn unread_types_have_names() {
        assert_eq!(type_name(10), "Q2_K");
        assert_eq!(type_name(12), "Q4_K");
        assert_eq!(type_name(4_000_000_000), "ggml type 4000000000");
    }
}
