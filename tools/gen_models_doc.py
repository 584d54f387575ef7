#!/usr/bin/env python3
"""gen_models_doc.py - docs/models.md from what a binary computes for the recorded models.

usage: tools/gen_models_doc.py BINARY > docs/models.md        from the repository root

Every figure of the page is measured here: the binary is run over the reference data (in
GANTRY_SHARED or ../shared) and its output compared.  A figure that misses its bound, or a known
architecture without a page, ends the run with status 1 and no page.
"""
import array
import collections
import glob
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/api"))
import gguf  # noqa: E402  (the tests' reader and writer of GGUF files)
import harness  # noqa: E402
import test_formulas  # noqa: E402  (what is computed there)

ORACLE = os.path.join(os.environ.get("GANTRY_SHARED", "../shared"), "oracle/public")
NMSE_MAX = 1e-9  # of an engine that computes in f32 against a recording in f32
NMSE_MAX_LORA = 1e-6  # the recordings round activations of adapters to f16
VOCAB = 512
PAGES = "docs/models"


class Bench:
    """One binary and a folder for what it writes."""

    def __init__(self, binary, folder):
        self.binary, self.folder = os.path.abspath(binary), folder
        self.missed = []

    def run(self, *args, stdin=b""):
        env = {n: v for n, v in os.environ.items() if not n.startswith("GANTRY_")}
        env["GANTRY_CPU_ISA"] = "avx2"
        command = [self.binary, *map(str, args)]
        return subprocess.run(command, input=stdin, capture_output=True, env=env, check=False)

    def numbers(self, command, model, ids, *flags):
        out = os.path.join(self.folder, "numbers.f32")
        listed = ",".join(map(str, ids))
        done = self.run(command, model, "--tokens", listed, "-o", out, *flags)
        if done.returncode != 0:
            sys.exit(f"gen_models_doc: {command} {model}: {done.stderr.decode().strip()}")
        return numbers("f", out)

    def near(self, got, recorded, bound, what):
        """The error as text; the recording has the last rows of what was computed."""
        want = numbers("f", recorded) if isinstance(recorded, str) else recorded
        got = got[-len(want) :]
        error = sum((a - b) ** 2 for a, b in zip(got, want)) / sum(b * b for b in want)
        if not error <= bound:
            self.missed.append(f"{what}: NMSE {error:.2g} > {bound:.2g}")
        return digit(error)


def digit(error):
    """One digit of an error."""
    return f"{error:.0e}".replace("e-0", "e-") if error > 0 else "0"


def numbers(typecode, path):
    values = array.array(typecode)
    with open(path, "rb") as file:
        values.frombytes(file.read())
    if sys.byteorder == "big":
        values.byteswap()
    return values


def load(*parts):
    with open(os.path.join(ORACLE, *parts), encoding="utf-8") as file:
        return json.load(file)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


# --- recorded models ----------------------------------------------------------------------------


class Recorded:
    def __init__(self, bench, name):
        self.bench, self.name, self.index = bench, name, load("models", name, "index.json")
        self.arch, self.model = self.index["arch"], self.path(self.index["model"])

    def path(self, *parts):
        return os.path.join(ORACLE, "models", self.name, *parts)

    def ids(self, prompt):
        return list(numbers("i", self.path(prompt + ".ids.i32")))

    def errors(self, goldens, model, bound, *flags):
        """The error at each golden, largest last."""
        found = []
        for golden in goldens:
            shorter = re.search(r"\.nctx(\d+)\.", golden["logits"])
            more = ("--ctx", shorter.group(1)) if shorter else ()
            got = self.bench.numbers("logits", model, self.ids(golden["prompt"]), *flags, *more)
            what = f"{self.name} {golden['prompt']} {' '.join(flags)}"
            path = self.path(golden["logits"])
            found.append(self.bench.near(got, path, bound, what))
        return " ".join(found)

    def continuation(self):
        """Tokens recorded after the prompts, of which each has to be the likeliest."""
        right = 0
        for golden in self.index["golden"]:
            if "greedy" not in golden:
                continue
            ids, more = self.ids(golden["prompt"]), numbers("i", self.path(golden["greedy"]))
            got = self.bench.numbers("logits", self.model, ids + list(more))
            for i, token in enumerate(more):
                row = got[(len(ids) - 1 + i) * VOCAB :][:VOCAB]
                if max(row) == row[token]:
                    right += 1
                else:
                    self.bench.missed.append(f"{self.name}: token {i} after {golden['prompt']}")
        return str(right)

    def decoder_row(self):
        goldens, hf = self.index["golden"], self.index.get("hf")
        lora = ", ".join(self.lora_errors()) if "lora" in self.index else ""
        return [
            f"`{self.arch}`",
            self.name,
            self.index["features"],
            self.errors(goldens, self.model, NMSE_MAX, "--backend", "ref"),
            self.errors(goldens, self.model, NMSE_MAX, "--backend", "cpu"),
            self.continuation(),
            self.errors(hf, self.path(hf[0]["dir"]), NMSE_MAX) if hf else "",
            lora,
        ]

    def lora_errors(self):
        for golden in self.index["lora"]:
            adapters = [(self.path(a["file"]), a["scale"]) for a in golden["adapters"]]
            flags = [part for path, scale in adapters for part in ("--lora", f"{path}:{scale}")]
            got = self.bench.numbers("logits", self.model, self.ids(golden["prompt"]), *flags)
            path, what = self.path(golden["logits"]), f"{self.name} {golden['tag']}"
            yield self.bench.near(got, path, NMSE_MAX_LORA, what)

    def quantized_rows(self):
        for file in self.index.get("quant", ()):
            for prompt in ("p24", "p130"):
                golden = file[prompt]
                cells = [self.name, file["type"], prompt]
                ids, path = self.ids(prompt), self.path(golden["deq_logits"])
                tail = file["p24"]["oracle_vs_deq_nmse"]
                for backend, bound in (("ref", NMSE_MAX), ("cpu", tail)):
                    flags = ("--backend", backend)
                    got = self.bench.numbers("logits", self.path(file["file"]), ids, *flags)
                    what = f"{self.name} {file['type']} {prompt} {backend}"
                    cells.append(self.bench.near(got, path, bound, what))
                oracle = golden.get("oracle_vs_deq_nmse")
                yield [*cells, digit(oracle) if oracle else ""]

    def vector_rows(self):
        rows = [g for g in self.index["golden"] if "pooling" in g]
        found = collections.defaultdict(list)
        for row in rows + self.index.get("embeddings", []):
            for backend in ("ref", "cpu"):
                flags = ("--pooling", row["pooling"], "--backend", backend)
                got = self.bench.numbers("embed", self.model, self.ids(row["prompt"]), *flags)
                what = f"{self.name} {row['prompt']} {' '.join(flags)}"
                error = self.bench.near(got, self.path(row["file"]), NMSE_MAX, what)
                found[row["pooling"], backend].append(error)
        for pooling in dict.fromkeys(key[0] for key in found):
            errors = [" ".join(found[pooling, backend]) for backend in ("ref", "cpu")]
            yield [f"`{self.arch}`", self.name, pooling, *errors]


# --- architectures ------------------------------------------------------------------------------


def known_architectures(bench, recorded):
    """From the refusal of one that nobody knows."""
    file = gguf.Gguf(recorded.model)
    file.rename_architecture("zebra")
    path = file.write(os.path.join(bench.folder, "zebra.gguf"))
    done = bench.run("logits", path, "--tokens", "1", "-o", os.path.join(bench.folder, "x"))
    said = done.stderr.decode().strip()
    found = re.search(r"architecture 'zebra' is not known; known: (.*)$", said)
    if not found:
        sys.exit(f"gen_models_doc: no list of architectures in: {said}")
    return found.group(1).split(", ")


def pages():
    """architecture -> its page: one whose title names it, or the table of decoder.md."""
    found = {}
    for path in sorted(glob.glob(os.path.join(PAGES, "*.md"))):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        name = os.path.basename(path)
        if name == "decoder.md":
            for arch in re.findall(r"^\| `([a-z0-9_-]+)` \|", text, re.MULTILINE):
                found.setdefault(arch, "decoder.md")
        title = text.splitlines()[0].removeprefix("# ").split(":")[0]
        found.update({arch: name for arch in title.split(", ")})
    return found


def run_formulas(bench):
    """The computations of our own, as the tests make them."""
    harness.setup(bench.binary)
    for topic, function in harness.TESTS:
        try:
            if topic == "formulas":
                function()
        except harness.Failure as why:
            bench.missed.append(str(why))
    shutil.rmtree(harness.TMP, ignore_errors=True)


def architecture_rows(known, recorded):
    where = pages()
    missing = [arch for arch in known if arch not in where]
    if missing:
        sys.exit(f"gen_models_doc: no page in {PAGES} for {', '.join(missing)}")
    by_arch = collections.defaultdict(list)
    for model in recorded:
        by_arch[model.arch].append(model.name)
    for arch in test_formulas.COMPUTED:
        by_arch[arch].append("formula")
    believed = [arch for arch in known if not by_arch[arch]]
    if believed:
        sys.exit(f"gen_models_doc: nothing recorded or computed for {', '.join(believed)}")
    for arch in known:
        yield [f"[`{arch}`](models/{where[arch]})", ", ".join(by_arch[arch])]


# --- tensor types -------------------------------------------------------------------------------


def types_written(bench):
    """From the usage line of `gantry quantize`; Q4_K_M is a mix of Q4_K."""
    said = bench.run("quantize", "in", "out", "none").stderr.decode()
    names = re.search(r"types: (.*)$", said.strip()).group(1).split(", ")
    return {re.sub(r"_[SML]$", "", n) if "_K_" in n else n for n in names}


def with_weight(bench, recorded, name, kind, data):
    """The recorded model with other values in one square matrix of 256 rows."""
    file = gguf.Gguf(recorded.model)
    tensor = file.tensors["blk.0.attn_output.weight"]
    rows = tensor[0][1] // 16  # the recorded blocks are 16 rows
    file.tensors["blk.0.attn_output.weight"] = [tensor[0], kind, data * rows]
    return file.write(os.path.join(bench.folder, name))


def type_rows(bench, recorded):
    folder, written = os.path.join(ORACLE, "dequant"), types_written(bench)
    with open(os.path.join(folder, "index.tsv"), encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file][1:]
    ids = recorded.ids("p24")
    for name, number, *_ in lines:
        data = {}
        for kind in ("quant", "random"):
            for end in ("bin", "f32"):
                with open(os.path.join(folder, f"{name}.{kind}.{end}"), "rb") as file:
                    data[kind, end] = file.read()
            done = bench.run("dequantize", name, stdin=data[kind, "bin"])
            if done.stdout != data[kind, "f32"]:
                bench.missed.append(f"{name}: {kind} blocks are not bit-exact")
        exact = with_weight(bench, recorded, "exact.gguf", 0, data["quant", "f32"])
        stored = with_weight(bench, recorded, "stored.gguf", int(number), data["quant", "bin"])
        want = bench.numbers("logits", exact, ids, "--backend", "ref")
        cells = [name, number, "bit-exact"]
        facts = json.loads(bench.run("inspect", "--json", stored).stdout)
        how = next(t["computed"] for t in facts["types"] if t["type"] == name)
        for backend, bound in (("ref", NMSE_MAX), ("cpu", 1e-4 if how == "repacked" else NMSE_MAX)):
            got = bench.numbers("logits", stored, ids, "--backend", backend)
            cells.append(bench.near(got, want, bound, f"{name} computed by {backend}"))
        cells += [how.split()[0], "yes" if name in written else ""]
        yield cells


# --- the page -----------------------------------------------------------------------------------

HEAD = """# Models

Made by `make docs-models` from runs over the reference data; do not edit. What an architecture
computes is on its page in [models/](models/); tensor types are explained in [types.md](types.md),
directories in [safetensors.md](safetensors.md), vectors in [embeddings.md](embeddings.md).

Errors are NMSE, the sum of squared differences over the sum of squares, against recordings of
independent implementations in f32. The models are small ones with random weights, each with the
features of its family: in {trials} recorded trials, leaving out one key or tensor moved the result
by {least} or more. Each cell has a prompt of 24 tokens and one of 130. `ref` is the plain backend,
`cpu` the AVX2 one. Bounds: 1e-9, and 1e-6 with adapters, whose recordings round to f16.

## Architectures

An architecture that is not here is refused by name. Names in the second column are recorded models,
whose figures follow; `formula`: `tests/api/test_formulas.py` computes models of random weights from
the architecture's page, in double precision, with the same bound.

"""


def page(bench):
    names = sorted(n for n in os.listdir(os.path.join(ORACLE, "models")) if "." not in n)
    recorded = sorted((Recorded(bench, n) for n in names), key=lambda r: (r.arch, r.name))
    base = next(r for r in recorded if r.name == "llama-mha")
    known = known_architectures(bench, base)
    rows = architecture_rows(known, recorded)
    decoders = [r for r in recorded if "logits" in r.index["golden"][0]]
    moved = [v for r in recorded for v in r.index.get("sensitivity_nmse_p130", {}).values() if v]
    parts = [HEAD.format(trials=len(moved), least=digit(min(moved)))]
    parts += [table(["architecture", "checked by"], rows)]
    parts.append(
        "\n## Decoders\n\n`tokens` are those recorded after the prompts, each of them the likeliest"
        " one here. `directory` is\nthe same model as a Hugging Face directory in BF16.\n\n"
    )
    head = ["architecture", "model", "what is in it", "ref", "cpu", "tokens", "directory", "LoRA"]
    parts.append(table(head, [r.decoder_row() for r in decoders]))
    parts.append(
        "\n## Vectors\n\nStates after the last norm, pooled. Each cell has all recorded texts.\n\n"
    )
    vectors = [row for r in recorded for row in r.vector_rows()]
    parts.append(table(["architecture", "model", "pooling", "ref", "cpu"], vectors))
    parts.append(
        "\n## Quantized files\n\nAgainst the file's weights, dequantized exactly and computed in"
        " f32. The last column is how far an\nimplementation is that rounds activations to 8 bits."
        " The bound of `cpu` is that of the shorter prompt.\n\n"
    )
    quantized = [row for r in decoders for row in r.quantized_rows()]
    parts.append(table(["model", "type", "prompt", "ref", "cpu", "8-bit activations"], quantized))
    parts.append(
        "\n## Tensor types\n\n`read`: the recorded blocks become the recorded bits. `ref`, `cpu`:"
        " a model with a matrix of this type\nagainst the same numbers in F32. `path`: as in"
        " [types.md](types.md). `written`: by `gantry quantize`.\nF32 is everywhere above; F64 and"
        " plain integers are not recorded.\n\n"
    )
    head = ["type", "id", "read", "ref", "cpu", "path", "written"]
    parts.append(table(head, type_rows(bench, base)))
    return "".join(parts)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: tools/gen_models_doc.py BINARY > docs/models.md")
    if not os.path.isdir(ORACLE):
        sys.exit(f"gen_models_doc: no {ORACLE}")
    with tempfile.TemporaryDirectory(prefix="gantry-models-") as folder:
        bench = Bench(sys.argv[1], folder)
        text = page(bench)
        run_formulas(bench)
    for miss in bench.missed:
        print(f"gen_models_doc: {miss}", file=sys.stderr)
    if bench.missed:
        sys.exit(1)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
