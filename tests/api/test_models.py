"""test_models.py - every architecture with recorded truth, through the commands and the server.

Bounds are those of the reference data: an engine that computes in f32 is within 1e-9 of a
recording in f32, names the same likeliest token at every position and continues with the same
tokens.  Native products of Q8_0 and Q4_0 round activations; each such file may be as far from its
recording as the oracle that does so, too.
"""
import functools
import json
import math
import os
import re

import gguf
import harness
import oracle
from harness import Server, check, equal, for_each, gantry, in_parallel, shared_path, test

NMSE_MAX = 1e-9
VOCAB = 512


def path(*parts):
    return os.path.join(shared_path("oracle/public/models"), *parts)


@functools.lru_cache
def index(name):
    with open(path(name, "index.json"), encoding="utf-8") as file:
        return json.load(file)


@functools.lru_cache
def names():
    every = sorted(n for n in os.listdir(path()) if os.path.isdir(path(n)))
    check(len(every) >= 28, f"{len(every)} models")
    return every


def decoders():
    found = [n for n in names() if "logits" in index(n)["golden"][0]]
    check(len(found) >= 27, f"{len(found)} decoders")
    return found


def greedy(name):
    """The goldens that have a continuation."""
    return [g for g in index(name)["golden"] if "greedy" in g]


def ids_of(name, prompt):
    return list(oracle.numbers("i", path(name, prompt + ".ids.i32")))


def numbers_of(command, model, ids, *flags, env=None):
    """What a command writes for these tokens: its stdout and the numbers."""
    out = os.path.join(harness.TMP, f"models-{abs(hash((command, model, tuple(ids), flags)))}.f32")
    listed = ",".join(map(str, ids))
    done = gantry(command, model, "--tokens", listed, "-o", out, *flags, env=env).succeeded()
    values = oracle.numbers("f", out)
    os.unlink(out)
    return done.text, values


def row(values, i):
    return values[i * VOCAB : (i + 1) * VOCAB]


def best(values):
    return max(range(len(values)), key=values.__getitem__)


def require_close(got, recorded, bound, what):
    """The recording has the last rows only, where there are many."""
    want = oracle.numbers("f", recorded)
    error = oracle.nmse(got[-len(want) :], want)
    check(error <= bound, lambda: f"{what}: NMSE {error:.3g} > {bound:.3g}")


# --- logits ---------------------------------------------------------------------------------------


def compare_golden(name, golden, *flags, env=None):
    what = f"{name} {golden['prompt']} {flags} {env or ''}"
    ids = ids_of(name, golden["prompt"])
    shorter = re.search(r"\.nctx(\d+)\.", golden["logits"])  # recorded with a smaller context
    flags += ("--ctx", shorter.group(1)) if shorter else ()
    said, got = numbers_of("logits", path(name, index(name)["model"]), ids, *flags, env=env)
    equal(said, f"{len(ids)} {VOCAB}\n", f"{what}: stdout")
    require_close(got, path(name, golden["logits"]), NMSE_MAX, what)
    if shorter:
        return
    likeliest = oracle.numbers("i", path(name, golden["argmax"]))
    wrong = [i for i in range(len(ids)) if best(row(got, i)) != likeliest[i]]
    equal(wrong, [], f"{what}: positions with another likeliest token")


def compare_all(*flags, env=None):
    cases = [(name, golden) for name in decoders() for golden in index(name)["golden"]]
    for_each(cases, lambda case: compare_golden(*case, *flags, env=env))


@test
def logits_of_the_reference_backend_are_the_oracles():
    compare_all("--backend", "ref")


@test
def logits_of_scalar_code_are_the_oracles():
    compare_all("--backend", "cpu", env={"GANTRY_CPU_ISA": "scalar"})


@test
def logits_of_avx2_code_are_the_oracles():
    compare_all("--backend", "cpu", env={"GANTRY_CPU_ISA": "avx2"})


@test
def logits_do_not_depend_on_the_number_of_threads():
    def compare(name):
        model, ids = path(name, index(name)["model"]), ids_of(name, "p130")
        one = numbers_of("logits", model, ids, "--threads", "1")[1]
        three = numbers_of("logits", model, ids, "--threads", "3")[1]
        equal(three.tobytes() == one.tobytes(), True, f"{name}: the same bits with 3 threads")

    for_each(decoders(), compare)


# --- quantized files ------------------------------------------------------------------------------


def quantized():
    """(model, description of the file, prompt)"""
    files = [(n, file) for n in decoders() for file in index(n).get("quant", ())]
    found = [(n, file, prompt) for n, file in files for prompt in ("p24", "p130")]
    check(len(found) >= 14, f"{len(found)} quantized goldens")
    return found


@test
def quantized_files_computed_in_f32_give_what_their_weights_say():
    def compare(case):
        name, file, prompt = case
        ids, golden = ids_of(name, prompt), path(name, file[prompt]["deq_logits"])
        got = numbers_of("logits", path(name, file["file"]), ids, "--backend", "ref")[1]
        require_close(got, golden, NMSE_MAX, f"{name} {file['type']} {prompt}")

    for_each(quantized(), compare)


@test
def quantized_files_computed_natively_are_as_close_as_the_oracle():
    def compare(case):
        name, file, prompt = case
        ids, golden = ids_of(name, prompt), path(name, file[prompt]["deq_logits"])
        got = numbers_of("logits", path(name, file["file"]), ids, "--backend", "cpu")[1]
        bound = file["p24"]["oracle_vs_deq_nmse"]
        require_close(got, golden, bound, f"{name} {file['type']} {prompt}")

    for_each(quantized(), compare)


# --- greedy continuations -------------------------------------------------------------------------


@test
def every_recorded_continuation_is_the_likeliest():
    """One pass over prompt and continuation: each token is the best one after those before."""

    def compare(case):
        name, golden = case
        prompt = ids_of(name, golden["prompt"])
        more = list(oracle.numbers("i", path(name, golden["greedy"])))
        got = numbers_of("logits", path(name, index(name)["model"]), prompt + more)[1]
        said = [best(row(got, len(prompt) - 1 + i)) for i in range(len(more))]
        equal(said, more, f"{name} {golden['prompt']}: the continuation")

    for_each([(n, g) for n in decoders() for g in greedy(n)], compare)


@functools.lru_cache
def pieces(name):
    """How the server writes each token in log-probabilities."""
    file = gguf.Gguf(path(name, index(name)["model"]))
    tokens = file.keys["tokenizer.ggml.tokens"][1][1]
    kinds = file.keys["tokenizer.ggml.token_type"][1][1]
    byte = 6

    def written(piece, kind):
        if kind != byte:
            return piece.decode().replace("\u2581", " ")
        value = int(piece[3:5], 16)
        return chr(value) if value < 0x80 else f"bytes:\\x{value:02x}"

    return [written(piece, kind) for piece, kind in zip(tokens, kinds)]


def log_probability(logits, token):
    top = max(logits)
    return logits[token] - top - math.log(sum(math.exp(x - top) for x in logits))


def ask_for_golden(server, name, golden):
    body = {
        "model": name,
        "prompt": ids_of(name, golden["prompt"]),
        "max_tokens": 32,
        "temperature": 0,
        "ignore_eos": True,
        "add_special_tokens": False,
        "logprobs": 1,
    }
    reply = server.post("/v1/completions", body).must(200).json
    choice = reply["choices"][0]["logprobs"]
    want = oracle.numbers("i", path(name, golden["greedy"]))
    what = f"{name} {golden['prompt']}"
    equal(choice["tokens"], [pieces(name)[i] for i in want], f"{what}: tokens")
    logits = oracle.numbers("f", path(name, golden["logits"]))
    recorded = log_probability(logits[-VOCAB:], want[0])
    off = abs(choice["token_logprobs"][0] - recorded)
    check(off < 1e-3, f"{what}: log-probability of the first token is off by {off:.3g}")


def serve_all(which, *flags):
    models = [part for n in which for part in ("-m", f"{n}={path(n, index(n)['model'])}")]
    return Server(*models, "--gpu", "off", "--kv", "f32", "--threads", "1", *flags, model=False)


@test
def one_server_continues_for_all_models_as_recorded():
    """All architectures at once, both prompts of a model together in its batches."""
    which = decoders()[:: harness.SCALE]
    with serve_all(which) as server:
        in_parallel(
            [
                lambda n=n, g=g: ask_for_golden(server, n, g)
                for n in which
                for g in greedy(n)
            ]
        )
        server.wait_idle()


@test
def prompts_cut_into_small_steps_continue_as_recorded():
    """Windows, states and rotations must not care where a prompt is cut."""
    which = decoders()[:: harness.SCALE]
    with serve_all(which, "--step-tokens-max", "19", "--parallel", "3") as server:
        for name in which:
            in_parallel(
                [lambda g=g: ask_for_golden(server, name, g) for g in greedy(name)] * 2
            )
        server.wait_idle()


# --- vectors --------------------------------------------------------------------------------------


def compare_vector(name, row_of_index, *flags):
    pooling, prompt = row_of_index["pooling"], row_of_index["prompt"]
    what = f"{name} {prompt} {pooling} {flags}"
    ids = ids_of(name, prompt)
    flags = ("--pooling", pooling, *flags)
    said, got = numbers_of("embed", path(name, index(name)["model"]), ids, *flags)
    dims = len(got) // len(ids) if pooling == "none" else len(got)
    equal(said, f"{len(ids)} {dims}\n" if pooling == "none" else f"{dims}\n", f"{what}: stdout")
    require_close(got, path(name, row_of_index["file"]), NMSE_MAX, what)


@test
def vectors_are_the_oracles():
    rows = [("bert", r) for r in index("bert")["golden"]]
    rows += [("llama-mha", r) for r in index("llama-mha")["embeddings"]]
    equal(len(rows), 16, "recorded vectors")
    for backend in ("ref", "cpu"):
        for_each(rows, lambda case: compare_vector(*case, "--backend", backend))


@test
def a_text_gives_the_vector_of_its_tokens_and_the_files_pooling():
    model, out = path("bert", "model-f32.gguf"), os.path.join(harness.TMP, "text.vec")
    for text in index("bert")["texts"]:
        if text["ids"] is None:
            continue
        gantry("embed", model, "-p", text["text"], "-o", out).succeeded()
        by_text = oracle.numbers("f", out)
        by_ids = numbers_of("embed", model, text["ids_parse_special"], "--pooling", "mean")[1]
        equal(by_text.tobytes() == by_ids.tobytes(), True, "the same vector")
    scaled = numbers_of("embed", model, ids_of("bert", "p24"), "--normalize")[1]
    check(abs(sum(v * v for v in scaled) - 1) < 1e-6, "a normalized vector has length 1")


@test
def what_a_model_cannot_do_is_said():
    bert, qwen = path("bert", "model-f32.gguf"), path("qwen2", "model-f32.gguf")
    out = os.path.join(harness.TMP, "refused.f32")
    listed = ",".join(["5"] * 193)
    gantry("logits", bert, "--tokens", "2,3", "-o", out).failed_with(1, "bert", "encoder", "embed")
    gantry("run", bert, "-p", "x", "--raw").failed_with(1, "encoder")
    gantry("embed", bert, "--tokens", listed, "-o", out).failed_with(1, "193", "192")
    gantry("embed", bert, "--tokens", "2,512", "-o", out).failed_with(1, "512")
    gantry("embed", bert, "--tokens", "2,3").failed_with(2, "-o")
    gantry("embed", bert, "-o", out).failed_with(2, "--tokens")
    gantry("embed", qwen, "--tokens", "1", "--pooling", "most", "-o", out).failed_with(2, "most")
    check(not os.path.exists(out), "a file after a refusal")


# --- inspect --------------------------------------------------------------------------------------


@test
def inspect_knows_every_model():
    def compare(name):
        done = gantry("inspect", "--json", path(name, index(name)["model"])).succeeded()
        facts, want = json.loads(done.out), index(name)
        equal(facts["architecture"], want["arch"], f"{name}: architecture")
        equal((facts["runnable"], facts["reason"]), (True, None), f"{name}: runnable")
        equal(facts["parameters"], parameters(name), f"{name}: parameters")
        text = gantry("inspect", path(name, want["model"])).succeeded().text
        check(want["arch"] in text, f"{name}: the text does not name {want['arch']}")

    for_each(names(), compare)


def parameters(name):
    file = gguf.Gguf(path(name, index(name)["model"]))
    return sum(math.prod(dims) for dims, _, _ in file.tensors.values())


@test
def an_unknown_architecture_is_refused_with_the_known_ones():
    file = gguf.Gguf(path("qwen2", "model-f32.gguf"))
    file.rename_architecture("zebra")
    made = file.write(os.path.join(harness.TMP, "zebra.gguf"))
    known = ["'zebra'", *sorted({index(n)["arch"] for n in names()})]
    args = ("--tokens", "1", "-o", os.path.join(harness.TMP, "zebra.f32"))
    gantry("logits", made, *args).failed_with(1, *known)
    gantry("run", made, "-p", "x", "--raw").failed_with(1, *known)
    facts = json.loads(gantry("inspect", "--json", made).succeeded().out)
    equal(facts["runnable"], False, "runnable")
    for word in known:
        check(word in facts["reason"], lambda: f"no {word} in {facts['reason']!r}")


# --- files that lack or add something -------------------------------------------------------------


def changed(name, change):
    file = gguf.Gguf(path(name, index(name)["model"]))
    change(file)
    return file.write(os.path.join(harness.TMP, f"changed-{name}.gguf"))


@test
def every_tensor_of_every_model_is_needed_or_changes_the_result():
    """A file without one of its tensors is refused or computes something else, and one with a
    tensor that has no place is refused by the tensor's name."""

    def compare(name):
        def add(file):
            file.add_f32("blk.0.nothing.weight", [4], [0.0] * 4)

        out = os.path.join(harness.TMP, f"added-{name}.f32")
        refused = gantry("logits", changed(name, add), "--tokens", "1", "-o", out)
        refused.failed_with(1, "blk.0.nothing.weight")

        whole = numbers_of("logits", path(name, index(name)["model"]), range(3, 11))[1]
        file = gguf.Gguf(path(name, index(name)["model"]))
        for tensor in [t for t in file.tensors if not t.startswith("blk.") or "blk.1." in t]:
            less = gguf.Gguf(path(name, index(name)["model"]))
            del less.tensors[tensor]
            made = less.write(os.path.join(harness.TMP, f"less-{name}.gguf"))
            done = gantry("logits", made, "--tokens", ",".join(map(str, range(3, 11))), "-o", out)
            if done.code != 0:
                done.failed_with(1, "model: ")
                continue
            same = oracle.numbers("f", out).tobytes() == whole.tobytes()
            check(not same, f"{name}: {tensor} changes nothing")

    for_each(decoders(), compare)
