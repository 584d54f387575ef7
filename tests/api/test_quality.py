"""test_quality.py - `gantry perplexity`, alone and beside a reference, against sums made here.

The sums are made from what `gantry logits` writes for the same windows; the recorded perplexities
themselves are compared in test_oracle.py.
"""
import json
import math
import os

import gguf
import harness
import oracle
from harness import check, equal, gantry, shared_path, test

VOCAB = 512
CLOSE = 1e-5  # of sums of doubles, printed with six or more digits


def recorded_text():
    return oracle.path(next(r["text"] for r in oracle.index()["ppl"]))


def some_text(words):
    """The first words of the recorded text as a file."""
    with open(recorded_text(), encoding="utf-8") as file:
        text = " ".join(file.read().split()[:words])
    path = os.path.join(harness.TMP, f"words-{words}.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def ids_of(path, model):
    with open(path, "rb") as file:
        done = gantry("tokenize", model, stdin=file.read()).succeeded()
    return [int(word) for word in done.text.split()]


def windows(ids, ctx):
    """As documented: the later ones begin with BOS in the place of their first token."""
    for at in range(0, len(ids), ctx):
        window = ids[at : at + ctx]
        if at > 0:
            window[0] = oracle.BOS
        if len(window) > 1:
            yield window


def log_softmax(row):
    top = max(row)
    total = math.log(sum(math.exp(x - top) for x in row)) + top
    return [x - total for x in row]


def distributions(model, ids, ctx, *flags):
    """(log-probabilities, the token that follows) at each scored position."""
    out = os.path.join(harness.TMP, "window.f32")
    for window in windows(ids, ctx):
        listed = ",".join(map(str, window))
        gantry("logits", model, "--tokens", listed, "-o", out, *flags).succeeded()
        values = oracle.numbers("f", out)
        for i, following in enumerate(window[1:]):
            yield log_softmax(values[i * VOCAB : (i + 1) * VOCAB]), following


def perplexity(model, text, *flags):
    done = gantry("perplexity", model, "-f", text, "--json", *flags).succeeded()
    return json.loads(done.out)


def near(got, want, what, bound=CLOSE):
    check(abs(got - want) <= bound * max(1.0, abs(want)), f"{what}: got {got!r}, want {want!r}")


@test
def windows_are_cut_and_scored_as_documented():
    text, model = some_text(90), oracle.model("F32")
    ids = ids_of(text, model)
    for ctx in (512, 64, 33, 2):
        nll = [-row[next_id] for row, next_id in distributions(model, ids, ctx)]
        facts = perplexity(model, text, "--ctx", str(ctx))
        equal(sorted(facts), ["ppl", "tokens"], "members without a reference")
        equal(facts["tokens"], len(nll), f"scored tokens with --ctx {ctx}")
        near(facts["ppl"], math.exp(sum(nll) / len(nll)), f"perplexity with --ctx {ctx}")


@test
def text_and_json_say_the_same():
    text, args = some_text(40), ("--reference", oracle.model("F32"))
    facts = perplexity(oracle.model("Q4_0"), text, *args)
    done = gantry("perplexity", oracle.model("Q4_0"), "-f", text, *args).succeeded()
    kl = [facts["kl_" + name] for name in ("mean", "median", "p99", "max")]
    form = "ppl {} tokens {} reference ppl {} ratio {} kl mean {} median {} p99 {} max {} top1 {}"
    want = [facts["ppl"], facts["tokens"], facts["reference_ppl"]]
    want += [facts["ppl"] / facts["reference_ppl"], *kl, facts["top1"]]
    words = done.text.split()
    equal(len(words), len(form.split()), f"words of {done.text!r}")
    numbers = [float(word) for word, part in zip(words, form.split()) if part == "{}"]
    for got, value in zip(numbers, want):
        near(got, value, f"a number of {done.text!r}")
    rest = [word if part != "{}" else "{}" for word, part in zip(words, form.split())]
    equal(" ".join(rest), form, "the words between the numbers")


@test
def a_model_beside_itself_is_the_same_model():
    for dtype in ("F32", "Q4_0"):
        model = oracle.model(dtype)
        facts = perplexity(model, some_text(90), "--reference", model)
        equal(facts["ppl"], facts["reference_ppl"], f"{dtype}: perplexities")
        figures = [facts[k] for k in ("kl_mean", "kl_median", "kl_p99", "kl_max")]
        check(max(figures) < 1e-12, f"{dtype}: divergence from itself: {figures}")
        equal(facts["top1"], 1, f"{dtype}: agreement with itself")


def quantile(values, share):
    values = sorted(values)
    return values[max(0, math.ceil(share * len(values)) - 1)]


@test
def divergence_and_agreement_are_the_sums_of_the_definition():
    text = some_text(90)
    ids = ids_of(text, oracle.model("F32"))
    for ctx in (512, 40):
        p_rows = list(distributions(oracle.model("F32"), ids, ctx))
        q_rows = list(distributions(oracle.model("Q4_0"), ids, ctx))
        kl, agreed = [], 0
        for (p, _), (q, _) in zip(p_rows, q_rows):
            kl.append(sum(math.exp(a) * (a - b) for a, b in zip(p, q)))
            agreed += p.index(max(p)) == q.index(max(q))
        facts = perplexity(
            oracle.model("Q4_0"), text, "--reference", oracle.model("F32"), "--ctx", str(ctx)
        )
        equal(facts["tokens"], len(kl), "scored tokens")
        near(facts["kl_mean"], sum(kl) / len(kl), "mean")
        near(facts["kl_median"], quantile(kl, 0.5), "median")
        near(facts["kl_p99"], quantile(kl, 0.99), "p99")
        near(facts["kl_max"], max(kl), "max")
        near(facts["top1"], agreed / len(kl), "top1")
        reference = sum(-row[next_id] for row, next_id in p_rows) / len(kl)
        near(facts["reference_ppl"], math.exp(reference), "perplexity of the reference")
        check(facts["kl_mean"] > 1e-4 and facts["top1"] < 1, f"too good to be Q4_0: {facts}")


@test
def fewer_bits_are_further_from_the_reference():
    found = {}
    for dtype in ("F16", "Q8_0", "Q4_0"):
        facts = perplexity(oracle.model(dtype), recorded_text(), "--reference", oracle.model("F32"))
        found[dtype] = facts["kl_mean"]
    check(found["F16"] < found["Q8_0"] < found["Q4_0"], f"mean divergences {found}")


@test
def what_cannot_be_compared_is_refused():
    text, model = some_text(40), oracle.model("F32")
    file = gguf.Gguf(model)
    width = file.tensors["token_embd.weight"][0][0]
    file.tensors["token_embd.weight"][0] = [width, VOCAB - 1]
    file.tensors["token_embd.weight"][2] = file.tensors["token_embd.weight"][2][: -4 * width]
    for key in ("tokens", "scores", "token_type"):
        kind, (inner, values) = file.keys["tokenizer.ggml." + key]
        file.keys["tokenizer.ggml." + key] = (kind, (inner, values[:-1]))
    file.keys.pop("llama.vocab_size", None)
    smaller = file.write(os.path.join(harness.TMP, "smaller.gguf"))
    args = ("perplexity", model, "-f", text, "--reference", smaller)
    gantry(*args).failed_with(1, str(VOCAB - 1), str(VOCAB))
    bert = shared_path("oracle/public/models/bert/model-f32.gguf")
    gantry("perplexity", bert, "-f", text).failed_with(1, "bert", "encoder")
    gantry("perplexity", model, "-f", text, "--reference", bert).failed_with(1, "bert")
    gantry("perplexity", model, "-f", text, "--reference", text).failed_with(1, text)
    gantry("perplexity", model).failed_with(2, "-f")
    gantry("perplexity", model, "-f", text + ".none").failed_with(1, text + ".none")
    empty = os.path.join(harness.TMP, "empty.txt")
    open(empty, "wb").close()
    gantry("perplexity", model, "-f", empty).failed_with(1, "2")
    gantry("perplexity", model, "-f", text, "--ctx", "1").failed_with(1, "1")
