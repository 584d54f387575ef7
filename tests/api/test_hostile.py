"""test_hostile.py - files, prompts, requests and bytes that broke other servers.

The cases are those of cve-regressions: one bad input for each real bug, written anew by its
gen.py, with what is expected of each in manifest.jsonl.
"""
import functools
import http.client
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time

import harness
from harness import check, equal, gantry, shared_path, shared_server, test

INSPECT_BYTES = 64 << 20  # what a small broken file may cost
RSS_GROWTH_KIB = 16 << 10


@functools.lru_cache
def cases(kind):
    """(path, expectation) of each case of a kind."""
    folder = os.path.join(harness.TMP, "hostile")
    if not os.path.exists(folder):
        maker = shared_path("suites/cve-regressions/gen.py")
        subprocess.run([sys.executable, maker, folder], check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(folder, "manifest.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(os.path.join(folder, r["file"]), r["expect"]) for r in rows if r["kind"] == kind]


def name_of(path):
    return os.path.splitext(os.path.basename(path))[0]


def limit_memory(path):
    if harness.SANITIZER:
        return None  # its shadow memory does not fit below any such limit
    most = os.path.getsize(path) + INSPECT_BYTES
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most))


def must_reject(expectation):
    return expectation.startswith("reject") and " or " not in expectation.split("reject", 1)[1]


@test
def inspect_survives_every_hostile_model_file():
    """What cannot be read is one line on stderr; what can be read but never run says so."""
    seen = cases("gguf")
    check(len(seen) >= 100, f"{len(seen)} cases")
    for path, expectation in seen:
        done = gantry("inspect", "--json", path, before=limit_memory(path), timeout=20)
        if done.code != 0:
            done.failed_with(1, name_of(path))
        elif must_reject(expectation):
            facts = json.loads(done.out)
            said = (facts["runnable"], bool(facts["reason"]))
            equal(said, (False, True), f"{name_of(path)}: runnable, and whether a reason is given")


@test
def no_hostile_model_file_is_run():
    for path, _ in cases("gguf"):
        args = ("run", path, "-p", "x", "-n", "1", "--gpu", "off")
        gantry(*args, timeout=20).failed_with(1, name_of(path))


# --- directories and adapters -----------------------------------------------------------------


def hf_folder(name, without=()):
    """A copy of a recorded directory in which something can be replaced."""
    source = shared_path("oracle/public/models/qwen2/hf-bf16")
    folder = os.path.join(harness.TMP, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for file in os.listdir(source):
        if file not in without:
            shutil.copy(os.path.join(source, file), folder)
    return folder


def write_json(value, *parts):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    with open(os.path.join(*parts), "wb") as file:
        file.write(text)


def require_refusal(folder, what):
    """inspect says why not, or cannot say anything; no command makes anything of it."""
    before = limit_memory(folder)
    done = gantry("inspect", "--json", folder, before=before, timeout=20 * harness.SCALE)
    if done.code != 0:
        done.failed_with(1, "gantry inspect: ")
    else:
        facts = json.loads(done.out)
        said = (facts["runnable"], bool(facts["reason"]))
        equal(said, (False, True), f"{what}: runnable, and whether a reason is given")
    out = os.path.join(harness.TMP, "refused.out")
    args = ("logits", folder, "--tokens", "1", "-o", out)
    gantry(*args, timeout=20 * harness.SCALE).failed_with(1, "gantry logits: ")
    gantry("convert", folder, out, timeout=20 * harness.SCALE).failed_with(1, "gantry convert: ")
    check(not os.path.exists(out), f"{what}: a file after a refusal")


def require_calm(folder, what, inspect=True):
    """An answer or one line of what is wrong; the same from both commands."""
    before = limit_memory(folder)
    out = folder + ".f32"
    args = ("--tokens", "1,5,9", "-o", out)
    done = gantry("logits", folder, *args, before=before, timeout=20 * harness.SCALE)
    if done.code != 0:
        done.failed_with(1, "gantry logits: ")
        check("\ufffd" not in done.err, lambda: f"{what}: no text: {done.err!r}")
    computed = done.code == 0
    if not inspect:
        return computed
    done = gantry("inspect", "--json", folder, before=before, timeout=20 * harness.SCALE)
    if done.code != 0:
        done.failed_with(1, "gantry inspect: ")
    runnable = done.code == 0 and json.loads(done.out)["runnable"]
    equal(computed, runnable, f"{what}: computed, and whether inspect calls it runnable")
    return computed


@test
def no_hostile_safetensors_file_is_a_model():
    seen = cases("safetensors")
    check(len(seen) >= 31, f"{len(seen)} cases")
    for path, _ in seen[:: harness.SCALE]:
        folder = hf_folder("hostile-weights", without=("model.safetensors",))
        shutil.copy(path, os.path.join(folder, "model.safetensors"))
        require_refusal(folder, name_of(path))
        shard = "model-00001-of-00001.safetensors"
        os.rename(os.path.join(folder, "model.safetensors"), os.path.join(folder, shard))
        write_json({"weight_map": {"a": shard}}, folder, "model.safetensors.index.json")
        require_refusal(folder, f"{name_of(path)} behind an index")


@test
def no_hostile_safetensors_file_is_an_adapter():
    model = shared_path("oracle/public/models/qwen2/model-f32.gguf")
    out = os.path.join(harness.TMP, "adapted.f32")
    folder = os.path.join(harness.TMP, "hostile-adapter")
    os.makedirs(folder, exist_ok=True)
    write_json({"peft_type": "LORA", "r": 1, "lora_alpha": 1}, folder, "adapter_config.json")
    for path, _ in cases("safetensors")[:: harness.SCALE]:
        shutil.copy(path, os.path.join(folder, "adapter_model.safetensors"))
        args = ("logits", model, "--tokens", "1", "-o", out, "--lora", folder)
        done = gantry(*args, timeout=20 * harness.SCALE)
        done.failed_with(1, "gantry logits: ")
        check(not os.path.exists(out), f"{name_of(path)}: a file after a refusal")


@test
def no_hostile_model_file_is_an_adapter():
    model = shared_path("oracle/public/models/llama-mha/model-f32.gguf")
    out = os.path.join(harness.TMP, "adapted.f32")
    for path, _ in cases("gguf")[:: harness.SCALE]:
        args = ("logits", model, "--tokens", "1", "-o", out, "--lora", path)
        gantry(*args, timeout=20 * harness.SCALE).failed_with(1, "gantry logits: ")


INDEXES = {
    "no object": [],
    "no map": {},
    "a map of numbers": {"weight_map": {"a": 5}},
    "an empty map": {"weight_map": {}},
    "an absolute path": {"weight_map": {"a": "/etc/passwd"}},
    "a path upwards": {"weight_map": {"a": "../model.safetensors"}},
    "a path below": {"weight_map": {"a": "x/model.safetensors"}},
    "a missing file": {"weight_map": {"a": "model-00001-of-00002.safetensors"}},
    "an empty name": {"weight_map": {"a": ""}},
    "itself": {"weight_map": {"a": "model.safetensors.index.json"}},
    "the folder": {"weight_map": {"a": "."}},
    "a zero byte": {"weight_map": {"a": "model.safetensors\0"}},
    "a long name": {"weight_map": {"a": "a" * 5000}},
    "many files": {"weight_map": {str(i): f"{i}.safetensors" for i in range(20000)}},
    "half a text": b'{"weight_map": {"a": "mod',
    "deep": b"[" * 200000,
}


@test
def no_hostile_index_leads_anywhere():
    for what, index in INDEXES.items():
        folder = hf_folder("hostile-index", without=("model.safetensors",))
        write_json(index, folder, "model.safetensors.index.json")
        require_refusal(folder, what)


WRONG_VALUES = (None, "", "x", -1, 0, 3, 0.5, 1e300, 2**31, 2**64, [], [1] * 9, {}, True)
LANES = 2  # folders tried at a time


@test
def no_value_in_a_configuration_is_fatal():
    """Every member of config.json with every kind of value, one at a time."""
    folders = [hf_folder(f"hostile-config-{i}") for i in range(LANES)]
    with open(os.path.join(folders[0], "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    check(require_calm(folders[0], "the recorded one"), "the recorded directory does not run")
    more = {
        "head_dim": 16,
        "quantization_config": None,
        "num_experts": None,
        "partial_rotary_factor": None,
        "layer_types": None,
        "text_config": None,
        "rope_parameters": None,
    }
    trials = [(key, value) for key in {**config, **more} for value in WRONG_VALUES]
    trials = trials[:: harness.SCALE]

    def run(lane):
        for i, (key, value) in list(enumerate(trials))[lane::LANES]:
            write_json({**config, key: value}, folders[lane], "config.json")
            require_calm(folders[lane], f"{key} = {value!r}", inspect=i % 5 == 0)

    harness.in_parallel([lambda lane=lane: run(lane) for lane in range(LANES)])


SCALINGS = (
    {"type": "yarn"},
    {"type": "yarn", "factor": 0},
    {"type": "yarn", "factor": 1e300, "original_max_position_embeddings": 1},
    {"type": "yarn", "factor": 4, "original_max_position_embeddings": -1},
    {"type": "yarn", "factor": 4, "beta_fast": 0, "beta_slow": 0},
    {"rope_type": "llama3"},
    {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4},
    {"rope_type": "longrope", "short_factor": [], "long_factor": []},
    {"rope_type": "longrope", "short_factor": [0] * 8, "long_factor": ["x"] * 8},
    {"rope_type": "linear", "factor": "2"},
    {"rope_type": "linear", "factor": -2},
    {"rope_type": "dynamic", "factor": 2},
    {"rope_type": "none such"},
    {"rope_type": 5},
)


@test
def no_scaling_of_positions_is_fatal():
    folder = hf_folder("hostile-scaling")
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    for scaling in SCALINGS:
        for key in ("rope_scaling", "rope_parameters"):
            write_json({**config, key: scaling}, folder, "config.json")
            require_calm(folder, f"{key} {scaling}")


BROKEN_FILES = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe{}",
    b'{"architectures": ["Qwen2ForCausalLM"]}',
    b'{"architectures": [], "architectures": 5}',
    b'{"a":' * 100000,
    b"[" * 500000,
    b'{"architectures": ["' + b"x" * 1000000 + b'"]}',
    b'{"hidden_size": ' + b"9" * 100000 + b"}",
)


@test
def no_broken_file_of_a_directory_is_fatal():
    names = ("config.json", "tokenizer.model", "tokenizer_config.json", "generation_config.json")
    for name in names:
        for i, content in enumerate(BROKEN_FILES):
            folder = hf_folder("hostile-file")
            write_json(content, folder, name)
            require_calm(folder, f"{name} number {i}")
        folder = hf_folder("hostile-file", without=(name,))
        os.mkdir(os.path.join(folder, name))
        require_calm(folder, f"{name} is a folder")


@test
def special_files_in_a_directory_are_not_waited_for():
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        folder = hf_folder("hostile-pipe", without=(name,))
        os.mkfifo(os.path.join(folder, name))
        require_calm(folder, f"{name} is a pipe")


@test
def no_value_in_an_adapters_configuration_is_fatal():
    model = shared_path("oracle/public/models/qwen2/model-f32.gguf")
    folder, out = os.path.join(harness.TMP, "odd-adapter"), os.path.join(harness.TMP, "odd.f32")
    os.makedirs(folder, exist_ok=True)
    ones = struct.pack("<64f", *[0.01] * 64)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    header = {
        name.format("A"): {"dtype": "F32", "shape": [1, 64], "data_offsets": [0, 256]},
        name.format("B"): {"dtype": "F32", "shape": [64, 1], "data_offsets": [256, 512]},
    }
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + ones * 2)
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"]}

    def load(value, what):
        write_json(value, folder, "adapter_config.json")
        args = ("logits", model, "--tokens", "1,5", "-o", out, "--lora", folder)
        done = gantry(*args, timeout=20 * harness.SCALE)
        if done.code != 0:
            done.failed_with(1, "gantry logits: ")
        check(done.code == 0 or what, lambda: f"the adapter itself is refused: {done.err}")

    load(config, "")
    for key in (*config, "alpha_pattern", "rank_pattern", "use_rslora", "use_dora", "bias"):
        for value in WRONG_VALUES:
            load({**config, key: value}, f"{key} = {value!r}")
    for i, content in enumerate(BROKEN_FILES):
        load(content, f"content {i}")


# --- prompts, templates -----------------------------------------------------------------------


@test
def tokenize_survives_every_hostile_prompt():
    for path, _ in cases("prompt"):
        with open(path, "rb") as file:
            text = file.read()
        patience = 20 * harness.SCALE
        gantry("tokenize", harness.TINY, stdin=text, timeout=patience).succeeded()
        flags = ("--no-special", "--no-parse-special")
        done = gantry("tokenize", harness.TINY, *flags, stdin=text, timeout=patience)
        ids = done.succeeded().text.encode()
        back = gantry("detokenize", harness.TINY, stdin=ids, timeout=patience).succeeded()
        equal(back.out.removeprefix(b" "), text.removeprefix(b" "), f"{name_of(path)} and back")


@test
def render_survives_every_hostile_template():
    """Text or one line of what is wrong, soon, and nothing that belongs to the machine."""
    seen = cases("template")
    check(len(seen) >= 34, f"{len(seen)} cases")
    request = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    patience = 20 * harness.SCALE  # a hang is one on any machine; what it takes is printed
    slowest = 0.0
    for path, _ in seen:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = gantry("render", "--template", path, stdin=request, timeout=patience)
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        slowest = max(slowest, used)
        if done.code != 0:
            done.failed_with(1, "")
        for word in (b"uid=", b"root:", b"<class", b"<function", b"<module"):
            check(word not in done.out, f"{name_of(path)} prints {done.out[:80]!r}")
    print(f"  slowest hostile template: {slowest:.2f} s of computing", flush=True)


@test
def a_hostile_template_neither_delays_a_load_nor_ends_a_server():
    """The check at load gives up; requests get an error, as long as they ask."""
    turns = "{% for i in range(100000) %}{% set t = s.find('y') %}{% endfor %}"
    path = os.path.join(harness.TMP, "slow.jinja")
    with open(path, "w", encoding="utf-8") as file:
        file.write("{% set s = 'x' * 1000000 %}" + turns)
    begun = time.monotonic()
    server = shared_server("--gpu", "off", "--chat-template", path)
    meta = server.get("/v1/models").must(200).json["data"][0]["meta"]
    waited = time.monotonic() - begun
    check(waited < 20 * harness.SCALE, f"loaded after {waited:.1f} s")
    check(meta["chat_template_check"].startswith("error: "), meta["chat_template_check"])
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    server.post("/v1/chat/completions", body).error(400, "chat_template_error", "line 1")
    server.complete("Once", max_tokens=1)


def openai_requests():
    for path, expectation in cases("request"):
        with open(path, encoding="utf-8") as file:
            case = json.load(file)
        if case["path"].startswith("/v1/"):
            yield name_of(path), case, expectation


def body_of(case):
    if "raw_body" in case:
        return case["raw_body"].encode("utf-8", "surrogatepass")
    body = {**case["body"], "model": "tiny"}
    body.setdefault("max_tokens", 4)
    return json.dumps(body).encode()


@test
def every_hostile_request_gets_an_answer():
    server = shared_server()
    seen = list(openai_requests())
    check(len(seen) >= 40, f"{len(seen)} cases")
    for name, case, _ in seen:
        reply = server.request(
            case["method"], case["path"], body_of(case), {"Content-Type": "application/json"}
        )
        check(reply.status < 500 or reply.status == 503, f"{name}: status {reply.status}")
        if reply.status >= 400 and case["method"] != "HEAD":
            check(reply.json["error"]["message"], f"{name}: no message")
        server.must_live()
    server.wait_idle()


@test
def hostile_requests_do_not_change_a_stream_beside_them():
    server = shared_server()
    fields = {"max_tokens": 400, "temperature": 0, "ignore_eos": True}
    alone = server.text_of("Once upon", **fields)
    stream = server.open_stream("Once upon", **fields)
    for _, case, _ in openai_requests():
        server.request(
            case["method"], case["path"], body_of(case), {"Content-Type": "application/json"}
        )
    body = harness.read_stream(stream)
    equal(harness.joined(harness.sse_chunks(body))[0], alone, "the stream")


@test
def images_are_refused_without_a_connection():
    """Our own listener stands where an image address points to; nobody calls."""
    server = shared_server()
    trap = socket.create_server(("127.0.0.1", 0))
    trap.settimeout(0.3)
    url = f"http://127.0.0.1:{trap.getsockname()[1]}/x.png"
    part = {"type": "image_url", "image_url": {"url": url}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    reply = server.post("/v1/chat/completions", body)
    reply.error(400, "unsupported_parameter", "image_url")
    try:
        trap.accept()
        check(False, "the server fetched the address of a client")
    except TimeoutError:
        pass
    trap.close()


@test
def raw_bytes_cost_neither_life_nor_memory():
    """A body that never comes may wait for its own limit, a head for its own."""
    limits = ("--head-ms-max", "500", "--body-ms-max", "1s", "--idle-ms-max", "500")
    server = shared_server("--allowed-hosts", "a", *limits)
    server.must_live()
    before = server.rss_kib()
    for path, _ in cases("http"):
        name = name_of(path)
        with open(path, "rb") as file:
            data = file.read()
        s = server.connect()
        begun = time.monotonic()
        try:
            s.sendall(data)
        except ConnectionError:
            pass  # closed while we were still sending: its right
        answer = harness.read_until_closed(s)
        waited = time.monotonic() - begun
        s.close()
        status = answer.split(b" ", 2)[1] if answer.startswith(b"HTTP/1.1 ") else b"closed"
        check(status == b"closed" or status.startswith(b"4"), f"{name}: answered {status!r}")
        check(waited < 5 * harness.SCALE, f"{name}: open for {waited:.1f} s")
        server.must_live()
    if not harness.SANITIZER:
        grown = server.rss_kib() - before
        check(grown < RSS_GROWTH_KIB, f"memory grew by {grown} KiB")


@test
def half_closed_clients_are_let_go_at_once():
    """Whoever stops sending in the middle of a request, or between two, is not waited for."""
    server = shared_server()
    whole = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    chunked = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
    sent = {
        "nothing": b"",
        "half a head": whole[:30],
        "a whole request": whole,
        "a head without its body": harness.post_bytes("/v1/completions", {"prompt": "x"})[:-5],
        "half a chunk": chunked + b"\r\nff\r\n{",
        "a refused request": whole.replace(b"127.0.0.1", b"elsewhere"),
    }
    for attempt in range(harness.scaled(8)):
        for what, data in sent.items():
            s = server.connect()
            s.settimeout(5 * harness.SCALE)
            s.sendall(data)
            if attempt % 2:
                time.sleep(0.01)
            s.shutdown(socket.SHUT_WR)
            try:
                harness.read_until_closed(s)
            except TimeoutError:
                check(False, f"still open 5 s after {what} and the end (attempt {attempt})")
            s.close()
    server.must_live()


@test
def a_body_cut_short_is_no_request():
    server = shared_server()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"prompt": "x"')
    connection.close()
    server.wait_idle()
    server.must_live()
