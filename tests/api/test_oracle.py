"""test_oracle.py - commands against the recorded truth about stories260K.

Bounds: an engine that computes in f32 is within 1e-9 of the F32 golden and 1e-6 of the
dequantized F16 and BF16 ones; one that quantizes activations to int8 may be 1.25 times as
far from the dequantized golden as the oracle that does so, too.
"""
import os

import harness
import oracle
from harness import check, equal, gantry, shared_path, test

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")
MARGIN = 0.02  # below it, int8 activations may turn the likeliest token


def run_raw(dtype, prompt, count, *more):
    args = ("--raw", "--temp", "0", "-p", prompt, "-n", count, *more)
    return gantry("run", oracle.model(dtype), *args).succeeded().out


@test
def the_published_story_comes_out_word_for_word():
    row = next(
        g for g in oracle.index()["greedy"] if (g["model"], g["prompt"]) == ("F32", 1)
    )
    done = gantry(
        "run", oracle.model("F32"), "--raw", "--temp", "0", "-p", "", "-n", "200"
    ).succeeded()
    equal(done.text.lstrip(" "), row["text"], "the story")
    equal(done.err, "", "stderr")


@test
def greedy_continuations_of_f32_are_the_recorded_ones():
    for number in (0, 3, 4):
        row = next(
            g
            for g in oracle.index()["greedy"]
            if (g["model"], g["prompt"]) == ("F32", number)
        )
        got = run_raw("F32", oracle.prompt(number)["text"], 200, "--kv", "f32").decode()
        equal(got.strip(" "), row["text"].strip(" "), f"all 200 tokens after prompt {number}")
    for number in (0, 2, 3, 4):  # and byte by byte, as far as the recording is beyond doubt
        want = oracle.Greedy("F32", number, margin=0.001)
        check(len(want.ids) > 10, f"prompt {number} says too little: {len(want.ids)} tokens")
        got = run_raw("F32", want.prompt["text"], len(want.ids), "--kv", "f32")
        equal(got, want.text(), f"continuation of prompt {number}")


@test
def greedy_continuations_of_every_type_are_right_where_the_margin_allows():
    for dtype in TYPES[1:]:
        want = oracle.Greedy(dtype, 0, "deq", MARGIN)
        check(len(want.ids) >= 8, f"{dtype} says too little: {len(want.ids)} tokens")
        got = run_raw(dtype, want.prompt["text"], len(want.ids), "--kv", "f32")
        equal(got, want.text(), f"continuation with {dtype}")


@test
def prompts_become_the_recorded_ids_and_back():
    for row in oracle.index()["prompts"]:
        text = row["text"].encode()
        for flags, want in (
            (["--no-parse-special"], row["ids"]),
            ([], row["ids_parse_special"]),
            (["--no-special", "--no-parse-special"], row["ids_no_bos"]),
        ):
            done = gantry("tokenize", oracle.model("F32"), *flags, stdin=text).succeeded()
            equal(done.text, " ".join(map(str, want)) + "\n", f"ids of prompt {row['id']} {flags}")


def spm_cases():
    """(flags, text, ids, text of the ids) of every n-th case."""
    folder = shared_path("oracle/public/tokenizer")
    with open(os.path.join(folder, "spm-tok512.cases.tsv"), encoding="ascii") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    model = os.path.join(folder, "spm-tok512.gguf")
    every = -(-len(rows) // harness.scaled(160)) | 1  # odd: meets all four kinds of flags
    for _, special, parse, text, ids, back in rows[::every]:
        flags = ["--no-special"] * (special == "0") + ["--no-parse-special"] * (parse == "0")
        yield model, flags, bytes.fromhex(text), ids.replace(",", " "), bytes.fromhex(back)


@test
def tokenize_agrees_with_sentencepiece():
    for model, flags, text, ids, _ in spm_cases():
        done = gantry("tokenize", model, *flags, stdin=text).succeeded()
        equal(done.text, ids + "\n", f"ids of {text!r} with {flags}")


@test
def detokenize_agrees_with_sentencepiece():
    for model, _, _, ids, text in spm_cases():
        equal(gantry("detokenize", model, stdin=ids.encode()).succeeded().out, text, ids)


# --- logits ------------------------------------------------------------------------------------


def logits(dtype, number, *flags, env=None):
    out = os.path.join(harness.TMP, "logits.f32")
    ids = ",".join(map(str, oracle.prompt(number)["ids"]))
    done = gantry(
        "logits", oracle.model(dtype), "--tokens", ids, "-o", out, *flags, env=env
    ).succeeded()
    values = oracle.numbers("f", out)
    os.unlink(out)
    return done.text, values


def goldens():
    """(type, prompt, golden, bound)"""
    for row in oracle.index()["logits"]:
        dtype, kind = row["model"], row["kind"].split(":")[0]
        if dtype not in TYPES or kind == "oracle":
            continue
        bound = 1e-9 if dtype == "F32" else 1e-6
        if dtype.startswith("Q"):
            quantized = (r for r in oracle.index()["logits"] if r["model"] == dtype)
            bound = 1.25 * max(r.get("nmse_vs_deq", 0) for r in quantized)
        yield dtype, row["prompt"], row, bound


def compare_logits(*flags, env=None):
    for dtype, number, row, bound in goldens():
        said, got = logits(dtype, number, *flags, env=env)
        rows, vocab = row["shape"]
        equal(said, f"{rows} {vocab}\n", "stdout")
        error = oracle.nmse(got, oracle.numbers("f", oracle.path(row["file"])))
        check(error <= bound, f"{dtype} p{number} {flags} {env}: NMSE {error:.3g} > {bound:.3g}")


@test
def logits_of_the_reference_backend_are_the_oracles():
    compare_logits("--backend", "ref")


@test
def logits_of_scalar_code_are_the_oracles():
    compare_logits("--backend", "cpu", env={"GANTRY_CPU_ISA": "scalar"})


@test
def logits_of_avx2_code_are_the_oracles():
    compare_logits("--backend", "cpu", env={"GANTRY_CPU_ISA": "avx2"})


@test
def logits_do_not_depend_on_the_number_of_threads():
    one = logits("Q8_0", 9, "--threads", "1")
    equal(logits("Q8_0", 9, "--threads", "3")[1].tobytes(), one[1].tobytes(), "logits")


@test
def the_last_row_alone_is_the_last_of_all_rows():
    _, every = logits("F32", 9)
    said, last = logits("F32", 9, "--last")
    equal(said, "1 512\n", "stdout")
    equal(last.tobytes(), every[-512:].tobytes(), "the last row")


@test
def a_text_gives_the_logits_of_its_tokens():
    out = os.path.join(harness.TMP, "text.f32")
    text = oracle.prompt(9)["text"]
    done = gantry("logits", oracle.model("F32"), "-p", text, "-o", out).succeeded()
    ids = oracle.prompt(9)["ids_parse_special"]
    equal(done.text, f"{len(ids)} 512\n", "stdout")
    by_ids = os.path.join(harness.TMP, "ids.f32")
    listed = ",".join(map(str, ids))
    gantry("logits", oracle.model("F32"), "--tokens", listed, "-o", by_ids).succeeded()
    equal(oracle.numbers("f", out).tobytes(), oracle.numbers("f", by_ids).tobytes(), "logits")


@test
def perplexities_are_within_a_thousandth():
    for dtype in TYPES:
        rows = [r for r in oracle.index()["ppl"] if r["model"] == dtype and r["kind"] != "oracle"]
        text = oracle.path(rows[0]["text"])
        said = gantry("perplexity", oracle.model(dtype), "-f", text).succeeded().text.split()
        equal([said[0], *said[2:]], ["ppl", "tokens", str(rows[0]["n_tokens"] - 1)], "stdout")
        off = abs(float(said[1]) / rows[0]["ppl"] - 1)
        check(off < 1e-3, f"{dtype}: perplexity {said[1]}, recorded {rows[0]['ppl']:.6f}")
