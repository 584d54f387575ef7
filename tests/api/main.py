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

# Two processes take topics from the two ends until they meet, each in a folder of its own.  In front
# stands what is about time or wants both cores; at the end what keeps one core busy most of the time and
# waits for nobody: the software GPU's.  Topics "on_gpu." are those of the server once more, with its
# models on the software GPU: not those that generate much, for it is slow.
TOPICS = (
    "load",
    "lifecycle",
    "stream",
    "server",
    "hostile",
    "cli",
    "formats",
    "chat",
    "tools",
    "lora",
    "embeddings",
    "clients",
    "box",
    "quality",
    "hf",
    "models",
    "formulas",
    "quantize",
    "oracle",
    "gpu",
    "gpus",
    "on_gpu.chat",
    "on_gpu.tools",
    "kv_host",
    "ahead",
    "on_gpu.server",
    "on_gpu.lora",
    "sim",
)

# What the others start is a command with one engine thread and its pool, which the unit tests run
# under ThreadSanitizer on the same models: only these have threads that meet in new ways.  A server on
# the software GPU has those of one on the CPU, and takes minutes for an answer: each access of each of
# the GPU's threads is watched there.
RACING = ("lora", "embeddings", "server", "stream", "load", "lifecycle", "chat", "tools", "box", "gpu")


def models_are_computed_on_the_gpu():
    sys.modules["test_gpu"].needs_kernels()
    with harness.Server() as server:
        model = server.get("/health").must(200).json["models"][0]
        harness.check(model["backend"].startswith("cuda"), f"backend {model['backend']!r}")


def run_on_gpu(topic, wanted, report):
    missing = not os.path.exists(os.path.join(harness.SOFTWARE_GPU, "libcuda.so.1"))
    if harness.SANITIZER == "tsan" or missing:
        return
    importlib.import_module("test_gpu")
    harness.MACHINE = {"LD_LIBRARY_PATH": harness.SOFTWARE_GPU, "CUDASIM": "t4"}
    first = f"on_gpu.{topic}.models_are_computed_on_the_gpu"
    if wanted in first:
        harness.run_one(first, models_are_computed_on_the_gpu, report)
    harness.run_topic(topic, wanted, report, "on_gpu.")
    harness.MACHINE = {}


def run_topic(name, wanted, report):
    on_gpu, topic = name.startswith("on_gpu."), name.removeprefix("on_gpu.")
    importlib.import_module("test_" + topic)
    if not on_gpu:
        harness.run_topic(topic, wanted, report)
    elif not wanted or wanted.startswith("on_gpu."):
        run_on_gpu(topic, wanted, report)


def run_topics(topics, binary, wanted, report):
    harness.setup(binary)
    try:
        for topic in topics:
            run_topic(topic, wanted, report)
    finally:
        shutil.rmtree(harness.TMP, ignore_errors=True)


# --- two processes ----------------------------------------------------------------------------


def permits(count):
    """A pipe with so many bytes: who reads one may take a topic, and nobody takes one twice."""
    readable, writable = os.pipe()
    os.write(writable, bytes(count))
    os.close(writable)
    return readable


def permitted(topics, permit):
    for topic in topics:
        if not os.read(permit, 1):
            return
        yield topic


class Beside:
    """A process that takes topics from the end, and says afterwards what became of them."""

    def __init__(self, binary, permit):
        self.said = tempfile.TemporaryFile("w+")
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(self.said.fileno(), sys.stdout.fileno())
            report = harness.Report()
            try:
                run_topics(permitted(TOPICS[::-1], permit), binary, "", report)
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
            report.fail("beside", f"the second process ended with status {status}")


def run_all(binary, report):
    permit = permits(len(TOPICS))
    beside = Beside(binary, permit)
    try:
        run_topics(permitted(TOPICS, permit), binary, "", report)
    finally:
        beside.end(report)


def main():
    binary = sys.argv[1]
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    report = harness.Report()
    if wanted:
        run_topics(TOPICS, binary, wanted, report)
    elif harness.SANITIZER == "tsan":
        run_topics(RACING, binary, wanted, report)
    else:
        run_all(binary, report)
    print(f"api: {report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    ran = report.passed + report.failed + report.skipped
    return 1 if report.failed or ran == 0 else 0  # a filter that matches nothing is no success


if __name__ == "__main__":
    sys.exit(main())
