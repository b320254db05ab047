// One run of llama.cpp (through node-llama-cpp): node llama_cpp.mjs MODEL THREADS TOKENS PROMPT_FILE
// Prints {"prompt_tokens", "prefill_tokens_per_s", "decode_tokens_per_s"}.
import { readFileSync } from "node:fs";
import { getLlama } from "node-llama-cpp";

const [modelPath, threadsText, tokensText, promptFile] = process.argv.slice(2);
const threads = Number(threadsText);
const count = Number(tokensText);

const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: "error", maxThreads: threads });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 1024, batchSize: 512, threads: { ideal: threads, min: threads } });
const sequence = context.getSequence();
const prompt = model.tokenize(readFileSync(promptFile, "utf8"), true);

const begin = performance.now();
await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, -1));
const prefilled = performance.now();
let decoded = 0;
for await (const _ of sequence.evaluate(prompt.slice(-1), { temperature: 0, yieldEogToken: true })) {
  decoded += 1;
  if (decoded === count) break;
}
const end = performance.now();

console.log(JSON.stringify({
  prompt_tokens: prompt.length,
  prefill_tokens_per_s: ((prompt.length - 1) * 1000) / (prefilled - begin),
  decode_tokens_per_s: (decoded * 1000) / (end - prefilled),
}));
process.exit(0);
