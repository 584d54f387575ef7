#!/usr/bin/env python3
"""ptx_count.py - PTX instructions per weight in the inner loops of the products.

    tools/ptx_count.py [--nvcc NVCC | --ptx DIR] cuda/gemv_*.cu

A .cu says in a comment what is to be counted and how much it may be:

    ptx_count: KERNEL weights N budget B

N is the number of weights that one pass through the loop takes, per lane.  The loop is the longest of
the kernel's innermost ones: a label and the branch back to it.  A lane has so many instructions per
weight before the arithmetic, not the memory, sets the pace; PTX stands for machine code here, which
has some more (addresses) and some less (fused logic).  DIR has FILE.ptx for FILE.cu; without it NVCC
compiles for compute_75.  Prints a table; ends with 1 when a budget is exceeded or a kernel is missing.
"""
import argparse
import os
import re
import subprocess
import sys

RULE = re.compile(r"ptx_count: (\w+) weights (\d+) budget ([\d.]+)")
ENTRY = re.compile(r"\.entry (\w+)\(")
LABEL = re.compile(r"(\$\w+):")
BRANCH = re.compile(r"\bbra(?:\.uni)?\s+(\$\w+);")


def ptx_of(cu, args):
    if args.ptx:
        path = os.path.join(args.ptx, os.path.splitext(os.path.basename(cu))[0] + ".ptx")
        with open(path, encoding="utf-8") as f:
            return f.read()
    command = [args.nvcc, "-std=c++17", "-O3", "-ptx", "-arch=compute_75",
               "-I" + os.path.dirname(cu), "-o", "/dev/stdout", cu]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def kernels_of(ptx):
    """{name: lines of its body, without comments}"""
    bodies, name = {}, None
    for line in ptx.splitlines():
        line = line.split("//")[0].strip()
        entry = ENTRY.search(line)
        if entry:
            name = entry.group(1)
            bodies[name] = []
        elif name and line:
            bodies[name].append(line)
    return bodies


def instructions(lines):
    """Statements that are neither declarations nor directives; a line may have several."""
    statements = [s.strip(" {}\t") for line in lines if not LABEL.match(line) for s in line.split(";")]
    return sum(1 for s in statements if s and not s.startswith("."))


def loops_of(lines):
    """(first, last) of each innermost loop: its label and the branch back."""
    at = {m.group(1): i for i, line in enumerate(lines) if (m := LABEL.match(line))}
    loops = []
    for i, line in enumerate(lines):
        branch = BRANCH.search(line)
        if branch and at.get(branch.group(1), i) < i:
            loops.append((at[branch.group(1)], i))
    return [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]


def main():
    parser = argparse.ArgumentParser(description="PTX instructions per weight of the products")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--ptx", help="directory of FILE.ptx, instead of compiling")
    parser.add_argument("sources", nargs="+")
    args = parser.parse_args()

    bad = counted = 0
    print(f"{'kernel':20} {'in the loop':>11} {'weights':>7} {'per weight':>10} {'budget':>6}")
    for cu in args.sources:
        with open(cu, encoding="utf-8") as f:
            rules = RULE.findall(f.read())
        kernels = kernels_of(ptx_of(cu, args)) if rules else {}
        for kernel, weights, budget in rules:
            lines = kernels.get(kernel, [])
            most = max((instructions(lines[a:b + 1]) for a, b in loops_of(lines)), default=0)
            per_weight = most / int(weights)
            verdict = "no loop" if most == 0 else "too many" if per_weight > float(budget) else ""
            bad += verdict != ""
            counted += 1
            print(f"{kernel:20} {most:11} {weights:>7} {per_weight:10.2f} {budget:>6}  {verdict}".rstrip())
    if counted == 0:
        print("ptx_count: no file has a ptx_count line")
    sys.exit(1 if bad or counted == 0 else 0)


main()
