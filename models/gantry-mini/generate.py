#!/usr/bin/env python3
"""generate.py - writes the corpus of gantry-mini: train.jsonl, valid.jsonl, eval.jsonl.

    python3 generate.py [--out DIR] [--seed N] [--scale X]

A line is {"messages": [...], "tools": [...], "skill": "..."}; lines of eval.jsonl have "check",
too, and for stories "must" (corpus/sample.py).  The same seed gives the same bytes; the last
line printed is their hash.
"""
import argparse
import hashlib
import json
import os
import random
import re
import sys
from collections import Counter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from corpus import (arithmetic, chat, copying, docs, json_tasks, lists, measure,  # noqa: E402
                    stories, talks, tool_tasks)
from corpus.split import Split  # noqa: E402
from corpus.words import PEOPLE, TOWNS  # noqa: E402

# conversations of training; docs: per fact
TRAIN = {"docs": 54, "arithmetic": 23000, "measure": 5000, "lists": 9500, "chat": 7000,
         "stories": 2800, "copying": 8000, "json": 10000, "tools": 12000, "tool_twins": 3000,
         "beside_tools": 900, "talks": 7000, "tool_talks": 1500}
EVAL = {"arithmetic": 400, "measure": 100, "lists": 200, "chat": 160, "stories": 60, "copying": 100,
        "json": 300, "tools": 300, "tool_twins": 0, "beside_tools": 30, "talks": 100, "tool_talks": 40}
VALID_SHARE = 0.015
COPIES = ("copying", "json", "tools")      # skills with values that are held out


def make_skills(seed, split, counts, held):
    """All samples of one side, by skill.  Each skill has a stream of chance of its own."""
    def rng(skill):
        return random.Random(f"{seed}/{'eval' if held else 'train'}/{skill}")

    out = {"docs": docs.make_eval(rng("docs"), split) if held
           else docs.make_train(rng("docs"), split, counts["docs"])}
    for name, room in (("arithmetic", arithmetic), ("measure", measure), ("lists", lists),
                       ("chat", chat), ("stories", stories), ("copying", copying), ("json", json_tasks)):
        out[name] = room.make(rng(name), split, counts[name], held)
    plain = [s for name in ("docs", "lists", "chat") for s in out[name] if talks.can_join(s)]
    beside = rng("beside_tools").sample(plain, counts["beside_tools"])
    out["tools"] = tool_tasks.make(rng("tools"), split, counts["tools"], held, beside,
                                   counts["tool_twins"])
    return out


def add_talks(seed, out, firsts, counts, side):
    rng = random.Random(f"{seed}/{side}/talks")
    singles = [s for name, samples in out.items() if name != "tools" for s in samples
               if s.skill != "docs_reworded"]
    out["talks"] = talks.make(rng, counts["talks"], firsts or singles, singles)
    out["tools"] += talks.make_with_tools(rng, counts["tool_talks"], firsts or singles,
                                          out["tools"])
    return singles


def finish(seed, out, side):
    """All samples in one order, with system messages."""
    rng = random.Random(f"{seed}/{side}/order")
    samples = [s for group in out.values() for s in group]
    for s in samples:
        talks.add_system(rng, s)
    rng.shuffle(samples)
    return samples


# --- what must hold --------------------------------------------------------------------------

def user_texts(samples):
    return {m["content"] for s in samples for m in s.messages if m["role"] == "user"}


def drop_known_questions(evaluation, training):
    """Where only the dress of a question is drawn, it may be one that training has: those go,
    and so do repeated ones.  A follow-up is a question together with what was said before."""
    known, contexts, seen, out = user_texts(training), {s.question for s in training}, set(), []
    for s in evaluation:
        asked_before = sum(m["role"] == "user" for m in s.messages) > 1
        is_known = s.question in contexts if asked_before or s.tools else s.last_user_text in known
        if not is_known and s.question not in seen:
            seen.add(s.question)
            out.append(s)
    return out


def check_held_out(evaluation, training):
    """Values and names of the evaluation are not in training; a breach is our own mistake."""
    trained = {v for s in training if s.skill in COPIES for v in s.values}
    asked = {v for s in evaluation if s.skill in COPIES for v in s.values}
    names = {v for kind, v in asked if kind in ("person", "town")}
    words = {w for s in training for m in s.messages
             for w in re.findall(r"[A-Z][a-z]+", m["content"])} & set(PEOPLE + TOWNS)
    for breach in (trained & asked, names & words):
        if breach:
            raise SystemExit(f"generate: held out and trained: {sorted(breach)[:5]}")


# --- files -----------------------------------------------------------------------------------

def write(path, samples, for_eval):
    text = "".join(json.dumps(s.record(for_eval), ensure_ascii=False) + "\n" for s in samples)
    data = text.encode()
    with open(path, "wb") as f:
        f.write(data)
    return data


def text_bytes(s):
    """What the model reads and writes, without the marks of the template."""
    messages = sum(len(m["content"]) + len(json.dumps(m.get("tool_calls", ""))) for m in s.messages)
    return messages + (len(json.dumps(s.tools)) if s.tools else 0)


def report(parts):
    skills = sorted({s.skill for samples in parts.values() for s in samples})
    print(f"{'skill':16}" + "".join(f"{name:>10}{'KB':>8}" for name in parts))
    for skill in skills + ["all"]:
        row = f"{skill:16}"
        for samples in parts.values():
            mine = [s for s in samples if skill in ("all", s.skill)]
            row += f"{len(mine):>10}{sum(map(text_bytes, mine)) // 1000:>8}"
        print(row)
    turns = Counter(sum(m["role"] == "user" for m in s.messages) for s in parts["train"])
    print("questions of a conversation:", ", ".join(f"{k}: {n}" for k, n in sorted(turns.items())))
    print("longest conversation, bytes:", max(text_bytes(s) for s in parts["train"]))


def make_parts(seed, scale):
    split = Split(seed)
    counts = {k: max(1, int(n * scale)) for k, n in TRAIN.items()}
    trained = make_skills(seed, split, counts, held=False)
    singles = add_talks(seed, trained, None, counts, "train")
    asked = make_skills(seed, split, EVAL, held=True)
    add_talks(seed, asked, singles, EVAL, "eval")
    training = finish(seed, trained, "train")
    evaluation = drop_known_questions(finish(seed, asked, "eval"), training)
    check_held_out(evaluation, training)
    n = int(len(training) * VALID_SHARE)
    known = {s.question for s in training[n:]}
    valid = [s for s in training[:n] if s.question not in known]
    return {"train": training[n:], "valid": valid, "eval": evaluation}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="build/gantry-mini", help="folder of the three files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of conversations")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    parts, digest = make_parts(options.seed, options.scale), hashlib.sha256()
    for name, samples in parts.items():
        data = write(os.path.join(options.out, name + ".jsonl"), samples, name == "eval")
        digest.update(data)
        print(f"{name}.jsonl: {len(samples)} conversations, {len(data)} bytes")
    report(parts)
    print("sha256", digest.hexdigest())


if __name__ == "__main__":
    main()
