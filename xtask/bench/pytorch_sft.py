"""Alpaca's fine-tuning by PyTorch and transformers on the processor, in fp32: what `cargo xtask bench-training` compares with.

    python pytorch_sft.py MODEL SEED_TASKS STEPS BATCH_SIZE THREADS

Examples in the file's order, padded micro-batches of 4 (stanford_alpaca's), the loss over the step's target tokens. Prints a
line of JSON a step: loss, norm of the gradients, tokens that are no padding, seconds.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
MAX_LENGTH, MICRO_BATCH = 512, 4

model_folder, seed_tasks = sys.argv[1:3]
steps, batch_size, threads = map(int, sys.argv[3:6])
torch.set_num_threads(threads)
tokenizer = AutoTokenizer.from_pretrained(model_folder)
model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)

examples = []
for line in open(seed_tasks, encoding="utf-8"):
    task = json.loads(line)
    for instance in task["instances"]:
        template = WITH_INPUT if instance["input"] else WITHOUT_INPUT
        source = template.format(instruction=task["instruction"], input=instance["input"])
        ids = tokenizer(source + instance["output"] + tokenizer.eos_token).input_ids[:MAX_LENGTH]
        start = min(len(tokenizer(source).input_ids), len(ids))
        if start < len(ids):
            examples.append((ids, [-100] * start + ids[start:]))

for step in range(steps):
    began = time.perf_counter()
    batch = [examples[(step * batch_size + i) % len(examples)] for i in range(batch_size)]
    targets = sum(label != -100 for _, labels in batch for label in labels[1:])
    loss = 0.0
    for first in range(0, batch_size, MICRO_BATCH):
        micro = batch[first : first + MICRO_BATCH]
        longest = max(len(ids) for ids, _ in micro)
        pad = lambda values, value: values + [value] * (longest - len(values))
        ids = torch.tensor([pad(ids, 0) for ids, _ in micro])
        mask = torch.tensor([pad([1] * len(ids), 0) for ids, _ in micro])
        labels = torch.tensor([pad(labels, -100) for _, labels in micro])
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].flatten(0, 1)
        part = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum") / targets
        part.backward()
        loss += part.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
    optimizer.step()
    optimizer.zero_grad()
    tokens = sum(len(ids) for ids, _ in batch)
    seconds = time.perf_counter() - began
    print(json.dumps({"loss": loss, "grad_norm": norm, "tokens": tokens, "seconds": seconds}), flush=True)
