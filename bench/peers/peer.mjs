// peer.mjs - one measurement of llama.cpp: loads a GGUF, runs the asked tests, prints JSON.
//
//   node peer.mjs --lib DIR --model FILE [--threads 2] [--prompt 512] [--tokens 128] [--depth 0]
//                 [--batch 1,8] [--repeat 3]
//
// DIR holds llama-addon.node of the package node-llama-cpp and its libraries.  The script calls the
// addon itself and not the package's classes: fill a batch, decode, wait.  The decoding runs on a
// thread of libuv with llama.cpp's own threads while the script sleeps in its event loop.  What the
// way there and back costs is measured too (call_us): a decode of an empty batch, which llama.cpp
// refuses at once.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { parseArgs } from "node:util";

const BATCH_TOKENS_MAX = 512;
const EMPTY_CALLS = 200;
const IDS = 256; // no model that is measured has fewer tokens

const { values: args } = parseArgs({
  options: {
    lib: { type: "string" },
    model: { type: "string" },
    threads: { type: "string", default: "2" },
    prompt: { type: "string", default: "512" },
    tokens: { type: "string", default: "128" },
    depth: { type: "string", default: "0" },
    batch: { type: "string", default: "1" },
    repeat: { type: "string", default: "3" },
  },
});

const seconds = () => Number(process.hrtime.bigint()) / 1e9;

// Any valid ids: what is computed does not depend on which.
function tokenIds(from, count) {
  const ids = new Uint32Array(count);
  for (let i = 0; i < count; i++) ids[i] = (Math.imul(from + i, 2654435761) >>> 7) % IDS;
  return ids;
}

// --- llama.cpp --------------------

function loadAddon(dir) {
  const addon = createRequire(import.meta.url)(path.resolve(dir, "llama-addon.node"));
  addon.markLoaded();
  addon.setLogger(() => {});
  addon.loadBackends(path.resolve(dir));
  return addon;
}

// "libggml-cpu-haswell": which of them llama.cpp has chosen.
function loadedLibrary() {
  return readFileSync("/proc/self/maps", "latin1").match(/libggml-cpu-?[^/]*(?=\.so)/)?.[0] ?? "?";
}

async function openModel(addon, file) {
  const model = new addon.AddonModel(file, { addonExports: addon, gpuLayers: 0, useMmap: true });
  if (!(await model.init())) throw new Error(`llama.cpp cannot load ${file}`);
  return model;
}

// As llama.cpp chooses: flash attention "auto", keys and values in f16.
async function openContext(addon, model, tokensPerSequence, sequences) {
  const context = new addon.AddonContext(model, {
    contextSize: (Math.ceil(tokensPerSequence / 256) * 256) * sequences,
    batchSize: BATCH_TOKENS_MAX,
    sequences,
    flashAttention: "auto",
    threads: Number(args.threads),
    performanceTracking: false,
  });
  if (!(await context.init())) throw new Error("llama.cpp cannot open a context");
  return context;
}

const LAST = (n) => Uint32Array.of(n - 1);
const NONE = new Uint32Array(0);

// --- tests --------------------

async function readPrompt(context, sequence, tokens) {
  for (let from = 0; from < tokens; from += BATCH_TOKENS_MAX) {
    const n = Math.min(tokens - from, BATCH_TOKENS_MAX);
    context.initBatch(n);
    const wanted = from + n === tokens ? LAST(n) : NONE;
    context.addToBatch(sequence, from, tokenIds(from, n), wanted);
    await context.decodeBatch();
  }
}

// `tokens` steps of one row for each sequence, after `depth` tokens.
async function generate(context, tokens, sequences, depth) {
  for (let t = 0; t < tokens; t++) {
    context.initBatch(sequences);
    for (let s = 0; s < sequences; s++)
      context.addToBatch(s, depth + t, tokenIds(t + s, 1), LAST(1));
    await context.decodeBatch();
  }
}

function dropAfter(context, sequences, depth) {
  for (let s = 0; s < sequences; s++) context.removeTokenCellsFromSequence(s, depth, -1);
}

async function timed(context, repeat, sequences, depth, made, once) {
  const runs = [];
  for (let i = 0; i <= repeat; i++) {
    dropAfter(context, sequences, depth);
    const start = seconds();
    await once();
    if (i > 0) runs.push(made / (seconds() - start)); // the first run warms up
  }
  dropAfter(context, sequences, 0);
  return runs;
}

async function emptyCallMicroseconds(context) {
  const start = seconds();
  for (let i = 0; i < EMPTY_CALLS; i++) {
    context.initBatch(1);
    await context.decodeBatch().catch(() => {});
  }
  return ((seconds() - start) / EMPTY_CALLS) * 1e6;
}

async function measureAll(addon, model) {
  const [prompt, tokens, depth, repeat] = [args.prompt, args.tokens, args.depth, args.repeat].map(Number);
  const batches = args.batch.split(",").map(Number);
  const rows = [];
  const sequencesMax = Math.max(...batches);
  const longest = Math.max(prompt, depth + tokens) + 1;
  const context = await openContext(addon, model, longest, sequencesMax);
  if (prompt > 0)
    rows.push({
      test: `pp${prompt}`,
      runs: await timed(context, repeat, 1, 0, prompt, () => readPrompt(context, 0, prompt)),
    });
  for (const sequences of tokens > 0 ? batches : []) {
    for (let s = 0; s < sequences && depth > 0; s++) await readPrompt(context, s, depth);
    const name = `tg${tokens}${depth > 0 ? `@d${depth}` : ""}${sequences > 1 ? `@b${sequences}` : ""}`;
    rows.push({
      test: name,
      runs: await timed(context, repeat, sequences, depth, tokens * sequences, () =>
        generate(context, tokens, sequences, depth)),
    });
  }
  const call_us = await emptyCallMicroseconds(context);
  await context.dispose();
  return { rows, call_us };
}

const addon = loadAddon(args.lib);
await addon.init();
const start = seconds();
const model = await openModel(addon, args.model);
const load_s = seconds() - start;
const { rows, call_us } = await measureAll(addon, model);
const { release } = JSON.parse(readFileSync(path.join(args.lib, "_nlcBuildMetadata.json"))).buildOptions.llamaCpp;
const said = { engine: "llama.cpp", release, library: loadedLibrary(), system: addon.systemInfo() };
console.log(JSON.stringify({ ...said, load_s, call_us, rows }));
await model.dispose();
