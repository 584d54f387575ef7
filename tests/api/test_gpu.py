"""test_gpu.py - what people see of GPUs: gantry gpus, gantry doctor, /health and /metrics.

The machine is the software GPU's (tests/cudasim): its libcuda.so.1 and libnvidia-ml.so.1 are found
through LD_LIBRARY_PATH, and CUDASIM says which GPUs there are.  `make sim` builds them.
"""
import json
import os
import time

import harness
from harness import Server, check, equal, gantry, test

LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
TWO_T4S = "t4,t4"


def machine(description, **more):
    """The environment of a command on that machine; a description is presets or a dict."""
    for name in LIBRARIES:
        if not os.path.exists(os.path.join(harness.SOFTWARE_GPU, name)):
            harness.skip(f"no {name} of the software GPU: make sim builds it")
    text = description if isinstance(description, str) else json.dumps(description)
    return {"LD_LIBRARY_PATH": harness.SOFTWARE_GPU, "CUDASIM": text, **more}


def gpus_of(description, **more):
    return json.loads(gantry("gpus", "--json", env=machine(description, **more)).succeeded().out)


def checks_of(description, *args, code=0):
    """The checks of gantry doctor by name; "gpu" may be there more than once."""
    done = gantry("doctor", "--json", *args, env=machine(description))
    equal(done.code, code, f"exit status of doctor (stderr {done.err!r})")
    report = json.loads(done.out)
    for verdict in ("ok", "warn", "fail"):
        counted = sum(c["verdict"] == verdict for c in report["checks"])
        equal(report[verdict], counted, f"number of checks that are {verdict}")
    for c in report["checks"]:
        check(c["text"], f"{c['check']} says nothing")
        check(c["verdict"] == "ok" or c["fix"], f"{c['check']} says no fix: {c}")
    return report["checks"]


def checks_named(checks, name):
    found = [c for c in checks if c["check"] == name]
    check(found, f"no check is called {name!r}")
    return found


def needs_kernels():
    why = gpus_of("t4")["gpus"][0]["why"] or ""
    if "built without GPU kernels" in why:
        harness.skip("this binary has no GPU kernels")


# --- gantry gpus -----------------------------------------------------------------------------


@test
def two_gpus_are_listed():
    needs_kernels()
    facts = gpus_of(TWO_T4S)
    equal((facts["why"], facts["nvml"]["status"], len(facts["gpus"])), (None, "ok", 2), "summary")
    equal(facts["nvml"]["driver_version"], "580.65.06", "driver")
    equal(facts["cuda"]["version"], "13.0", "CUDA")
    for i, gpu in enumerate(facts["gpus"]):
        equal((gpu["index"], gpu["name"], gpu["state"]), (i, "Tesla T4", "ok"), f"GPU {i}")
        equal(gpu["compute_capability"], "7.5", "compute capability")
        equal(gpu["device"]["ordinal"], i, "ordinal")
        equal(gpu["temperature_gpu_celsius"], 41 + i, "temperature")
        equal((gpu["power_draw_watts"], gpu["power_limit_watts"]), (28, 70), "power")
        equal(gpu["clocks_throttle_reasons"], ["gpu_idle"], "throttle reasons")
        equal(gpu["processes"], [], "processes")
        equal([link["gpu"] for link in gpu["links"]], [1 - i], "links")
        equal(gpu["links"][0]["p2p"], False, "peer access")
        parts = [gpu[f"memory_{part}_bytes"] for part in ("used", "free", "reserved")]
        equal(sum(parts), gpu["memory_total_bytes"], "sum of the memory's parts")
    equal(len({gpu["uuid"] for gpu in facts["gpus"]}), 2, "UUIDs")
    text = gantry("gpus", env=machine(TWO_T4S)).succeeded().text
    for gpu in facts["gpus"]:
        for word in (gpu["name"], gpu["uuid"], "28/70 W", "14.6 GiB"):
            check(word in text, f"{word!r} is in the JSON only: {text!r}")


@test
def every_gpu_is_usable_or_says_why_not():
    needs_kernels()
    for gpu in gpus_of("t4,p100,h100")["gpus"]:
        if gpu["usable"]:
            equal((gpu["why"], gpu["fix"]), (None, None), "of a GPU that is used")
            check(gpu["device"]["kernels"], "no kernels for a usable GPU")
        else:
            check(gpu["why"] and gpu["fix"], f"no reason, or no fix: {gpu}")
    old = gpus_of("p100")
    equal(old["usable_count"], 0, "usable GPUs")
    check("6.0" in old["gpus"][0]["why"], f"the reason is not its age: {old['gpus'][0]['why']!r}")
    text = gantry("gpus", env=machine("p100")).succeeded().text
    check("not used: " in text and old["gpus"][0]["fix"] in text, text)


@test
def cuda_and_nvml_are_matched_by_uuid():
    swapped = gpus_of(TWO_T4S, CUDA_VISIBLE_DEVICES="1,0")["gpus"]
    equal([gpu["device"]["ordinal"] for gpu in swapped], [1, 0], "ordinals")
    one = gpus_of(TWO_T4S, CUDA_VISIBLE_DEVICES="1")["gpus"]
    equal(one[0]["device"], None, "device of a hidden GPU")
    check("CUDA_VISIBLE_DEVICES='1' hides it" in one[0]["why"], one[0]["why"])
    equal(one[1]["device"]["ordinal"], 0, "ordinal of the other one")


@test
def without_nvml_gpus_are_listed_all_the_same():
    needs_kernels()
    facts = gpus_of({"gpus": [{}, {}], "nvml": {"absent": True}})
    equal((facts["nvml"]["status"], len(facts["gpus"])), ("failed", 2), "summary")
    check("not loaded" in facts["nvml"]["why"] and facts["nvml"]["fix"], facts["nvml"])
    for gpu in facts["gpus"]:
        equal((gpu["name"], gpu["index"]), ("Tesla T4", None), "what is known")
        check(gpu["memory_total_bytes"] > 0, "no memory")
        for key in ("temperature_gpu_celsius", "power_draw_watts", "utilization_gpu_percent"):
            equal(gpu[key], None, key)


@test
def what_a_gpu_does_not_tell_is_null():
    hidden = ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperature", "nvmlDeviceGetMemoryInfo_v2")
    gpu = gpus_of({"nvml": {"unsupported": hidden}})["gpus"][0]
    equal(gpu["power_draw_watts"], None, "power")
    equal(gpu["temperature_gpu_celsius"], None, "temperature")
    equal(gpu["memory_reserved_bytes"], None, "memory that version 1 does not tell")
    check(gpu["memory_total_bytes"] > 0, "the memory that version 1 tells")
    equal(gpu["power_limit_watts"], 70, "power limit")
    text = gantry("gpus", env=machine({"nvml": {"unsupported": hidden}})).succeeded().text
    check("-/70 W" in text, text)


@test
def a_lost_gpu_is_reported():
    facts = gpus_of({"gpus": [{}, {"lost_at_call": 1}]})
    equal(facts["gpus"][0]["state"], "ok", "state of the other one")
    lost = [gpu for gpu in facts["gpus"] if gpu["index"] == 1][0]
    equal((lost["state"], lost["temperature_gpu_celsius"]), ("lost", None), "state")


@test
def links_of_large_gpus_are_shown():
    description = {"gpus": [{"preset": "h100"}] * 3, "p2p": [[0, 1]]}
    first = gpus_of(description)["gpus"][0]
    equal(first["nvlinks_active"], 18, "active links")
    equal([link["nvlinks"] for link in first["links"]], [18, 0], "links to the others")
    equal([link["p2p"] for link in first["links"]], [True, False], "peer access")
    text = gantry("gpus", env=machine(description)).succeeded().text
    check("0 - 1: PIX, 18 NVLinks, peer access\n" in text, text)


@test
def no_gpu_is_one_line_and_no_failure():
    for description in ({"gpus": []}, {"init_result": 100}, {"gpus": [], "nvml": {"absent": True}}):
        text = gantry("gpus", env=machine(description)).succeeded().text
        equal((text.startswith("no GPU: "), text.count("\n")), (True, 1), f"text {text!r}")
        facts = gpus_of(description)
        equal(facts["usable_count"], 0, "usable GPUs")
        check(facts["why"] and facts["fix"], f"no reason, or no fix: {facts}")
    gantry("gpus", "t4").failed_with(2, "usage", "'t4'")


# --- gantry doctor -----------------------------------------------------------------------------


@test
def doctor_checks_this_machine():
    done = gantry("doctor", "--gpu", "off").succeeded()
    for name in ("cpu", "threads", "memory", "huge pages", "cache", "open files"):
        check(f" {name} " in done.text, f"no check of {name}: {done.text!r}")
    cache = gantry("doctor", "--gpu", "off", "--cache-dir", harness.TMP + "/new").succeeded().text
    check(harness.TMP in cache, f"--cache-dir was not looked at: {cache!r}")
    many = gantry("doctor", "--gpu", "off", "--threads", "1000").succeeded().text
    check("warn  threads" in many and "--threads 1000" in many, many)
    gantry("doctor", "now").failed_with(2, "usage", "'now'")


@test
def doctor_finds_a_healthy_gpu():
    needs_kernels()
    checks = checks_of(TWO_T4S)
    for name in ("kernels", "driver", "nvml", "gpu access"):
        equal(checks_named(checks, name)[0]["verdict"], "ok", name)
    gpus = checks_named(checks, "gpu")
    equal([c["verdict"] for c in gpus], ["ok", "ok"], "GPUs")
    check("Tesla T4" in gpus[0]["text"], gpus[0]["text"])


@test
def doctor_warns_of_what_does_not_work():
    equal(checks_named(checks_of("p100"), "gpu")[0]["verdict"], "warn", "an old GPU")
    silent = checks_named(checks_of({"nvml": {"absent": True}}), "nvml")[0]
    equal(silent["verdict"], "warn", "NVML that does not answer")
    check("modprobe" in silent["fix"], silent["fix"])
    stub = checks_named(checks_of({"stub": True}), "driver")[0]
    equal(stub["verdict"], "warn", "the toolkit's stub")


@test
def doctor_fails_only_for_what_was_asked_for():
    needs_kernels()
    checks_of({"gpus": []})
    checks = checks_of({"gpus": []}, "--gpu", "require", code=1)
    equal([c["check"] for c in checks if c["verdict"] == "fail"], ["wish"], "failed")
    checks_of(TWO_T4S, "--gpu", "require")
    checks_of(TWO_T4S, "--device", "1")
    checks_of(TWO_T4S, "--device", "7", code=1)
    done = gantry("doctor", "--gpu", "require", env=machine("p100"))
    equal(done.code, 1, "exit status")
    check("fail  wish" in done.text, done.text)
    equal(done.err.count("\n"), 1, f"lines on stderr {done.err!r}")


# --- a server ------------------------------------------------------------------------------------


def server_on(description, *args):
    """It computes on the CPU: what is tested is what it says."""
    return Server("--backend", "cpu", *args, env=machine(description))


def health_when(server, told):
    """/health, once it tells what is waited for: the monitor looks every second."""
    until = time.monotonic() + harness.PATIENCE_S
    while True:
        health = server.get("/health").must(200).json
        if told(health):
            return health
        check(time.monotonic() < until, f"/health never told: {health}")
        time.sleep(0.02)


def monitor_answers(health):
    return health["gpu_monitor"]["status"] == "ok"


@test
def health_and_metrics_have_every_gpu():
    with server_on(TWO_T4S) as server:
        health = health_when(server, monitor_answers)
        check(isinstance(health["gpu"], str), "the line about the GPU is gone")
        equal(health["gpu_monitor"]["driver_version"], "580.65.06", "driver")
        check(health["gpu_monitor"]["age_ms"] < 60000, "age")
        equal([gpu["index"] for gpu in health["gpus"]], [0, 1], "GPUs")
        model = health["models"][0]
        equal((model["device"], model["device_bytes"]), (None, 0), "where the model computes")
        for gpu in health["gpus"]:
            equal(gpu["power_draw_watts"], 28, "power")
            check("processes" not in gpu, "process ids are on a page that anybody may read")
        page = server.metrics()
        equal(page.total("gpu_monitor_up"), 1, "gpu_monitor_up")
        for i, gpu in enumerate(health["gpus"]):
            labels = {"gpu": str(i), "uuid": gpu["uuid"]}
            for name in ("memory_total_bytes", "memory_used_bytes", "power_draw_watts"):
                values = [v for n, l, v in page.samples if (n, l) == ("gantry_gpu_" + name, labels)]
                equal(values, [gpu[name]], f"{name} of GPU {i}")
        equal(page.total("gpu_up"), 2, "gpu_up")


@test
def a_server_without_nvml_serves():
    with server_on({"nvml": {"absent": True}}) as server:
        health = health_when(server, lambda h: h["gpu_monitor"]["status"] == "failed")
        equal(health["gpus"], [], "GPUs")
        check(health["gpu_monitor"]["why"] and health["gpu_monitor"]["fix"], "no reason or no fix")
        check(server.text_of("Once", max_tokens=2) is not None, "no text")
        page = server.metrics()
        equal(page.total("gpu_monitor_up"), 0, "gpu_monitor_up")
        check(not any(n.startswith("gantry_gpu_memory") for n, _, _ in page.samples), "figures")
        lines = [line for line in server.lines if "no figures of GPUs" in line]
        equal(len(lines), 1, f"lines about NVML {lines}")


@test
def a_server_with_silent_and_lost_gpus_says_so():
    description = {
        "gpus": [{}, {"lost_at_call": 1}],
        "nvml": {"unsupported": ["nvmlDeviceGetPowerUsage"]},
    }
    with server_on(description) as server:
        health = health_when(server, monitor_answers)
        equal([gpu["state"] for gpu in health["gpus"]], ["ok", "lost"], "states")
        equal(health["gpus"][0]["power_draw_watts"], None, "power")
        page = server.metrics()
        equal(page.total("gpu_up"), 1, "gpu_up")
        check("gantry_gpu_power_draw_watts" not in {n for n, _, _ in page.samples}, "power")
        server.must_live()
        check(any("lost gpu=1" in line for line in server.lines), "the log does not tell")


@test
def the_monitor_can_be_switched_off():
    with server_on(TWO_T4S, "--no-gpu-monitor") as server:
        health = server.get("/health").must(200).json
        equal((health["gpu_monitor"], health["gpus"]), ({"status": "off"}, []), "GPUs")
        equal(server.metrics().total("gpu_monitor_up"), 0, "gpu_monitor_up")


@test
def a_server_without_any_gpu_is_as_ever():
    with server_on({"gpus": []}) as server:
        health = health_when(server, monitor_answers)
        equal((health["status"], health["gpus"]), ("ok", []), "health")
