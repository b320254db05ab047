"""Fine-tuning and attention by PyTorch: what `gpu-check` compares with, on the same machine, model and data.

    python pytorch_gpu.py FOLDER

FOLDER has config.json, model.safetensors in bf16, and job.json: the examples' ids and first targets, how they are cut into
steps, and the shapes of attention. The model is transformers' LlamaForCausalLM line for line, in plain torch, so that no other
package is needed. Prints a line of JSON for each thing done:

- attention: scaled_dot_product_attention, forward and backward;
- padded: stanford_alpaca's way, weights in f32, products in bf16 by autocast, batches of 4 padded, the Trainer's AdamW;
- packed: PyTorch's best, weights in bf16, documents packed without padding, flash attention, the loss on targets alone,
  fused AdamW, torch.compile.
"""

import json
import struct
import sys
import time
from pathlib import Path

try:
    import torch
except ImportError:
    print(json.dumps({"missing": "this Python has no torch"}))
    sys.exit()
from torch import nn
from torch.nn import functional as F

MICRO_BATCH = 4

folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
config = json.loads((folder / "config.json").read_text())
device = torch.device(job["device"])
if device.type == "cuda" and not torch.cuda.is_available():
    print(json.dumps({"missing": f"PyTorch {torch.__version__} of this Python sees no GPU"}))
    sys.exit()
half = torch.bfloat16 if device.type == "cuda" else torch.float32
HEADS, KV_HEADS = config["num_attention_heads"], config["num_key_value_heads"]
HEAD_DIM = config["hidden_size"] // HEADS


def synchronize():
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(run, runs=5):
    """Median of some runs, after one that warms up."""
    times = []
    for _ in range(runs + 1):
        synchronize()
        began = time.perf_counter()
        run()
        synchronize()
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[runs // 2]


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config["hidden_size"]))

    def forward(self, x):
        wide = x.float()
        normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"])
        return self.weight * normal.to(x.dtype)


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        hidden = config["hidden_size"]
        self.q_proj = nn.Linear(hidden, HEADS * HEAD_DIM, bias=False)
        self.k_proj = nn.Linear(hidden, KV_HEADS * HEAD_DIM, bias=False)
        self.v_proj = nn.Linear(hidden, KV_HEADS * HEAD_DIM, bias=False)
        self.o_proj = nn.Linear(HEADS * HEAD_DIM, hidden, bias=False)

    def forward(self, x, cos, sin, attend):
        split = lambda rows, heads: rows.unflatten(-1, (heads, HEAD_DIM))
        q, k = rotate(split(self.q_proj(x), HEADS), cos, sin), rotate(split(self.k_proj(x), KV_HEADS), cos, sin)
        v = split(self.v_proj(x), KV_HEADS)
        return self.o_proj(attend(q.to(v.dtype), k.to(v.dtype), v).flatten(-2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.self_attn, self.input_layernorm, self.post_attention_layernorm = Attention(), RMSNorm(), RMSNorm()
        self.mlp = nn.Module()
        self.mlp.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.mlp.up_proj = nn.Linear(hidden, inner, bias=False)
        self.mlp.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x, cos, sin, attend):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, attend)
        y = self.post_attention_layernorm(x)
        return x + self.mlp.down_proj(F.silu(self.mlp.gate_proj(y)) * self.mlp.up_proj(y))


class Llama(nn.Module):
    """LlamaForCausalLM; `attend` is given q, k and v of [..., rows, heads, width]."""

    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.model.layers = nn.ModuleList(Block() for _ in range(config["num_hidden_layers"]))
        self.model.norm = RMSNorm()
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def forward(self, ids, positions, attend, rows=None):
        x = self.model.embed_tokens(ids)
        step = torch.arange(0, HEAD_DIM, 2, device=ids.device).float() / HEAD_DIM
        angles = positions[..., None].float() * config["rope_theta"] ** -step
        angles = torch.cat((angles, angles), -1)[..., None, :]
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.model.layers:
            x = layer(x, cos, sin, attend)
        x = self.model.norm(x)
        return self.lm_head(x if rows is None else x[rows]).float()


def load(dtype):
    """The model with the file's weights."""
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        part = bytearray(data[8 + length + first : 8 + length + end])
        tensors[name] = torch.frombuffer(part, dtype=torch.bfloat16).reshape(entry["shape"])
    with torch.device("meta"):
        model = Llama()
    model.to_empty(device=device).to(dtype).load_state_dict(tensors)
    return model


def sdpa(q, k, v, **options):
    """scaled_dot_product_attention of [..., rows, heads, width]."""
    q, k, v = q.transpose(-2, -3), k.transpose(-2, -3), v.transpose(-2, -3)
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=HEADS != KV_HEADS, **options).transpose(-2, -3)


def packed_attention(limits, longest):
    """The best there is for documents between `limits`, with its name."""

    def flash(q, k, v):
        return flash_attn_varlen_func(q, k, v, limits, limits, longest, longest, causal=True)

    def varlen(q, k, v):
        # A window that ends at the row itself.
        return varlen_attn(q, k, v, limits, limits, longest, longest, window_size=(-1, 0), enable_gqa=HEADS != KV_HEADS)

    def masked(q, k, v):
        index = torch.arange(q.shape[0], device=device)
        document = torch.searchsorted(limits[1:], index, right=True)
        mask = (document[:, None] == document) & (index[:, None] >= index)
        return sdpa(q, k, v, attn_mask=mask)

    if device.type == "cuda":
        try:
            from flash_attn import flash_attn_varlen_func

            return flash, "flash_attn"
        except ImportError:
            pass
        try:
            from torch.nn.attention.varlen import varlen_attn

            probe = [torch.zeros(64, heads, HEAD_DIM, dtype=half, device=device) for heads in (HEADS, KV_HEADS, KV_HEADS)]
            ends = torch.tensor([0, 64], dtype=torch.int32, device=device)
            varlen_attn(*probe, ends, ends, 64, 64, window_size=(-1, 0), enable_gqa=HEADS != KV_HEADS)
            return varlen, "torch's varlen_attn"
        except Exception:
            pass
    return masked, "scaled_dot_product_attention with a mask"


def step_of(batch, micro_batches, forward, optimizer, model):
    """Gradients of the mean loss over the step's targets, their clip, AdamW; the loss, on the device."""
    targets = sum(len(ids) - first for ids, first in batch)
    total = torch.zeros((), device=device)
    for micro in micro_batches:
        logits, labels = forward(micro)
        part = F.cross_entropy(logits, labels, reduction="sum", ignore_index=-100) / targets
        part.backward()
        total += part.detach()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total


def train(dtype, prepare, forward, model, fused):
    """All steps: their losses, and tokens a second once it is warm."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=job["learning_rate"], weight_decay=0.0, fused=fused)
    losses, tokens = [], 0
    for step, batch in enumerate(job["steps"]):
        batch = [job["examples"][index] for index in batch]
        if step == job["warm"]:
            synchronize()
            began = time.perf_counter()
        if step >= job["warm"]:
            tokens += sum(len(ids) for ids, _ in batch)
        losses.append(step_of(batch, prepare(batch), forward, optimizer, model).item())
    synchronize()
    return {"losses": losses, "tokens_per_s": tokens / (time.perf_counter() - began)}


def padded():
    model = load(torch.float32)

    def prepare(batch):
        return [batch[first : first + MICRO_BATCH] for first in range(0, len(batch), MICRO_BATCH)]

    def forward(micro):
        longest = max(len(ids) for ids, _ in micro)
        ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in micro], device=device)
        labels = [[-100] * first + ids[first:] + [-100] * (longest - len(ids)) for ids, first in micro]
        labels = torch.tensor(labels, device=device)
        lengths = torch.tensor([len(ids) for ids, _ in micro], device=device)
        index = torch.arange(longest, device=device)
        mask = (index[:, None] >= index) & (index < lengths[:, None, None])
        attend = lambda q, k, v: sdpa(q, k, v, attn_mask=mask[:, None])
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half != torch.float32):
            logits = model(ids, index.expand_as(ids), attend)
        return logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()

    return train(torch.float32, prepare, forward, model, fused=False)


def packed():
    model = load(half)
    rows_of = lambda micro: sum(len(ids) - first for ids, first in micro)
    longest = max(len(ids) for ids, _ in job["examples"])

    def prepare(batch):
        micro_batches = [[]]
        for example in batch:
            if sum(len(ids) for ids, _ in micro_batches[-1]) + len(example[0]) > job["packed_tokens"]:
                micro_batches.append([])
            micro_batches[-1].append(example)
        return micro_batches

    # Every micro-batch has one shape, so that nothing is compiled twice: rows and documents are filled up.
    all_batches = [prepare([job["examples"][index] for index in batch]) for batch in job["steps"]]
    most_documents = max(len(micro) for batch in all_batches for micro in batch)
    most_rows = max(rows_of(micro) for batch in all_batches for micro in batch)
    limits = torch.zeros(most_documents + 2, dtype=torch.int32, device=device)
    attend, name = packed_attention(limits, max(longest, job["packed_tokens"]))

    def forward(micro):
        ids, positions, rows, labels, ends = [], [], [], [], [0]
        for document, first in micro:
            rows += range(len(ids) + first - 1, len(ids) + len(document) - 1)
            labels += document[first:]
            ids += document
            positions += range(len(document))
            ends.append(len(ids))
        empty = job["packed_tokens"] - len(ids)
        ids, positions = ids + [0] * empty, positions + list(range(empty))
        ends += [len(ids)] * (len(limits) - len(ends))
        rows, labels = rows + [0] * (most_rows - len(rows)), labels + [-100] * (most_rows - len(labels))
        limits.copy_(torch.tensor(ends, dtype=torch.int32))
        ids, positions, rows, labels = (torch.tensor(values, device=device) for values in (ids, positions, rows, labels))
        return model(ids, positions, attend, rows), labels

    compiled = device.type == "cuda"
    if compiled:
        # A block at a time, as all of them are one program: minutes less than the whole model, and hardly slower.
        for layer in model.model.layers:
            layer.compile()
    try:
        found = train(half, prepare, forward, model, fused=True)
    except Exception as error:
        if not compiled:
            raise
        # Without a compiler on the machine, the same uncompiled: from the first weights again.
        print(f"torch.compile: {error}", file=sys.stderr)
        model, compiled = load(half), False
        found = train(half, prepare, forward, model, fused=True)
    return found | {"attention": name, "compiled": compiled}


def attention(shape):
    """TFLOP/s forward and backward, counted as gpu-check counts."""
    documents, length, (heads, kv_heads, width) = job["attention_documents"], job["attention_length"], shape
    make = lambda heads: torch.randn(documents, heads, length, width, dtype=half, device=device, requires_grad=True)
    q, k, v = make(heads), make(kv_heads), make(kv_heads)
    run = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)
    forward = seconds(run)
    out, grad = run(), torch.randn_like(q)
    backward = seconds(lambda: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True))
    work = documents * 4 * (length * length // 2) * heads * width
    return {"shape": shape, "forward": work / forward / 1e12, "backward": 2.5 * work / backward / 1e12}


def do(name, work, *arguments):
    try:
        found = work(*arguments)
    except Exception as error:
        found = {"error": " ".join(str(error).split())[:200]}
    print(json.dumps({"name": name} | found), flush=True)
    if device.type == "cuda":
        torch.cuda.empty_cache()


print(json.dumps({"torch": torch.__version__}), flush=True)
for shape in job["attention"]:
    do("attention", attention, shape)
do("padded", padded)
do("packed", packed)
