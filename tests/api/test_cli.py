"""test_cli.py - the form of the commands: output, exit statuses, messages."""
import json
import os
import subprocess

import harness
import roofline
from harness import check, equal, gantry, test

COMMANDS = (
    "serve",
    "run",
    "tokenize",
    "detokenize",
    "render",
    "logits",
    "perplexity",
    "embed",
    "lora",
    "dequantize",
    "quantize",
    "convert",
    "bench",
    "inspect",
    "gpus",
    "doctor",
)


@test
def help_of_every_command_names_its_options():
    overview = gantry("--help").succeeded()
    for command in COMMANDS:
        check(f"  {command} " in overview.text, f"--help does not list {command}")
        done = gantry(command, "--help").succeeded()
        check(done.text.startswith(f"usage: gantry {command}"), f"help of {command}")
        check("--help" in done.text and "--config" in done.text, f"options of {command}")
        equal(done.err, "", f"stderr of {command} --help")


@test
def version_says_what_is_built_in():
    words = gantry("--version").succeeded().text
    check(words.startswith("gantry ") and "cuda" in words, words)


@test
def a_missing_file_is_named():
    for command in (["run", "-p", "x"], ["inspect"], ["tokenize"], ["perplexity", "-f", "x"]):
        gantry(*command, "nowhere.gguf").failed_with(1, "nowhere.gguf", "No such file")
    gantry("serve", "--gpu", "off", "-m", "nowhere.gguf").failed_with(1, "nowhere.gguf")
    gantry("perplexity", harness.TINY, "-f", "nowhere.txt").failed_with(1, "nowhere.txt")


@test
def a_directory_without_weights_is_no_model():
    for command in (["run", "-p", "x"], ["inspect"], ["bench"]):
        gantry(*command, harness.TMP).failed_with(1, harness.TMP, "no model.safetensors")
    gantry("tokenize", harness.TMP).failed_with(1, harness.TMP, "no tokenizer")


@test
def a_file_that_is_no_model_is_refused():
    path = os.path.join(harness.TMP, "text.gguf")
    for content in (b"", b"GGUF", b"hello, I am no model\n" * 10):
        with open(path, "wb") as file:
            file.write(content)
        gantry("inspect", path).failed_with(1, path)
        gantry("run", path, "-p", "x", "-n", "1").failed_with(1, path)


@test
def wrong_usage_is_exit_status_2():
    gantry("run", harness.TINY, "--bogus").failed_with(2, "--bogus")
    gantry("run", harness.TINY, "-p").failed_with(2, "-p")
    gantry("run", harness.TINY, "-p", "x", "--temp", "warm").failed_with(2, "--temp", "warm")
    gantry("run", harness.TINY, "-p", "x", "-n", "-3").failed_with(2, "-n", "-3")
    gantry("run", harness.TINY, "-p", "x", "--top-p", "7").failed_with(2, "--top-p", "7")
    gantry("run", harness.TINY, "--raw").failed_with(2, "-p")
    gantry("logits", harness.TINY, "--tokens", "1").failed_with(2, "-o")
    gantry("logits", harness.TINY, "-o", "x").failed_with(2, "--tokens")
    gantry("perplexity", harness.TINY).failed_with(2, "-f")
    gantry("serve", "--port", "65536").failed_with(2, "--port", "65536")
    gantry("serve", "--lora", "x.gguf").failed_with(2, "--lora", "-m MODEL")
    for command in ("run", "tokenize", "detokenize", "bench", "inspect"):
        gantry(command).failed_with(2, "MODEL")
        gantry(command, harness.TINY, harness.TINY).failed_with(2, "MODEL")


@test
def an_unknown_command_is_exit_status_2():
    done = gantry("sing")
    equal((done.code, done.out), (2, b""), "exit status and stdout")
    first = done.err.splitlines()[0]
    check("'sing'" in first, f"stderr begins with {first!r}")
    equal(gantry().code, 2, "exit status without a command")


@test
def ids_outside_the_vocabulary_are_named():
    out = os.path.join(harness.TMP, "never.f32")
    bad = gantry("logits", harness.TINY, "--tokens", "1,512", "-o", out)
    bad.failed_with(1, "512")
    check(not os.path.exists(out), "a failed command left its output file")
    gantry("logits", harness.TINY, "--tokens", "1,-1", "-o", out).failed_with(1, "-1")
    gantry("logits", harness.TINY, "--tokens", "1,x", "-o", out).failed_with(1, "x")
    gantry("detokenize", harness.TINY, stdin=b"512").failed_with(1, "512")
    gantry("detokenize", harness.TINY, stdin=b"7 seven").failed_with(1, "seven")


@test
def requiring_a_gpu_fails_with_the_reason():
    for command in (["run", "-p", "x", "-n", "1"], ["bench"]):
        gantry(*command, harness.TINY, "--gpu", "require").failed_with(1, "GPU")
    gantry("serve", "-m", harness.TINY, "--gpu", "require").failed_with(1, "GPU")
    gantry("run", harness.TINY, "-p", "x", "-n", "1", "--gpu", "off").succeeded()


@test
def an_output_that_cannot_be_written_is_an_error():
    out = os.path.join(harness.TMP, "no", "such", "folder")
    gantry("logits", harness.TINY, "--tokens", "1", "-o", out).failed_with(1, out)
    gantry("bench", "synth:tiny:f32", "--export", out).failed_with(1, out)
    gantry("bench", "synth:tiny:no_type").failed_with(1, "no_type")
    gantry("bench", "synth:no-shape:f32").failed_with(1, "no-shape")


@test
def inspect_tells_the_same_to_people_and_programs():
    text = gantry("inspect", harness.TINY).succeeded().text
    facts = json.loads(gantry("inspect", harness.TINY, "--json").succeeded().out)
    equal(facts["architecture"], "llama", "architecture")
    equal(facts["runnable"], True, "runnable")
    equal(facts["hparams"]["context_length"], 2048, "context_length")
    equal(facts["file_bytes"], os.path.getsize(harness.TINY), "file_bytes")
    equal(sum(t["tensors"] for t in facts["types"]), len(facts["tensors"]), "tensors")
    equal(sum(t["bytes"] for t in facts["tensors"]), facts["weight_bytes"], "weight bytes")
    for tensor in facts["tensors"]:
        check(tensor["name"] in text, f"{tensor['name']} is in the JSON only")
    for key in facts["metadata"]:
        check(key in text, f"{key} is in the JSON only")


def tests_of(facts, *names):
    """Behind a prompt in mode `fast` there is the same one in `exact`."""
    prompts = [name for name in names if name.startswith("pp") and facts["mode"] == "fast"]
    return sorted([*names, *(f"{name}@exact" for name in prompts)], key=lambda n: n[0] != "p")


@test
def bench_of_an_encoder_says_what_it_cannot_measure():
    model = harness.shared_path("oracle/public/models/bert/model-f32.gguf")
    facts = json.loads(gantry("bench", model, "-p", "32", "--repeat", "1", "--json").succeeded().out)
    equal([r["test"] for r in facts["rows"]], tests_of(facts, "pp32"), "tests")
    gantry("bench", model, "-p", "32", "-n", "4").failed_with(1, "is an encoder")
    gantry("bench", model, "-p", "32", "--depth", "4").failed_with(1, "is an encoder")
    gantry("bench", model, "-p", "32", "--batch", "2").failed_with(1, "is an encoder")
    gantry("bench", model, "-p", "0").failed_with(1, "0 tokens, want 1 to")


@test
def bench_measures_what_was_asked_for():
    args = ("-p", "600", "-n", "8", "--depth", "20", "--batch", "1,4", "--repeat", "2")
    exact = ("--numerics", "exact")
    facts = json.loads(gantry("bench", "synth:tiny:q8_0", *args, *exact, "--json").succeeded().out)
    rows = facts["rows"]
    equal([r["test"] for r in rows], ["pp600", "tg8@d20", "tg8@d20@b4"], "tests")
    equal(facts["mode"], "exact", "mode")
    for row in rows:
        check(0 < row["min"] <= row["tokens_per_s"] <= row["max"], f"speeds of {row}")
        equal((row["n"], sorted(row["runs"])), (2, [row["min"], row["max"]]), "runs")
        check(row["bytes_per_s"] > 0 and row["ops_per_s"] > 0, f"rates of {row}")
        check(row["limit"] in facts["machine"], f"the limit of {row} was not measured")
        check(0 < row["limit_fraction"] < 50, f"limit of {row}")
    check(facts["read_min"] <= facts["machine"]["read"]["per_s"] <= facts["read_max"], "sweeps")
    table = gantry("bench", harness.TINY, *args).succeeded().text
    check(table.find("\nread ") < table.find("\npp600 "), f"the machine comes first: {table!r}")
    for row in rows:
        check(f"\n{row['test']} " in table, f"no row {row['test']} in {table!r}")


@test
def bench_says_what_exact_numerics_cost():
    args = ("synth:tiny:q8_0", "-p", "40", "-n", "4", "--repeat", "2", "--gpu", "off")
    facts = json.loads(gantry("bench", *args, "--json").succeeded().out)
    equal(facts["mode"], "fast", "mode")
    equal([r["test"] for r in facts["rows"]], ["pp40", "pp40@exact", "tg4"], "tests")
    equal([r["mode"] for r in facts["rows"]], ["fast", "exact", "fast"], "modes")
    digits = [r["ops_digits"] for r in facts["rows"]]
    check(digits[0] == 1 and digits[1] == digits[2], f"digits of activations {digits}")
    equal(facts["independent_of_batch"], True, "do results depend on the batch?")
    fast, slow = (r["tokens_per_s"] for r in facts["rows"][:2])
    check(abs(facts["exact_takes"] * slow / fast - 1) < 1e-6, f"cost {facts['exact_takes']}")
    for more in (("--numerics", "exact"), ("-p", "0")):
        none = json.loads(gantry("bench", *args, *more, "--json").succeeded().out)
        equal((none["independent_of_batch"], none["exact_takes"]), (True, None), f"with {more}")
    said = gantry("bench", *args).succeeded().text
    check("(numerics exact) take" in said, f"no cost in {said!r}")
    check("No result depends on" in said, f"no word about the batch in {said!r}")
    said = gantry("bench", *args, "--numerics", "exact").succeeded().text
    check("numerics exact) take" not in said, f"a cost of nothing in {said!r}")
    check("No result depends on" in said, f"no word about the batch in {said!r}")


@test
def bench_tells_where_a_step_spends_its_time():
    args = ("synth:tiny:q8_0", "-p", "40", "-n", "4", "--batch", "2,1", "--repeat", "2", "--kernels")
    facts = json.loads(gantry("bench", *args, "--gpu", "off", "--json").succeeded().out)
    prompt, decode = facts["kernels"]["prompt"], facts["kernels"]["decode"]
    equal((prompt["steps"], prompt["rows"]), (2, 40), "steps and rows of the prompt")
    equal((decode["steps"], decode["rows"]), (16, 2), "steps and rows of the generation")
    for table in (prompt, decode):
        roofline.check_table(table)
        (place,) = table["places"]
        equal(place["limits"]["bytes"]["from"], "read", "what memory is held against")
        # embedding, per layer two norms and eleven more, a last norm, both takings, the head
        equal(place["program_ops"], 1 + 2 * 16 + 4, "ops of the program")
        kinds = roofline.kinds(table)
        equal(kinds["MATMUL"], 2 * 7 + 1, "products")
        equal((kinds["ATTENTION"], kinds["NORM"], kinds["KV_WRITE"]), (2, 5, 2), "others")
    head = [k for k in decode["kernels"] if k["what"] == "output Q8_0"]
    equal([(k["tasks"], k["weight_bytes"]) for k in head], [(1, 512 * 64 // 32 * 34)], "the head")
    equal(head[0]["flops"], 2 * 2 * 512 * 64, "operations of the head")
    written = [k for k in decode["kernels"] if "KV_WRITE" in k["ops"]]
    equal([k["cache_bytes"] for k in written], [2 * 2 * (2 * 16 * 2) * 2], "keys and values")
    plain = json.loads(gantry("bench", *args[:-1], "--gpu", "off", "--json").succeeded().out)
    check("kernels" not in plain, "kernels that nobody asked for")


@test
def bench_tells_it_as_a_table():
    args = ("gantry-mini", "-p", "16", "-n", "2", "--repeat", "1", "--kernels", "--gpu", "off")
    table = gantry("bench", *args).succeeded().text
    for words in ("prompt step of 16 rows", "decode step of 1 row:", "\nATTENTION ", "ffn_down Q8_0"):
        check(words in table, f"no {words!r} in {table!r}")
    for words in ("all of them", "not in any"):
        equal(table.count("\n" + words), 2, words)
    prompt_only = gantry("bench", *args[:3], "-n", "0", *args[5:]).succeeded().text
    check("decode step" not in prompt_only, "a step that nobody asked for")
    gantry("bench", *args, "--backend", "ref").failed_with(1, "does not measure")


@test
def run_with_a_seed_repeats_itself():
    args = ("run", harness.TINY, "--raw", "-p", "Once", "-n", "40", "--temp", "1.5")
    first = gantry(*args, "--seed", "7").succeeded().out
    equal(gantry(*args, "--seed", "7", "--threads", "1").succeeded().out, first, "seed 7 again")
    check(gantry(*args, "--seed", "8").succeeded().out != first, "seed 8 gives the same")


@test
def run_stops_before_a_stop_string():
    args = ("run", harness.TINY, "--raw", "-p", "Once", "-n", "40", "--temp", "0")
    whole = gantry(*args).succeeded().out
    stop = whole.decode("utf-8", "ignore")[12:17]
    got = gantry(*args, "--stop", stop).succeeded().out
    equal(got, whole[: whole.index(stop.encode())], f"text before {stop!r}")


@test
def run_chats_line_by_line_when_there_is_no_prompt():
    done = gantry("run", harness.TINY, "-n", "5", "--temp", "0", stdin=b"hello\nagain\n")
    done.succeeded()
    check(done.out.count(b"\n") >= 2, f"two answers, each with a line end: {done.out!r}")
    check("chat template: plain" in done.err, f"stderr says no template: {done.err!r}")


@test
def a_reader_that_leaves_is_no_crash():
    args = [harness.BINARY, "run", harness.TINY, "--raw", "-p", "x", "-n", "500"]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    harness.Done(process.wait(harness.PATIENCE_S), b"", err)
