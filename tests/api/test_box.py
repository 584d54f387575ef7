"""test_box.py - the model in the binary, gantry-mini, and a server without any model.

Nothing here depends on what the model has learnt: that is tests/clients/gantry_mini.mjs.
"""
import json
import os
import shutil

import harness
from harness import Server, check, equal, gantry, test

NAME = "gantry-mini"
COMMITTED = os.path.join("models", NAME, NAME + ".gguf")
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


def folder(name):
    path = os.path.join(harness.TMP, "box", name)
    os.makedirs(path)
    return path


# --- gantry run -------------------------------------------------------------------------------


@test
def run_without_a_model_asks_the_one_in_the_binary():
    done = gantry("run", "-p", "Hello", "-n", "4", "--temp", "0").succeeded()
    lines = done.err.splitlines()
    equal(len(lines), 2, "lines of the banner")
    for words in (NAME, "demonstration", "from scratch", "not for real work"):
        check(words in lines[0], f"the banner lacks {words!r}: {lines[0]}")
    check("gantry run PATH/TO/model.gguf" in lines[1], lines[1])
    named = gantry("run", NAME, "-p", "Hello", "-n", "4", "--temp", "0").succeeded()
    equal(named.out, done.out, "the answer under its name")
    file = gantry("run", COMMITTED, "-p", "Hello", "-n", "4", "--temp", "0").succeeded()
    equal(file.out, done.out, "the answer of the committed file")
    check(NAME not in file.err, "a banner over a file of somebody")


@test
def run_in_a_pipe_wants_a_model_or_a_prompt():
    gantry("run", stdin=b"Hello\n").failed_with(2, "MODEL", "-p", NAME)
    done = gantry("run", NAME, "-n", "4", stdin=b"Hello\nAgain\n").succeeded()
    equal(done.out.count(b"\n") >= 2, True, "an answer per line")


# --- the name -----------------------------------------------------------------------------------


@test
def every_command_knows_the_name():
    ids = gantry("tokenize", NAME, stdin=b"Hello there").succeeded().text
    equal(gantry("tokenize", COMMITTED, stdin=b"Hello there").text, ids, "ids")
    equal(gantry("detokenize", NAME, stdin=ids.encode()).succeeded().out, b"Hello there", "bytes")
    about = json.loads(gantry("inspect", NAME, "--json").succeeded().text)
    check("demonstration model" in json.dumps(about), "inspect does not say what it is")
    case = json.dumps({"messages": CHAT["messages"]}).encode()
    text = gantry("render", NAME, stdin=case).succeeded().text
    check("<|im_start|>user\nHello" in text, "render")
    out = os.path.join(harness.TMP, "mini.f32")
    gantry("logits", NAME, "--tokens", "1,2", "--last", "-o", out).succeeded()
    check(os.path.getsize(out) > 4096, "logits")
    text = os.path.join(harness.TMP, "mini.txt")
    with open(text, "w", encoding="ascii") as file:
        file.write("Gantry is a server for large language models. " * 4)
    check(gantry("perplexity", NAME, "-f", text).succeeded().text.startswith("ppl "), "perplexity")
    gantry("bench", NAME, "-p", "8", "-n", "2", "--repeat", "1").succeeded()
    gantry("bench", NAME, "--quantize", "Q4_0").failed_with(2, "--quantize", NAME)


@test
def a_file_or_folder_of_that_name_goes_first():
    here = folder("file")
    shutil.copy(harness.TINY, os.path.join(here, NAME))
    done = gantry("tokenize", NAME, stdin=b"Hello", before=lambda: os.chdir(here)).succeeded()
    check(NAME in done.err and "instead of the built-in" in done.err, f"no word of it: {done.err}")
    equal(done.out, gantry("tokenize", harness.TINY, stdin=b"Hello").out, "ids of the file")
    done = gantry("run", "-p", "x", "-n", "1", before=lambda: os.chdir(here)).succeeded()
    check("demonstration" not in done.err, "the banner speaks of another model")
    other = folder("folder")
    os.mkdir(os.path.join(other, NAME))
    failed = gantry("run", "-p", "x", before=lambda: os.chdir(other))
    equal((failed.code, failed.out), (1, b""), "a folder that is no model")
    check("no model.safetensors" in failed.err, failed.err)


# --- serving it ---------------------------------------------------------------------------------


def log_has(server, *words):
    found = any(all(word in line for word in words) for line in server.lines)
    check(found, lambda: f"no log line has {words}: {server.stderr[-800:]}")


@test
def a_server_of_it_says_what_it_is():
    with Server(model=NAME) as server:
        listed = server.get("/v1/models").must(200).json["data"]
        equal([one["id"] for one in listed], [NAME], "names")
        check("demonstration model" in listed[0]["description"], listed[0]["description"])
        equal((listed[0]["license"], listed[0]["owned_by"]), ("Apache-2.0", "gantry"), "whose")
        equal(listed[0]["meta"]["chat_template_check"], "ok", "its template")
        check("tool_calls" in listed[0]["meta"]["chat_template_caps"], "tools")
        server.chat(CHAT["messages"], max_tokens=4, model=NAME)
        log_has(server, "about name=gantry-mini", "demonstration model", "Apache-2.0")


@test
def it_answers_to_another_name_beside_others():
    with Server("-m", "demo=" + NAME) as server:
        listed = server.get("/v1/models").must(200).json["data"]
        equal([one["id"] for one in listed], ["tiny", "demo"], "names")
        server.chat(CHAT["messages"], max_tokens=4, model="demo")
        tiny = server.get("/v1/models/tiny").must(200).json
        check("demonstration" not in json.dumps(tiny), "the description of another model")


# --- no model -----------------------------------------------------------------------------------


@test
def a_server_without_a_model_says_so():
    with Server(model=False) as server:
        check(server.ready_line.endswith("(no model)"), server.ready_line)
        log_has(server, " WARN ", "no model: give one with -m MODEL")
        equal(server.get("/livez").must(200).json, {"status": "ok"}, "/livez")
        server.get("/readyz").error(503, "not_ready", "no model is loaded", "-m MODEL")
        server.get("/health").error(503, "not_ready", "no model is loaded")
        equal(server.get("/v1/models").must(200).json, {"object": "list", "data": []}, "models")
        server.get("/v1/models/gpt-4").error(404, "model_not_found", "gpt-4", "none")
        server.get("/metrics").must(200)


@test
def a_server_without_a_model_refuses_what_wants_one():
    asked = {
        "/v1/chat/completions": CHAT,
        "/v1/completions": {"prompt": "Hello"},
        "/v1/embeddings": {"input": "Hello"},
        "/v1/rerank": {"query": "a", "documents": ["b"]},
    }
    with Server(model=False) as server:
        for path, body in asked.items():
            server.post(path, body).error(503, "not_ready", "no model is loaded")
            server.post(path, {**body, "model": "gpt-4"}).error(404, "model_not_found", "gpt-4")
        server.post("/v1/chat/completions", {**CHAT, "stream": True}).error(503, "not_ready")
        server.must_live()
