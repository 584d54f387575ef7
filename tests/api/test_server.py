"""test_server.py - one request at a time: routes, errors, doors, models, metrics, options."""
import json
import os
import threading
import time

import harness
import roofline
from harness import Server, check, equal, shared_server, test

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@test
def it_listens_and_says_where():
    with Server() as server:
        check("ready: http://127.0.0.1:" in server.ready_line, server.ready_line)
        print(f"  listening {1000 * server.ready_s:.0f} ms after the start", flush=True)
        server.must_live()


@test
def health_pages_answer():
    server = shared_server()
    for path in ("/livez", "/readyz"):
        equal(server.get(path).must(200).json, {"status": "ok"}, path)
    health = server.get("/health").must(200).json
    equal(health["status"], "ok", "status")
    equal([m["name"] for m in health["models"]], ["tiny"], "models")
    equal(health["models"][0]["status"], "loaded", "status of the model")
    check("gpu" in health, "health does not mention the GPU")
    head = server.request("HEAD", "/livez")
    equal((head.status, head.body), (200, b""), "HEAD /livez")


@test
def metrics_are_in_prometheus_format():
    server = shared_server()
    server.text_of("Once", max_tokens=3)
    server.wait_idle()
    reply = server.get("/metrics").must(200)
    check(reply.headers["Content-Type"].startswith("text/plain; version=0.0.4"), "Content-Type")
    page = server.metrics()
    for name, kind in page.types.items():
        check(name.startswith("gantry_"), f"prefix of {name}")
        if kind == "counter":
            check(name.endswith("_total"), f"counter {name} does not end with _total")
        if kind == "histogram":
            check_histogram(page, name)
    equal(len(set(map(str, page.samples))), len(page.samples), "distinct samples")


def check_histogram(page, name):
    """Buckets grow up to +Inf, which is the count; one set per combination of other labels."""
    series = {}
    for sample, labels, value in page.samples:
        if sample.startswith(name + "_"):
            others = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
            series.setdefault(others, []).append((sample[len(name) + 1 :], labels.get("le"), value))
    check(series, f"{name} has no samples")
    for rows in series.values():
        buckets = [(float(le), v) for part, le, v in rows if part == "bucket"]
        count = [v for part, _, v in rows if part == "count"]
        equal(sorted(buckets), buckets, f"order of the buckets of {name}")
        equal([v for _, v in buckets], sorted(v for _, v in buckets), f"{name} is cumulative")
        equal(buckets[-1], (float("inf"), count[0]), f"last bucket of {name}")
        equal(len([1 for part, _, _ in rows if part == "sum"]), 1, f"sums of {name}")


@test
def metrics_count_what_happened():
    with Server() as server:
        usage = server.complete("Once", max_tokens=7, n=2, ignore_eos=True)["usage"]
        equal(usage["completion_tokens"], 14, "tokens")
        server.wait_idle()
        page = server.metrics()
        equal(page.total("generation_tokens_total"), 14, "generation_tokens_total")
        equal(page.total("prompt_tokens_total"), usage["prompt_tokens"], "prompt_tokens_total")
        equal(page.total("requests_finished_total"), 1, "requests_finished_total")
        check(page.total("steps_total") >= 7, "steps_total")
        check(page.total("kv_blocks") > 0, "kv_blocks")


@test
def models_are_listed_with_what_a_client_should_know():
    server = shared_server()
    reply = server.get("/v1/models").must(200).json
    equal((reply["object"], len(reply["data"])), ("list", 1), "list")
    model = reply["data"][0]
    equal((model["id"], model["object"]), ("tiny", "model"), "id and object")
    check(isinstance(model["created"], int) and model["owned_by"], "created and owned_by")
    meta = model["meta"]
    equal((meta["ctx"], meta["vocab"], meta["chat_template"]), (2048, 512, "plain"), "meta")
    equal(server.get("/v1/models/tiny").must(200).json["id"], "tiny", "one model")
    equal(server.get("/v1/models/t%69ny").must(200).json["id"], "tiny", "an escaped name")
    server.get("/v1/models/other").error(404, "model_not_found", "other")
    equal(server.get("/models").must(200).json, server.get("/v1/models").json, "without /v1")


@test
def unknown_routes_are_404_and_wrong_methods_405():
    server = shared_server()
    for path in ("/", "/v1", "/v1/images/generations", "/v2/models", "/livez/", "/%2e%2e/etc/passwd"):
        server.get(path).error(404, "unknown_url")
    for method, path, allowed in (
        ("GET", CHAT, {"POST", "OPTIONS"}),
        ("DELETE", COMPLETIONS, {"POST", "OPTIONS"}),
        ("POST", "/livez", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/v1/models", {"GET", "HEAD", "OPTIONS"}),
    ):
        reply = server.request(method, path)
        reply.error(405, "method_not_allowed")
        equal(set(reply.headers["Allow"].split(", ")), allowed, f"Allow of {method} {path}")


@test
def wrong_fields_are_named():
    server = shared_server()
    hello = [{"role": "user", "content": "hi"}]
    for body, param in (
        ({"messages": hello, "temperature": "hot"}, "temperature"),
        ({"messages": hello, "temperature": -1}, "temperature"),
        ({"messages": hello, "top_p": 1.5}, "top_p"),
        ({"messages": hello, "n": 0}, "n"),
        ({"messages": hello, "max_tokens": 0}, "max_tokens"),
        ({"messages": hello, "max_tokens": -1}, "max_tokens"),
        ({"messages": hello, "stream": "yes"}, "stream"),
        ({"messages": hello, "stop": [1]}, "stop[0]"),
        ({"messages": hello, "logit_bias": {"a": 1}}, "logit_bias.a"),
        ({"messages": hello, "top_logprobs": 2}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({}, "messages"),
    ):
        error = server.post(CHAT, body).error(400, "invalid_value")
        equal(error["param"], param, f"param for {body}")
        equal(error["type"], "invalid_request_error", "type")
    for body, param in (
        ({"prompt": 5}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [512]}, "prompt"),
        ({"prompt": "x", "logit_bias": {"512": 1}}, "logit_bias"),
        ({"prompt": "x", "stop_token_ids": [512]}, "stop_token_ids"),
        ({"prompt": "x", "allowed_token_ids": [3, 512]}, "allowed_token_ids"),
        ({"prompt": "x", "allowed_token_ids": []}, "allowed_token_ids"),
        ({"prompt": "x", "allowed_token_ids": "a"}, "allowed_token_ids"),
        ({"prompt": "x", "allowed_token_ids": [1, "a"]}, "allowed_token_ids[1]"),
        ({"prompt": "x", "n": 17}, "n"),
        ({}, "prompt"),
    ):
        error = server.post(COMPLETIONS, body).error(400, "invalid_value")
        equal(error["param"], param, f"param for {body}")


@test
def what_is_not_done_is_refused_by_name():
    server = shared_server()
    hello = [{"role": "user", "content": "hi"}]
    tool = {"type": "function", "function": {"name": "f"}}
    for more, param in (
        ({"tools": [tool]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"modalities": ["audio"]}, "modalities[0]"),
    ):
        error = server.post(CHAT, {"messages": hello, **more}).error(400, "unsupported_parameter")
        equal(error["param"], param, f"param for {more}")
    for more, param in (({"best_of": 3}, "best_of"), ({"suffix": "end"}, "suffix")):
        reply = server.post(COMPLETIONS, {"prompt": "x", **more})
        error = reply.error(400, "unsupported_parameter")
        equal(error["param"], param, f"param for {more}")


@test
def ignored_fields_are_reported_back():
    server = shared_server()
    body = {"prompt": "x", "max_tokens": 1}
    check("X-Ignored-Params" not in server.post(COMPLETIONS, body).headers, "nothing was ignored")
    reply = server.post(COMPLETIONS, {**body, "user": "me", "colour": 3}).must(200)
    names = set(reply.headers["X-Ignored-Params"].split(", "))
    equal(names, {"user", "colour"}, "X-Ignored-Params")
    nasty = server.post(COMPLETIONS, {**body, "a\r\nSet-Cookie: x": 1}).must(200)
    check("Set-Cookie" not in nasty.headers, "a field name became a header")


@test
def a_prompt_that_does_not_fit_is_told_both_counts():
    with Server("--ctx", "64") as server:
        error = server.post(COMPLETIONS, {"prompt": [5] * 65, "max_tokens": 4})
        error.error(400, "context_length_exceeded", 65, 64)
        long = {"messages": [{"role": "user", "content": "word " * 400}], "stream": True}
        server.post(CHAT, long).error(400, "context_length_exceeded", 64)
        done = server.complete([5] * 60, max_tokens=100, ignore_eos=True)
        equal(done["choices"][0]["finish_reason"], "length", "finish_reason at the context's end")
        check(done["usage"]["total_tokens"] <= 65, f"usage {done['usage']}")
        server.wait_idle()


@test
def bodies_beyond_the_limit_are_413():
    with Server("--request-bytes-max", "10KiB") as server:
        body = {"prompt": "x" * 20000, "max_tokens": 1}
        equal(server.post(COMPLETIONS, body).status, 413, "with a length")
        text = json.dumps(body).encode()
        parts = iter([text[:9000], text[9000:]])
        chunks = server.request("POST", COMPLETIONS, parts, {"Content-Type": "application/json"})
        equal(chunks.status, 413, "in chunks")
        s = server.connect()
        s.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
        )
        check(b" 413 " in s.recv(4096).split(b"\r\n")[0], "413 before the body is sent")
        s.close()
        server.post(COMPLETIONS, {"prompt": "x", "max_tokens": 1}).must(200)


@test
def bodies_that_are_not_json_are_400():
    server = shared_server()
    for body in (b"", b"{", b"nonsense", b'{"prompt": }', b"[1, 2]", b'"x"', b'{"prompt":"\xff"}'):
        error = server.post(COMPLETIONS, body).error(400, "invalid_value")
        check(error["message"], f"message for {body!r}")
    kind = {"Content-Type": "text/plain"}
    server.request("POST", COMPLETIONS, "{}", kind).error(415, "unsupported_media_type")
    zipped = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    server.request("POST", COMPLETIONS, "{}", zipped).error(415, "unsupported_media_type")


@test
def other_hosts_and_origins_stay_outside():
    server = shared_server()
    for host in ("attacker.example", "attacker.example:80", "2130706433", "", "0x7f.1"):
        server.get("/livez", {"Host": host}).error(403, "forbidden")
    for host in ("localhost", "127.0.0.1", "[::1]:8080", f"localhost:{server.port}", "127.9.9.9"):
        server.get("/livez", {"Host": host}).must(200)
    for origin in ("http://attacker.example", "null", "file://", "http://127.0.0.1:1"):
        reply = server.get("/v1/models", {"Origin": origin})
        reply.error(403, "forbidden")
        check("Access-Control-Allow-Origin" not in reply.headers, f"CORS for {origin}")
    server.get("/v1/models", {"Origin": f"http://127.0.0.1:{server.port}"}).must(200)


@test
def listed_hosts_and_origins_come_in():
    page = "https://app.example"
    with Server("--allowed-hosts", "llm.lan", "--cors-origins", page) as server:
        server.get("/livez", {"Host": "llm.lan:8080"}).must(200)
        server.get("/livez", {"Host": "llm.lan.attacker.example"}).error(403, "forbidden")
        reply = server.get("/v1/models", {"Origin": page}).must(200)
        equal(reply.headers["Access-Control-Allow-Origin"], page, "Access-Control-Allow-Origin")
        server.get("/v1/models", {"Origin": page + ".attacker.example"}).error(403, "forbidden")
        ask = {"Origin": page, "Access-Control-Request-Method": "POST"}
        preflight = server.request("OPTIONS", CHAT, None, ask)
        equal(preflight.status, 204, "preflight")
        check("POST" in preflight.headers["Access-Control-Allow-Methods"], "allowed methods")


def asked(server, query):
    """What /debug/roofline answers, and a thread that waits for it."""
    said = []
    thread = threading.Thread(target=lambda: said.append(server.get("/debug/roofline" + query)))
    thread.start()
    return said, thread


@test
def roofline_measures_the_next_steps():
    server = shared_server()
    server.wait_idle()
    begun = server.stderr.count("profile begins")
    said, thread = asked(server, "?steps=8&seconds=20")
    server.wait_said("profile begins", begun + 1)
    server.get("/debug/roofline").error(409, "busy")
    server.text_of("Once upon a time", max_tokens=20, ignore_eos=True)
    thread.join()
    page = said[0].must(200).json
    equal((page["model"], page["steps"]), ("tiny", 8), "what was measured")
    equal((page["prompt"]["steps"], page["decode"]["steps"]), (1, 7), "steps")
    equal(page["decode"]["rows"], 1, "rows of a step")
    for table in (page["prompt"], page["decode"]):
        roofline.check_table(table)
        on_gpu = table["places"][0]["where"].startswith("cuda")  # a card's are known from its clocks
        for row in table["kernels"]:
            equal(row["limit"] is not None, on_gpu and row["ops"] != [], f"limit of {row['task']}")
        check(roofline.kinds(table)["MATMUL"] == 2 * 7 + 1, "products")


@test
def roofline_answers_in_time_when_nobody_asks_the_model():
    server = shared_server()
    server.wait_idle()
    begun = time.monotonic()
    page = server.get("/debug/roofline?seconds=1").must(200).json
    check(0.9 < time.monotonic() - begun < 10, "the second that it was to take")
    equal((page["steps"], page["prompt"], page["decode"]), (0, None, None), "steps")
    server.get("/debug/roofline?steps=65").error(400, "invalid_value")
    server.get("/debug/roofline?model=nobody").error(404, "model_not_found")


@test
def a_key_guards_everything_but_health():
    key = "s3cret-key"
    with Server(env={"GANTRY_API_KEY": key}) as server:
        for path in ("/livez", "/readyz", "/health"):
            server.get(path).must(200)
        for path in ("/v1/models", "/metrics", "/nowhere"):
            reply = server.get(path)
            reply.error(401, "invalid_api_key")
            equal(reply.headers["WWW-Authenticate"], "Bearer", "WWW-Authenticate")
        body = {"prompt": "x", "max_tokens": 1}
        server.post(COMPLETIONS, body).error(401, "invalid_api_key")
        for wrong in ("Bearer ", "Bearer wrong", f"Bearer {key}x", f"Basic {key}", key):
            server.get("/v1/models", {"Authorization": wrong}).error(401, "invalid_api_key")
        for right in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}):
            server.get("/v1/models", right).must(200)
            server.post(COMPLETIONS, body, right).must(200)
        server.get("/metrics", {"x-api-key": key}).must(200)
        server.get("/debug/roofline").error(401, "invalid_api_key")
        server.get("/debug/roofline?seconds=1", {"x-api-key": key}).must(200)
    check(key not in server.stderr, "the key is in the log")


@test
def requests_have_ids_that_come_back():
    server = shared_server()
    own = server.get("/livez", {"x-request-id": "my-id.7"})
    equal(own.headers["x-request-id"], "my-id.7", "id")
    ids = {server.get("/livez").headers["x-request-id"] for _ in range(5)}
    equal(len(ids), 5, "different ids")


@test
def a_connection_serves_one_request_after_the_other():
    server = shared_server()
    one = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    s = server.connect()
    s.sendall(one + harness.post_bytes(COMPLETIONS, {"prompt": "x", "max_tokens": 2}) + last)
    answer = harness.read_until_closed(s)
    equal(answer.count(b"HTTP/1.1 200 "), 3, "answers on one connection")
    s.close()


@test
def two_models_are_told_apart_by_name():
    other = os.path.join(harness.TMP, "other.gguf")
    harness.gantry("bench", "synth:tiny:f16", "--export", other).succeeded()
    with Server("-m", "b=" + other, model="a=" + harness.TINY) as server:
        equal([m["id"] for m in server.get("/v1/models").json["data"]], ["a", "b"], "models")
        fields = {"max_tokens": 24, "temperature": 0, "ignore_eos": True}
        done = {m: server.complete("Once", model=m, **fields) for m in ("a", "b")}
        for name, answer in done.items():
            equal(answer["model"], name, "model of the answer")
            path = harness.TINY if name == "a" else other
            args = ("--raw", "--temp", "0", "-n", "24", "-p", "Once")
            text = harness.gantry("run", path, *args).succeeded().text
            check(answer["choices"][0]["text"].startswith(text), f"text of {name}")
        equal(server.complete("Once", **fields)["model"], "a", "the model of no name")
        reply = server.post(COMPLETIONS, {"model": "c", "prompt": "x"})
        reply.error(404, "model_not_found", "'c'", "a", "b")
        page = server.metrics()
        names = {labels.get("model") for n, labels, _ in page.samples if n == "gantry_steps_total"}
        equal(names, {"a", "b"}, "models in the metrics")


def ctx_of(*args, **more):
    with Server(*args, **more) as server:
        return server.get("/v1/models").json["data"][0]["meta"]["ctx"]


@test
def flags_win_over_variables_over_the_file_over_defaults():
    path = os.path.join(harness.TMP, "gantry.yaml")
    with open(path, "w", encoding="ascii") as file:
        file.write("engine:\n  ctx: 128\n  threads: 1\nserver:\n  drain_ms_max: 5s\n")
    variable = {"GANTRY_CTX": "256"}
    equal(ctx_of(), 2048, "ctx by default")
    equal(ctx_of("--config", path), 128, "ctx of the file")
    equal(ctx_of("--config", path, env=variable), 256, "ctx of the variable")
    equal(ctx_of("--config", path, "--ctx", "512", env=variable), 512, "ctx of the flag")
    with open(path, "a", encoding="ascii") as file:
        file.write("  colour: red\n")
    harness.gantry("serve", "--config", path, "-m", harness.TINY).failed_with(1, path, "colour")


@test
def a_port_that_is_taken_is_an_error():
    server = shared_server()
    args = ("-m", harness.TINY, "--port", server.port, "--log-level", "error")
    harness.gantry("serve", *args).failed_with(1, str(server.port))
