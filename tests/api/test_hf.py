"""test_hf.py - Hugging Face directories: run in place, converted, quantized into the cache."""
import array
import json
import os
import shutil
import struct

import harness
import hf_inverse
from harness import check, equal, gantry, test
from hf_inverse import write_safetensors

MODELS = ("gemma", "llama3-gqa-ropefreqs", "mixtral", "qwen2", "qwen3")
# The README of the reference data: an engine computing in f32.
NMSE_MAX = 1e-9


# GGUF has the rows of their queries and keys in another order, so the products of both are the same
# sums of f32 in another order.
REORDERED = ("llama3-gqa-ropefreqs", "mixtral")
REORDERED_NMSE_MAX = 1e-11


def shared(*parts):
    return harness.shared_path(os.path.join("oracle/public", *parts))


def floats(path):
    numbers = array.array("f")
    with open(path, "rb") as f:
        numbers.frombytes(f.read())
    return numbers


def out_path(name):
    return os.path.join(harness.TMP, name)


def logits(model, ids, *args):
    out = out_path("hf.logits")
    text = ",".join(str(i) for i in ids)
    gantry("logits", model, "--tokens", text, "-o", out, *args).succeeded()
    return floats(out)


def ids_of(path):
    ids = array.array("i")
    with open(path, "rb") as f:
        ids.frombytes(f.read())
    return ids


def nmse(got, want):
    equal(len(got), len(want), "numbers")
    return sum((a - b) ** 2 for a, b in zip(got, want)) / sum(b * b for b in want)


@test
def directories_give_the_recorded_logits():
    for name in MODELS:
        folder = shared("models", name)
        got = logits(os.path.join(folder, "hf-bf16"), ids_of(os.path.join(folder, "p24.ids.i32")))
        want = floats(os.path.join(folder, "hf-bf16.p24.logits.f32"))
        error = nmse(got, want)
        check(error < NMSE_MAX, f"{name}: nmse {error}")


@test
def directories_of_many_classes_give_the_recorded_logits():
    for name in hf_inverse.CLASSES:
        folder = shared("models", name)
        path = out_path(f"{name}-hf")
        os.makedirs(path, exist_ok=True)
        hf_inverse.write_dir(name, os.path.join(folder, "model-f32.gguf"), path)
        tokenizer = shared("models", "qwen2", "hf-bf16", "tokenizer.model")
        shutil.copyfile(tokenizer, os.path.join(path, "tokenizer.model"))
        got = logits(path, ids_of(os.path.join(folder, "p24.ids.i32")), "--log-level", "error")
        error = nmse(got, floats(os.path.join(folder, "p24.logits.f32")))
        check(error < NMSE_MAX, f"{name}: nmse {error}")


@test
def a_converted_file_gives_the_same_logits_and_tokens():
    text = "Once upon a time, Lily\n saw <s> 3 cats".encode()
    for name in MODELS:
        folder = shared("models", name)
        source = os.path.join(folder, "hf-bf16")
        ids = ids_of(os.path.join(folder, "p24.ids.i32"))
        path = out_path(f"{name}.gguf")
        gantry("convert", source, path).succeeded()
        got, want = logits(path, ids), logits(source, ids)
        if name in REORDERED:
            check(nmse(got, want) < REORDERED_NMSE_MAX, f"{name}: nmse {nmse(got, want)}")
        else:
            equal(got.tobytes(), want.tobytes(), f"logits of {name}")
        want_tokens = gantry("tokenize", source, stdin=text).succeeded().text
        got_tokens = gantry("tokenize", path, stdin=text).succeeded().text
        equal(got_tokens, want_tokens, f"tokens of {name}")


def read_safetensors(path):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + n]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            part = data[8 + n + begin : 8 + n + end]
            tensors[name] = (entry["dtype"], entry["shape"], part)
    return tensors


def copy_dir(source, name):
    """A writable copy of a model directory; answers its path and config.json."""
    path = out_path(name)
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path)
    for entry in os.listdir(source):
        shutil.copyfile(os.path.join(source, entry), os.path.join(path, entry))
    with open(os.path.join(path, "config.json"), encoding="utf-8") as f:
        return path, json.load(f)


def write_config(path, config):
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)


def as_int8(rows, cols, data):
    """BF16 [rows, cols] as I8 with a scale per row, and the same values as F32."""
    halves = array.array("H", data)
    words = array.array("I", (h << 16 for h in halves))
    values = array.array("f", words.tobytes())
    quanta, scales, exact = array.array("b"), array.array("f"), array.array("f")
    for row in range(rows):
        line = values[row * cols : (row + 1) * cols]
        # a power of two, so that every product is exact in f32
        scale = 2.0 ** -10
        while max(abs(v) for v in line) / scale > 127:
            scale *= 2
        scales.append(scale)
        for v in line:
            q = round(v / scale)
            quanta.append(q)
            exact.append(q * scale)
    return quanta.tobytes(), scales.tobytes(), exact.tobytes()


@test
def int8_weights_compute_as_their_values_in_f32():
    source = shared("models", "qwen2", "hf-bf16")
    packed, config = copy_dir(source, "int8")
    plain, _ = copy_dir(source, "int8-plain")
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
            }
        },
    }
    write_config(packed, config)
    a, b = {}, {}
    for name, (kind, shape, data) in read_safetensors(
        os.path.join(source, "model.safetensors")
    ).items():
        if not name.endswith("_proj.weight"):
            a[name] = b[name] = (kind, shape, data)
            continue
        quanta, scales, exact = as_int8(*shape, data)
        a[name] = ("I8", shape, quanta)
        a[name + "_scale"] = ("F32", [shape[0], 1], scales)
        b[name] = ("F32", shape, exact)
    write_safetensors(os.path.join(packed, "model.safetensors"), a)
    write_safetensors(os.path.join(plain, "model.safetensors"), b)
    ids = range(3, 20)
    error = nmse(logits(packed, ids), logits(plain, ids))
    check(error < NMSE_MAX, f"nmse {error}")


@test
def a_quantized_copy_is_made_once():
    source = shared("models", "llama3-gqa-ropefreqs", "hf-bf16")
    cache = out_path("cache")
    ids = range(3, 20)
    args = ("--quantize", "Q8_0", "--cache-dir", cache, "--log-level", "info")

    def run():
        out = out_path("hf.logits")
        text = ",".join(str(i) for i in ids)
        done = gantry("logits", source, "--tokens", text, "-o", out, *args).succeeded()
        return done.err, floats(out)

    first, a = run()
    second, b = run()
    check("wrote" in first and "found" in second, first + second)
    equal(a.tobytes(), b.tobytes(), "logits of both runs")
    files = sorted(os.listdir(cache))
    equal(len(files), 2, f"files in the cache: {files}")
    check(any(name.endswith("-Q8_0.gguf") for name in files), str(files))


@test
def what_is_no_model_directory_is_refused():
    empty = out_path("empty-dir")
    os.makedirs(empty, exist_ok=True)
    gantry("logits", empty, "--tokens", "1", "-o", out_path("x")).failed_with(1, "safetensors")
    gantry("convert", harness.TINY, out_path("x.gguf")).failed_with(1, "no directory")
    gantry("convert", empty).failed_with(2, "IN and OUT")
    source = shared("models", "qwen2", "hf-bf16")
    path, config = copy_dir(source, "unknown-class")
    config["architectures"] = ["NoSuchModel"]
    write_config(path, config)
    gantry("convert", path, out_path("x.gguf")).failed_with(1, "NoSuchModel", "Llama")
    check(not os.path.exists(out_path("x.gguf")), "a file after a refusal")
