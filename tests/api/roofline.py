"""roofline.py - what must hold of every table of kernels, of a bench and of a server."""
import math

from harness import check, equal


def kinds(table):
    """How many ops of each kind a step has."""
    found = {}
    for row in table["kernels"]:
        for kind in row["ops"]:
            found[kind] = found.get(kind, 0) + row["tasks"]
    return found


def check_row(row):
    equal(row["program_ops"], row["tasks"] * len(row["ops"]), f"ops of {row}")
    parts = row["weight_bytes"] + row["value_bytes"] + row["cache_bytes"]
    equal(row["bytes"], parts, f"bytes of {row}")
    for key in ("us", "of_step", "bytes_per_s", "flops_per_s"):
        check(math.isfinite(row[key]) and row[key] >= 0, f"{key} of {row}")
    check(row["of_step"] <= 1, f"share of {row}")
    if not row["ops"]:
        equal((row["bytes"], row["flops"], row["limit"]), (0, 0, None), f"work of {row}")
    if row["limit_fraction"] is not None:
        fraction = row["limit_fraction"]
        check(math.isfinite(fraction) and fraction >= 0, f"fraction of {row}")
        check(row["limit"] is not None, f"a fraction of nothing: {row}")


def check_table(table):
    rows = table["kernels"]
    for row in rows:
        check_row(row)
    check(table["us"] > 0 and table["rest_us"] >= 0, f"times of {table['us']} us")
    total = sum(row["us"] for row in rows)
    check(abs(total - table["tasks_us"]) < 0.01, "the sum of the rows")
    check(total <= table["us"] + 0.01, f"{total} us of tasks in a step of {table['us']} us")
    equal([r["us"] for r in rows], sorted((r["us"] for r in rows), reverse=True), "order")
    for i, place in enumerate(table["places"]):
        ops = sum(row["program_ops"] for row in rows if row["place"] == i)
        equal(ops, place["program_ops"], f"ops in the rows of {place['where']}")
    names = [(r["place"], r["task"], tuple(r["ops"]), r["what"]) for r in rows]
    equal(len(names), len(set(names)), "rows that are one")
