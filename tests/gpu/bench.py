"""bench.py - how fast is this card, and how much of it do we use?  `make bench-gpu` starts it.

    bench.py GANTRY KERNELS [--device GPU] [--only NAME] [--dry] [--json FILE]

GANTRY is the program, KERNELS what measures kernels (bench_main.c).  First the kernels, as machine
code and as the PTX of cc 7.5, each as a fraction of what copies on the card reach; chains of them
once more where each may start while the one ahead of it ends, as "early".  Then synthetic models
as far as they fit, one sequence at a time, some once more with kernels that wait.  A table, and a
JSON file with everything.  Exit status: 0, 1 when something failed that had room, 2 when there is
nothing to run on.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys

import report
import harness

BENCH_S = 3600
GB = 1e9
# Shape and type, and about what its weights need.
MODELS = (
    ("llama-1.1b:q4_k_m", 0.7 * GB),
    ("llama-1.1b:q8_0", 1.2 * GB),
    ("llama-1.1b:f16", 2.2 * GB),
    ("llama-8b:q4_k_m", 4.9 * GB),
    ("llama-8b:q8_0", 8.5 * GB),
    ("llama-8b:f16", 16.1 * GB),
)
# Also measured so.
WITHOUT = {"llama-1.1b:q4_k_m": ("--no-gpu-pdl",), "llama-8b:q4_k_m": ("--no-gpu-pdl",)}
ROOM = 1.15  # of that, for the cache, the steps and the context
DRY = ("--scale", "512", "--repeats", "2")


def device_of(options):
    return ("--device", options.device) if options.device else ()


# --- kernels -----------------------------------------------------------------------------------


def kernels_of(options, path):
    command = [options.kernels, "--path", path, *device_of(options)]
    command += [*(DRY if options.dry else ()), *(("--only", options.only) if options.only else ())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BENCH_S)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        print(f"FAIL kernels, {path}: {(done.stderr or done.stdout).strip()}", flush=True)
    if not lines:
        return {"path": path, "failed": True, "rows": []}
    card, rows = lines[0], lines[1:]
    copy = next((row["gb_per_s"] for row in rows if row["name"] == "copy"), None)
    for row in rows:
        if row.get("bytes") and copy:
            row["of_copy"] = row["gb_per_s"] / copy
    return {"path": path, "failed": done.returncode != 0, "card": card, "copy": copy, "rows": rows}


def kernels(options):
    paths = [kernels_of(options, "native")]
    if paths[0].get("card", {}).get("code") != "PTX":
        paths.append(kernels_of(options, "ptx"))
    return paths


# --- models ------------------------------------------------------------------------------------


def room(before):
    """Bytes that a model may have: free on a card, and available on the host, where it is made."""
    usable = [gpu["memory_free_bytes"] or 0 for gpu in before["gpus"] if gpu["usable"]]
    with open("/proc/meminfo", encoding="ascii") as file:
        host = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))
    return min(max(usable), host)


def model_row(options, name, copy, size, flags=()):
    done = subprocess.run(
        [harness.BINARY, "bench", f"synth:{name}", "--gpu", "require", "--json", *size]
        + ["--batch", "1", "--log-level", "warn", *flags, *device_of(options)],
        capture_output=True,
        text=True,
        timeout=BENCH_S,
        env=harness.environment(),
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        print(f"FAIL {name}: {said[-1] if said else done.returncode}", flush=True)
        return {"model": name, "failed": True, "why": said[-1] if said else None}
    row = {"failed": False, **json.loads(done.stdout)}
    row["model"] = " ".join((row["model"], *flags))
    for test in row["rows"]:
        test["of_copy"] = test["bytes_per_s"] / (copy * GB) if copy else None
    return row


def all_models(options, before, copy):
    if options.dry:
        size = ("-p", "8", "-n", "4", "--repeat", "1")
        ways = ((), ("--no-gpu-pdl",))
        return [model_row(options, "tiny:q8_0", copy, size, flags) for flags in ways]
    rows, most = [], room(before)
    size = ("-p", "512", "-n", "128", "--repeat", "3")
    for name, bytes_ in MODELS:
        if options.only and options.only not in name:
            continue
        if bytes_ * ROOM > most:
            rows.append({"model": name, "failed": False, "why": f"no room: {most / GB:.1f} GB"})
            continue
        rows.append(model_row(options, name, copy, size))
        if name in WITHOUT:
            rows.append(model_row(options, name, copy, size, WITHOUT[name]))
    return rows


# --- the table ---------------------------------------------------------------------------------


def percent(fraction):
    return "" if fraction is None else f"{100 * fraction:.1f} %"


def share(row):
    """Of what copies reach; of what computes more than it reads, how much it computes."""
    return f"{row['tops']:.1f} TOPS" if "tops" in row else percent(row.get("of_copy"))


def table_rows(paths, models):
    for path in paths:
        code = path.get("card", {}).get("code", path["path"])
        for row in path["rows"]:
            if "us" not in row:
                yield [row["name"], code, "", "", row["why"]]
                continue
            rate = f"{row['gb_per_s']:.1f}" if row.get("bytes") else ""
            yield [row["name"], code, f"{row['us']:.1f}", rate, share(row)]
    for model in models:
        for test in model.get("rows", ()):
            speed = f"{test['tokens_per_s']:.1f} tok/s"
            rate = f"{test['bytes_per_s'] / GB:.1f}"
            name = f"{model['model']} {test['test']}"
            yield [name, model["backend"], speed, rate, percent(test["of_copy"])]
        if "rows" not in model:
            yield [model["model"], "", "", "", model["why"]]


def print_overhead(paths):
    for path in paths:
        card = path.get("card")
        if card is None:
            continue
        print(
            f"{card['name']}, {card['code']}: the context takes {card['context_bytes'] >> 20} MiB, "
            f"{card['modules_bytes'] >> 20} of them kernels; open after {card['open_ms']:.0f} ms"
        )


# --- all of it ---------------------------------------------------------------------------------


def read_options():
    parser = argparse.ArgumentParser(prog="bench.py", description="how fast is this GPU?")
    parser.add_argument("gantry")
    parser.add_argument("kernels")
    parser.add_argument("--device", help="as of gantry; else the one with the most memory")
    parser.add_argument("--only", help="a part of the names of what to measure")
    parser.add_argument("--dry", action="store_true", help="tiny sizes: does the procedure work?")
    parser.add_argument("--json", help="the file to write; bench.json beside KERNELS")
    options = parser.parse_args()
    options.json = options.json or os.path.join(os.path.dirname(options.kernels), "bench.json")
    return options


def main():
    options = read_options()
    harness.setup(options.gantry)
    try:
        before = report.card_or_exit()
        with report.Watch(before) as watch:
            paths = kernels(options)
            models = all_models(options, before, paths[0].get("copy"))
        after = report.look()
        report.print_table(["", "code", "us", "GB/s", "of copies"], table_rows(paths, models))
        print_overhead(paths)
        report.print_states(before, watch, after)
        more = {"paths": paths, "models": models}
        report.write(options.json, "bench-gpu", before, watch, after, **more)
    finally:
        shutil.rmtree(harness.TMP, ignore_errors=True)
    failed = sum(row["failed"] for row in [*paths, *models])
    print(f"gpu: {len(paths) + len(models) - failed} measured, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
