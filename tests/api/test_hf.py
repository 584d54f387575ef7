"""test_hf.py - Hugging Face directories: run in place, converted, quantized into the cache."""
import array
import copy
import json
import os
import re
import shutil
import struct
import subprocess

import gguf
import harness
import hf_inverse
import hf_quants
import hf_random
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
        unread = gantry("inspect", path).succeeded().err
        check("no meaning" not in unread, f"{name}: {unread}")
        got = logits(path, ids_of(os.path.join(folder, "p24.ids.i32")), "--log-level", "error")
        error = nmse(got, floats(os.path.join(folder, "p24.logits.f32")))
        check(error < NMSE_MAX, f"{name}: nmse {error}")


GPT_OSS_CONFIG = {
    "architectures": ["GptOssForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 32,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 150000,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 8,
        "original_max_position_embeddings": 64,
        "truncate": True,
    },
    "sliding_window": 20,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "swiglu_limit": 7.0,
    "quantization_config": {"quant_method": "mxfp4"},
}


@test
def experts_in_mxfp4_give_the_recorded_logits():
    folder, path = shared("models", "gpt-oss"), out_path("gpt-oss-hf")
    os.makedirs(path, exist_ok=True)
    file = gguf.Gguf(os.path.join(folder, "quant", "model-MXFP4.gguf"))
    tied = "output.weight" not in file.tensors
    hf_inverse.write_gpt_oss(file, GPT_OSS_CONFIG | {"tie_word_embeddings": tied}, path)
    tokenizer = shared("models", "qwen2", "hf-bf16", "tokenizer.model")
    shutil.copyfile(tokenizer, os.path.join(path, "tokenizer.model"))
    again = out_path("gpt-oss.gguf")
    gantry("convert", path, again).succeeded()
    want = floats(os.path.join(folder, "quant", "MXFP4.p24.deq.logits.f32"))
    for model in (path, again):
        error = nmse(logits(model, ids_of(os.path.join(folder, "p24.ids.i32"))), want)
        check(error < 1e-7, f"{model}: nmse {error}")  # activations of 16 bits


# Of models of several media: config.json, and what stands in front of the names of the text part.
MEDIA = {
    "Gemma3ForConditionalGeneration": ("gemma3", "language_model."),
    "Mistral3ForConditionalGeneration": ("llama", "language_model."),
    "LlavaForConditionalGeneration": ("llama", "language_model."),
    "Qwen2VLForConditionalGeneration": ("qwen2", ""),
    "Qwen2_5_VLForConditionalGeneration": ("qwen2", "model.language_model."),
    "Qwen3VLForConditionalGeneration": ("qwen3", "model.language_model."),
}
TEXT_OF = {"llama": "llama3-gqa-ropefreqs", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3"}


def text_source(kind):
    """A directory with a text model."""
    if kind != "gemma3":
        return shared("models", TEXT_OF[kind], "hf-bf16")
    path = out_path("gemma3-hf")
    os.makedirs(path, exist_ok=True)
    hf_inverse.write_dir("gemma3", shared("models", "gemma3", "model-f32.gguf"), path)
    tokenizer = shared("models", "qwen2", "hf-bf16", "tokenizer.model")
    shutil.copyfile(tokenizer, os.path.join(path, "tokenizer.model"))
    return path


def wrap_text(class_name, source):
    """The same model as the text part of that class, with a tensor of a picture part."""
    _, prefix = MEDIA[class_name]
    path, config = copy_dir(source, class_name)
    text = {k: v for k, v in config.items() if k != "architectures"}
    tied = {"tie_word_embeddings": text.pop("tie_word_embeddings")}
    if class_name.startswith("Qwen"):
        text["rope_scaling"] = {"type": "mrope", "mrope_section": [2, 3, 3]}
    wrapped = {"architectures": [class_name], "text_config": text} | tied
    flat = {"architectures": [class_name]} | text | tied
    write_config(path, wrapped if prefix else flat)
    tensors = {}
    for name, tensor in read_safetensors(os.path.join(source, "model.safetensors")).items():
        inner = name.removeprefix("model.") if prefix.startswith("model.") else name
        tensors[prefix + inner] = tensor
    part = "visual.patch_embed.bias" if "Qwen" in class_name else "vision_tower.bias"
    tensors[part] = ("F32", [1], struct.pack("<f", 1))
    write_safetensors(os.path.join(path, "model.safetensors"), tensors)
    return path


@test
def text_parts_of_models_of_several_media_compute_as_themselves():
    ids = range(3, 30)
    for class_name, (kind, _) in MEDIA.items():
        source = text_source(kind)
        got, want = logits(wrap_text(class_name, source), ids), logits(source, ids)
        equal(got.tobytes(), want.tobytes(), f"logits of {class_name}")


# Names of classes that share everything with one that is compared.
ALIASES = {"RW", "Mpt", "BaiChuan", "Ernie4_5_", "Ministral3", "StableLMEpoch"}
ALIASES |= {"Mistral", "Camembert"}


@test
def every_class_is_compared():
    path, config = copy_dir(shared("models", "qwen2", "hf-bf16"), "no-class")
    write_config(path, config | {"architectures": ["NoSuchModel"]})
    refused = gantry("convert", path, out_path("x.gguf")).failed_with(1, "known: ")
    known = set(refused.err.rsplit("known: ", 1)[1].split())
    rows = (hf_inverse.CLASSES | hf_inverse.CLASSES_OF_RANDOM).values()
    compared = {row[0] for row in rows} | set(MEDIA) | {"GptOssForCausalLM"}
    compared |= {n + "ForCausalLM" for n in ("Llama", "Gemma", "Mixtral", "Qwen2", "Qwen3")}
    end = "(For(CausalLM|ConditionalGeneration|MaskedLM|SequenceClassification)|(LMHead)?Model)$"
    compared = {re.sub(end, "", name) for name in compared}
    equal(known - compared - ALIASES, set(), "classes without a comparison")


def vector(model, ids):
    out = out_path("hf.vector")
    text = ",".join(str(i) for i in ids)
    gantry("embed", model, "--tokens", text, "-o", out).succeeded()
    return floats(out)


def random_pair(name):
    """A random file and the directory it could come from."""
    file, path = out_path(f"{name}.gguf"), out_path(f"{name}-hf")
    hf_random.write(name, shared("models", "qwen2", "model-f32.gguf"), file)
    os.makedirs(path, exist_ok=True)
    hf_inverse.write_dir(name, file, path)
    tokenizer = shared("models", "qwen2", "hf-bf16", "tokenizer.model")
    shutil.copyfile(tokenizer, os.path.join(path, "tokenizer.model"))
    return file, path


def compare_random(name):
    """Both, and the file that the directory becomes."""
    file, path = random_pair(name)
    again = out_path(f"{name}-again.gguf")
    unread = gantry("convert", path, again).succeeded().err
    check("no meaning" not in unread, f"{name}: {unread}")
    compute = vector if name in hf_random.ENCODERS else logits
    ids = range(3, 40)
    want = compute(file, ids)
    for model in (path, again):
        error = nmse(compute(model, ids), want)
        check(error < NMSE_MAX, f"{name}: {model}: nmse {error}")


@test
def directories_of_classes_without_recorded_logits_compute_as_their_files():
    for name in hf_inverse.CLASSES_OF_RANDOM:
        compare_random(name)


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


def compressed(weights, form):
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }


def int4_args(strategy, group, symmetric, **more):
    weights = {"num_bits": 4, "type": "int", "strategy": strategy, "group_size": group}
    return compressed(weights | {"symmetric": symmetric} | more, "pack-quantized")


def gptq_config(group, **more):
    config = {"quant_method": "gptq", "bits": 4, "group_size": group}
    return config | {"checkpoint_format": "gptq"} | more


INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
FLOAT8 = {"num_bits": 8, "type": "float", "symmetric": True}

# name: function of hf_quants and its options, quantization_config
QUANTIZED = {
    "gptq-32": (hf_quants.gptq, {}, gptq_config(32)),
    "gptq-32-sym": (hf_quants.gptq, {"symmetric": True}, gptq_config(32, sym=True)),
    "gptq-128": (hf_quants.gptq, {"group": 128}, gptq_config(128, desc_act=False)),
    "gptq-row": (hf_quants.gptq, {"group": -1}, gptq_config(-1)),
    "gptq-act-order": (hf_quants.gptq, {"act_order": True}, gptq_config(32, desc_act=True)),
    "gptq-v2": (hf_quants.gptq, {"version": 2}, gptq_config(32, checkpoint_format="gptq_v2")),
    "awq-32": (hf_quants.awq, {}, {"quant_method": "awq", "bits": 4, "group_size": 32}),
    "awq-128": (
        hf_quants.awq,
        {"group": 128},
        {"quant_method": "awq", "w_bit": 4, "q_group_size": 128, "version": "GEMM"},
    ),
    "int4-sym": (hf_quants.pack_quantized, {}, int4_args("group", 32, True)),
    "int4-asym": (
        hf_quants.pack_quantized,
        {"symmetric": False, "scale_type": "F16"},
        int4_args("group", 32, False),
    ),
    "int4-row": (hf_quants.pack_quantized, {"group": -1}, int4_args("channel", None, True)),
    "int4-act-order": (
        hf_quants.pack_quantized,
        {"g_idx": True},
        int4_args("group", 32, True, actorder="group"),
    ),
    "int8-row": (hf_quants.int8, {}, compressed(INT8 | {"strategy": "channel"}, "int-quantized")),
    "int8-tensor": (
        hf_quants.int8,
        {"per_tensor": True},
        compressed(INT8 | {"strategy": "tensor"}, "int-quantized"),
    ),
    "fp8-row": (
        hf_quants.fp8,
        {},
        compressed(FLOAT8 | {"strategy": "channel"}, "float-quantized"),
    ),
    "fp8-tensor": (
        hf_quants.fp8,
        {"per_tensor": True},
        {"quant_method": "fp8", "activation_scheme": "static"},
    ),
    "fp8-128": (
        hf_quants.fp8,
        {"block": (128, 128)},
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
    ),
    "fp8-compressed-blocks": (
        hf_quants.fp8,
        {"block": (16, 24), "suffix": "weight_scale"},
        compressed(
            FLOAT8 | {"strategy": "block", "block_structure": [16, 24]}, "float-quantized"
        ),
    ),
    "fp8-blocks": (
        hf_quants.fp8,
        {"block": (24, 40)},
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [24, 40]},
    ),
}
# Modules that the tool was told to leave alone.
IGNORED = ("model.layers.1.mlp.down_proj", "model.layers.0.self_attn.v_proj", "lm_head")


def is_quantized(name):
    module = name.removesuffix(".weight")
    linear = module.endswith(("_proj", "_proj_with_mqa")) or ".experts." in module
    return module != name and linear and module not in IGNORED


def as_floats(kind, data):
    if kind == "F32":
        return array.array("f", data)
    return array.array("f", array.array("I", (h << 16 for h in array.array("H", data))).tobytes())


def quantized_pair(source, model, name):
    """Two directories: the model quantized, and with the same values in F32."""
    quantize, options, quantization = QUANTIZED[name]
    packed, config = copy_dir(source, f"{model}-{name}")
    plain, _ = copy_dir(source, f"{model}-{name}-plain")
    write_config(packed, config | {"quantization_config": quantization})
    a, b = {}, {}
    weights = read_safetensors(os.path.join(source, "model.safetensors"))
    for tensor, (kind, shape, data) in weights.items():
        a[tensor] = b[tensor] = (kind, shape, data)
        if not is_quantized(tensor):
            continue
        pieces, exact = quantize(*shape, as_floats(kind, data), **options)
        del a[tensor]
        for suffix, piece in pieces.items():
            a[tensor.removesuffix("weight") + suffix] = piece
        b[tensor] = ("F32", shape, exact.tobytes())
    write_safetensors(os.path.join(packed, "model.safetensors"), a)
    write_safetensors(os.path.join(plain, "model.safetensors"), b)
    return packed, plain


def compare_quantized(model, name, source=None):
    """As it is read in place, and as a converted file."""
    source = source or shared("models", model, "hf-bf16")
    packed, plain = quantized_pair(source, model, name)
    file = out_path("quantized.gguf")
    gantry("convert", packed, file).succeeded()
    ids = range(3, 20)
    want = logits(plain, ids)
    for got in (packed, file):
        error = nmse(logits(got, ids), want)
        check(error < NMSE_MAX, f"{model} {name} {got}: nmse {error}")


@test
def quantized_weights_compute_as_their_values_in_f32():
    for name in QUANTIZED:
        compare_quantized("qwen2", name)


@test
def deepseek_in_blocks_of_fp8_computes_as_its_values_in_f32():
    _, source = random_pair("deepseek-v3")
    for name in ("fp8-128", "fp8-blocks", "fp8-compressed-blocks"):
        compare_quantized("deepseek-v3", name, source)


@test
def quantized_experts_compute_as_their_values_in_f32():
    for name in ("gptq-32", "gptq-act-order", "awq-32", "int4-asym", "int8-row", "fp8-blocks"):
        compare_quantized("mixtral", name)


def cache_args(cache):
    return ("--quantize", "Q8_0", "--cache-dir", cache, "--log-level", "info")


def logits_by_copy(source, cache):
    """What is said on stderr, and the logits."""
    out = out_path("hf.logits")
    text = ",".join(str(i) for i in range(3, 20))
    done = gantry("logits", source, "--tokens", text, "-o", out, *cache_args(cache)).succeeded()
    return done.err, floats(out)


def copies_in(cache):
    return [os.path.join(cache, n) for n in os.listdir(cache) if n.endswith("-Q8_0.gguf")]


@test
def a_quantized_copy_is_made_once():
    source = shared("models", "llama3-gqa-ropefreqs", "hf-bf16")
    cache = out_path("cache")
    first, a = logits_by_copy(source, cache)
    second, b = logits_by_copy(source, cache)
    check("wrote" in first and "found" in second, first + second)
    equal(a.tobytes(), b.tobytes(), "logits of both runs")
    files = sorted(os.listdir(cache))
    equal(len(files), 3, f"files in the cache: {files}")
    equal(len(copies_in(cache)), 1, f"copies in the cache: {files}")


@test
def a_quantized_copy_that_was_damaged_is_made_again():
    source = shared("models", "llama3-gqa-ropefreqs", "hf-bf16")
    cache = out_path("cache-damaged")
    _, want = logits_by_copy(source, cache)
    (copy,) = copies_in(cache)
    size = os.path.getsize(copy)

    def cut():
        os.truncate(copy, size // 2)

    def change_a_byte():
        with open(copy, "r+b") as f:
            f.seek(size - 100)
            byte = f.read(1)[0]
            f.seek(size - 100)
            f.write(bytes([byte ^ 1]))

    def forget():
        os.unlink(copy.removesuffix(".gguf") + ".sum")

    for damage in (cut, change_a_byte, forget):
        damage()
        said, got = logits_by_copy(source, cache)
        check("not what was written" in said and "wrote" in said, f"{damage.__name__}: {said}")
        equal(got.tobytes(), want.tobytes(), f"logits after {damage.__name__}")
    os.utime(copy)  # touched, but the same
    said, _ = logits_by_copy(source, cache)
    check("found" in said, said)


@test
def starts_at_the_same_time_share_one_copy():
    source = shared("models", "mixtral", "hf-bf16")
    cache = out_path("cache-shared")
    outs = [out_path(f"hf.logits.{i}") for i in range(4)]
    args = ("logits", source, "--tokens", "3,4,5,6,7", *cache_args(cache))
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    runs = [subprocess.Popen([harness.BINARY, *args, "-o", out], **pipes) for out in outs]
    for run in runs:
        said = run.communicate(timeout=harness.PATIENCE_S)[1]
        equal(run.returncode, 0, f"exit status ({said})")
    equal(len({floats(out).tobytes() for out in outs}), 1, "different logits")
    files = sorted(os.listdir(cache))
    equal(len(files), 3, f"files in the cache: {files}")


def split(file, count, stem):
    """The tensors of a GGUF file in `count` files; answers their paths."""
    paths = [f"{stem}-{i + 1:05}-of-{count:05}.gguf" for i in range(count)]
    names = list(file.tensors)
    size = -(-len(names) // count)
    for i, path in enumerate(paths):
        part = copy.copy(file)
        part.keys = file.keys if i == 0 else {}
        part.keys = part.keys | {
            "split.no": (2, i),
            "split.count": (2, count),
            "split.tensors.count": (5, len(names)),
        }
        part.tensors = {n: file.tensors[n] for n in names[i * size : (i + 1) * size]}
        part.write(path)
    return paths


@test
def a_gguf_file_is_converted_to_itself():
    source = shared("models", "mixtral", "model-f32.gguf")
    path = out_path("copied.gguf")
    gantry("convert", source, path).succeeded()
    with open(source, "rb") as a, open(path, "rb") as b:
        check(a.read() == b.read(), "bytes differ")
    gantry("convert", path, path).failed_with(1, "same file")


@test
def parts_of_a_gguf_file_are_joined():
    source = shared("models", "mixtral", "model-f32.gguf")
    path = out_path("joined.gguf")
    parts = split(gguf.Gguf(source), 3, out_path("part"))
    for part in parts:  # any of them
        done = gantry("convert", part, path).succeeded()
        check("of 3 files" in done.text, done.text)
        with open(source, "rb") as a, open(path, "rb") as b:
            check(a.read() == b.read(), "bytes differ")
    other = out_path("wrong-name.gguf")
    shutil.copyfile(parts[0], other)
    gantry("convert", other, path).failed_with(1, "-of-00003.gguf")
    shutil.copyfile(parts[0], parts[1])
    gantry("convert", parts[0], path).failed_with(1, "split.no is 0 of 3")
    os.unlink(parts[2])
    os.unlink(parts[1])
    gantry("convert", parts[0], path).failed_with(1, "00002-of-00003")


@test
def what_is_no_model_directory_is_refused():
    empty = out_path("empty-dir")
    os.makedirs(empty, exist_ok=True)
    gantry("logits", empty, "--tokens", "1", "-o", out_path("x")).failed_with(1, "safetensors")
    gantry("convert", __file__, out_path("x.gguf")).failed_with(1, "magic")
    gantry("convert", empty).failed_with(2, "IN and OUT")
    source = shared("models", "qwen2", "hf-bf16")
    path, config = copy_dir(source, "unknown-class")
    config["architectures"] = ["NoSuchModel"]
    write_config(path, config)
    gantry("convert", path, out_path("x.gguf")).failed_with(1, "NoSuchModel", "Llama", "Jina")
    check(not os.path.exists(out_path("x.gguf")), "a file after a refusal")
