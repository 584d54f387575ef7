"""main.py - runs the tests of every topic and counts: main.py BINARY [FILTER]

A topic is a file test_TOPIC.py; a test is called TOPIC.FUNCTION, and FILTER is a part of
that name.  One line per test on stdout; the exit status is 0 when none failed.
"""
import importlib
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
)

# What the others start is a command with one engine thread and its pool, which the unit tests run
# under ThreadSanitizer on the same models: only these have threads that meet in new ways.  A server on
# the software GPU has those of one on the CPU, and takes minutes for an answer: each access of each of
# the GPU's threads is watched there.
RACING = ("lora", "embeddings", "server", "stream", "load", "lifecycle", "chat", "tools", "box", "gpu")


def main():
    binary = sys.argv[1]
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    harness.setup(binary)
    report = harness.Report()
    try:
        for topic in RACING if harness.SANITIZER == "tsan" and not wanted else TOPICS:
            importlib.import_module("test_" + topic)
            harness.run_topic(topic, wanted, report)
    finally:
        shutil.rmtree(harness.TMP, ignore_errors=True)
    print(f"api: {report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    ran = report.passed + report.failed + report.skipped
    return 1 if report.failed or ran == 0 else 0  # a filter that matches nothing is no success


if __name__ == "__main__":
    sys.exit(main())
