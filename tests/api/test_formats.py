"""test_formats.py - tensor types and tokenizers against the recorded truth, through the commands.

Everything recorded is tried in the release flavour; the sanitizer flavours take every n-th
case.  A few texts have two right answers (known_hf_differences.tsv): the pattern a model was
published with splits them differently than the tokenizer that recorded the ids.
"""
import csv
import functools
import json
import os

import harness
from harness import check, equal, gantry, shared_path, test

LANES = 4  # commands at a time
# Every case of every vocabulary is tried by tests/unit/text/test_oracle.c, which opens each one once:
# a command does for each of these.  The step is odd, so it meets all four kinds of flags.
EVERY = 9
NO_SPECIAL = ("--no-special", "--no-parse-special")
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def for_some(items, work):
    return harness.for_each(list(items)[::EVERY], work, LANES)


# --- tensor types ----------------------------------------------------------------------------


@test
def every_recorded_type_dequantizes_to_the_same_bits():
    folder = shared_path("oracle/public/dequant")
    rows = table(os.path.join(folder, "index.tsv"))
    for row in rows:
        for kind in ("quant", "random"):
            name = os.path.join(folder, f"{row['type']}.{kind}")
            with open(name + ".bin", "rb") as packed, open(name + ".f32", "rb") as floats:
                done = gantry("dequantize", row["type"], stdin=packed.read()).succeeded()
                equal(done.out == floats.read(), True, f"{row['type']}.{kind} is bit-exact")
    check(len(rows) == 29, f"the index has {len(rows)} types")


@test
def a_broken_stream_of_blocks_is_told_with_its_numbers():
    done = gantry("dequantize", "q4_k", stdin=bytes(145))
    equal((done.code, len(done.out)), (1, 1024), "exit status and bytes of the whole block")
    check("144" in done.err, lambda: f"stderr does not say 144: {done.err}")
    gantry("dequantize", "q9_z").failed_with(2, "q9_z")
    gantry("dequantize", "q4_k_m").failed_with(2, "q4_k_m", "mix", "Q4_K")
    equal(gantry("dequantize", "iq4_nl").succeeded().out, b"", "nothing from nothing")


# --- tokenizers: recorded ids ------------------------------------------------------------------


@functools.lru_cache
def second_answers():
    rows = table(shared_path("oracle/public/tokenizer/known_hf_differences.tsv"))
    return {(row["pre"], row["text_hex"]): row["hf_regex_ids"] for row in rows}


def check_case(model, pre, case):
    flags = ["--no-special"] * (case["add_special"] == "0")
    flags += ["--no-parse-special"] * (case["parse_special"] == "0")
    got = gantry("tokenize", model, *flags, stdin=bytes.fromhex(case["text_hex"])).succeeded()
    got = got.text.rstrip("\n").replace(" ", ",")
    second = second_answers().get((pre, case["text_hex"]))
    if second is None or not got.endswith(second):  # without the BOS
        equal(got, case["ids"] or "", f"{pre}: ids of {case['text_hex']} with {flags}")
    ids = (case["ids"] or "").replace(",", " ").encode()
    back = gantry("detokenize", model, stdin=ids).succeeded().out
    equal(back.hex(), case["detok_hex"] or "", f"{pre}: text of {case['ids']}")


@test
def recorded_tokenizer_cases_come_out_the_same():
    folder = shared_path("oracle/public/tokenizer")
    tried = 0
    for row in table(os.path.join(folder, "index.tsv")):
        model = os.path.join(folder, row["vocab_gguf"])
        cases = table(os.path.join(folder, row["cases"]))
        equal(len(cases), int(row["n_cases"]), f"cases of {row['name']}")
        tried += for_some(cases, lambda case: check_case(model, row["name"], case))
    print(f"  {tried} tokenizer cases", flush=True)


def vectors(name):
    """(text, ids) of llama.cpp's own test of a vocabulary."""
    path = os.path.join(shared_path("suites/tokenizer-vectors/llama.cpp"), f"ggml-vocab-{name}.gguf")
    with open(path + ".inp", "rb") as inputs, open(path + ".out", encoding="ascii") as outputs:
        texts = inputs.read().split(b"\n__ggml_vocab_test__\n")
        ids = [" ".join(line.split()) for line in outputs.read().split("\n")]
    return list(zip(texts, ids))


def check_vector(model, vector):
    text, ids = vector
    done = gantry("tokenize", model, "--no-special", "--no-parse-special", stdin=text).succeeded()
    equal(done.text.rstrip("\n"), ids, f"{os.path.basename(model)}: ids of {text!r}")


@test
def the_vectors_of_ten_real_vocabularies_agree():
    folder = shared_path("suites/tokenizer-vectors/llama.cpp")
    names = sorted(f for f in os.listdir(folder) if f.endswith(".gguf"))
    equal(len(names), 10, "vocabularies")
    for file in names:
        name = file[len("ggml-vocab-") : -len(".gguf")]
        model = os.path.join(folder, file)
        for_some(vectors(name), lambda vector: check_vector(model, vector))


def write_llama3(folder):
    """Llama 3 as a tokenizer.json, put together from its bare vocabulary and merges."""
    source = shared_path("suites/tokenizer-vectors/ollama-llama3.2")
    with open(os.path.join(source, "encoder.json"), encoding="utf-8") as file:
        vocab = json.load(file)
    with open(os.path.join(source, "vocab.bpe"), encoding="utf-8") as file:
        merges = [line.rstrip("\n") for line in file if not line.startswith("#version")]
    split = {"type": "Split", "pattern": {"Regex": LLAMA3_PATTERN}, "behavior": "Isolated"}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{**split, "invert": False}, {**level, "use_regex": False}],
        },
        "post_processor": {**level, "use_regex": True},
        "decoder": {**level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocab,
            "merges": [m for m in merges if m],
        },
    }
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer, file, ensure_ascii=False)


@test
def llama_3_from_a_tokenizer_json_gives_the_ids_of_its_gguf():
    folder = os.path.join(harness.TMP, "llama3")
    os.makedirs(folder)
    write_llama3(folder)
    for_some(vectors("llama-bpe"), lambda vector: check_vector(folder, vector))


@test
def the_folders_of_stories260k_give_the_recorded_ids():
    root = shared_path("oracle/public/stories260k")
    with open(os.path.join(root, "index.json"), encoding="utf-8") as file:
        prompts = json.load(file)["prompts"]
    for folder in ("hf-f32", "hf-bf16-2shards", "hf-f16"):
        model = os.path.join(root, folder)
        for row in prompts:
            text = row["text"].encode()
            ids = gantry("tokenize", model, "--no-parse-special", stdin=text).succeeded().text
            equal(ids, " ".join(map(str, row["ids"])) + "\n", f"{folder}: prompt {row['id']}")
            ids = gantry("tokenize", model, *NO_SPECIAL, stdin=text).succeeded().text
            want = " ".join(map(str, row["ids_no_bos"])) + "\n"
            equal(ids, want, f"{folder}: prompt {row['id']} without BOS")


# --- tokenizers: texts nobody recorded ------------------------------------------------------------


@functools.lru_cache
def naughty_strings():
    with open(shared_path("suites/naughty-strings/blns.json"), encoding="utf-8") as file:
        return [s.encode("utf-8", "surrogatepass") for s in json.load(file)]


def check_round_trip(model, text):
    ids = gantry("tokenize", model, *NO_SPECIAL, stdin=text).succeeded().out
    equal(gantry("detokenize", model, stdin=ids).succeeded().out, text, "the text and back")


@test
def naughty_strings_survive_the_round_trip():
    folder = shared_path("suites/tokenizer-vectors/llama.cpp")
    for name in ("llama-spm", "deepseek-llm", "deepseek-coder"):
        model = os.path.join(folder, f"ggml-vocab-{name}.gguf")
        for_some(naughty_strings(), lambda text: check_round_trip(model, text))


@test
def naughty_strings_end_well_in_every_kind_of_vocabulary():
    folder = shared_path("oracle/public/tokenizer")
    text = b"\n".join(naughty_strings())
    for row in table(os.path.join(folder, "index.tsv")):
        model = os.path.join(folder, row["vocab_gguf"])
        ids = gantry("tokenize", model, stdin=text).succeeded().out
        check(len(ids.split()) > 1000, f"{row['name']}: {len(ids.split())} tokens")
        gantry("detokenize", model, stdin=ids).succeeded()
