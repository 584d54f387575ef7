"""report.py - what check.py and bench.py share: state of the cards, verdicts, tables, a JSON file.

Standard library only, and the harness of the black-box tests.
"""
import datetime
import json
import os
import platform
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "api"))
import harness  # noqa: E402

SAMPLE_S = 2
# What a card does now, of `gantry gpus --json`.
STATE = (
    "clocks_sm_mhz",
    "clocks_mem_mhz",
    "clocks_throttle_reasons",
    "temperature_gpu_celsius",
    "power_draw_watts",
)


def look():
    """Everything that gantry knows of the cards, with the clocks and why they are not higher."""
    return json.loads(harness.gantry("gpus", "--json").succeeded().out)


def card_or_exit():
    """The cards before anything ran; a machine without one ends the program."""
    facts = look()
    if facts["usable_count"] == 0:
        print(f"gpu: nothing to run on: {facts['why']}")
        sys.exit(2)
    return facts


def states(facts):
    return {gpu["uuid"]: {key: gpu[key] for key in STATE} for gpu in facts["gpus"]}


class Watch:
    """Clocks and their reasons while something runs: the highest values, all reasons seen."""

    def __init__(self, before):
        self.seen = states(before)
        self.samples = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        # without NVML the answer would take a context on each card, which disturbs what runs there
        self.has_clocks = before["nvml"]["status"] == "ok"

    def _take(self, now):
        self.samples += 1
        for uuid, state in states(now).items():
            most = self.seen.setdefault(uuid, dict.fromkeys(STATE))
            for key, value in state.items():
                if isinstance(value, list):
                    most[key] = sorted({*(most[key] or ()), *value})
                elif value is not None:
                    most[key] = max(most[key] or 0, value)

    def _sample(self):
        while not self.ended.wait(SAMPLE_S):
            try:
                self._take(look())
            except (harness.Failure, OSError, ValueError):
                pass  # a card that is lost is told by what runs on it

    def __enter__(self):
        if self.has_clocks:
            self.thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.ended.set()
        if self.has_clocks:
            self.thread.join()


class Verdicts(harness.Report):
    """Counts, says and remembers; names are SECTION.WHAT or SECTION.PART.WHAT."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def _keep(self, name, verdict, why=None):
        self.rows.append({"name": name, "verdict": verdict, "why": why and str(why)})

    def ok(self, name):
        self._keep(name, "ok")
        super().ok(name)

    def fail(self, name, why):
        self._keep(name, "FAIL", why)
        super().fail(name, why)

    def skip(self, name, why):
        self._keep(name, "skip", why)
        super().skip(name, why)


def print_table(headings, rows):
    """The first column to the left, the others to the right."""
    cells = [headings, *([str(cell) for cell in row] for row in rows)]
    wide = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    print()
    for row in cells:
        line = [row[0].ljust(wide[0]), *(cell.rjust(n) for cell, n in zip(row[1:], wide[1:]))]
        print("  ".join(line).rstrip())
    print()


def state_rows(before, watch, after):
    """Clocks and reasons for the table, a line for each card and time."""
    rows = []
    for when, seen in (("before", states(before)), ("while", watch.seen), ("after", states(after))):
        for uuid, state in seen.items():
            name = next((gpu["name"] for gpu in after["gpus"] if gpu["uuid"] == uuid), uuid)
            known = ["-" if state[key] is None else state[key] for key in STATE]
            known[2] = ", ".join(known[2]) or "none" if known[2] != "-" else "-"
            rows.append([f"{name}, {when}", *known])
    return rows


def print_states(before, watch, after):
    print_table(
        ["card", "SM MHz", "memory MHz", "held back by", "C", "W"], state_rows(before, watch, after)
    )


def write(path, command, before, watch, after, **more):
    """The whole report as one JSON file; its place is said."""
    report = {
        "command": command,
        "program": harness.gantry("--version").succeeded().text.strip(),
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "software_gpu": os.environ.get("CUDASIM"),
        "before": before,
        "while": watch.seen,
        "samples": watch.samples,
        "after": after,
        **more,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    if report["software_gpu"]:
        print(f"This was the software GPU {report['software_gpu']}: no figure here is a card's.")
    print(f"all of it: {os.path.relpath(path)}")
