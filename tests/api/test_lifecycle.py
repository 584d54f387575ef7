"""test_lifecycle.py - signals: draining, stopping, and what running streams see of it."""
import http.client
import signal
import socket
import time

import harness
from harness import Server, check, equal, joined, read_stream, test

SLOW = ("--backend", "ref", "--step-tokens-max", "1")  # a thousand steps per second or so
FIELDS = {"prompt": "Once", "temperature": 0, "ignore_eos": True}


def ended_within(server, seconds):
    begun = time.monotonic()
    server.process.wait(seconds * harness.SCALE)
    equal(server.verdict(), "", "how it ended")
    return time.monotonic() - begun


@test
def an_idle_server_ends_at_once():
    for which in (signal.SIGTERM, signal.SIGINT):
        with Server() as server:
            idle = server.connect()  # an open connection without a request holds up nothing
            kept = http.client.HTTPConnection("127.0.0.1", server.port)
            kept.request("GET", "/livez")
            kept.getresponse().read()
            server.send_signal(which)
            ended_within(server, 2)
            idle.close()
            kept.close()


@test
def a_client_that_stopped_mid_request_does_not_hold_up_the_end():
    with Server() as server:
        s = server.connect()
        s.sendall(harness.post_bytes("/v1/completions", FIELDS)[:-3])
        s.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        ended_within(server, 3)
        s.close()


@test
def a_running_stream_is_finished_before_the_end():
    with Server() as server:
        whole = server.text_of(max_tokens=1200, **FIELDS)
        stream = server.open_stream(max_tokens=1200, **FIELDS)
        other = server.connect()
        other.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        harness.wait_for_bytes(other, b'{"status":"ok"}')
        time.sleep(0.02)
        server.send_signal(signal.SIGTERM)
        refused_or_503(server)
        got = joined(harness.sse_chunks(read_stream(stream)))
        equal(got, (whole, "length"), "the stream")
        ended_within(server, 5)
        other.close()


def refused_or_503(server):
    """A new client of a server that drains: no connection, a closed one, or 503."""
    time.sleep(0.15)
    if server.process.poll() is not None:
        return
    try:
        server.post("/v1/completions", {**FIELDS, "max_tokens": 1}).error(503, "draining")
    except (ConnectionError, http.client.HTTPException):
        pass


@test
def a_second_signal_stops_at_once():
    with Server(*SLOW) as server:
        stream = server.open_stream([9] * 1500, max_tokens=400, ignore_eos=True)
        time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        check(server.process.poll() is None, "it should still be draining")
        server.send_signal(signal.SIGTERM)
        took = ended_within(server, 3)
        print(f"  ended {1000 * took:.0f} ms after the second signal", flush=True)
        check(b"[DONE]" not in harness.read_until_closed(stream), "a cut stream looks complete")
        stream.close()


@test
def a_drain_has_a_limit():
    with Server(*SLOW, "--drain-ms-max", "300") as server:
        stream = server.open_stream([9] * 1500, max_tokens=400, ignore_eos=True)
        time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        ended_within(server, 3)
        stream.close()


@test
def many_servers_may_start_and_stop():
    for _ in range(harness.scaled(10)):
        with Server() as server:
            server.text_of("Once", max_tokens=1)
