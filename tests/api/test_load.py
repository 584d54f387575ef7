"""test_load.py - many clients at once, and clients that misbehave.

Numerics are exact, so a stream has the same bits whoever runs beside it: each text is
compared with what the same request gives alone.
"""
import random
import socket
import time

import harness
from harness import Server, check, equal, in_parallel, joined, read_stream, scaled, shared_server
from harness import test

COMPLETIONS = "/v1/completions"
SLOW = ("--backend", "ref", "--step-tokens-max", "1")  # a thousand steps per second or so
FOREVER = {"max_tokens": 1500, "temperature": 1, "ignore_eos": True}
RSS_GROWTH_KIB = 2048


def varied_requests(count):
    """Requests of all lengths, greedy and random, reproducible."""
    words = "once upon a time there was a dog and a cat who went to the big park".split()
    chance = random.Random(7)
    requests = []
    for i in range(count):
        prompt = " ".join(chance.choices(words, k=chance.choice((1, 3, 10, 40, 90))))
        requests.append(
            {
                "prompt": prompt,
                "max_tokens": chance.choice((1, 5, 20, 60, 120)),
                "temperature": chance.choice((0, 0.8, 1.5)),
                "seed": i,
                "ignore_eos": True,
            }
        )
    return requests


def texts_alone(server, requests):
    return [joined(server.stream(COMPLETIONS, body)) for body in requests]


def texts_together(server, requests):
    return in_parallel(
        [lambda body=body: joined(server.stream(COMPLETIONS, body)) for body in requests]
    )


def compare_with_alone(server, requests, alone):
    together = texts_together(server, requests)
    for i, (got, want) in enumerate(zip(together, alone)):
        equal(got, want, f"stream {i} of {len(requests)}")
    server.wait_idle()


@test
def streams_beside_each_other_are_as_if_alone():
    requests = varied_requests(max(16, scaled(64)))
    with Server() as server:
        alone = texts_alone(server, requests)
        compare_with_alone(server, requests, alone)
    with Server("--step-tokens-max", "17", "--parallel", "11", "--threads", "1") as server:
        compare_with_alone(server, requests, alone)


@test
def preempted_streams_lose_nothing():
    """KV memory for a fraction of what runs: sequences are thrown out and computed again."""
    requests = varied_requests(max(16, scaled(64)))
    # Seven streams that last hundreds of slow steps run side by side on any machine, and
    # end with twice the tokens that there is memory for.
    long_ones = [
        {"prompt": f"Story {i}", "max_tokens": 300, "temperature": 1, "seed": i, "ignore_eos": True}
        for i in range(7)
    ]
    with Server() as server:
        page = server.get("/v1/models").json["data"][0]["meta"]
        per_token = page["kv_bytes"] / (page["ctx"] * page["parallel"])
    kv_bytes = int(per_token * 1024)
    options = ("--kv-bytes-max", kv_bytes, "--ctx", "512", "--parallel", "32")
    with Server(*options, "--backend", "ref", "--step-tokens-max", "32") as server:
        alone = texts_alone(server, requests + long_ones)
        equal(server.metrics().total("preemptions_total"), 0, "alone, nothing is in the way")
        compare_with_alone(server, long_ones, alone[len(requests) :])
        preemptions = server.metrics().total("preemptions_total")
        check(preemptions > 0, "nothing was preempted: the test is too easy")
        compare_with_alone(server, requests, alone[: len(requests)])


@test
def clients_that_hang_up_leave_nothing_behind():
    server = shared_server()
    chance = random.Random(3)
    count = scaled(200)

    def come_and_go():
        s = server.open_stream("Once", **FOREVER)
        for _ in range(chance.choice((0, 0, 1, 3, 10))):
            s.recv(512)
        time.sleep(chance.random() * 0.02)
        if chance.random() < 0.5:  # an end with a reset
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()

    for begin in range(0, count, 20):
        in_parallel([come_and_go] * min(20, count - begin))
    waited = server.wait_idle(3)
    print(f"  idle {1000 * waited:.0f} ms after the last of {count} clients", flush=True)
    check(server.metrics().total("client_disconnects_total") > count / 2, "disconnects are counted")
    server.text_of("Once", max_tokens=3)


@test
def a_hang_up_in_the_queue_frees_the_place():
    with Server("--parallel", "1", *SLOW) as server:
        running = server.open_stream("Once", **FOREVER)
        harness.wait_for_bytes(running, b"data: ")
        queued = [server.open_stream("Twice", **FOREVER) for _ in range(5)]
        wait_until(lambda: server.metrics().total("sequences_waiting") == 5, "five wait")
        harness.sockets_close(queued)
        wait_until(lambda: server.metrics().total("sequences_waiting") == 0, "none waits")
        equal(server.metrics().total("sequences_running"), 1, "the first goes on")
        running.close()
        server.wait_idle()


def wait_until(condition, what, seconds=10):
    begun = time.monotonic()
    while not condition():
        check(time.monotonic() - begun < seconds * harness.SCALE, f"it never happens: {what}")
        time.sleep(0.01)


@test
def a_hang_up_ends_the_computation_of_a_long_prompt():
    with Server("--parallel", "1", *SLOW) as server:
        for wait_s in (0, 0.005, 0.05):
            s = server.open_stream([7] * 2000, max_tokens=10)
            time.sleep(wait_s)
            s.close()
            server.wait_idle(1)
        page = server.metrics()
        check(page.total("prefill_rows_total") < 3000, "prompts were computed for nobody")


@test
def a_client_that_closes_its_sending_half_has_left():
    server = shared_server()
    s = server.open_stream("Once", **FOREVER)
    harness.wait_for_bytes(s, b"data: ")
    s.shutdown(socket.SHUT_WR)
    server.wait_idle(2)
    s.close()


@test
def a_client_that_never_reads_holds_up_nobody():
    with Server() as server:
        lazy = []
        for _ in range(4):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", server.port))
            body = {"prompt": "Once", "stream": True, "logprobs": 5, **FOREVER}
            s.sendall(harness.post_bytes(COMPLETIONS, body))
            lazy.append(s)
        time.sleep(0.3)
        begun = time.monotonic()
        for _ in range(5):
            server.text_of("Twice", max_tokens=20)
        took = time.monotonic() - begun
        check(took < 5 * harness.SCALE, f"five short requests took {took:.1f} s beside them")
        harness.sockets_close(lazy)
        server.wait_idle()


@test
def a_slow_reader_gets_everything():
    server = shared_server()
    body = {"prompt": "Once", "max_tokens": 300, "seed": 1, "ignore_eos": True}
    want = server.text_of(**body)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(harness.PATIENCE_S)
    s.connect(("127.0.0.1", server.port))
    s.sendall(harness.post_bytes(COMPLETIONS, {**body, "stream": True, "logprobs": 5}))
    time.sleep(0.5)
    equal(joined(harness.sse_chunks(read_stream(s)))[0], want, "the text")


@test
def a_client_slow_to_send_its_head_is_closed():
    with Server("--head-ms-max", "300") as server:
        slow = server.connect()
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 10:
                slow.sendall(b"a")
                slow.settimeout(0.1)
                try:
                    if slow.recv(4096) == b"":
                        break
                except TimeoutError:
                    pass
        except ConnectionError:
            pass
        took = time.monotonic() - begun
        check(took < 3 * harness.SCALE, f"it was open for {took:.1f} s")
        server.must_live()


@test
def a_thousand_requests_leave_the_process_as_it_was():
    count, warm = scaled(1000), scaled(200)
    with Server() as server:
        body = {"prompt": "Once upon a time", "max_tokens": 4, "ignore_eos": True}
        for i in range(warm):
            server.post(COMPLETIONS, {**body, "stream": i % 2 == 0}).must(200)
        server.wait_idle()
        before = (server.fds(), server.threads())
        rss = server.rss_kib()
        for i in range(count):
            server.post(COMPLETIONS, {**body, "stream": i % 2 == 0}).must(200)
        server.wait_idle()
        wait_until(lambda: server.fds() <= before[0] + 1, "descriptors are closed")
        equal(server.threads(), before[1], "threads")
        grown = server.rss_kib() - rss
        print(f"  memory grew by {grown} KiB in {count} requests", flush=True)
        if not harness.SANITIZER:
            check(grown < RSS_GROWTH_KIB, f"memory grew by {grown} KiB")


@test
def a_full_queue_is_503_and_nobody_hangs():
    with Server("--queue-max", "2", "--parallel", "1", *SLOW) as server:
        first = server.open_stream("Once", **{**FOREVER, "max_tokens": 400})
        harness.wait_for_bytes(first, b"data:")  # it has the seat, and the queue is empty
        body = {"prompt": "Once", "max_tokens": 50, "ignore_eos": True}
        replies = in_parallel([lambda: server.post(COMPLETIONS, body)] * 20)
        codes = sorted({r.status for r in replies})
        equal(codes, [200, 503], "statuses")
        check(2 <= sum(r.status == 200 for r in replies), "waiting ones are served")
        harness.wait_for_bytes(first, b"[DONE]")
        first.close()
        for reply in replies:
            if reply.status == 503:
                reply.error(503, "queue_full")
                check(int(reply.headers["Retry-After"]) >= 1, "Retry-After")
        server.wait_idle()
        server.post(COMPLETIONS, {**body, "max_tokens": 1}).must(200)


@test
def choices_of_one_request_also_run_beside_each_other():
    with Server("--parallel", "3") as server:
        done = server.complete("Once", n=8, max_tokens=30, seed=2, temperature=1, ignore_eos=True)
        texts = [c["text"] for c in done["choices"]]
        alone = server.complete("Once", n=2, max_tokens=30, seed=2, temperature=1, ignore_eos=True)
        equal([c["text"] for c in alone["choices"]], texts[:2], "the first two of eight")
