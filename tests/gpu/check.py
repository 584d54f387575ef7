"""check.py - is everything right on this card?  `make check-gpu` starts it.

    check.py GANTRY KERNELS [--device GPU] [--only SECTION] [--tests NAME] [--every N] [--json FILE]

GANTRY is the program, KERNELS the tests of kernels (check_main.c).  The sections:
    kernels     each kernel against its host model: machine code, then the PTX of cc 7.5
    models      the program's logits: synthetic models against the reference backend; the models of
                GANTRY_SHARED or ../shared, where they are, against their recordings and the CPU
    sanitizer   compute-sanitizer over kernels and program, where it is on the PATH
    nvml        what gantry says of the cards against nvidia-smi, where that is on the PATH
A line for each verdict, then a table, and a JSON file with everything.  Exit status: 0 none failed,
1 some did, 2 there is nothing to run on.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys

import report
import harness
import oracle
import test_models as models
import test_sim as sim
from harness import check, equal, gantry

SECTIONS = ("kernels", "models", "sanitizer", "nvml")
KERNELS_S = 1800  # nothing of it takes so long, but PTX that is compiled under a sanitizer
LOST = 3  # exit status of KERNELS: nothing runs on the card any more in that process
SANITIZER_FOUND = 9  # exit status that we ask for


def device_of(options):
    return ("--device", options.device) if options.device else ()


def ended(code):
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


# --- kernels -----------------------------------------------------------------------------------


class Kernels:
    """One run of KERNELS: exit status, the line about the card, lines of verdicts, its stderr."""

    def __init__(self, options, *more, before=()):
        command = [*before, options.kernels, *device_of(options), *more, *options.tests]
        try:
            done = subprocess.run(command, capture_output=True, timeout=KERNELS_S)
            self.code = done.returncode
        except subprocess.TimeoutExpired as late:
            done, self.code = late, 124
        lines = (done.stdout or b"").decode("utf-8", "replace").splitlines()
        self.said = (done.stderr or b"").decode("utf-8", "replace")
        self.verdicts = [v for v in lines if v.startswith(("ok ", "FAIL ", "skip "))]
        self.card = json.loads(next((line for line in lines if line.startswith("{")), "{}"))

    def last(self):
        """The name of the test that ended last."""
        return self.verdicts[-1].split(": ")[0].split(" ", 1)[1]

    def why(self):
        return f"{ended(self.code)}: {self.said.strip()[-600:]}"


def kernels_of(options, path, verdicts):
    """All tests on one path.  A kernel that breaks the card breaks its process only: the next one
    goes on behind that test."""
    after, said = (), ""
    while True:
        ran = Kernels(options, "--path", path, *after)
        verdicts.take(f"kernels.{path}", ran.verdicts)
        said += ran.said
        if ran.code != 0:
            sys.stderr.write(ran.said)
        if ran.code != LOST or not ran.verdicts:
            break
        after = ("--after", ran.last())
    if ran.code not in (0, 1):
        verdicts.fail(f"kernels.{path}", ran.why())
    return {"path": path, **ran.card, "stderr": said[-20000:]}


def kernels(options, verdicts):
    cards = [kernels_of(options, "native", verdicts)]
    if cards[0].get("code") == "PTX":
        verdicts.skip("kernels.ptx", "it is what this card takes anyway")
    else:
        cards.append(kernels_of(options, "ptx", verdicts))
    return cards


# --- models ------------------------------------------------------------------------------------

# A type, and how far it may be from the reference: that computes with the weights as they are.
SYNTHETIC = (
    ("f32", 1e-9),
    ("f16", 1e-6),
    ("q8_0", 1e-3),
    ("q4_0", 1e-3),
    ("q4_k", 1e-3),
    ("q5_k", 1e-3),
    ("q6_k", 1e-3),
)


def logits(model, ids, *flags):
    return models.numbers_of("logits", model, ids, *flags)[1]


def synthetic(shape, dtype, bound, *flags):
    model = os.path.join(harness.TMP, f"{shape}-{dtype}.gguf")
    gantry("bench", f"synth:{shape}:{dtype}", "--export", model).succeeded()
    ids = list(range(3, 40))
    want = logits(model, ids, "--backend", "ref")
    error = oracle.nmse(logits(model, ids, "--gpu", "require", *flags), want)
    os.unlink(model)
    check(error <= bound, f"NMSE {error:.3g} > {bound}")


def quantized(row, *flags):
    """As far from the recording as on the CPU, which rounds activations, too, and half more."""
    cpu = sim.distance(row["model"], row["prompt"], row, "--backend", "cpu", "--numerics", "fast")
    gpu = sim.distance(row["model"], row["prompt"], row, "--gpu", "require", *flags)
    check(gpu <= 1.5 * cpu, f"NMSE {gpu:.3g}, on the CPU {cpu:.3g}")


def greedy(*flags):
    want = oracle.Greedy("F32", 0, margin=0.01)
    got = gantry(
        *("run", oracle.model("F32"), "--raw", "--temp", "0", "-p", want.prompt["text"]),
        *("-n", len(want.ids), "--gpu", "require", *flags),
    )
    equal(got.succeeded().out, oracle.ids_text(want.ids), "text")


def recorded(options, verdicts):
    """The recordings, unless they are not here: that is said once."""
    flags = ("--gpu", "require", *device_of(options))
    try:
        cases = sim.cases()
        rows = oracle.index()["logits"]
    except harness.Skip as why:
        verdicts.skip("models.recorded", why)
        return
    for name, golden in cases[:: options.every]:
        what = f"models.{name}.{golden['prompt']}"
        harness.run_one(what, lambda n=name, g=golden: sim.compare(n, g, flags), verdicts)
    rows = [r for r in rows if r["model"].startswith("Q") and r["kind"].startswith("deq")]
    for row in rows[:: options.every]:
        what = f"models.stories260K-{row['model']}.p{row['prompt']}"
        harness.run_one(what, lambda r=row: quantized(r, *device_of(options)), verdicts)
    harness.run_one("models.greedy_text", lambda: greedy(*device_of(options)), verdicts)


def all_models(options, verdicts):
    for dtype, bound in SYNTHETIC:
        harness.run_one(
            f"models.synthetic.{dtype}",
            lambda d=dtype, b=bound: synthetic("tiny", d, b, *device_of(options)),
            verdicts,
        )
    recorded(options, verdicts)


# --- compute-sanitizer -------------------------------------------------------------------------


def sanitizer(options, verdicts):
    program = shutil.which("compute-sanitizer")
    if program is None:
        verdicts.skip("sanitizer", "there is no compute-sanitizer on the PATH")
        return
    before = [program, "--error-exitcode", str(SANITIZER_FOUND), "--tool"]
    for tool in ("memcheck", "racecheck", "synccheck"):
        ran = Kernels(options, "--exact", before=[*before, tool])
        if ran.code in (0, 1) and ran.verdicts:  # checks that fail without it are told above
            verdicts.ok(f"sanitizer.kernels.{tool}")
        else:
            verdicts.fail(f"sanitizer.kernels.{tool}", ran.why())
    ids = ",".join(map(str, range(3, 20)))
    out = os.path.join(harness.TMP, "sanitizer.f32")
    for tool in ("memcheck", "initcheck"):
        logits_of = [harness.BINARY, "logits", harness.TINY, "--tokens", ids, "-o", out]
        done = subprocess.run(
            [*before, tool, *logits_of, "--gpu", "require", *device_of(options)],
            capture_output=True,
            text=True,
            timeout=KERNELS_S,
            env=harness.environment(),
        )
        if done.returncode == 0:
            verdicts.ok(f"sanitizer.program.{tool}")
        else:
            said = (done.stdout + done.stderr)[-600:]
            verdicts.fail(f"sanitizer.program.{tool}", f"{ended(done.returncode)}: {said}")


# --- nvidia-smi --------------------------------------------------------------------------------

# Its name, ours, and how its number becomes ours; what changes by itself may differ by `most`.
FIELDS = (
    ("name", "name", str, 0),
    ("pci.bus_id", "pci_bus_id", str, 0),
    ("compute_cap", "compute_capability", str, 0),
    ("memory.total", "memory_total_bytes", lambda mib: int(mib) << 20, 1 << 20),
    ("power.limit", "power_limit_watts", float, 1),
    ("clocks.max.sm", "clocks_max_sm_mhz", int, 0),
    ("clocks.max.mem", "clocks_max_mem_mhz", int, 0),
    ("pcie.link.gen.max", "pcie_link_gen_max", int, 0),
    ("pcie.link.width.max", "pcie_link_width_max", int, 0),
    ("temperature.gpu", "temperature_gpu_celsius", int, 8),
)


def compare_field(theirs, ours, convert, most):
    if theirs.startswith("["):  # [N/A], [Not Supported]
        equal(ours, None, "what nvidia-smi does not tell")
    elif convert is str:
        equal(str(ours).lower(), theirs.lower(), "text")
    else:
        want = convert(theirs)
        check(ours is not None and abs(ours - want) <= most, f"got {ours}, nvidia-smi says {want}")


def nvml(verdicts):
    program = shutil.which("nvidia-smi")
    if program is None:
        verdicts.skip("nvml", "there is no nvidia-smi on the PATH")
        return
    query = "uuid," + ",".join(field[0] for field in FIELDS)
    done = subprocess.run(
        [program, f"--query-gpu={query}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        verdicts.fail("nvml", f"nvidia-smi: {(done.stdout + done.stderr).strip()}")
        return
    ours = {gpu["uuid"]: gpu for gpu in report.look()["gpus"]}
    for i, line in enumerate(done.stdout.splitlines()):
        uuid, *values = [value.strip() for value in line.split(",")]
        for (name, key, convert, most), theirs in zip(FIELDS, values):
            harness.run_one(
                f"nvml.gpu{i}.{name}",
                lambda t=theirs, k=key, c=convert, m=most: compare_field(t, ours[uuid][k], c, m),
                verdicts,
            )


# --- all of it ---------------------------------------------------------------------------------


def read_options():
    parser = argparse.ArgumentParser(prog="check.py", description="is this GPU right?")
    parser.add_argument("gantry")
    parser.add_argument("kernels")
    parser.add_argument("--device", help="as of gantry; else the one with the most memory")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; all of them")
    parser.add_argument("--tests", nargs=1, default=[], help="kernels' tests of such names")
    parser.add_argument("--every", type=int, default=1, help="each n-th recording only")
    parser.add_argument("--json", help="the file to write; check.json beside KERNELS")
    options = parser.parse_args()
    options.only = options.only or SECTIONS
    options.json = options.json or os.path.join(os.path.dirname(options.kernels), "check.json")
    return options


def print_summary(verdicts, cards):
    groups = {}
    for row in verdicts.rows:
        parts = row["name"].split(".")
        group = ".".join(parts[:2]) if parts[0] in ("kernels", "sanitizer") else parts[0]
        counts = groups.setdefault(group, {"ok": 0, "FAIL": 0, "skip": 0})
        counts[row["verdict"]] += 1
    code = {f"kernels.{card['path']}": card.get("code", "") for card in cards}
    report.print_table(
        ["", "passed", "failed", "skipped", ""],
        [[name, *counts.values(), code.get(name, "")] for name, counts in groups.items()],
    )


def main():
    options = read_options()
    harness.setup(options.gantry)
    verdicts, cards = report.Verdicts(), []
    try:
        before = report.card_or_exit()
        with report.Watch(before) as watch:
            if "kernels" in options.only:
                cards = kernels(options, verdicts)
            if "models" in options.only:
                all_models(options, verdicts)
            if "sanitizer" in options.only:
                sanitizer(options, verdicts)
        if "nvml" in options.only:
            nvml(verdicts)
        after = report.look()
        print_summary(verdicts, cards)
        report.print_states(before, watch, after)
        counts = {key: getattr(verdicts, key) for key in ("passed", "failed", "skipped")}
        more = {"paths": cards, "rows": verdicts.rows, **counts}
        report.write(options.json, "check-gpu", before, watch, after, **more)
    finally:
        shutil.rmtree(harness.TMP, ignore_errors=True)
    print(f"gpu: {verdicts.passed} passed, {verdicts.failed} failed, {verdicts.skipped} skipped")
    return 1 if verdicts.failed or verdicts.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
