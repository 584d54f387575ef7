"""main.py - runs the tests of every topic and counts: main.py BINARY [FILTER]

A topic is a file test_TOPIC.py; a test is called TOPIC.FUNCTION, and FILTER is a part of
that name.  One line per test on stdout; the exit status is 0 when none failed.
"""
import importlib
import os
import shutil
import sys

import harness

TOPICS = (
    "cli",
    "oracle",
    "formats",
    "quantize",
    "hf",
    "lora",
    "models",
    "formulas",
    "embeddings",
    "quality",
    "hostile",
    "server",
    "stream",
    "load",
    "lifecycle",
    "chat",
    "tools",
    "box",
    "clients",
    "gpu",
    "sim",
    "gpus",
    "kv_host",
)

# What the others start is a command with one engine thread and its pool, which the unit tests run
# under ThreadSanitizer on the same models: only these have threads that meet in new ways.  A server on
# the software GPU has those of one on the CPU, and takes minutes for an answer: each access of each of
# the GPU's threads is watched there.
RACING = ("lora", "embeddings", "server", "stream", "load", "lifecycle", "chat", "tools", "box", "gpu")


# Tests of the server that are run once more with its models on the software GPU, where there is one:
# not those that generate much, for it is slow.
ON_GPU = ("server", "chat", "tools", "lora")


def models_are_computed_on_the_gpu():
    sys.modules["test_gpu"].needs_kernels()
    with harness.Server() as server:
        model = server.get("/health").must(200).json["models"][0]
        harness.check(model["backend"].startswith("cuda"), f"backend {model['backend']!r}")


def run_on_gpu(wanted, report):
    libraries = os.path.join(os.path.dirname(harness.BINARY), "cudasim", "lib")
    if harness.SANITIZER == "tsan" or not os.path.exists(os.path.join(libraries, "libcuda.so.1")):
        return
    harness.MACHINE = {"LD_LIBRARY_PATH": libraries, "CUDASIM": "t4"}
    first = "on_gpu.models_are_computed_on_the_gpu"
    if wanted in first:
        harness.run_one(first, models_are_computed_on_the_gpu, report)
    for topic in ON_GPU:
        harness.run_topic(topic, wanted, report, "on_gpu.")
    harness.MACHINE = {}


def main():
    binary = sys.argv[1]
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    harness.setup(binary)
    report = harness.Report()
    try:
        for topic in RACING if harness.SANITIZER == "tsan" and not wanted else TOPICS:
            importlib.import_module("test_" + topic)
            harness.run_topic(topic, wanted, report)
        if not wanted or wanted.startswith("on_gpu."):
            run_on_gpu(wanted, report)
    finally:
        shutil.rmtree(harness.TMP, ignore_errors=True)
    print(f"api: {report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    ran = report.passed + report.failed + report.skipped
    return 1 if report.failed or ran == 0 else 0  # a filter that matches nothing is no success


if __name__ == "__main__":
    sys.exit(main())
