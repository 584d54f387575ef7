"""test_sim.py - the CUDA backend through the real binary, on the software GPU of tests/cudasim.

Bounds are those of backend/backend.h: float weights are within 1e-5 of a recording, quantized ones
may be half again as far from the recording of the dequantized model as the CPU is that rounds
activations to 8 bits, too, but not those of the output matrix.  Where the likeliest token leads by
more than four times the error, it is the recorded one.
"""
import json
import math
import os
import re
import subprocess
import sys
import threading
import time

import gguf
import harness
import oracle
import roofline
import test_lora as lora
import test_models as models
from harness import Server, check, equal, gantry, shared_path, test
from test_gpu import machine, needs_kernels

NMSE_MAX = 1e-5
CARDS = ("t4", "a10", "h100")  # one of each code path


def on_gpu(card="t4", **more):
    needs_kernels()
    return machine(card, **more)


# --- logits ------------------------------------------------------------------------------------


def compare(name, golden, flags, env=None):
    """tests/gpu/check.py does so on a real card, which is that of its own environment."""
    ids = models.ids_of(name, golden["prompt"])
    model = models.path(name, models.index(name)["model"])
    _, got = models.numbers_of("logits", model, ids, *flags, env=env)
    what = f"{name} {golden['prompt']} on {env['CUDASIM'] if env else 'the card'}"
    want = oracle.numbers("f", models.path(name, golden["logits"]))
    error = oracle.nmse(got[-len(want) :], want)
    check(error <= NMSE_MAX, f"{what}: NMSE {error:.3g} > {NMSE_MAX}")
    scale = math.sqrt(sum(v * v for v in want) / len(want))
    for i in range(len(want) // models.VOCAB):
        row = models.row(want, i)
        first, second = sorted(row, reverse=True)[:2]
        if first - second > 4 * math.sqrt(error) * scale:
            mine = models.row(got[-len(want) :], i)
            equal(models.best(mine), models.best(row), f"{what}: likeliest token of row {i}")


def compare_on(card, case):
    compare(*case, ("--backend", "cuda"), on_gpu(card))


def cases():
    """Recordings with the whole context: others depend on what context was asked for."""
    return [
        (name, golden)
        for name in models.decoders()
        for golden in models.index(name)["golden"]
        if ".nctx" not in golden["logits"]
    ]


@test
def logits_of_every_architecture_are_the_oracles():
    harness.for_each(cases(), lambda case: compare_on("t4", case))


@test
def and_on_the_code_paths_of_newer_cards():
    for card in CARDS[1:]:
        harness.for_each(cases()[:: 4 * harness.SCALE], lambda case, c=card: compare_on(c, case))


def distance(dtype, number, row, *flags, env=None):
    out = os.path.join(harness.TMP, "sim-logits.f32")
    ids = ",".join(map(str, oracle.prompt(number)["ids"]))
    gantry(
        "logits", oracle.model(dtype), "--tokens", ids, "-o", out, *flags, env=env
    ).succeeded()
    return oracle.nmse(oracle.numbers("f", out), oracle.numbers("f", oracle.path(row["file"])))


@test
def quantized_weights_are_as_close_as_on_the_cpu():
    tried, worst = 0, 0.0
    for row in oracle.index()["logits"]:
        if not row["model"].startswith("Q") or not row["kind"].startswith("deq"):
            continue
        cpu = distance(row["model"], row["prompt"], row, "--backend", "cpu", "--numerics", "fast")
        gpu = distance(row["model"], row["prompt"], row, "--backend", "cuda", env=on_gpu())
        what = f"{row['model']} p{row['prompt']}"
        worst = max(worst, gpu / cpu)
        check(gpu <= 1.25 * cpu, f"{what}: NMSE {gpu:.3g}, on the CPU {cpu:.3g}")
        tried += 1
    check(tried > 0, "no recording was tried")
    print(f"  at most {worst:.2f} times as far as on the CPU, {tried} recordings")


# --- what is used, and what is said about it -----------------------------------------------------


def said_of(server):
    health = server.get("/health").must(200).json
    return health, health["models"][0]


@test
def a_server_says_that_it_computes_on_the_gpu():
    with Server("--gpu", "require", env=on_gpu()) as server:
        health, model = said_of(server)
        check("Tesla T4" in health["gpu"], f"/health says {health['gpu']!r}")
        check(model["backend"].startswith("cuda"), f"backend {model['backend']!r}")
        equal(model["numerics"], "fast", "numerics")
        check("Tesla T4" in model["device"], f"device {model['device']!r}")
        check(model["device_bytes"] > 0, "nothing is on the device")
        equal(model["fallback"], None, "reason for a fallback")
        reply = server.post("/v1/completions", {"prompt": "a", "max_tokens": 4}).must(200).json
        check(reply["timings"]["backend"].startswith("cuda"), f"timings {reply['timings']}")
        equal(reply["timings"]["numerics"], "fast", "numerics of timings")
        check("used: Tesla T4" in server.stderr, "the log does not say what is used")


@test
def greedy_text_is_the_recorded_one():
    want = oracle.Greedy("F32", 0, margin=0.01)
    check(len(want.ids) > 8, "the recording says too little")
    count = min(len(want.ids), harness.scaled(48))
    args = ("--raw", "--temp", "0", "-p", want.prompt["text"], "-n", count, "--gpu", "require")
    for streams in ("eager", "deferred", "random"):
        env = on_gpu({"gpus": [{"preset": "t4"}], "streams": streams, "seed": 7})
        got = gantry("run", oracle.model("F32"), *args, env=env).succeeded().out
        equal(got, oracle.ids_text(want.ids[:count]), f"text with {streams} streams")


@test
def requests_beside_one_another_get_what_they_get_alone():
    with Server("--gpu", "require", "--parallel", "8", env=on_gpu()) as server:

        def ask(number):
            body = {"prompt": f"story {number}", "max_tokens": 12, "temperature": 0}
            return server.post("/v1/completions", body).must(200).json["choices"][0]["text"]

        alone = [ask(number) for number in range(6)]
        together = [None] * 6

        def keep(number):
            together[number] = ask(number)

        harness.in_parallel([lambda n=n: keep(n) for n in range(6)])
        equal(together, alone, "texts")


@test
def a_gpu_that_is_required_and_missing_is_an_error_with_its_remedy():
    out = os.path.join(harness.TMP, "none.f32")
    for description in ("p100", {"gpus": []}, {"stub": True}, {"cuda": 11020}):
        done = gantry(
            "logits", harness.TINY, "--tokens", "1", "-o", out, "--gpu", "require",
            env=machine(description),
        )
        check(done.code not in (0, 2), f"exit status {done.code}")
        check("a GPU is required" in done.err and ";" in done.err, done.err)


@test
def contradictions_are_refused():
    out = os.path.join(harness.TMP, "none.f32")
    for flags in (
        ("--gpu", "require", "--backend", "cpu"),
        ("--gpu", "off", "--backend", "cuda"),
        ("--gpu", "off", "--device", "0"),
        ("--gpu", "off", "--gpu-layers", "1"),
    ):
        gantry("logits", harness.TINY, "--tokens", "1", "-o", out, *flags).failed_with(2, "usage")


@test
def the_device_is_chosen_by_index_uuid_and_pci_id():
    env = on_gpu("t4,h100")
    facts = json.loads(gantry("gpus", "--json", env=env).succeeded().out)["gpus"]
    wanted = facts[1]
    for selector in ("1", wanted["uuid"], wanted["pci_bus_id"]):
        with Server("--device", selector, env=env) as server:
            _, model = said_of(server)
            check(wanted["name"] in model["device"], f"{selector}: {model['device']!r}")
    done = gantry("logits", harness.TINY, "--tokens", "1", "-o", "x", "--device", "7", env=env)
    check(done.code != 0 and wanted["name"] in done.err, f"no list of GPUs: {done.err!r}")


# --- greedy text -------------------------------------------------------------------------------


def greedy_rows(server):
    """How many tokens were found without logits, once all requests have ended."""
    server.wait_idle()
    return server.metrics().total("greedy_rows_total")


@test
def greedy_tokens_are_those_that_the_sampler_takes_from_logits():
    """Whatever makes the sampler look at the logits, and changes nothing, changes no token."""
    count = 16
    plain = {"prompt": "once upon a time", "max_tokens": count, "temperature": 0}
    plain["ignore_eos"] = True
    looks = ({"logprobs": 2}, {"logit_bias": {"3": 0}}, {"frequency_penalty": 1e-30})
    for flags, env in ((("--gpu", "require"), on_gpu()), (("--gpu", "off"), None)):
        with Server(*flags, "--parallel", "4", env=env) as server:

            def ask(more=None):
                body = dict(plain, **(more or {}))
                return server.post("/v1/completions", body).must(200).json["choices"][0]["text"]

            text = ask()
            equal(greedy_rows(server), count, f"rows without logits, {flags}")
            equal([ask(more) for more in looks], [text] * len(looks), f"texts, {flags}")
            ask({"temperature": 0.8})
            many = [None] * 6  # with and without, in the same steps

            def keep(i):
                many[i] = ask(looks[i // 2] if i % 2 else None)

            harness.in_parallel([lambda i=i: keep(i) for i in range(6)])
            equal(many, [text] * 6, f"texts beside one another, {flags}")
            equal(greedy_rows(server), 4 * count, f"rows without logits at the end, {flags}")


@test
def text_costs_eight_bytes_a_token():
    """What comes back from a card: a token, and whether the step went well.  The likeliest one is
    found, another one is drawn."""

    def brought(tokens, *more):
        args = ("--raw", "-p", "once", "-n", tokens, "--gpu", "require", *more)
        done = gantry("run", harness.TINY, *args, env=on_gpu(CUDASIM_REPORT="1")).succeeded()
        return int(re.search(r"copied_out=(\d+)", done.err).group(1))

    for more in (
        ("--temp", "0"),
        ("--temp", "0", "--repeat-penalty", "1.2"),
        ("--temp", "0.8", "--seed", "1", "--top-k", "40", "--top-p", "0.9"),
    ):
        equal(brought(36, *more) - brought(4, *more), 32 * 8, f"bytes of 32 tokens, {more}")


# --- drawn tokens ------------------------------------------------------------------------------


@test
def drawn_tokens_are_those_that_the_sampler_takes_from_logits():
    """Alone and beside others, with log-probabilities and without."""
    count = 12
    asked = (
        {"temperature": 0.8},
        {"temperature": 1.2, "top_k": 20, "top_p": 0.9},
        {"temperature": 1, "min_p": 0.02, "repetition_penalty": 1.3},
        {"temperature": 0.7, "presence_penalty": 0.5, "frequency_penalty": 0.3},
        {"temperature": 1, "logit_bias": {"7": 3, "9": -100}, "min_tokens": 4},
        {"temperature": 0, "repetition_penalty": 1.5},
        {"temperature": 0, "allowed_token_ids": list(range(10, 300, 7))},
    )
    with Server("--gpu", "require", "--parallel", "6", env=on_gpu()) as server:

        def ask(number, **more):
            body = {"prompt": f"story {number}", "max_tokens": count, "seed": number}
            body.update(asked[number], ignore_eos=True, **more)
            return server.post("/v1/completions", body).must(200).json["choices"][0]["text"]

        def rows(name):
            server.wait_idle()
            return server.metrics().total(name + "_rows_total")

        numbers = range(len(asked))
        alone = [ask(number) for number in numbers]
        equal(rows("sampled"), len(asked) * count, "rows that were drawn")
        equal([ask(number, logprobs=1) for number in numbers], alone, "texts with log-probabilities")
        equal(rows("sampled"), 2 * len(asked) * count, "rows that were drawn")
        together = [None] * len(asked)

        def keep(number):
            together[number] = ask(number, **({"logprobs": 3} if number % 2 else {}))

        harness.in_parallel([lambda n=n: keep(n) for n in numbers])
        equal(together, alone, "texts beside one another")
        equal(rows("sampled"), 3 * len(asked) * count, "rows that were drawn at the end")
        equal(rows("host_sampled"), 0, "rows that the host sampled")
        equal(rows("greedy"), 0, "rows whose largest logit was enough")


LOGPROB_OFF_MAX = 1e-3  # F32 weights: what sums in another order, and f16 in the cache, make of it


def said_to(server, asked):
    """The log-probabilities of every answer as (token, value, [(token, value) ..]) lists."""
    found = []
    for path, body in asked:
        for choice in server.post(path, body).must(200).json["choices"]:
            said = choice["logprobs"]
            if "content" in said:
                found.append(
                    [
                        (
                            e["token"],
                            e["logprob"],
                            [(t["token"], t["logprob"]) for t in e["top_logprobs"]],
                        )
                        for e in said["content"]
                    ]
                )
            else:
                top = said["top_logprobs"] or [{}] * len(said["tokens"])
                alternatives = [list(t.items()) for t in top]
                found.append(list(zip(said["tokens"], said["token_logprobs"], alternatives)))
    return found


def same_logprobs(got, want, what):
    equal(len(got), len(want), f"answers, {what}")
    for i, (mine, theirs) in enumerate(zip(got, want)):
        equal([t[0] for t in mine], [t[0] for t in theirs], f"tokens of {i}, {what}")
        for a, b in zip(mine, theirs):
            equal([t[0] for t in a[2]], [t[0] for t in b[2]], f"alternatives of {i}, {what}")
            pairs = [(a[1], b[1])] + [(x[1], y[1]) for x, y in zip(a[2], b[2])]
            off = max(abs(x - y) for x, y in pairs)
            check(off <= LOGPROB_OFF_MAX, f"log-probabilities of {i} are off by {off:.3g}, {what}")


@test
def log_probabilities_are_those_of_the_cpu():
    """Of both dialects, greedy and drawn, of several choices and of any number of alternatives;
    no logits come to the host for it."""
    count = 8
    text = {"prompt": "once upon a time", "max_tokens": count, "ignore_eos": True}
    chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": count}
    chat.update(ignore_eos=True, logprobs=True)
    asked = (
        ("/v1/completions", dict(text, logprobs=0, temperature=0)),
        ("/v1/completions", dict(text, logprobs=20, temperature=0.9, seed=5)),
        ("/v1/completions", dict(text, logprobs=3, n=3, temperature=1, seed=6)),
        ("/v1/completions", dict(text, logprobs=2, temperature=0, logit_bias={"9": -100, "7": 2})),
        ("/v1/chat/completions", dict(chat, top_logprobs=20, temperature=0)),
        ("/v1/chat/completions", dict(chat, top_logprobs=1, n=2, temperature=0.8, seed=7)),
        ("/v1/chat/completions", dict(chat, temperature=0.7, repetition_penalty=1.3, seed=8)),
    )
    model = oracle.model("F32")
    with Server("--gpu", "off", "--parallel", "8", model=model) as server:
        want = said_to(server, asked)
        server.wait_idle()
        equal(server.metrics().total("host_sampled_rows_total"), 10 * count, "rows on the CPU")
    for flags in ((), ("--gpu-layers", "1")):
        with Server("--gpu", "require", *flags, "--parallel", "8", model=model, env=on_gpu()) as gpu:
            same_logprobs(said_to(gpu, asked), want, f"alone, {flags}")
            together = [None] * len(asked)

            def keep(i):
                together[i] = said_to(gpu, asked[i : i + 1])

            harness.in_parallel([lambda i=i: keep(i) for i in range(len(asked))])
            same_logprobs(sum(together, []), want, f"beside one another, {flags}")
            gpu.wait_idle()
            equal(gpu.metrics().total("host_sampled_rows_total"), 0, "rows of the host's sampler")
            equal(gpu.metrics().total("sampled_rows_total"), 20 * count, "rows that were drawn")


# --- memory ------------------------------------------------------------------------------------


def small_gpu(mib):
    return {"gpus": [{"preset": "t4", "memory_mib": mib, "context_mib": 8}]}


@test
def a_model_that_does_not_fit_says_the_numbers_or_goes_to_the_cpu():
    env = on_gpu(small_gpu(10))
    with Server(env=env) as server:  # preferred only
        _, model = said_of(server)
        check(model["backend"].startswith("cpu"), f"backend {model['backend']!r}")
        check("bytes" in model["fallback"], f"reason {model['fallback']!r}")
        check("is computed on the CPU" in server.stderr, "the log does not say it")
        server.post("/v1/completions", {"prompt": "a", "max_tokens": 4}).must(200)
    out = os.path.join(harness.TMP, "none.f32")
    done = gantry(
        "logits", harness.TINY, "--tokens", "1", "-o", out, "--gpu", "require", env=env
    )
    check(done.code != 0 and "bytes" in done.err, f"no numbers: {done.err!r}")


@test
def layers_that_were_asked_for_are_on_the_gpu_and_the_others_on_the_cpu():
    want = oracle.Greedy("F32", 0, margin=0.01)
    count = min(len(want.ids), 12)
    env, model = on_gpu(), oracle.model("F32")
    args = ("--raw", "--temp", "0", "-p", want.prompt["text"], "-n", count)
    got = gantry("run", model, *args, "--gpu-layers", "1", env=env).succeeded().out
    equal(got, oracle.ids_text(want.ids[:count]), "text")
    with Server("--gpu", "require", env=env) as server:
        whole = said_of(server)[1]
    with Server("--gpu", "require", "--gpu-layers", "1", env=env) as server:
        _, half = said_of(server)
        reply = server.post("/v1/completions", {"prompt": "a", "max_tokens": 4}).must(200).json
    equal((whole["gpu_layers"], half["gpu_layers"]), (2, 1), "layers on the GPU")
    check(0 < half["device_bytes"] < whole["device_bytes"], "bytes on the device")
    check(half["backend"].startswith("cuda sm_75 + cpu "), f"backend {half['backend']!r}")
    equal(reply["timings"]["backend"], half["backend"], "backend of the timings")
    equal((half["reduced"], half["fallback"]), ([], None), "what was not done as asked")


CARD_LIMITS = ("memory clock x bus", "int8 matrix units x clock")


def kernels_of(*args, env):
    facts = json.loads(gantry("bench", *args, "--kernels", "--json", env=env).succeeded().out)
    for row in facts["rows"]:
        check(facts["kernels"]["decode"]["places"][1:] or row["limit"] != "read", "a CPU's limit")
    return facts["kernels"]["prompt"], facts["kernels"]["decode"]


@test
def a_bench_on_a_gpu_is_held_against_what_the_gpu_says():
    args = ("synth:tiny:q4_0", "-p", "6", "-n", "2", "--repeat", "1", "--gpu", "require")
    facts = json.loads(gantry("bench", *args, "--json", env=on_gpu("h100")).succeeded().out)
    for row in facts["rows"]:
        check(row["limit"] in CARD_LIMITS, f"limit {row['limit']!r} of {row['test']}")
        equal(row["ops_figure"], CARD_LIMITS[1], f"operations of {row['test']}")
        equal((row["read_before"] > 1e12, row["ops_limit"] > 1e14), (True, True), "an H100")
        check(0 < row["limit_fraction"] < 1, f"fraction of {row['test']}")
    said = gantry("bench", *args, env=on_gpu("h100")).succeeded().text
    check("memory clock x bus" in said and "read sweep" not in said, f"table {said!r}")


def fused_in(table, kernel):
    """The ops of each kind of its launches."""
    ops = {tuple(row["ops"]) for row in table["kernels"] if row["task"] == kernel}
    return sorted(map(list, ops))


@test
def a_bench_has_each_op_in_one_kernel():
    args = ("-p", "6", "-n", "2", "--repeat", "1", "--gpu", "require")
    for card in CARDS:
        prompt, decode = kernels_of("synth:tiny:q4_0", *args, env=on_gpu(card))
        for table in (prompt, decode):
            roofline.check_table(table)
            (place,) = table["places"]
            check(place["where"].startswith("cuda sm_"), f"where {place['where']!r}")
            equal(place["limits"]["bytes"]["from"], "memory clock x bus", "what memory is")
            check(place["limits"]["integer"]["per_s"] > 1e12, "what int8 is")
            equal(roofline.kinds(table)["MATMUL"], 2 * 7 + 1, "products")
            helps = [row["bytes"] for row in table["kernels"] if row["task"] == "k_quantize"]
            equal(helps, [0], "bytes of a help")
        equal(fused_in(prompt, "k_rope_write"), [["ROPE", "ROPE", "KV_WRITE"]], "of many rows")
        equal(fused_in(prompt, "k_prompt_attention_f16_d64"), [["ATTENTION"]], "of prompts")
        layer = [
            ["MATMUL", "ADD", "NORM"],
            ["MATMUL", "MATMUL", "ACT_MUL"],
            ["MATMUL", "MATMUL", "MATMUL", "ROPE", "ROPE", "KV_WRITE"],
        ]
        equal(fused_in(decode, "k_gemvt_q4_0"), layer, "of one row")


@test
def a_bench_of_experts_and_of_states_has_each_op_in_one_kernel():
    for name in ("mamba", "qwen3moe", "deepseek2", "gpt-oss", "qwen3"):
        model = models.path(name, models.index(name)["model"])
        args = ("-p", "5", "-n", "2", "--repeat", "1", "--gpu", "require")
        for table in kernels_of(model, *args, env=on_gpu()):
            roofline.check_table(table)


@test
def a_split_model_shows_both_parts():
    args = ("-p", "6", "-n", "2", "--repeat", "1", "--gpu", "require", "--gpu-layers", "1")
    for table in kernels_of("synth:tiny:q4_0", *args, env=on_gpu()):
        roofline.check_table(table)
        cpu, gpu = table["places"]
        check(cpu["where"].startswith("cpu ") and gpu["where"] == "cuda sm_75", "places")
        equal(cpu["limits"]["bytes"]["from"], "read", "what the CPU's memory is")
        tasks = {row["task"]: row for row in table["kernels"]}
        equal(tasks["copy to the device"]["ops"], ["INPUT"], "the way between")
    with Server("--gpu", "require", "--gpu-layers", "1", env=on_gpu()) as server:
        said = []
        ask = threading.Thread(
            target=lambda: said.append(server.get("/debug/roofline?steps=4&seconds=30"))
        )
        ask.start()
        server.wait_said("profile begins")
        body = {"prompt": "some words", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        server.post("/v1/completions", body).must(200)
        ask.join()
        page = said[0].must(200).json
        equal((page["prompt"]["steps"], page["decode"]["steps"]), (1, 3), "steps")
        roofline.check_table(page["decode"])
        limits = {(row["place"], row["limit"]) for row in page["decode"]["kernels"] if row["ops"]}
        check((0, None) in limits and (1, "memory clock x bus") in limits, f"limits {limits}")


@test
def a_model_larger_than_the_gpu_is_split_and_says_so():
    model = os.path.join(harness.TMP, "split.gguf")
    gantry("bench", "synth:small:f32", "--export", model).succeeded()
    flags = ("--parallel", "1", "--step-tokens-max", "64", "--ctx", "64")
    env = on_gpu(small_gpu(8 + 32 + 5))
    with Server(*flags, model="small=" + model, env=env) as server:
        health, said = said_of(server)
        equal(said["reduced"], ["gpu_layers 2 -> 1"], "what was cut")
        equal(said["gpu_layers"], 1, "layers on the GPU")
        check("gpu_layers 2 -> 1" in server.stderr, "the log does not say it")
        body = {"prompt": "some words", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        got = server.post("/v1/completions", body).must(200).json["choices"][0]["text"]
    with Server(*flags, "--gpu", "off", model="small=" + model) as server:
        equal(said_of(server)[1]["gpu_layers"], 0, "layers on a GPU")
        want = server.post("/v1/completions", body).must(200).json["choices"][0]["text"]
    equal(got, want, "text")
    out = os.path.join(harness.TMP, "none.f32")
    done = gantry("logits", model, "--tokens", "1", "-o", out, "--gpu", "require", env=env)
    check(done.code != 0 and "bytes" in done.err, f"split without being asked: {done.err!r}")
    limits = ("--ctx", "64", "--gpu-layers", "2")
    done = gantry("run", model, "-p", "a", "-n", "1", *limits, env=env).succeeded()
    check("gpu_layers 2 -> 1" in done.err, f"fewer than asked for: {done.err!r}")
    done = gantry("run", model, "-p", "a", *limits, "--gpu", "require", env=env)
    check(done.code != 0 and "bytes" in done.err, f"asked for and not kept: {done.err!r}")


MIXTURE = "oracle/public/models/mixtral/model-f32.gguf"


@test
def experts_are_computed_by_the_cpu_as_the_gpu_would():
    model = shared_path(MIXTURE)

    def rows(*flags):
        out = os.path.join(harness.TMP, "experts.f32")
        ids = ("--tokens", "5,9,70,3,12,8")
        gantry("logits", model, *ids, "-o", out, *flags, env=on_gpu()).succeeded()
        return oracle.numbers("f", out)

    want = rows("--gpu", "off")
    for layers in ("1", "all"):
        error = oracle.nmse(rows("--gpu", "require", "--cpu-moe-layers", layers), want)
        check(error < 1e-9, f"{layers}: NMSE {error:.3g}")
    done = gantry("run", model, "-p", "a", "--gpu", "off", "--cpu-moe-layers", "1")
    done.failed_with(2, "--cpu-moe-layers 1 leaves all else to a GPU")
    done = gantry("run", model, "-p", "a", "--backend", "cpu", "--cpu-moe-layers", "all")
    done.failed_with(2, "--cpu-moe-layers all leaves all else to a GPU")
    done = gantry("run", model, "-p", "a", "--gpu-layers", "1", "--cpu-moe-layers", "2")
    done.failed_with(2, "one of them, not both")


@test
def options_for_experts_that_have_nothing_to_do_say_so_once():
    model, out = shared_path(MIXTURE), os.path.join(harness.TMP, "unused.f32")
    done = gantry("logits", model, "--tokens", "5,9", "-o", out, "--cpu-moe-layers", "all",
                  env=on_gpu()).succeeded()
    equal(done.err.count("--cpu-moe-layers all is without effect: none used: this command"), 1,
          f"warnings in {done.err!r}")
    done = gantry("logits", "synth:tiny:f32", "--tokens", "5,9", "-o", out, "--gpu", "require",
                  "--cpu-moe-layers", "1", env=on_gpu()).succeeded()
    equal(done.err.count("(--cpu-moe-layers): the model has none"), 1, f"lines in {done.err!r}")


@test
def experts_that_do_not_fit_stay_with_the_cpu_and_it_is_said():
    flags = ("--parallel", "1", "--step-tokens-max", "64", "--ctx", "64", "--kv", "f16")
    body = {"prompt": "some words", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    model = "mixture=" + shared_path(MIXTURE)
    with Server(*flags, "--cpu-moe-layers", "1", model=model, env=on_gpu()) as server:
        asked = said_of(server)[1]
        want = server.post("/v1/completions", body).must(200).json["choices"][0]["text"]
        for path in ("native", "planar rows"):
            check(f'path="{path}"' in server.stderr, f"the weights' log has no {path}")
    check(asked["backend"].startswith("cuda sm_75 + cpu "), f"backend {asked['backend']!r}")
    equal((asked["cpu_moe_layers"], asked["gpu_layers"]), (1, 2), "layers")
    equal(asked["reduced"], [], "what was cut")
    limit = ("--gpu-bytes-max", str(asked["device_bytes"] + 4096))
    with Server(*flags, *limit, model=model, env=on_gpu()) as server:
        said = said_of(server)[1]
        got = server.post("/v1/completions", body).must(200).json["choices"][0]["text"]
        equal(said["reduced"], ["gpu_experts 2 -> 1"], "what was cut")
        check("gpu_experts 2 -> 1" in server.stderr, "the log does not say it")
        check("experts of 1 of 2 layers on the host" in server.stderr, "nor where they are")
    equal((said["cpu_moe_layers"], said["gpu_layers"]), (1, 2), "layers")
    equal(said["device_bytes"], asked["device_bytes"], "bytes on the device")
    equal(got, want, "text")
    few = ("--cpu-moe-layers", "1", "--gpu-bytes-max", str(asked["device_bytes"] - 4096))
    with Server(*flags, *few, model=model, env=on_gpu()) as server:
        said = said_of(server)[1]
    equal((said["reduced"], said["cpu_moe_layers"]), (["gpu_experts 1 -> 0"], 2), "more of them")
    out = os.path.join(harness.TMP, "none.f32")
    done = gantry("logits", shared_path(MIXTURE), "--tokens", "1", "-o", out, "--ctx", "64", *few,
                  "--gpu", "require", env=on_gpu())
    check(done.code != 0 and "more --cpu-moe-layers" in done.err, f"too few: {done.err!r}")


@test
def a_limit_of_our_own_is_kept():
    with Server("--gpu", "require", "--gpu-bytes-max", "64MiB", env=on_gpu()) as server:
        _, model = said_of(server)
        check(0 < model["device_bytes"] <= 64 << 20, f"{model['device_bytes']} bytes")


# --- adapters: test_lora runs as a whole on the GPU; here is what is special there ----------------


@test
def adapters_are_computed_on_the_gpu():
    """Alone, beside one another and without any, whatever layers the GPU has."""
    places = ((("--gpu", "require"), "t4", "cuda sm_75"),
              (("--gpu-layers", "1"), "t4", "cuda sm_75 + cpu"),
              (("--device", "0,1"), "t4,t4", "cuda sm_75 x2"))
    for layers, cards, where in places:
        flags = ("--lora", "r8=" + lora.adapter() + ":0", "--kv", "f32", *layers)
        with Server(*flags, model=lora.mha(), env=on_gpu(cards)) as server:
            _, model = said_of(server)
            backend = model["backend"]
            check(backend.startswith(where), f"backend {backend!r}, want {where!r}")
            equal(model["fallback"], None, "reason for a fallback")
            ways = [({}, None), ({"model": "r8"}, lora.WHOLE), ({"lora": [{"id": 0}]}, lora.WHOLE)]

            def ask(i, server=server, ways=ways):
                fields, tag = ways[i % 3]
                equal(lora.goes_on(server, "p24", **fields), lora.recorded("p24", tag), f"{fields}")

            harness.in_parallel([lambda i=i: ask(i) for i in range(6)])
            reply = server.complete("a", model="r8", max_tokens=2)
            check(reply["timings"]["backend"].startswith("cuda"), f"timings {reply['timings']}")


@test
def an_adapter_without_room_beside_the_model_is_refused_with_both_numbers():
    flags = ("--kv", "f32", "--kv-bytes-max", "2MiB", "--parallel", "2")
    with Server("--gpu", "require", *flags, model=lora.mha(), env=on_gpu()) as server:
        taken = said_of(server)[1]["device_bytes"]
    tight = ("--gpu-bytes-max", str(taken), *flags)
    with Server("--gpu", "require", *tight, model=lora.mha(), env=on_gpu()) as server:
        equal(said_of(server)[1]["device_bytes"], taken, "bytes on the device")
        for _ in range(2):
            reply = lora.load(server, "r8", lora.adapter(), 503)
            reply.error(503, "out_of_memory", "the adapter needs", "MiB may be taken of GPU 0")
            equal(lora.goes_on(server, "p24"), lora.recorded("p24"), "text")
        equal(server.get("/lora-adapters").json, [], "the list")
    with Server("--lora", lora.adapter(), *tight, model=lora.mha(), env=on_gpu()) as server:
        _, model = said_of(server)  # known beforehand: something else has less
        check(model["backend"].startswith("cuda"), f"backend {model['backend']!r}")
        check(model["reduced"] != [], "nothing was cut for it")
        equal(lora.goes_on(server, "p24"), lora.recorded("p24", lora.WHOLE), "text")


@test
def an_adapter_that_the_gpu_cannot_take_after_all_sends_the_model_to_the_cpu():
    flags = ("--lora", lora.adapter())
    for result, reason in ((2, "arena adapter"), (719, "cuMemAlloc_v2")):  # no memory, a lost GPU
        fourth = {"call": "cuMemAlloc_v2", "at": 4, "result": result}  # weights, workspace, cache
        env = on_gpu(broken(**fourth))
        with Server(*flags, "--kv", "f32", model=lora.mha(), env=env) as server:
            _, model = said_of(server)
            check(model["backend"].startswith("cpu"), f"backend {model['backend']!r}")
            check(reason in model["fallback"], f"reason {model['fallback']!r}")
            equal(lora.goes_on(server, "p24"), lora.recorded("p24", lora.WHOLE), "text on the CPU")
        args = ("serve", "-m", lora.mha(), "--port", "0", "--gpu", "require", *flags)
        done = gantry(*args, env=env)
        check(done.code != 0 and reason in done.err, f"no reason: {done.err!r}")


# --- what runs on a real card: tests/gpu --------------------------------------------------------


def on_a_card(script, *args, env, code=0):
    """What a script of tests/gpu says, and its report, on a card that is made of software."""
    if harness.SANITIZER == "tsan":
        harness.skip("programs of one thread")
    tool = os.path.join(os.path.dirname(harness.BINARY), "gpu", script.removesuffix(".py"))
    if not os.path.exists(tool):
        harness.skip(f"no {tool}: make check-gpu and bench-gpu build it")
    path = os.path.join(os.path.dirname(__file__), "..", "gpu", script)
    file = os.path.join(harness.TMP, "card.json")
    done = subprocess.run(
        [sys.executable, "-B", path, harness.BINARY, tool, "--json", file, *args],
        capture_output=True,
        text=True,
        env=harness.environment(env),
    )
    said = done.stdout[-900:] + done.stderr[-900:]
    equal(done.returncode, code, f"exit status (said {said!r})")
    if code == 2:
        return done.stdout, None
    with open(file, encoding="utf-8") as report:
        return done.stdout, json.load(report)


def tools_of_nvidia():
    """A PATH with programs of those names: one only runs what it should watch, one knows a T4."""
    folder = os.path.join(harness.TMP, "nvidia")
    os.makedirs(folder, exist_ok=True)
    query = "Tesla T4, 00000000:00:04.0, 7.5, 15379, 70.00, 1590, 5001, 3, 16, 43"
    for name, does in (
        ("compute-sanitizer", 'shift 4; exec "$@"'),
        ("nvidia-smi", f"echo GPU-a05d0c5a-0000-4000-8000-000000000000, {query}"),
    ):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\n{does}\n")
        os.chmod(path, 0o755)
    return folder + os.pathsep + os.environ["PATH"]


@test
def the_check_of_a_card_counts_what_it_did():
    env = on_gpu(PATH=tools_of_nvidia())
    args = ("--tests", "k_norm", "--only", "kernels", "--only", "sanitizer", "--only", "nvml")
    said, report = on_a_card("check.py", *args, env=env)
    equal((report["passed"], report["failed"]), (2 * 4 + 5 + 10, 0), "passed and failed")
    equal([path["code"] for path in report["paths"]], ["sm_75 cubin", "PTX"], "code")
    check(said.endswith("gpu: 23 passed, 0 failed, 0 skipped\n"), f"the end: {said[-200:]!r}")
    gpu = report["after"]["gpus"][0]
    equal((gpu["clocks_sm_mhz"], gpu["clocks_throttle_reasons"]), (300, ["gpu_idle"]), "clocks")


@test
def a_kernel_that_breaks_the_card_costs_only_its_own_test():
    env = on_gpu(broken(kernel="k_rope", at=1, result=700))
    args = ("--tests", "k_rope_t", "--only", "kernels")
    _, report = on_a_card("check.py", *args, env=env, code=1)
    equal((report["passed"], report["failed"]), (2, 2), "passed and failed")
    check("ILLEGAL_ADDRESS" in report["paths"][0]["stderr"], report["paths"][0]["stderr"])


@test
def the_bench_of_a_card_measures_every_kind():
    said, report = on_a_card("bench.py", "--dry", env=on_gpu())
    for path in report["paths"]:
        names = [row["name"] for row in path["rows"]]
        generated = 6 * (4 + 1) * 2 + 5 * 2 * 3 * 2 + 2 * (3 + 2)
        experts = 2 + 6 * 2 * 2
        products = generated + 6 * 2
        equal(len(names), 3 + products + experts + 3 + 4 + 2 + 4 * 2, f"rows of {path['path']}")
        check(all(row["us"] > 0 for row in path["rows"]), "a time that is none")
    tests = [[row["test"] for row in model["rows"]] for model in report["models"]]
    equal(tests, 2 * [["pp8", "pp8@exact", "tg4"]], "tests of models")
    ways = [model["model"] for model in report["models"]]
    equal(ways, ["synth:tiny:q8_0", "synth:tiny:q8_0 --no-gpu-pdl"], "how models ran")
    check(" TOPS" in said, "products with prompts have no rate")
    check("no figure here is a card's" in said, f"nobody is warned: {said[-200:]!r}")


@test
def the_bench_of_a_newer_card_has_rows_with_and_without_an_early_start():
    _, report = on_a_card("bench.py", "--dry", "--only", "gemv q4_k", env=on_gpu("h100"))
    native = report["paths"][0]
    names = [row["name"] for row in native["rows"]]
    early = [name for name in names if name.startswith("gemv") and name.endswith(", early")]
    plain = [name for name in names if name.startswith("gemv q4_k") and name.endswith(" x 1")]
    check(len(plain) == 4 + 1, f"rows {names}")
    can = native["card"]["code_path"] == 900  # the PTX cannot
    equal(early, [name + ", early" for name in plain] if can else [], "rows of an early start")
    for path in report["paths"][1:]:
        check(not any(row["name"].endswith(", early") for row in path["rows"]), "early PTX")


# --- kernels that overlap ----------------------------------------------------------------------


def early_launches(*flags, card):
    """What a model says, the line of the log, and the launches that could start early."""
    env = {**on_gpu(card), "CUDASIM_REPORT": "1"}
    args = ("synth:tiny:q8_0", "--raw", "--temp", "0", "-p", "ab", "-n", "6", "--gpu", "require")
    done = gantry("run", *args, "--log-level", "info", *flags, env=env).succeeded()
    (line,) = [line for line in done.err.splitlines() if " pdl gpu=0 " in line]
    (counts,) = [line for line in done.err.splitlines() if line.startswith("cudasim: launches=")]
    return done.out, line, int(counts.split(" early=")[1].split()[0])


@test
def kernels_overlap_where_the_card_can_and_nobody_switched_it_off():
    text, line, early = early_launches(card="h100")
    off_text, off_line, off_early = early_launches("--no-gpu-pdl", card="h100")
    equal(off_text, text, "text without")
    equal(off_early, 0, "early launches where they are switched off")
    check("on=0" in off_line and "switched off" in off_line, off_line)
    if "cubin" in line:
        check("on=1" in line and "graphs=1" in line and early > 50, f"{early}: {line}")
    else:
        check("on=0" in line and early == 0, f"{early}: {line}")
    _, line, early = early_launches(card="t4")
    check("on=0" in line and "compute capability 9.0" in line, line)
    equal(early, 0, "early launches of a T4")


@test
def a_machine_without_a_card_has_nothing_to_check():
    for script in ("check.py", "bench.py"):
        said, _ = on_a_card(script, env=machine("p100"), code=2)
        check(said.startswith("gpu: nothing to run on: ") and "6.0" in said, said)


# --- faults ------------------------------------------------------------------------------------


def broken(**fault):
    return {"gpus": [{"preset": "t4"}], "faults": [fault]}


@test
def allocations_that_fail_are_an_error_not_a_crash():
    out = os.path.join(harness.TMP, "none.f32")
    failed = 0
    for first in range(1, 8):
        faults = [{"call": "cuMemAlloc_v2", "at": first + i, "result": 2} for i in range(24)]
        done = gantry(
            "logits", harness.TINY, "--tokens", "1", "-o", out, "--gpu", "require",
            env=on_gpu({"gpus": [{"preset": "t4"}], "faults": faults}),
        )
        if done.code == 0:
            break
        failed += 1
        check(re.search(r"\d MiB|\d bytes", done.err), f"no numbers: {done.err!r}")
    check(failed > 0, "nothing was allocated")


@test
def a_sticky_fault_is_told_to_clients_and_ends_the_process():
    env = on_gpu(broken(kernel="k_norm", at=40, result=700))
    server = Server("--gpu", "require", env=env)
    try:
        status = 200
        for _ in range(40):
            try:
                reply = server.post("/v1/completions", {"prompt": "once", "max_tokens": 8})
                status = reply.status
            except OSError:
                break
            if status != 200:
                break
        equal(status, 500, "status of the request that met the fault")
        deadline = time.monotonic() + harness.PATIENCE_S
        while server.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        check(server.process.poll() not in (None, 0), f"exit status {server.process.poll()}")
        check("ILLEGAL_ADDRESS" in server.stderr, f"the log: {server.stderr[-600:]}")
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()


# --- memory that is short ------------------------------------------------------------------------


def card(mib):
    """A card with so many MiB beside what its context and our reserve take."""
    return small_gpu(mib + 8 + 32)


def long_model():
    """The small model, said to be trained for 65536 tokens: 64 MiB of KV cache."""
    path = os.path.join(harness.TMP, "sim-65536.gguf")
    if not os.path.exists(path):
        gantry("bench", "synth:small:q8_0", "--export", path).succeeded()
        model = gguf.Gguf(path)
        model.keys["llama.context_length"] = (gguf.U32, 65536)
        model.write(path)
    return path


def greedy(server, prompt):
    body = {"prompt": prompt, "max_tokens": 4, "temperature": 0, "logprobs": 1}
    choice = server.post("/v1/completions", body).must(200).json["choices"][0]
    return choice["text"], choice["logprobs"]["token_logprobs"]


def answers_as_usual(server, path, *flags, prompt="once upon a time"):
    """What a card with room for all says, and the CPU as nearly as 8 bits are."""
    got = greedy(server, prompt)
    with Server("--gpu", "require", *flags, model=path, env=on_gpu()) as roomy:
        equal(said_of(roomy)[1]["reduced"], [], "what was cut with room for all")
        equal(got, greedy(roomy, prompt), "the answer")
    with Server("--gpu", "off", *flags, model=path) as cpu:
        off = abs(got[1][0] - greedy(cpu, prompt)[1][0])
        check(off < 0.05, f"the log-probability is off by {off:.3g}")


def cut_of(server, name):
    """The cut of that name as (from, to), in /health as in the log; None when there is none."""
    _, model = said_of(server)
    for entry in model["reduced"]:
        check(entry in server.stderr, f"the log does not say {entry!r}")
    found = [e.split() for e in model["reduced"] if e.split()[0] == name]
    return (int(found[0][1]), int(found[0][3])) if found else None


@test
def a_card_with_room_for_all_cuts_nothing():
    with Server("--gpu", "require", "--parallel", "2", env=on_gpu()) as server:
        equal(said_of(server)[1]["reduced"], [], "what was cut")


@test
def a_step_has_fewer_rows_when_memory_is_short():
    flags = ("--ctx", "1536", "--parallel", "2", "--lora-rank-max", "0")
    cards = (("synth:small:q8_0", 6, (256,), 4), ("synth:tiny:q8_0", 1, (128, 256), 60))
    for path, mib, rows, words in cards:
        with Server("--gpu", "require", *flags, model=path, env=on_gpu(card(mib))) as server:
            top, now = cut_of(server, "step_tokens")
            check(top == 512 and now in rows, f"{now} of {top} rows with {mib} MiB")
            equal(cut_of(server, "ctx"), None, f"context with {mib} MiB")
            check("MiB may be taken of Tesla T4" in server.stderr, "the log says no numbers")
            answers_as_usual(server, path, *flags, prompt="time " * words)


@test
def a_context_that_nobody_asked_for_is_cut_when_memory_is_short():
    path = long_model()
    with Server("--gpu", "require", model=path, env=on_gpu(card(60))) as server:
        equal(cut_of(server, "ctx"), (65536, 32768), "context")
        check(cut_of(server, "kv_tokens") is not None, "32 sequences have room all the same")
        equal(said_of(server)[1]["ctx"], 32768, "context in /health")
        equal(cut_of(server, "step_tokens"), None, "rows")
    flags = ("--parallel", "2", "--lora-rank-max", "0")  # which would want some of these few MiB
    with Server("--gpu", "require", *flags, model=path, env=on_gpu(card(12))) as server:
        equal(cut_of(server, "ctx"), (65536, 8192), "context on a smaller card")
        equal(cut_of(server, "step_tokens"), (512, 128), "rows on a smaller card")
        answers_as_usual(server, path, "--ctx", "8192", *flags)


@test
def what_was_asked_for_is_not_cut():
    path = long_model()
    whole = ("--ctx", "65536", "--kv", "f16")
    for flags in (whole, ("--step-tokens-max", "512", "--ctx", "8192", "--kv", "f16")):
        done = gantry(
            "serve", "--port", "0", "-m", path, "--gpu", "require", *flags,
            env=on_gpu(card(12) if "8192" in flags else card(60)),
        )
        check(done.code not in (0, 2), f"{flags}: exit status {done.code}")
        check("bytes" in done.err and "ctx 65536 ->" not in done.err, f"{flags}: {done.err!r}")
    env = on_gpu(card(60))
    with Server("--gpu", "require", "--ctx", "65536", model=path, env=env) as server:
        equal(cut_of(server, "kv_bits"), (16, 8), "bits of keys and values")
        equal((said_of(server)[1]["ctx"], said_of(server)[1]["gpu_layers"]), (65536, 2), "the rest")
        greedy(server, "once upon a time")
    with Server(*whole, model=path, env=env) as server:  # preferred only: the CPU may help
        equal(cut_of(server, "gpu_layers"), (2, 1), "layers")
        _, model = said_of(server)
        equal((model["ctx"], model["kv_type"], model["fallback"]), (65536, "F16", None), "the rest")


@test
def a_ladder_that_ends_says_how_far_it_went():
    path = long_model()
    done = gantry(
        "serve", "--port", "0", "-m", path, "--gpu", "require", env=on_gpu(card(3))
    )
    check(done.code not in (0, 2), f"exit status {done.code}")
    check("after step_tokens 512 -> 128, ctx 65536 -> 2048" in done.err, done.err)
    with Server(model=path, env=on_gpu(card(1))) as server:  # the CPU has room for all
        _, model = said_of(server)
        check(model["backend"].startswith("cpu"), f"backend {model['backend']!r}")
        far = "step_tokens 512 -> 128, ctx 65536 -> 2048, kv_bits 16 -> 8"
        check("after " + far in model["fallback"], f"{model['fallback']!r}")
        equal((model["ctx"], cut_of(server, "step_tokens")), (65536, None), "on the CPU")


@test
def memory_that_is_gone_when_it_is_taken_leads_to_a_smaller_plan():
    faults = [{"call": "cuMemAlloc_v2", "at": at, "result": 2} for at in (3, 6)]
    env = on_gpu({"gpus": [{"preset": "t4"}], "faults": faults})
    flags = ("--parallel", "2", "--lora-rank-max", "0")  # so that the cache is what can shrink
    with Server("--gpu", "require", *flags, env=env) as server:
        equal(server.stderr.count("planned anew with"), 2, "plans after a failure")
        check(cut_of(server, "kv_tokens") is not None, "nothing was cut")
        greedy(server, "a")
    many = [{"call": "cuMemAlloc_v2", "at": at, "result": 2} for at in range(1, 25)]
    with Server(env=on_gpu({"gpus": [{"preset": "t4"}], "faults": many})) as server:
        _, model = said_of(server)
        check(model["backend"].startswith("cpu"), f"backend {model['backend']!r}")
        check("MiB" in model["fallback"], f"reason {model['fallback']!r}")


@test
def a_gpu_that_fails_while_it_loads_gives_way_to_the_cpu():
    for fault in (
        {"call": "cuMemcpyHtoDAsync_v2", "at": 2, "result": 214},  # memory that cannot be corrected
        {"kernel": "k_norm", "at": 1, "result": 719},  # the first step of all
    ):
        env = on_gpu(broken(**fault))
        with Server(env=env) as server:
            _, model = said_of(server)
            check(model["backend"].startswith("cpu"), f"{fault}: backend {model['backend']!r}")
            check("CUDA_ERROR" in model["fallback"], f"{fault}: reason {model['fallback']!r}")
            greedy(server, "a")
        done = gantry(
            "serve", "--port", "0", "-m", harness.TINY, "--gpu", "require", env=env
        )
        check(done.code not in (0, 2) and "CUDA_ERROR" in done.err, f"{fault}: {done.err!r}")


@test
def host_memory_has_the_same_ladder():
    path = long_model()
    flags = ("--gpu", "off", "--kv-bytes-max", "20MiB")
    with Server(*flags, model=path) as server:
        equal(cut_of(server, "ctx"), (65536, 16384), "context")
        check("may be taken of --kv-bytes-max" in server.stderr, "the log says no numbers")
    with Server(*flags, "--ctx", "32768", model=path) as server:
        equal(cut_of(server, "kv_bits"), (16, 8), "bits of keys and values")
        equal(said_of(server)[1]["kv_type"], "Q8_0", "type of the cache")
        greedy(server, "once upon a time")
    done = gantry("serve", "--port", "0", "-m", path, *flags, "--ctx", "65536")
    check(done.code not in (0, 2) and "35651584 bytes" in done.err, done.err)
    check("that is after" in done.err and "kv_bits 16 -> 8" in done.err, done.err)
    done = gantry("serve", "--port", "0", "-m", path, *flags, "--ctx", "32768", "--kv", "f16")
    check(done.code not in (0, 2) and "33554432 bytes" in done.err, done.err)
