//! GGUF files made from the fixtures, the way llama.cpp's converter makes them (`convert_hf_to_gguf.py`).

use std::f32::consts::TAU;

use paddock_engine::ModelConfig;
use paddock_engine::config::RopeScaling;
use paddock_engine::tokenizer::TokenizerFiles;
use paddock_engine::weights::{Checkpoint, Encoding, MemorySource, TensorInfo, dequantize, quantize};
use pollster::block_on;
use serde_json::Value;

use crate::fixture_source;

/// The encodings of the fixture `gguf-blocks`.
pub const BLOCK_ENCODINGS: [Encoding; 10] = [
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

/// A GGUF file, to be changed at will before it is written.
#[derive(Debug, Clone, Default)]
pub struct GgufFile {
    /// Keys and values, in order.
    pub metadata: Vec<(String, Meta)>,
    /// Tensors, in order.
    pub tensors: Vec<GgufTensor>,
}

/// A metadata value.
#[derive(Debug, Clone)]
pub enum Meta {
    /// `uint32`.
    U32(u32),
    /// `float32`.
    F32(f32),
    /// `bool`.
    Bool(bool),
    /// `string`.
    Text(String),
    /// List of `string`.
    Texts(Vec<String>),
    /// List of `float32`.
    Floats(Vec<f32>),
    /// List of `int32`.
    Ints(Vec<i32>),
}

/// A tensor.
#[derive(Debug, Clone)]
pub struct GgufTensor {
    /// Its GGUF name.
    pub name: String,
    /// Fastest dimension first.
    pub dimensions: Vec<u64>,
    /// `ggml_type`.
    pub kind: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl GgufFile {
    /// The fixture `name` as a GGUF file. `encoding` says how each tensor is stored (F32, F16, Q8_0 or Q4_1).
    ///
    /// # Panics
    /// When the fixture cannot be read.
    pub fn from_fixture(name: &str, encoding: impl Fn(&TensorInfo) -> Encoding) -> Self {
        let mut checkpoint = block_on(Checkpoint::open(fixture_source(name))).expect("a fixture opens");
        let config = checkpoint.config().clone();
        let mut file = Self::default();
        file.describe(&config);
        if let Ok(TokenizerFiles::Json { tokenizer, .. }) = block_on(checkpoint.tokenizer_files()) {
            file.add_vocabulary(&serde_json::from_slice(&tokenizer).expect("tokenizer.json is JSON"));
        }
        let infos: Vec<_> = checkpoint.tensors().cloned().collect();
        for info in infos {
            let bytes = block_on(checkpoint.read_rows(&info.name, 0..info.shape[0])).expect("rows of a fixture");
            let mut values = vec![0.0; info.shape[0] * info.shape[1]];
            dequantize(info.encoding, &bytes, &mut values).expect("floats");
            if info.name.contains("q_proj") || info.name.contains("k_proj") {
                let row = if info.name.ends_with("bias") { 1 } else { info.shape[1] };
                values = interleave(&values, row, config.head_dim);
            }
            let [rows, cols] = info.shape.map(|size| size as u64);
            let encoding = encoding(&info);
            file.tensors.push(GgufTensor {
                name: gguf_name(&info.name),
                dimensions: if rows == 1 { vec![cols] } else { vec![cols, rows] },
                kind: kind(encoding),
                bytes: quantize(encoding, &values).expect("an encoding that can be written"),
            });
        }
        if let RopeScaling::Llama3 { .. } = config.rope_scaling {
            let factors = rope_factors(&config);
            file.tensors.push(GgufTensor {
                name: "rope_freqs.weight".to_string(),
                dimensions: vec![factors.len() as u64],
                kind: kind(Encoding::F32),
                bytes: factors.iter().flat_map(|factor| factor.to_le_bytes()).collect(),
            });
        }
        file
    }

    /// The fixture `name` with 4 bits a value (Q4_1) wherever rows are whole blocks, and f32 elsewhere.
    ///
    /// # Panics
    /// When the fixture cannot be read.
    pub fn at_4_bits(name: &str) -> Self {
        Self::from_fixture(name, |info| match info.shape {
            [rows, cols] if rows > 1 && Encoding::Q4_1.row_bytes(cols).is_some() => Encoding::Q4_1,
            _ => Encoding::F32,
        })
    }

    /// The same model with its values in f32.
    ///
    /// # Panics
    /// When a tensor is neither f32 nor Q4_1.
    pub fn dequantized(&self) -> Self {
        let mut file = self.clone();
        for tensor in file.tensors.iter_mut().filter(|tensor| tensor.kind != kind(Encoding::F32)) {
            assert_eq!(tensor.kind, kind(Encoding::Q4_1), "{}", tensor.name);
            let mut values = vec![0.0; tensor.dimensions.iter().product::<u64>() as usize];
            dequantize(Encoding::Q4_1, &tensor.bytes, &mut values).expect("whole blocks");
            tensor.bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensor.kind = kind(Encoding::F32);
        }
        file
    }

    /// Sets the metadata `key`, in place of the one of that name.
    pub fn set(&mut self, key: &str, value: Meta) {
        self.metadata.retain(|(name, _)| name != key);
        self.metadata.push((key.to_string(), value));
    }

    /// The tensor with the GGUF name `name`.
    ///
    /// # Panics
    /// When there is none.
    pub fn tensor_mut(&mut self, name: &str) -> &mut GgufTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of the fixture")
    }

    /// The file's bytes, version 3, aligned to 32.
    pub fn bytes(&self) -> Vec<u8> {
        let sizes: Vec<u64> = self.tensors.iter().map(|tensor| tensor.bytes.len() as u64).collect();
        let mut out = self.header(&sizes);
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        out
    }

    /// What precedes the tensors, for tensors of `sizes` bytes that begin at its end and at every next multiple of 32.
    pub fn header(&self, sizes: &[u64]) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            push_text(&mut out, key);
            push_value(&mut out, value);
        }
        let mut offset = 0u64;
        for (tensor, size) in self.tensors.iter().zip(sizes) {
            push_text(&mut out, &tensor.name);
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            out.extend(tensor.dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += size.next_multiple_of(32);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out
    }

    /// The file alone in a source.
    pub fn source(&self) -> MemorySource {
        MemorySource { files: [("model.gguf".to_string(), self.bytes())].into() }
    }

    /// The model in several files, as gguf-split splits it: all metadata in the first, and some tensors in each.
    pub fn split(&self, parts: u32) -> MemorySource {
        let per_part = self.tensors.len().div_ceil(parts as usize);
        let mut source = MemorySource::default();
        for (number, tensors) in (0..).zip(self.tensors.chunks(per_part)) {
            let metadata = if number == 0 { self.metadata.clone() } else { Vec::new() };
            let mut part = Self { metadata, tensors: tensors.to_vec() };
            part.set("split.no", Meta::U32(number));
            part.set("split.count", Meta::U32(parts));
            part.set("split.tensors.count", Meta::U32(self.tensors.len() as u32));
            source.files.insert(format!("m-{:05}-of-{parts:05}.gguf", number + 1), part.bytes());
        }
        source
    }

    /// Sets the keys of a configuration.
    pub fn describe(&mut self, config: &ModelConfig) {
        let sizes = [
            ("llama.block_count", config.num_hidden_layers),
            ("llama.context_length", config.max_position_embeddings),
            ("llama.embedding_length", config.hidden_size),
            ("llama.feed_forward_length", config.intermediate_size),
            ("llama.attention.head_count", config.num_attention_heads),
            ("llama.attention.head_count_kv", config.num_key_value_heads),
            ("llama.attention.key_length", config.head_dim),
            ("llama.attention.value_length", config.head_dim),
            ("llama.rope.dimension_count", config.head_dim),
            ("llama.vocab_size", config.vocab_size),
        ];
        self.set("general.architecture", Meta::Text("llama".into()));
        for (key, size) in sizes {
            self.set(key, Meta::U32(size as u32));
        }
        self.set("llama.attention.layer_norm_rms_epsilon", Meta::F32(config.rms_norm_eps));
        self.set("llama.rope.freq_base", Meta::F32(config.rope_theta));
        if let RopeScaling::Linear { factor } = config.rope_scaling {
            self.set("llama.rope.scaling.type", Meta::Text("linear".into()));
            self.set("llama.rope.scaling.factor", Meta::F32(factor));
        }
        if let Some(bos) = config.bos_token_id {
            self.set("tokenizer.ggml.bos_token_id", Meta::U32(bos));
        }
        for (key, &id) in ["eos", "eot", "eom"].iter().zip(&config.eos_token_ids) {
            self.set(&format!("tokenizer.ggml.{key}_token_id"), Meta::U32(id));
        }
    }

    /// The keys for a `tokenizer.json` of SentencePiece's kind, where a merge's rank becomes its result's score.
    fn add_vocabulary(&mut self, tokenizer: &Value) {
        let vocabulary = tokenizer["model"]["vocab"].as_object().expect("a vocabulary");
        let mut tokens = vec![String::new(); vocabulary.len()];
        for (token, id) in vocabulary {
            tokens[id.as_u64().expect("an id") as usize] = token.clone();
        }
        let mut scores = vec![0.0; tokens.len()];
        for (rank, merge) in tokenizer["model"]["merges"].as_array().expect("merges").iter().enumerate() {
            let merged: String = merge.as_array().expect("a pair").iter().filter_map(Value::as_str).collect();
            let id = vocabulary[&merged].as_u64().expect("an id");
            scores[id as usize] = -(rank as f32) - 1.0;
        }
        let token_type = |token: &String| match token.as_str() {
            "<unk>" => 2,
            "<s>" | "</s>" => 3,
            byte if byte.starts_with("<0x") => 6,
            _ => 1,
        };
        self.set("tokenizer.ggml.model", Meta::Text("llama".into()));
        self.set("tokenizer.ggml.token_type", Meta::Ints(tokens.iter().map(token_type).collect()));
        self.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
        self.set("tokenizer.ggml.scores", Meta::Floats(scores));
        self.set("tokenizer.ggml.unknown_token_id", Meta::U32(0));
        self.set("tokenizer.ggml.add_bos_token", Meta::Bool(true));
    }
}

/// `LlamaModel.permute`: the two halves of each head, row by row in turn.
fn interleave(values: &[f32], row: usize, head_dim: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks(head_dim * row) {
        let (first, second) = head.split_at(head.len() / 2);
        for (a, b) in first.chunks(row).zip(second.chunks(row)) {
            out.extend(a);
            out.extend(b);
        }
    }
    out
}

/// `LlamaModel.generate_extra_tensors`: divisors of the frequencies for Llama 3's scaling.
fn rope_factors(config: &ModelConfig) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } =
        config.rope_scaling
    else {
        return Vec::new();
    };
    let (low, high) =
        (original_max_position_embeddings / low_freq_factor, original_max_position_embeddings / high_freq_factor);
    let dim = config.head_dim;
    let frequencies = (0..dim / 2).map(|i| config.rope_theta.powf(-2.0 * i as f32 / dim as f32));
    frequencies
        .map(|frequency| match TAU / frequency {
            short if short < high => 1.0,
            long if long > low => factor,
            wavelength => {
                let smooth = (original_max_position_embeddings / wavelength - low_freq_factor)
                    / (high_freq_factor - low_freq_factor);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        })
        .collect()
}

/// The GGUF name of a tensor that Hugging Face calls `name`.
pub fn gguf_name(name: &str) -> String {
    const NAMES: [(&str, &str); 13] = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    NAMES.iter().fold(name.to_string(), |name, (theirs, ours)| name.replace(theirs, ours))
}

/// The `ggml_type` of an encoding.
///
/// # Panics
/// When it is not written here.
pub fn kind(encoding: Encoding) -> u32 {
    match encoding {
        Encoding::F32 => 0,
        Encoding::F16 => 1,
        Encoding::Q4_1 => 3,
        Encoding::Q8_0 => 8,
        other => panic!("{other:?} cannot be written"),
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_value(out: &mut Vec<u8>, value: &Meta) {
    let list = |out: &mut Vec<u8>, kind: u32, count: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match value {
        Meta::U32(value) => {
            out.extend(4u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        Meta::F32(value) => {
            out.extend(6u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        Meta::Bool(value) => {
            out.extend(7u32.to_le_bytes());
            out.push(u8::from(*value));
        }
        Meta::Text(text) => {
            out.extend(8u32.to_le_bytes());
            push_text(out, text);
        }
        Meta::Texts(texts) => {
            list(out, 8, texts.len());
            texts.iter().for_each(|text| push_text(out, text));
        }
        Meta::Floats(values) => {
            list(out, 6, values.len());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Meta::Ints(values) => {
            list(out, 5, values.len());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}
