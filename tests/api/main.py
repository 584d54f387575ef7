"""main.py - runs the tests of every topic and counts: main.py BINARY [FILTER]

A topic is a file test_TOPIC.py; a test is called TOPIC.FUNCTION, and FILTER is a part of
that name.  One line per test on stdout; the exit status is 0 when none failed.
"""
import importlib
import os
import shutil
import sys
import tempfile

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
    "gpus",  # on the software GPU, too: here both processes take equally long
)

# What keeps one core busy most of the time, and nobody takes its time.
ON_SOFTWARE_GPU = ("sim", "ahead", "kv_host")

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
    for topic in ("gpu",) + ON_GPU:
        importlib.import_module("test_" + topic)
    harness.MACHINE = {"LD_LIBRARY_PATH": libraries, "CUDASIM": "t4"}
    first = "on_gpu.models_are_computed_on_the_gpu"
    if wanted in first:
        harness.run_one(first, models_are_computed_on_the_gpu, report)
    for topic in ON_GPU:
        harness.run_topic(topic, wanted, report, "on_gpu.")
    harness.MACHINE = {}


def run_topics(topics, wanted, report):
    for topic in topics:
        importlib.import_module("test_" + topic)
        harness.run_topic(topic, wanted, report)


def run_share(binary, topics, wanted, report):
    """Topics in a folder of their own; those of the software GPU, and then servers on it."""
    harness.setup(binary)
    try:
        run_topics(topics, wanted, report)
        if topics is ON_SOFTWARE_GPU and (not wanted or wanted.startswith("on_gpu.")):
            run_on_gpu(wanted, report)
    finally:
        shutil.rmtree(harness.TMP, ignore_errors=True)


class Beside:
    """A process that runs some topics meanwhile, and says at the end what became of them."""

    def __init__(self, binary, topics):
        self.said = tempfile.TemporaryFile("w+")
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(self.said.fileno(), sys.stdout.fileno())
            report = harness.Report()
            try:
                run_share(binary, topics, "", report)
            except BaseException as error:  # whatever it is: this process ends here
                report.fail("beside", harness.where(error))
            sys.stdout.flush()
            os._exit(0)

    def end(self, report):
        status = os.waitpid(self.pid, 0)[1]
        self.said.seek(0)
        for line in self.said:
            print(line, end="")
            report.passed += line.startswith("ok ")
            report.failed += line.startswith("FAIL ")
            report.skipped += line.startswith("skip ")
        if status != 0:
            report.fail("beside", f"the process of the software GPU ended with status {status}")


def main():
    binary = sys.argv[1]
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    report = harness.Report()
    if wanted:
        run_share(binary, TOPICS, wanted, report)
        run_share(binary, ON_SOFTWARE_GPU, wanted, report)
    elif harness.SANITIZER == "tsan":
        run_share(binary, RACING, wanted, report)
    else:
        beside = Beside(binary, ON_SOFTWARE_GPU)
        try:
            run_share(binary, TOPICS, wanted, report)
        finally:
            beside.end(report)
    print(f"api: {report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    ran = report.passed + report.failed + report.skipped
    return 1 if report.failed or ran == 0 else 0  # a filter that matches nothing is no success


if __name__ == "__main__":
    sys.exit(main())
