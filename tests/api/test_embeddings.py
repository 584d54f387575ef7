"""test_embeddings.py - vectors and scores over HTTP: as the commands compute them, for everyone.

The encoder is the recorded bert, the decoder stories260K.  A reranker is made here: bert with a
head of two small matrices, whose scores are computed again from the encoder's states.
"""
import base64
import functools
import math
import os
import random
import struct

import gguf
import harness
import oracle
from harness import check, equal, gantry, in_parallel, shared_path, shared_server, test

DIMS, CTX = 64, 192
CLOSE = 1e-6  # f32, scaled to length 1 in another order
F32 = ("--gpu", "off", "--kv", "f32")  # as the commands compute

TEXTS = [
    "a fox",
    "Once upon a time there was a cat.",
    "",
    "Caf\u00e9 \u6771\u4eac [MASK] #1",
    "x" * 80,
]


def bert():
    return shared_path("oracle/public/models/bert/model-f32.gguf")


def encoder():
    return shared_server(*F32, model="bert=" + bert())


def decoder():
    return shared_server(*F32, model="stories=" + oracle.model("F32"))


def embed(server, given, **fields):
    return server.post("/v1/embeddings", {"input": given, **fields}).must(200).json


def vectors(server, given, **fields):
    return [row["embedding"] for row in embed(server, given, **fields)["data"]]


def ids_of(text, model=None):
    done = gantry("tokenize", model or bert(), stdin=text.encode()).succeeded()
    return [int(word) for word in done.text.split()]


def vector_of_command(model, ids, *flags):
    out = os.path.join(harness.TMP, "embed.f32")
    listed = ",".join(map(str, ids))
    gantry("embed", model, "--tokens", listed, "-o", out, *flags).succeeded()
    return list(oracle.numbers("f", out))


def require_close(got, want, what):
    equal(len(got), len(want), f"{what}: values")
    off = max(abs(a - b) for a, b in zip(got, want))
    check(off < CLOSE, f"{what}: off by {off:.3g}")


# --- what comes -------------------------------------------------------------------------------


@test
def a_text_gives_the_vector_of_the_command():
    for text in TEXTS:
        reply = embed(encoder(), text)
        equal(sorted(reply), ["data", "model", "object", "usage"], "members of the reply")
        equal((reply["object"], reply["model"]), ("list", "bert"), "object and model")
        row = reply["data"][0]
        equal(sorted(row), ["embedding", "index", "object"], "members of a vector")
        equal((row["object"], row["index"]), ("embedding", 0), "object and index")
        ids = ids_of(text)
        usage = {"prompt_tokens": len(ids), "total_tokens": len(ids)}
        equal(reply["usage"], usage, f"usage of {text!r}")
        require_close(row["embedding"], vector_of_command(bert(), ids, "--normalize"), repr(text))


@test
def lists_and_ids_give_the_same_vectors():
    server = encoder()
    alone = [vectors(server, text)[0] for text in TEXTS]
    listed = embed(server, TEXTS)
    equal([row["index"] for row in listed["data"]], list(range(len(TEXTS))), "indices")
    equal([row["embedding"] for row in listed["data"]], alone, "vectors of a list of texts")
    ids = [ids_of(text) for text in TEXTS]
    equal(vectors(server, ids), alone, "vectors of a list of lists of ids")
    equal(vectors(server, ids[1]), [alone[1]], "the vector of a list of ids")
    equal(listed["usage"]["prompt_tokens"], sum(map(len, ids)), "tokens of all texts")


@test
def base64_has_the_same_bits():
    server = encoder()
    for more in ({}, {"dimensions": 5}):
        floats = vectors(server, TEXTS, encoding_format="float", **more)
        for text, want in zip(vectors(server, TEXTS, encoding_format="base64", **more), floats):
            data = base64.b64decode(text, validate=True)
            got = struct.unpack(f"<{len(data) // 4}f", data)
            rounded = struct.unpack(f"<{len(want)}f", struct.pack(f"<{len(want)}f", *want))
            equal(got, rounded, "the vector in base64")


@test
def fewer_dimensions_are_the_first_ones_scaled():
    server = encoder()
    whole = vectors(server, TEXTS[1])[0]
    for count in (1, 2, 63, 64):
        cut = vectors(server, TEXTS[1], dimensions=count)[0]
        length = math.sqrt(sum(v * v for v in whole[:count]))
        require_close(cut, [v / length for v in whole[:count]], f"{count} dimensions")
    reply = server.post("/v1/embeddings", {"input": "x", "dimensions": DIMS + 1})
    equal(reply.error(400, "invalid_value", DIMS + 1, DIMS)["param"], "dimensions", "param")


@test
def the_pooling_of_a_server_can_be_chosen():
    ids = ids_of(TEXTS[1])
    for pooling in ("cls", "last", "mean"):
        with harness.Server(*F32, "--pooling", pooling, model="bert=" + bert()) as server:
            got = vectors(server, TEXTS[1])[0]
        want = vector_of_command(bert(), ids, "--normalize", "--pooling", pooling)
        require_close(got, want, pooling)


# --- many -------------------------------------------------------------------------------------


def made_texts(count, seed):
    """Texts of very different lengths."""
    rng = random.Random(seed)
    words = "a fox and the cat saw one big tree in park little dog named Max".split()
    return [" ".join(rng.choices(words, k=rng.choice((1, 2, 5, 20, 60)))) for _ in range(count)]


@test
def a_hundred_inputs_fit_one_request():
    server, texts = encoder(), made_texts(100, 1)
    at_once = vectors(server, texts)
    equal(len(at_once), 100, "vectors")
    for i in range(0, 100, 7):
        equal(at_once[i], vectors(server, texts[i])[0], f"vector {i} alone")
    server.wait_idle()


@test
def a_vector_does_not_depend_on_what_is_computed_beside_it():
    server, texts = encoder(), made_texts(8, 2)
    alone = [vectors(server, text)[0] for text in texts]

    def ask(seed):
        order = list(range(len(texts))) * 2
        random.Random(seed).shuffle(order)
        for at in order:
            equal(vectors(server, texts[at])[0], alone[at], f"text {at} among others")
        equal(vectors(server, texts), alone, "all texts among others")

    in_parallel([lambda seed=seed: ask(seed) for seed in range(12)])
    server.wait_idle()


@test
def a_client_that_leaves_costs_nothing():
    server = encoder()
    server.must_live()
    for _ in range(harness.scaled(8)):
        s = server.connect()
        s.sendall(harness.post_bytes("/v1/embeddings", {"input": made_texts(200, 3)}))
        s.close()
    server.wait_idle(20)
    equal(len(vectors(server, "x")[0]), DIMS, "values of the next vector")


# --- decoders ---------------------------------------------------------------------------------


@test
def a_decoder_gives_the_state_of_its_last_token():
    server = decoder()
    for text in ("Once upon", "Lily saw a big red ball."):
        ids = ids_of(text, oracle.model("F32"))
        want = vector_of_command(oracle.model("F32"), ids, "--normalize", "--pooling", "last")
        require_close(vectors(server, text)[0], want, text)
    long = "Once upon a time there was a dog. " * 12  # some steps of a prompt
    ids = ids_of(long, oracle.model("F32"))
    want = vector_of_command(oracle.model("F32"), ids, "--normalize")
    require_close(vectors(server, long)[0], want, f"{len(ids)} tokens")


@test
def vectors_and_completions_do_not_change_each_other():
    server, texts = decoder(), ["Once upon", "A little dog", "Lily saw a big red ball. " * 8]
    fields = {"max_tokens": 150, "temperature": 0, "ignore_eos": True}
    stories = [server.text_of(text, **fields) for text in texts]
    alone = [vectors(server, text)[0] for text in texts]

    def complete(i):
        equal(server.text_of(texts[i], **fields), stories[i], f"completion {i} beside vectors")

    def ask():
        for _ in range(harness.scaled(10)):
            equal(vectors(server, texts), alone, "vectors beside completions")

    in_parallel([lambda i=i: complete(i) for i in range(3)] * 2 + [ask] * 3)
    server.wait_idle()


# --- refusals ---------------------------------------------------------------------------------


@test
def too_long_an_input_is_told_with_both_numbers():
    server = encoder()
    ids = [5] * (CTX + 1)
    reply = server.post("/v1/embeddings", {"input": ids})
    reply.error(400, "context_length_exceeded", CTX + 1, CTX)
    reply = server.post("/v1/embeddings", {"input": ["a", "fox " * 300, "b"]})
    reply.error(400, "context_length_exceeded", CTX)
    equal(len(vectors(server, ids[:CTX])[0]), DIMS, "values of the longest input")
    reply = decoder().post("/v1/embeddings", {"input": [5] * 513})
    reply.error(400, "context_length_exceeded", 512)
    server.wait_idle()


@test
def wrong_inputs_are_refused_by_name():
    server = encoder()
    for body, words in (
        ({}, ["input"]),
        ({"input": []}, ["input"]),
        ({"input": [[]]}, ["input[0]"]),
        ({"input": 5}, ["input"]),
        ({"input": [1.5]}, ["input[0]"]),
        ({"input": [-1]}, ["input[0]"]),
        ({"input": ["a", 5]}, ["input[1]"]),
        ({"input": ["a", ["b"]]}, ["input[1]"]),
        ({"input": [None]}, ["input[0]"]),
        ({"input": [512]}, ["512"]),
        ({"input": [[1], [2, 2147483647]]}, ["2147483647"]),
        ({"input": ["a"] * 2049}, ["2049", "2048"]),
        ({"input": "a", "encoding_format": "hex"}, ["encoding_format"]),
        ({"input": "a", "dimensions": 0}, ["dimensions"]),
        ({"input": "a", "dimensions": "4"}, ["dimensions"]),
    ):
        reply = server.post("/v1/embeddings", body).must(400)
        message = reply.json["error"]["message"]
        for word in words:
            check(word in message, lambda: f"{harness.short(body)}: no {word!r} in {message!r}")
    server.post("/v1/embeddings", {"input": "a", "model": "other"}).error(404, "model_not_found")
    server.wait_idle()


@test
def an_encoder_generates_nothing():
    server = encoder()
    chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    for path, body in (
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", {**chat, "stream": True}),
        ("/v1/completions", {"prompt": "x", "max_tokens": 1}),
        ("/v1/completions", {"prompt": "x", "max_tokens": 1, "stream": True}),
    ):
        server.post(path, body).error(400, "unsupported_parameter", "encoder")
    server.wait_idle()


# --- scores -----------------------------------------------------------------------------------


@functools.lru_cache
def head():
    """Weights of a head that spreads the scores of the recorded encoder."""
    rng = random.Random(7)
    return {
        "cls.weight": [rng.gauss(0, 0.2) for _ in range(DIMS * DIMS)],
        "cls.bias": [rng.gauss(0, 0.1) for _ in range(DIMS)],
        "cls.output.weight": [rng.gauss(0, 0.3) for _ in range(DIMS)],
        "cls.output.bias": [0.25],
    }


def reranker(*parts):
    """A copy of bert with these parts of the head; scores are its own pooling."""
    path = os.path.join(harness.TMP, f"reranker-{'-'.join(parts)}.gguf")
    if not os.path.exists(path):
        file = gguf.Gguf(bert())
        file.keys["bert.pooling_type"] = (gguf.U32, 4)
        labels = 1 if parts == DENSE_ONLY else DIMS  # of the first matrix
        rows = {"cls.weight": labels, "cls.bias": labels, "cls.output.weight": 1}
        for part in parts:
            count = rows.get(part, 1)
            wide = part.endswith(".weight")
            values = head()[part][: count * (DIMS if wide else 1)]
            file.add_f32(part, [DIMS, count] if wide else [count], values)
        file.write(path)
    return path


WHOLE = ("cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias")
DENSE_ONLY = ("cls.weight", "cls.bias")
OUT_ONLY = ("cls.output.weight", "cls.output.bias")

QUERY = "where is the cat"
DOCUMENTS = ["a cat in the park", "a fox", "", "the big tree " * 20, "one dog and one cat"]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def score_of(document, parts):
    """sigmoid(out . tanh(dense . state + bias) + bias) of the first state, as far as it is there."""
    pair = ids_of(QUERY) + ids_of(document)[1:]  # [CLS] query [SEP] document [SEP]
    x = vector_of_command(bert(), pair, "--pooling", "cls")
    if "cls.weight" in parts:
        rows = [head()["cls.weight"][r * DIMS : (r + 1) * DIMS] for r in range(DIMS)]
        x = [math.tanh(dot(row, x) + shift) for row, shift in zip(rows, head()["cls.bias"])]
    if parts == DENSE_ONLY:
        return 1 / (1 + math.exp(-x[0]))
    z = dot(head()["cls.output.weight"], x) + head()["cls.output.bias"][0]
    return 1 / (1 + math.exp(-z))


def rerank(server, documents, **fields):
    body = {"query": QUERY, "documents": documents, **fields}
    return server.post("/v1/rerank", body).must(200).json


@test
def scores_are_those_of_the_head():
    for parts in (WHOLE, OUT_ONLY, DENSE_ONLY):
        server = shared_server(*F32, model="ranks=" + reranker(*parts))
        reply = rerank(server, DOCUMENTS)
        equal(sorted(reply), ["model", "object", "results", "usage"], "members of the reply")
        scores = {row["index"]: row["relevance_score"] for row in reply["results"]}
        equal(sorted(scores), list(range(len(DOCUMENTS))), "indices")
        for i, document in enumerate(DOCUMENTS):
            off = abs(scores[i] - score_of(document, parts))
            check(off < CLOSE, f"{parts}: score of document {i} is off by {off:.3g}")
        order = [row["relevance_score"] for row in reply["results"]]
        equal(order, sorted(order, reverse=True), "best first")
        check(order[0] - order[-1] > 0.01, f"scores that say nothing: {order}")
        tokens = sum(len(ids_of(QUERY) + ids_of(d)[1:]) for d in DOCUMENTS)
        equal(reply["usage"]["total_tokens"], tokens, "tokens of all pairs")


@test
def the_best_and_their_texts_come_when_asked_for():
    server = shared_server(*F32, model="ranks=" + reranker(*WHOLE))
    every = rerank(server, DOCUMENTS)["results"]
    check(all("document" not in row for row in every), "documents that nobody asked for")
    best = rerank(server, DOCUMENTS, top_n=2, return_documents=True)["results"]
    equal([row["index"] for row in best], [row["index"] for row in every[:2]], "the best two")
    for row in best:
        equal(row["document"], {"text": DOCUMENTS[row["index"]]}, "a document")
    objects = rerank(server, [{"text": d} for d in DOCUMENTS], top_n=100)["results"]
    equal(objects, every, "results of objects with a text")
    equal(rerank(server, DOCUMENTS * 20)["results"][0]["index"] % 5, every[0]["index"], "of 100")


@test
def scores_do_not_depend_on_what_is_computed_beside_them():
    server = shared_server(*F32, model="ranks=" + reranker(*WHOLE))
    alone = rerank(server, DOCUMENTS)["results"]
    jobs = [lambda: equal(rerank(server, DOCUMENTS)["results"], alone, "results")] * 6
    jobs += [lambda: rerank(server, made_texts(20, 4))] * 4
    in_parallel(jobs)
    server.wait_idle()


@test
def wrong_questions_to_a_reranker_are_refused_by_name():
    server = shared_server(*F32, model="ranks=" + reranker(*WHOLE))
    for body, word in (
        ({"documents": ["a"]}, "query"),
        ({"query": "x"}, "documents"),
        ({"query": "x", "documents": []}, "documents"),
        ({"query": "x", "documents": "a"}, "documents"),
        ({"query": "x", "documents": ["a", 5]}, "documents[1]"),
        ({"query": "x", "documents": [{"title": "a"}]}, "documents[0].text"),
        ({"query": 5, "documents": ["a"]}, "query"),
        ({"query": "x", "documents": ["a"], "top_n": 0}, "top_n"),
        ({"query": "x", "documents": ["a"] * 2049}, "2048"),
    ):
        message = server.post("/v1/rerank", body).must(400).json["error"]["message"]
        check(word in message, lambda: f"{harness.short(body)}: no {word!r} in {message!r}")
    body = {"query": "cat " * 100, "documents": ["a", "fox " * 100]}
    server.post("/v1/rerank", body).error(400, "context_length_exceeded", CTX)
    server.wait_idle()


@test
def a_server_needs_one_vector_for_a_text():
    gantry("serve", "-m", bert(), "--pooling", "none").failed_with(2, "--pooling none")


@test
def models_without_a_head_do_not_rank():
    body = {"query": "x", "documents": ["a"]}
    for server in (encoder(), decoder()):
        server.post("/v1/rerank", body).error(400, "unsupported_parameter", "head")
    file = gguf.Gguf(bert())
    file.keys["bert.pooling_type"] = (gguf.U32, 4)
    path = file.write(os.path.join(harness.TMP, "headless.gguf"))
    out = os.path.join(harness.TMP, "headless.f32")
    gantry("embed", path, "--tokens", "2,3", "-o", out).failed_with(1, "pooling_type", "cls")
