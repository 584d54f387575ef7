#!/usr/bin/env python3
"""eval.py - asks a running server the questions of eval.jsonl and counts the right answers.

    python3 eval.py [--url URL] [--file eval.jsonl] [--skill NAME]... [--limit N] [--show N]

Every question goes to /v1/chat/completions with temperature 0.  An answer is right when it is
the same text, JSON of equal value, calls with equal names and arguments, the same result of a
sum, or a story with what was asked for (corpus/sample.py).  Exit 0 when all bars are reached,
1 when one is not, 2 when the server cannot be asked.  A key is taken from GANTRY_API_KEY.
"""
import argparse
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

BARS = {"docs": 95.0, "json": 90.0, "tools": 90.0, "arithmetic": 90.0}
TOKENS_MAX = 400
CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
STORY_SENTENCES = (5, 14)


# --- asking -------------------------------------------------------------------------------

def post(options, body):
    request = urllib.request.Request(
        options.url.rstrip("/") + "/v1/chat/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    if os.environ.get("GANTRY_API_KEY"):
        request.add_header("Authorization", "Bearer " + os.environ["GANTRY_API_KEY"])
    try:
        with urllib.request.urlopen(request, timeout=options.timeout) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as e:
        raise OSError(f"HTTP {e.code}: {e.read(400).decode(errors='replace')}") from e


def wire_messages(messages):
    """As the API has them: arguments are JSON text, calls and results have ids."""
    out, calls_before, results = [], 0, 0
    for m in messages:
        m = dict(m)
        if "tool_calls" in m:
            m["tool_calls"] = [
                {"id": f"call_{calls_before + i}", "type": "function", "function": {
                    "name": c["function"]["name"],
                    "arguments": json.dumps(c["function"]["arguments"], ensure_ascii=False)}}
                for i, c in enumerate(m["tool_calls"])]
            calls_before += len(m["tool_calls"])
        if m["role"] == "tool":
            m["tool_call_id"] = f"call_{results}"
            results += 1
        out.append(m)
    return out


def ask(options, line):
    body = {"messages": wire_messages(line["messages"][:-1]), "temperature": 0,
            "max_tokens": TOKENS_MAX}
    if options.model:
        body["model"] = options.model
    if line.get("tools"):
        body["tools"] = line["tools"]
    return post(options, body)["choices"][0]["message"]


# --- judging ------------------------------------------------------------------------------

def canonical(value):
    """Equal values have equal texts; true is not 1, 3 is not 3.0's neighbour but its equal."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{canonical(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return json.dumps(value)


def parse(text):
    """The value of a JSON text, or a value that nothing equals."""
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return float("nan")


def calls_of(message):
    """Names and arguments: of tool_calls where the server takes them apart, else of the text."""
    found = [c["function"] for c in message.get("tool_calls") or []]
    if not found:
        found = [parse(text) for text in CALL.findall(message.get("content") or "")]
    return sorted(map(canonical_call, found))


def canonical_call(f):
    if not isinstance(f, dict):
        return "no call"
    arguments = f.get("arguments")
    return canonical([f.get("name"), parse(arguments) if isinstance(arguments, str) else arguments])


def last_number(text):
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
    return numbers[-1] if numbers else None


def is_story(text, must):
    sentences = len(re.findall(r"[.!?](?:\s|$)", text))
    body = text
    if "title" in must:
        title, _, body = text.partition("\n")
        if title.strip() != must["title"]:
            return False
    return (must.get("hero", "") in body and STORY_SENTENCES[0] <= sentences <= STORY_SENTENCES[1]
            and text.endswith("."))


def is_right(line, message):
    want, got = line["messages"][-1], (message.get("content") or "").strip()
    check = line["check"]
    if check == "tools":
        return calls_of(message) == calls_of(want)
    if calls_of(message):
        return False
    if check == "json":
        return canonical(parse(got)) == canonical(parse(want["content"]))
    if check == "number":
        return last_number(got) is not None and last_number(got) == last_number(want["content"])
    if check == "story":
        return is_story(got, line.get("must", {}))
    return got == want["content"]


# --- the whole file -----------------------------------------------------------------------

def read_lines(options):
    with open(options.file, encoding="utf-8") as f:
        lines = [json.loads(text) for text in f]
    if options.skill:
        lines = [line for line in lines if line["skill"] in options.skill]
    if not options.limit:
        return lines
    taken, out = Counter(), []
    for line in lines:
        taken[line["skill"]] += 1
        out += [line] if taken[line["skill"]] <= options.limit else []
    return out


def show(line, message):
    last = next(m["content"] for m in reversed(line["messages"]) if m["role"] == "user")
    want = line["messages"][-1]
    print(f"  {line['skill']}: {last!r}\n    want {want['content'] or want.get('tool_calls')!r}"
          f"\n    got  {message.get('content')!r} {message.get('tool_calls') or ''}")


def judge(options, lines):
    """Right answers and questions by skill."""
    right, asked, shown = defaultdict(int), defaultdict(int), Counter()
    with ThreadPoolExecutor(options.parallel) as pool:
        for line, message in zip(lines, pool.map(lambda x: ask(options, x), lines)):
            ok = is_right(line, message)
            right[line["skill"]] += ok
            asked[line["skill"]] += 1
            if not ok and shown[line["skill"]] < options.show:
                shown[line["skill"]] += 1
                show(line, message)
    return right, asked


def report(right, asked):
    """Prints a row per skill; are all bars reached?"""
    good = True
    print(f"{'skill':16}{'right':>8}{'of':>8}{'%':>8}{'bar':>8}")
    for skill in sorted(asked):
        percent, bar = 100.0 * right[skill] / asked[skill], BARS.get(skill)
        missed = bar is not None and percent < bar
        good = good and not missed
        print(f"{skill:16}{right[skill]:>8}{asked[skill]:>8}{percent:>8.1f}"
              f"{bar if bar is not None else '-':>8}{'  below' if missed else ''}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--model", help="name of the model, where the server has several")
    parser.add_argument("--file", default="build/gantry-mini/eval.jsonl")
    parser.add_argument("--skill", action="append", help="only this one; repeatable")
    parser.add_argument("--limit", type=int, default=0, help="questions of a skill at most")
    parser.add_argument("--show", type=int, default=2, help="wrong answers of a skill to print")
    parser.add_argument("--parallel", type=int, default=8, help="questions under way at a time")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one answer")
    options = parser.parse_args()
    try:
        right, asked = judge(options, read_lines(options))
    except OSError as e:
        print(f"eval: {options.url}: {e}", file=sys.stderr)
        return 2
    return 0 if asked and report(right, asked) else 1


if __name__ == "__main__":
    sys.exit(main())
