"""test_lora.py - low-rank adapters: on the command line, chosen by requests, loaded while serving.

The recorded tokens are those of oracle/public/models/llama-mha with its adapter at two scales.
"""
import json
import os
import shutil

import harness
import oracle
from harness import Server, check, equal, gantry, in_parallel, shared_path, shared_server, test

PROMPTS = ("p24", "p130")
EXACT = {"temperature": 0, "max_tokens": 32, "ignore_eos": True}
WHOLE, HALF = "r8.s1.0", "r8.s0.5"


def of_mha(name):
    return shared_path("oracle/public/models/llama-mha/" + name)


def ids_of(prompt):
    return list(oracle.numbers("i", of_mha(prompt + ".ids.i32")))


def text_of_ids(ids):
    line = " ".join(map(str, ids))
    done = gantry("detokenize", of_mha("model-f32.gguf"), stdin=line.encode()).succeeded()
    return done.out.decode("utf-8", "replace")


def recorded(prompt, tag=None):
    """The text that goes on greedily from a prompt, without an adapter when there is no tag.

    A blank at its beginning is lost, since nothing stands before it here.
    """
    name = f"lora/{tag}.{prompt}.greedy.i32" if tag else f"{prompt}.greedy.i32"
    return text_of_ids(oracle.numbers("i", of_mha(name)))


def goes_on(server, prompt, **fields):
    return server.text_of(ids_of(prompt), **EXACT, **fields).removeprefix(" ")


def adapter():
    return of_mha("lora/lora-r8-all.gguf")


def a_server(*args):
    return shared_server("--kv", "f32", *args, model="mha=" + of_mha("model-f32.gguf"))


def nmse(got, want):
    return sum((a - b) ** 2 for a, b in zip(got, want)) / sum(b * b for b in want)


# --- commands ---------------------------------------------------------------------------------


def logits(prompt, *args):
    out = os.path.join(harness.TMP, "lora.logits")
    ids = ",".join(map(str, ids_of(prompt)))
    gantry("logits", of_mha("model-f32.gguf"), "--tokens", ids, "-o", out, *args).succeeded()
    return oracle.numbers("f", out)


@test
def logits_are_those_that_were_recorded():
    for backend in ("ref", "cpu"):
        for scale, tag in (("1.0", WHOLE), ("0.5", HALF)):
            got = logits("p24", "--backend", backend, "--lora", f"{adapter()}:{scale}")
            want = oracle.numbers("f", of_mha(f"lora/{tag}.p24.logits.f32"))
            error = nmse(got, want)
            check(error < 1e-6, f"{backend} at {scale}: NMSE {error}")


@test
def a_scale_of_nothing_changes_no_bit():
    plain = logits("p24")
    equal(logits("p24", "--lora", adapter() + ":0"), plain, "logits at scale 0")
    check(logits("p24", "--lora", adapter()) != plain, "the adapter changes nothing")
    twice = logits("p24", "--lora", adapter() + ":0.5", "--lora", adapter() + ":0.5")
    check(nmse(twice, logits("p24", "--lora", adapter())) < 1e-10, "two halves are no whole")


@test
def run_uses_the_adapter_for_its_answer():
    args = ("run", of_mha("model-f32.gguf"), "--raw", "-p", "Once", "--temp", "0", "-n", "12")
    plain, with_it = gantry(*args).succeeded(), gantry(*args, "--lora", adapter()).succeeded()
    check(plain.out != with_it.out, "the adapter changes nothing")
    equal(gantry(*args, "--lora", adapter() + ":0").succeeded().out, plain.out, "at scale 0")


@test
def the_command_line_says_what_is_wrong_with_an_adapter():
    model = of_mha("model-f32.gguf")
    args = ("logits", model, "--tokens", "1", "-o", os.path.join(harness.TMP, "no"), "--lora")
    gantry(*args, "/no/such.gguf").failed_with(1, "/no/such.gguf")
    gantry(*args, model).failed_with(1, "no LoRA")
    gantry(*args, adapter(), "--lora-rank-max", "4").failed_with(1, "rank 8", "4")
    gantry("logits", harness.TINY, *args[2:], adapter()).failed_with(1, "blk.", "256")
    gantry("serve", "-m", "a=" + model, "-m", "b=" + model, "--lora", adapter()).failed_with(
        2, "--lora", "2 models"
    )


# --- requests -----------------------------------------------------------------------------------


@test
def requests_choose_adapters_by_list_and_by_name():
    server = a_server("--lora", adapter())
    for prompt in PROMPTS:
        whole, half, none = recorded(prompt, WHOLE), recorded(prompt, HALF), recorded(prompt)
        for fields, want in (
            ({}, whole),
            ({"model": "mha"}, whole),
            ({"model": "lora-r8-all"}, whole),
            ({"lora": []}, none),
            ({"lora": [{"id": 0, "scale": 0.5}]}, half),
            ({"lora": [{"name": "lora-r8-all", "scale": 0.5}]}, half),
            ({"lora": [{"id": 0, "scale": 0}]}, none),
        ):
            equal(goes_on(server, prompt, **fields), want, f"{prompt} with {fields}")
    equal(server.complete("a", model="lora-r8-all", max_tokens=1)["model"], "lora-r8-all", "model")


@test
def different_adapters_in_one_batch_do_not_mix():
    server = a_server("--lora", adapter())
    ways = [({"lora": []}, None), ({"lora": [{"id": 0, "scale": 0.5}]}, HALF), ({}, WHOLE)]

    def ask(lane):
        for turn in range(harness.scaled(2 if harness.MACHINE else 4)):  # one has all pairs
            fields, tag = ways[(lane + turn) % 3]
            prompt = PROMPTS[(lane + turn) % 2]
            got = goes_on(server, prompt, **fields)
            equal(got, recorded(prompt, tag), f"lane {lane}, {prompt} with {fields}")

    in_parallel([lambda lane=lane: ask(lane) for lane in range(6)])


@test
def choices_of_one_request_share_its_adapters():
    server = a_server("--lora", adapter())
    done = server.complete(ids_of("p24"), n=3, **EXACT, lora=[{"id": 0, "scale": 0.5}])
    texts = {choice["text"].removeprefix(" ") for choice in done["choices"]}
    equal(texts, {recorded("p24", HALF)}, "texts of three choices")


@test
def default_scales_are_set_while_serving():
    with Server("--kv", "f32", "--lora", "r8=" + adapter() + ":0", model=mha()) as server:
        equal(goes_on(server, "p24"), recorded("p24"), "at scale 0")
        server.post("/lora-adapters", [{"id": 0, "scale": 0.5}]).must(200)
        equal(goes_on(server, "p24"), recorded("p24", HALF), "at scale 0.5")
        listed = server.get("/lora-adapters").must(200).json
        equal([(a["id"], a["name"], a["scale"]) for a in listed], [(0, "r8", 0.5)], "the list")
        server.post("/lora-adapters", []).must(200)
        equal(goes_on(server, "p24"), recorded("p24"), "left out of the list")


def mha():
    return "mha=" + of_mha("model-f32.gguf")


# --- while serving ----------------------------------------------------------------------------------


def load(server, name, path, status=200):
    return server.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}).must(status)


def unload(server, name, status=200):
    return server.post("/v1/unload_lora_adapter", {"lora_name": name}).must(status)


@test
def adapters_come_and_go_while_serving():
    server = a_server()
    for turn in range(3):
        name = f"guest{turn}"
        said = load(server, name, adapter()).body.decode()
        equal(said, f"Success: LoRA adapter '{name}' added successfully.", "the answer")
        equal(goes_on(server, "p24"), recorded("p24"), "nobody asked for it")
        equal(goes_on(server, "p24", model=name), recorded("p24", WHOLE), "asked for")
        cards = {m["id"]: m for m in server.get("/v1/models").must(200).json["data"]}
        equal(cards[name]["parent"], "mha", "its parent")
        equal(cards[name]["root"], "lora-r8-all.gguf", "its root")
        load(server, name, adapter(), 400).error(400, "invalid_value", name, "in use")
        unload(server, name)
        server.post("/v1/completions", {"prompt": "a", "model": name}).error(
            404, "model_not_found", name
        )
        unload(server, name, 404)
    logged = [line for line in server.lines if "guest0" in line and "rank=8" in line]
    check(len(logged) == 2, lambda: f"want two lines about guest0: {logged}")


@test
def the_command_changes_the_adapters_of_a_running_server():
    server = a_server()
    url = ("--url", f"http://127.0.0.1:{server.port}")
    said = gantry("lora", "load", "mine", adapter(), *url).succeeded()
    equal(said.out.decode(), "Success: LoRA adapter 'mine' added successfully.\n", "load")
    equal(goes_on(server, "p24", model="mine"), recorded("p24", WHOLE), "loaded")
    listed = gantry("lora", "list", *url).succeeded().out.decode()
    number, rest = listed.split(" ", 1)  # the server is shared: others have had numbers before
    check(number.isdigit(), lambda: f"no number in front: {listed}")
    equal(rest, "mine scale 0 lora-r8-all.gguf\n", "list")
    entries = json.loads(gantry("lora", "list", "--json", *url).succeeded().out)
    equal([e["name"] for e in entries], ["mine"], "list as JSON")
    gantry("lora", "load", "mine", adapter(), *url).failed_with(1, "400", "mine")
    gantry("lora", "unload", "mine", *url).succeeded()
    gantry("lora", "unload", "mine", *url).failed_with(1, "404", "mine")
    equal(gantry("lora", "list", *url).succeeded().out, b"", "an empty list")
    gantry("lora", "load", "x", *url).failed_with(2, "usage")
    gantry("lora", "list", "--url", "http://127.0.0.1:1").failed_with(1, "cannot connect")
    gantry("lora", "list", "--url", "http://[::1").failed_with(1, "no address")


@test
def an_adapter_in_use_stays_until_its_answer_is_complete():
    server = a_server()
    load(server, "leaving", adapter())
    fields = {**EXACT, "max_tokens": 100 if harness.MACHINE else 300}  # far from done at the unload
    want = server.text_of(ids_of("p24"), model="leaving", **fields)
    stream = server.open_stream(ids_of("p24"), model="leaving", **fields)
    check(stream.recv(1) == b"H", "the stream does not begin")
    unload(server, "leaving")
    text = b""
    while True:
        piece = stream.recv(1 << 16)
        if not piece or b"[DONE]" in text + piece:
            text += piece
            break
        text += piece
    stream.close()
    chunks = harness.sse_chunks(unchunk(text))
    got = "".join(c["choices"][0]["text"] for c in chunks if c["choices"])
    equal(got, want, "the text of the stream")


def unchunk(raw):
    """The body of an HTTP answer in chunks whose first byte was read already."""
    rest, body = raw.split(b"\r\n\r\n", 1)[1], b""
    while rest:
        size, rest = rest.split(b"\r\n", 1)
        if int(size, 16) == 0:
            break
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


@test
def files_that_are_no_adapters_are_refused_and_survived():
    server = a_server()
    load(server, "bad", "/no/such/file", 400).error(400, "invalid_value", "/no/such/file")
    load(server, "bad", "/", 400).error(400, "invalid_value", "adapter_config.json")
    load(server, "bad", "/dev/zero", 400)
    load(server, "bad", of_mha("model-f32.gguf"), 400).error(400, "invalid_value", "no LoRA")
    with open(adapter(), "rb") as file:
        whole = file.read()
    path = os.path.join(harness.TMP, "cut.gguf")
    step = 997 if harness.SCALE == 1 else 40009
    for size in [*range(0, 4096, 97), *range(4096, len(whole), step)]:
        with open(path, "wb") as file:
            file.write(whole[:size])
        load(server, "bad", path, 400)
    for at in range(0, 3000, 13 * harness.SCALE):
        with open(path, "wb") as file:
            file.write(whole[:at] + bytes([whole[at] ^ 0x81]) + whole[at + 1 :])
        reply = server.post("/v1/load_lora_adapter", {"lora_name": "bad", "lora_path": path})
        check(reply.status in (200, 400), f"byte {at}: status {reply.status}")
        if reply.status == 200:
            unload(server, "bad")
    server.must_live()


@test
def an_adapter_of_another_shape_is_named_with_both_numbers():
    with Server() as server:
        reply = load(server, "other", adapter(), 400)
        reply.error(400, "invalid_value", "blk.0.", "in the adapter", "in the model")
        equal(server.get("/lora-adapters").json, [], "the list")


@test
def a_hundred_broken_files_are_no_adapters():
    folder = os.path.join(harness.TMP, "cve")
    generator = shared_path("suites/cve-regressions/gen.py")
    equal(os.system(f"python3 '{generator}' '{folder}' >/dev/null"), 0, "gen.py's status")
    server = a_server()
    tried = 0
    for kind in ("gguf", "safetensors"):
        for name in sorted(os.listdir(os.path.join(folder, kind)))[:: harness.SCALE]:
            path = os.path.join(folder, kind, name)
            if kind == "safetensors":
                path = as_peft(path)
            load(server, "bad", path, 400)
            tried += 1
    check(tried > 100 // harness.SCALE, f"only {tried} files")
    server.must_live()


def as_peft(path):
    folder = os.path.join(harness.TMP, "peft")
    os.makedirs(folder, exist_ok=True)
    shutil.copy(path, os.path.join(folder, "adapter_model.safetensors"))
    with open(os.path.join(folder, "adapter_config.json"), "w", encoding="utf-8") as file:
        file.write('{"peft_type": "LORA", "r": 8, "lora_alpha": 16}')
    return folder


@test
def the_table_has_an_end():
    with Server("--lora-adapters-max", "2", model=mha()) as server:
        load(server, "a", adapter())
        load(server, "b", adapter())
        load(server, "c", adapter(), 400).error(400, "invalid_value", "2")
        unload(server, "a")
        load(server, "c", adapter())
    with Server("--lora-rank-max", "0", model=mha()) as server:
        load(server, "a", adapter(), 400).error(400, "unsupported_parameter", "--lora-rank-max")


@test
def with_a_key_only_its_owner_changes_adapters():
    key = {"Authorization": "Bearer s3cret"}
    with Server("--api-key", "s3cret", model=mha()) as server:
        body = {"lora_name": "a", "lora_path": adapter()}
        server.post("/v1/load_lora_adapter", body).must(401)
        server.get("/lora-adapters").must(401)
        server.post("/v1/load_lora_adapter", body, headers=key).must(200)
        equal(len(server.get("/lora-adapters", headers=key).must(200).json), 1, "adapters")
