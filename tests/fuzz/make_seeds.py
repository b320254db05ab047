"""Writes the seeds: one tiny model as GGUF, safetensors, an index and a web pack's manifest."""

import json
import struct
from pathlib import Path

SEEDS = Path(__file__).parent / "seeds"
# Name in safetensors, name in GGUF, shape.
TENSORS = [
    ("model.embed_tokens.weight", "token_embd.weight", [3, 2]),
    ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight", [2]),
    ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", [2, 2]),
    ("model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight", [2, 2]),
    ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight", [2, 2]),
    ("model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight", [2, 2]),
    ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight", [2]),
    ("model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight", [2, 2]),
    ("model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight", [2, 2]),
    ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", [2, 2]),
    ("model.norm.weight", "output_norm.weight", [2]),
]


def count(shape):
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def safetensors():
    header, end = {}, 0
    for name, _, shape in TENSORS:
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + 2 * count(shape)]}
        end += 2 * count(shape)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def gguf():
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    def u32(value):
        return struct.pack("<II", 4, value)

    def f32(value):
        return struct.pack("<If", 6, value)

    def array(kind, packed, length):
        return struct.pack("<IIQ", 9, kind, length) + packed

    keys = {
        "general.architecture": struct.pack("<I", 8) + text("llama"),
        "llama.block_count": u32(1),
        "llama.context_length": u32(16),
        "llama.embedding_length": u32(2),
        "llama.feed_forward_length": u32(2),
        "llama.attention.head_count": u32(1),
        "llama.attention.head_count_kv": u32(1),
        "llama.attention.key_length": u32(2),
        "llama.rope.dimension_count": u32(2),
        "llama.rope.freq_base": f32(10000.0),
        "llama.rope.scaling.type": struct.pack("<I", 8) + text("linear"),
        "llama.rope.scaling.factor": f32(2.0),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "general.alignment": u32(32),
        "tokenizer.ggml.model": struct.pack("<I", 8) + text("llama"),
        "tokenizer.ggml.tokens": array(8, b"".join(text(t) for t in ["<unk>", "<s>", "</s>"]), 3),
        "tokenizer.ggml.scores": array(6, struct.pack("<3f", 0, 0, 0), 3),
        "tokenizer.ggml.token_type": array(5, struct.pack("<3i", 2, 3, 3), 3),
        "tokenizer.ggml.bos_token_id": u32(1),
        "tokenizer.ggml.eos_token_id": u32(2),
        "tokenizer.ggml.add_bos_token": struct.pack("<IB", 7, 1),
    }
    tensors = [(name, shape) for _, name, shape in TENSORS] + [("rope_freqs.weight", [1])]
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    out += b"".join(text(key) + value for key, value in keys.items())
    data = b""
    for name, shape in tensors:
        out += text(name) + struct.pack("<I", len(shape))
        out += b"".join(struct.pack("<Q", size) for size in reversed(shape))
        out += struct.pack("<IQ", 0, len(data))
        data += struct.pack("<f", 1.0) * count(shape)
        data += bytes(-len(data) % 32)
    return out + bytes(-len(out) % 32) + data


def manifest():
    record = {"file": "shard-00001.safetensors", "bytes": 1000, "sha256": "0" * 64}
    tensors, offset = [], 100
    for name, _, shape in TENSORS:
        rows, cols = shape if len(shape) == 2 else (1, shape[0])
        pieces = [{"shard": 0, "offset": offset, "rows": rows}]
        tensors.append({"name": name, "shape": [rows, cols], "encoding": "F32", "pieces": pieces})
        offset += rows * cols * 4
    sizes = {
        "hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "head_dim": 2, "vocab_size": 3, "max_position_embeddings": 16,
    }
    config = sizes | {
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "attention_bias": False, "mlp_bias": False, "head": "tied", "bos_token_id": 1, "eos_token_ids": [2],
    }
    return json.dumps({
        "version": 1, "name": "tiny", "quantization": "F32", "config": config, "template": "auto",
        "tokenizer": {"tokenizer": record, "config": record}, "shards": [record], "tensors": tensors,
    }).encode()


if __name__ == "__main__":
    index = json.dumps({"weight_map": {name: "model.safetensors" for name, _, _ in TENSORS}}).encode()
    for path, contents in [
        ("gguf/tiny.gguf", gguf()),
        ("safetensors/tiny.safetensors", safetensors()),
        ("safetensors/index.json", index),
        ("manifest/manifest.json", manifest()),
    ]:
        (SEEDS / path).parent.mkdir(parents=True, exist_ok=True)
        (SEEDS / path).write_bytes(contents)
