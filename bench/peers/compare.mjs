// compare.mjs - runs gantry and llama.cpp in turns and prints the medians of both; see run.sh.
//
// A round is a process of one engine and then one of the other, so that both meet the machine's
// good and bad minutes alike.  Each process loads the file, warms up, and runs every test
// `repeat` times; the runs of all rounds make the median.
import { execFileSync } from "node:child_process";
import path from "node:path";
import { parseArgs } from "node:util";

const PEER = path.join(import.meta.dirname, "peer.mjs");

const { values: args, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    lib: { type: "string" },
    binary: { type: "string" },
    isa: { type: "string", default: "auto" },
    threads: { type: "string", default: "2" },
    prompt: { type: "string", default: "512" },
    tokens: { type: "string", default: "128" },
    depth: { type: "string", default: "0" },
    batch: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    repeat: { type: "string", default: "1" },
    numerics: { type: "string", default: "auto" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
  },
});

function runGantry(file) {
  const options = [
    ["-p", args.prompt], ["-n", args.tokens], ["--depth", args.depth], ["--batch", args.batch],
    ["--threads", args.threads], ["--repeat", args.repeat], ["--cpu-isa", args.isa],
    ["--numerics", args.numerics],
  ];
  return execJson(args.binary, ["bench", file, ...options.flat(), "--gpu", "off", "--json"]);
}

function runPeer(file) {
  const options = ["prompt", "tokens", "depth", "batch", "threads", "repeat"].flatMap((name) => [
    `--${name}`,
    args[name],
  ]);
  return execJson(process.execPath, [PEER, "--lib", args.lib, "--model", file, ...options]);
}

function execJson(program, words) {
  const out = execFileSync(program, words, { stdio: ["ignore", "pipe", "inherit"] });
  return JSON.parse(out);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
}

const ENGINES = [
  { name: "gantry", run: runGantry },
  { name: "llama.cpp", run: runPeer },
].filter((engine) => args.only === "" || engine.name === args.only);

// test -> engine -> { runs, median, min, max }, and what the processes said of themselves.
function measureFile(file) {
  const result = { file: path.basename(file, ".gguf"), tests: {}, said: {} };
  for (let round = 0; round < Number(args.rounds); round++) {
    for (const engine of ENGINES) {
      const { rows, ...said } = engine.run(file);
      result.said[engine.name] = said;
      for (const row of rows)
        ((result.tests[row.test] ??= {})[engine.name] ??= { runs: [] }).runs.push(...row.runs);
    }
  }
  for (const engines of Object.values(result.tests)) {
    for (const e of Object.values(engines))
      Object.assign(e, { median: median(e.runs), min: Math.min(...e.runs), max: Math.max(...e.runs) });
    if (engines.gantry && engines["llama.cpp"])
      engines.ratio = engines.gantry.median / engines["llama.cpp"].median;
  }
  return result;
}

// --- table --------------------

const pad = (text, columns) => String(text).padStart(columns);
const rate = (e) => (e ? pad(e.median.toFixed(2), 10) + pad(`${e.min.toFixed(1)}-${e.max.toFixed(1)}`, 16) : pad("-", 26));

function printHead() {
  console.log(`${args.threads} threads, isa ${args.isa}, ${args.rounds} rounds of ${args.repeat}, tokens/s`);
  console.log(
    "model".padEnd(22) + "test".padEnd(16) + pad("gantry", 10) + pad("min-max", 16) +
      pad("llama.cpp", 10) + pad("min-max", 16) + pad("ratio", 8));
}

function printFile(result) {
  for (const [test, engines] of Object.entries(result.tests))
    console.log(
      result.file.padEnd(22) + test.padEnd(16) + rate(engines.gantry) + rate(engines["llama.cpp"]) +
        pad(engines.ratio ? engines.ratio.toFixed(2) : "-", 8));
}

function printTail(results) {
  const { gantry, "llama.cpp": peer } = results.at(-1)?.said ?? {};
  if (gantry)
    console.log(`gantry: ${gantry.backend}, ${gantry.mode}; read sweep ${(gantry.machine.read.per_s / 1e9).toFixed(1)} GB/s`);
  if (peer)
    console.log(`llama.cpp: ${peer.release}, ${peer.library}; ${peer.call_us.toFixed(0)} us of each step are the way from the script and back`);
}

if (!args.json) printHead();
const results = [];
for (const file of files) {
  results.push(measureFile(file));
  if (!args.json) printFile(results.at(-1));
}
if (args.json) console.log(JSON.stringify({ options: args, results }));
else printTail(results);
