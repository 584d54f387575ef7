"""test_gpus.py - one model on several GPUs through the real binary, on software GPUs.

Kernels and the order of sums are those of one GPU, so texts are equal to the last character.
"""
import os
import re

import harness
from harness import Server, check, equal, gantry, test
from test_gpu import checks_named, checks_of
from test_sim import MIXTURE, kernels_of, on_gpu, said_of
import roofline

FLAGS = ("--parallel", "1", "--step-tokens-max", "64", "--ctx", "64")
LAYERS = 8
WAYS = [[0, 1], [0, 2], [1, 2]]


def deep(dtype="f32"):
    """Eight layers of 2.4 MB each as F32."""
    path = os.path.join(harness.TMP, f"deep-{dtype}.gguf")
    if not os.path.exists(path):
        gantry("bench", f"synth:deep:{dtype}", "--export", path).succeeded()
    return path


def cards(*mib, **more):
    """Cards with so many MiB beside what their contexts and our reserves take."""
    gpus = [{"preset": "t4", "memory_mib": n + 8 + 32, "context_mib": 8} for n in mib]
    return {"gpus": gpus, **more}


def text_of(server, words="some words"):
    body = {"prompt": words, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    return server.post("/v1/completions", body).must(200).json["choices"][0]["text"]


def serve(env, *flags, words="some words"):
    """What /health says of a server on these cards, its text and its log."""
    with Server(*FLAGS, *flags, model="deep=" + deep(), env=env) as server:
        health, said = said_of(server)
        text = text_of(server, words)
    return health, said, text, server.stderr


def text_of_one():
    return serve(on_gpu("t4"), "--gpu", "require")[2]


# --- GPUs that were named ----------------------------------------------------------------------


@test
def gpus_that_are_named_compute_together():
    want = text_of_one()
    one = serve(on_gpu("t4,t4"), "--device", "1")[1]
    equal((one["device"], one["backend"], one["reduced"]), ("Tesla T4", "cuda sm_75", []), "one")
    for selector, count in (("0,1", 2), ("1,0", 2), ("all", 3), ("0,1,2", 3)):
        health, said, text, log = serve(on_gpu("t4,t4,t4"), "--device", selector)
        equal(said["device"], f"Tesla T4 x{count}", "device")
        equal(said["backend"], f"cuda sm_75 x{count}", "backend")
        equal(said["gpu_layers"], LAYERS, "layers on GPUs")
        equal((said["reduced"], said["fallback"]), ([], None), "what was not done as asked")
        equal(health["gpu"].count("Tesla T4"), count, f"GPUs in {health['gpu']!r}")
        check(said["device_bytes"] > one["device_bytes"], "steps take memory of each")
        equal(text, want, f"text of --device {selector}")
        equal(len(re.findall(r"layers \d+ to \d+ on GPU \d 'Tesla T4'", log)), count, "lines")


@test
def experts_on_the_cpu_are_those_of_all_gpus():
    flags = ("--numerics", "exact", "--kv", "f32", "--cpu-moe-layers", "all")
    mixture, texts = "mixture=" + harness.shared_path(MIXTURE), []
    for machine, device in (("t4", "0"), ("t4,t4", "0,1")):
        with Server(*FLAGS, *flags, "--device", device, model=mixture, env=on_gpu(machine)) as server:
            said = said_of(server)[1]
            texts.append(text_of(server))
    check(re.fullmatch(r"cuda sm_75 x2 \+ cpu \w+ experts", said["backend"]), f"{said['backend']}")
    equal((said["cpu_moe_layers"], said["gpu_layers"]), (2, 2), "layers")
    check("experts of 2 of 2 layers on the host" in server.stderr, "the log does not say it")
    equal(texts[1], texts[0], "text of one and of two")


@test
def the_order_of_the_names_is_that_of_the_layers():
    log = serve(on_gpu("t4,t4"), "--device", "1,0")[3]
    said = re.findall(r"layers (\d+) to (\d+) on GPU (\d)", log)
    equal([gpu for _, _, gpu in said], ["1", "0"], "GPUs")
    equal((said[0][0], said[1][1]), ("0", str(LAYERS - 1)), "first and last layer")
    equal(int(said[1][0]), int(said[0][1]) + 1, "layers in a row")


@test
def uuids_and_environment_name_them_as_well():
    uuids = ",".join(f"GPU-a{i}5d0c5a-0000-4000-8000-00000000000{i}" for i in range(2))
    for flags, more in ((("--device", uuids), {}), ((), {"GANTRY_DEVICE": "0,1"})):
        said = serve(on_gpu("t4,t4", **more), *flags)[1]
        equal(said["device"], "Tesla T4 x2", "device")


@test
def different_gpus_are_named_and_get_layers_by_their_memory():
    env = on_gpu({"gpus": [{"preset": "t4"}, {"preset": "h100"}]})
    _, said, _, log = serve(env, "--device", "0,1")
    equal(said["device"], "Tesla T4, NVIDIA H100 80GB HBM3", "device")
    equal(said["backend"], "cuda sm_75 + sm_90", "backend")
    said = re.findall(r"layers (\d+) to (\d+) on GPU (\d)", log)
    equal([int(b) - int(a) + 1 for a, b, _ in said], [1, 7], "layers of 15 and 79 GiB")


@test
def names_that_are_wrong_are_errors_that_say_which():
    env = on_gpu("t4,h100")
    out = os.path.join(harness.TMP, "none.f32")
    for selector, words in (
        ("0,7", "no GPU '7'; there is 0: Tesla T4"),
        ("0,0", "GPU 0 'Tesla T4' is named twice"),
        ("0,", "entry 2 of a list of GPUs has 0 bytes"),
        ("0,GPU-ffff", "no GPU 'GPU-ffff'"),
    ):
        args = ("logits", harness.TINY, "--tokens", "1", "-o", out, "--device", selector)
        done = gantry(*args, env=env)
        check(done.code != 0 and words in done.err, f"{selector}: {done.err!r}")
        checks = checks_of("t4,h100", "--device", selector, code=1)
        check(words in checks_named(checks, "wish")[0]["text"], f"doctor: {selector}")
    done = gantry("logits", harness.TINY, "--tokens", "1", "-o", out, "--device", "0,1",
                  env=on_gpu("t4,p100"))
    check(done.code != 0 and "compute capability 6.0" in done.err, f"{done.err!r}")
    wish = checks_named(checks_of("t4,h100", "--device", "0,1"), "wish")[0]["text"]
    check("Tesla T4, NVIDIA H100" in wish, f"doctor: {wish!r}")


@test
def one_that_is_too_small_is_named_with_the_numbers():
    env = on_gpu(cards(40, 1))
    out = os.path.join(harness.TMP, "none.f32")
    done = gantry("logits", deep(), "--tokens", "1", "-o", out, "--device", "0,1", env=env)
    check(done.code != 0 and re.search(r"\d+ may be taken of GPU 1 'Tesla T4'", done.err), done.err)


# --- ways between them -------------------------------------------------------------------------


@test
def rows_go_straight_where_that_works_and_by_the_host_where_not():
    want = text_of_one()
    for more, words in (
        ({"p2p": WAYS}, "rows go straight from GPU "),
        ({"p2p": WAYS}, "by host memory: as asked"),
        ({}, "by host memory: the driver allows no access of one to the other"),
        ({"p2p": WAYS, "p2p_corrupts": True}, "by host memory: byte "),
    ):
        env = on_gpu({"gpus": [{}, {}, {}], **more})
        flags = ("--no-gpu-peers",) if "asked" in words else ()
        _, said, text, log = serve(env, "--device", "all", *flags)
        equal(log.count(words), 2, f"lines that say {words!r}")
        equal(("WARN cuda rows" in log), "p2p_corrupts" in more, "a warning")
        equal(said["backend"], "cuda sm_75 x3", "backend")
        equal(text, want, f"text, {words}")


# --- when memory is short ----------------------------------------------------------------------


@test
def a_model_larger_than_one_gpu_takes_another_one():
    want = text_of_one()
    health, said, text, log = serve(on_gpu(cards(18, 18, 18)))
    equal(said["reduced"], ["gpus 1 -> 2"], "what was cut")
    equal((said["gpu_layers"], said["device"]), (LAYERS, "Tesla T4 x2"), "layers and GPUs")
    check("and 2 more GPUs for models that are larger" in health["gpu"], health["gpu"])
    check("may be taken of Tesla T4: gpus 1 -> 2" in log, "the log does not say it")
    equal(text, want, "text")
    out = os.path.join(harness.TMP, "none.f32")
    args = ("logits", deep(), "--tokens", "1", "-o", out)
    gantry(*args, "--gpu", "require", env=on_gpu(cards(18, 18))).succeeded()
    done = gantry(*args, "--device", "0", env=on_gpu(cards(18, 18)))
    check(done.code != 0 and "bytes" in done.err, f"a GPU that was not named: {done.err!r}")


@test
def a_model_larger_than_all_gpus_takes_the_cpu_as_well():
    _, said, text, log = serve(on_gpu(cards(8, 8)), "--kv", "f16")
    check(said["reduced"][0] == "gpus 1 -> 2", f"reduced {said['reduced']}")
    check(re.fullmatch(r"gpu_layers 8 -> [2-6]", said["reduced"][1]), f"{said['reduced']}")
    equal(said["device"], "Tesla T4 x2", "device")
    check(said["backend"].startswith("cuda sm_75 x2 + cpu "), f"backend {said['backend']!r}")
    check(1 < said["gpu_layers"] < LAYERS, f"{said['gpu_layers']} layers on GPUs")
    check("on the host" in log, "the log does not say which layers")
    equal(text, serve(None, "--gpu", "off", "--kv", "f16")[2], "text")


@test
def a_gpu_without_room_for_a_layer_costs_nothing():
    alone = serve(on_gpu(cards(12)))[1]
    check(re.fullmatch(r"gpu_layers 8 -> [2-7]", alone["reduced"][-1]), f"{alone['reduced']}")
    _, said, _, log = serve(on_gpu(cards(12, 1)))
    equal(said["reduced"], alone["reduced"], "what was cut beside a full GPU")
    equal(said["device"], "Tesla T4", "device")
    check(re.search(r"GPU 1 'Tesla T4' is not used: one layer needs [\d.]+ MiB there .*, "
                    r"1\.0 MiB may be taken", log), "the log does not say why")


@test
def layers_that_were_asked_for_are_those_of_all_gpus():
    _, said, _, _ = serve(on_gpu("t4,t4"), "--device", "0,1", "--gpu-layers", "5")
    equal((said["gpu_layers"], said["device"]), (5, "Tesla T4 x2"), "layers and GPUs")
    check(said["backend"].startswith("cuda sm_75 x2 + cpu "), f"backend {said['backend']!r}")
    _, said, _, log = serve(on_gpu("t4,t4"), "--device", "0,1", "--gpu-layers", "1")
    equal((said["gpu_layers"], said["device"]), (1, "Tesla T4"), "a layer and its GPU")
    check("2 GPUs were asked for, and 1 used: there are no more layers" in log, "not said")


# --- at the same time --------------------------------------------------------------------------


def long_text(env, *flags):
    """Two tokens behind a prompt of some hundreds, and how many micro-batches that took."""
    flags = ("--parallel", "2", "--step-tokens-max", "512", "--ctx", "512", *flags)
    with Server(*flags, env=env) as server:
        body = {"prompt": "some words of a prompt " * 16, "max_tokens": 2, "temperature": 0,
                "ignore_eos": True, "logprobs": 3}
        reply = server.post("/v1/completions", body).must(200).json
        check(260 <= reply["usage"]["prompt_tokens"] < 512, f"prompt: {reply['usage']}")
        server.wait_idle()
        return reply["choices"], server.metrics().total("micro_batches_total")


@test
def prompts_go_through_all_gpus_at_the_same_time():
    want, cut = long_text(on_gpu("t4"), "--gpu", "require")
    equal(cut, 0, "micro-batches on one GPU")
    two = {"gpus": [{}, {}], "p2p": [[0, 1]], "streams": "deferred", "seed": 8}
    for flags, least in (((), 2), (("--no-gpu-pipeline",), 0)):
        got, cut = long_text(on_gpu(two), "--device", "0,1", *flags)
        equal(got, want, f"answer with {flags}")
        check(least <= cut <= 2 * least, f"{cut} micro-batches with {flags}")


# --- figures -----------------------------------------------------------------------------------


@test
def a_bench_shows_every_part():
    args = ("-p", "6", "-n", "2", "--repeat", "1", "--device", "0,1")
    env = on_gpu({"gpus": [{}, {}], "p2p": [[0, 1]]})
    for table in kernels_of("synth:deep:q4_0", *args, env=env):
        roofline.check_table(table)
        equal([p["where"] for p in table["places"]],
              ["cuda sm_75 (1 of 2)", "cuda sm_75 (2 of 2)"], "places")
        tasks = {row["task"]: row for row in table["kernels"]}
        equal(tasks["copy to the device"]["ops"], ["INPUT"], "the way between")
        equal(roofline.kinds(table)["MATMUL"], LAYERS * 7 + 1, "products")


# --- faults ------------------------------------------------------------------------------------


@test
def a_gpu_that_fails_in_a_step_is_named_and_ends_the_process():
    faults = [{"kernel": "k_argmax", "at": 6, "result": 700}]  # on the last one only
    server = Server(*FLAGS, "--device", "0,1", model="deep=" + deep(),
                    env=on_gpu({"gpus": [{}, {}], "faults": faults}))
    try:
        body = {"prompt": "some words", "max_tokens": 16, "temperature": 0, "ignore_eos": True}
        reply = server.post("/v1/completions", body)
        equal(reply.status, 500, "status")
        server.process.wait(harness.PATIENCE_S)
        check(server.process.returncode not in (None, 0), "exit status")
        check("GPU 1 'Tesla T4'" in server.stderr, server.stderr[-600:])
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
