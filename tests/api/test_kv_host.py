"""test_kv_host.py - preempted sequences whose KV blocks go to the host's memory, on the software GPU.

Several clients with blocks for little more than one of them: each gets the text that it gets alone,
and what was computed once is not computed again.
"""
import re

import harness
from harness import Server, check, equal, in_parallel, joined, test
from test_gpu import machine, needs_kernels

COMPLETIONS = "/v1/completions"
CTX = 64
CLIENTS = 4
FLAGS = ("--gpu", "require", "--ctx", str(CTX), "--parallel", str(CLIENTS))
DEFERRED = {"gpus": [{}], "streams": "deferred"}


def on_gpu(card="t4"):
    needs_kernels()
    return machine(card)


def requests():
    words = "once upon a time there was a dog".split()
    return [
        {
            "prompt": " ".join(words[: 3 + i]),
            "max_tokens": 36,
            "temperature": i % 2,
            "seed": i,
            "ignore_eos": True,
        }
        for i in range(CLIENTS)
    ]


def texts_of(server, bodies):
    return in_parallel(
        [lambda body=body: joined(server.stream(COMPLETIONS, body)) for body in bodies]
    )


def planned(server, name):
    return int(re.search(rf"\b{name}=(\d+)", server.stderr).group(1))


def rows_of(server):
    server.wait_idle()  # counters come with the engine's heartbeat
    page = server.metrics()
    return page.total("prefill_rows_total"), page.total("decode_rows_total")


def alone():
    """Texts, rows and the bytes of a block, with room for everybody."""
    with Server(*FLAGS, env=on_gpu()) as server:
        equal(planned(server, "kv_host_blocks"), planned(server, "kv_blocks"), "as many as there are")
        texts = [joined(server.stream(COMPLETIONS, body)) for body in requests()]
        equal(server.metrics().total("preemptions_total"), 0, "preemptions")
        block = planned(server, "kv_bytes") // planned(server, "kv_blocks")
        return texts, rows_of(server), block


def few_blocks(block):
    """Two for each client, or one and a half sequences."""
    return ("--kv-bytes-max", block * 6)


@test
def a_crowd_gets_what_each_gets_alone_and_nothing_is_computed_again():
    texts, rows, block = alone()
    for card in ("t4", DEFERRED):
        with Server(*FLAGS, *few_blocks(block), env=on_gpu(card)) as server:
            equal(planned(server, "kv_blocks"), 6, "blocks")
            equal(texts_of(server, requests()), texts, f"texts on {card}")
            equal(rows_of(server), rows, "rows computed")
            page = server.metrics()
            check(page.total("preemptions_total") > 0, "nothing was preempted: too easy")
            equal(
                page.total("preemptions_saved_total"), page.total("preemptions_total"), "saved"
            )
            check(page.total("kv_saved_bytes_total") >= block, "bytes saved")
            equal(
                page.total("kv_loaded_bytes_total"), page.total("kv_saved_bytes_total"), "loaded"
            )
            equal(page.total("kv_host_blocks_used"), 0, "copies at the end")
            equal(page.total("kv_host_blocks"), 6, "room for copies")


@test
def without_room_on_the_host_it_is_computed_again():
    texts, rows, block = alone()
    with Server(*FLAGS, *few_blocks(block), "--kv-host-bytes", "0", env=on_gpu()) as server:
        equal(planned(server, "kv_host_bytes"), 0, "bytes planned")
        equal(texts_of(server, requests()), texts, "texts")
        check(sum(rows_of(server)) > sum(rows), "rows computed again")
        page = server.metrics()
        check(page.total("preemptions_total") > 0, "nothing was preempted: too easy")
        equal(page.total("preemptions_saved_total"), 0, "saved")


@test
def more_host_memory_than_there_is_is_refused():
    done = harness.gantry(
        "serve", "--port", "0", "-m", harness.TINY, *FLAGS, "--kv-host-bytes", "8TiB", env=on_gpu()
    )
    check(done.code not in (0, 2), f"code {done.code}")
    check("--kv-host-bytes are 8796093022208, " in done.err, done.err)
