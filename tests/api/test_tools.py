"""test_tools.py - tool calls: what a model writes comes back as tool_calls.

The models are scripted (scripted.py), so each answer is known to the byte.
"""
import json
import os
import re

import harness
import scripted
from harness import check, equal, gantry, test
from scripted import Control

HERMES_HEAD = '{#- <tool_call> {"name": , "arguments": } </tool_call> -#}'
MISTRAL_HEAD = "{#- [TOOL_CALLS] -#}"
LLAMA_HEAD = "{#- <|start_header_id|>ipython {\"name\": , \"parameters\": } -#}"

F = '{"name": "depth", "arguments": {"lake": "Inari", "unit": "m"}}'
G = '{"name": "width", "arguments": {}}'
F_WANTED = ("depth", {"lake": "Inari", "unit": "m"})
G_WANTED = ("width", {})
LONG = json.dumps({"name": "store", "arguments": {"text": "".join(f"{i:04}" for i in range(1500))}})

HERMES = {
    "hello": "Hello, you there.",
    "call": f"<tool_call>\n{F}\n</tool_call>",
    "both": f"Let me look.\n<tool_call>\n{F}\n</tool_call>\n<tool_call>\n{G}\n</tool_call>",
    "broken": '<tool_call>\n{"name": "depth", "arguments": oops}\n</tool_call>',
    "token": [Control("<tool_call>"), "\n" + G, Control("</tool_call>")],
}
MISTRAL = {
    "list": [Control("[TOOL_CALLS]"), f" [{F}, {G}]"],
}
MISTRAL_NEW = {
    "bare": [Control("[TOOL_CALLS]"), 'depth{"lake": "Inari", "unit": "m"}'],
}
LLAMA = {
    "call": '{"name": "depth", "parameters": {"lake": "Inari", "unit": "m"}}',
    "hello": "Hello {you}.",
    "python": [Control("<|python_tag|>"), '{"type": "function", "name": "width", "parameters": {}}'],
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": "d", "parameters": {"type": "object"}},
    }
    for name in ("depth", "width", "store")
]


def model(name, scripts, head, chars=4):
    path = os.path.join(harness.TMP, f"{name}.gguf")
    if not os.path.exists(path):
        scripted.write(path, scripts, head, chars)
    return f"{name}={path}"


def hermes_model():
    return model("hermes", HERMES, HERMES_HEAD)


def hermes():
    return harness.shared_server("--gpu", "off", model=hermes_model())


def ask(server, script, **fields):
    body = {"temperature": 0, "tools": TOOLS, "logprobs": False, **fields}
    return server.chat(script, **body)


def answer(server, script, **fields):
    return ask(server, script, **fields)["choices"][0]


def calls_of(message):
    for call in message.get("tool_calls", []):
        equal(sorted(call), ["function", "id", "type"], "members of a call")
        equal(call["type"], "function", "type of a call")
    return [
        (c["function"]["name"], json.loads(c["function"]["arguments"]))
        for c in message.get("tool_calls", [])
    ]


def check_answer(choice, content, calls, finish="tool_calls"):
    message = choice["message"]
    equal(message["content"], content, "the content")
    equal(calls_of(message), calls, "the calls")
    equal("tool_calls" in message, bool(calls), "is there a member tool_calls")
    equal(choice["finish_reason"], finish, "finish_reason")


# --- plain answers ------------------------------------------------------------------------------


@test
def a_call_comes_back_as_a_call():
    choice = answer(hermes(), "call")
    check_answer(choice, None, [F_WANTED])
    call = choice["message"]["tool_calls"][0]
    check(re.fullmatch(r"call_[0-9A-Za-z]{24}", call["id"]), f"the id is {call['id']!r}")
    equal(call["function"]["arguments"], '{"lake": "Inari", "unit": "m"}', "the arguments' text")


@test
def text_and_two_calls_come_apart():
    choice = answer(hermes(), "both")
    check_answer(choice, "Let me look.", [F_WANTED, G_WANTED])
    ids = [call["id"] for call in choice["message"]["tool_calls"]]
    equal(len(set(ids)), 2, "different ids")


@test
def only_one_call_comes_where_calls_may_not_be_parallel():
    one = ask(hermes(), "both", parallel_tool_calls=False)
    check_answer(one["choices"][0], "Let me look.", [F_WANTED])
    both = ask(hermes(), "both", parallel_tool_calls=True)
    check_answer(both["choices"][0], "Let me look.", [F_WANTED, G_WANTED])
    tokens = [one["usage"]["completion_tokens"], both["usage"]["completion_tokens"]]
    check(tokens[0] < tokens[1] - 5, f"{tokens[0]} tokens, all would be {tokens[1]}")


@test
def answers_without_a_call_are_text():
    check_answer(answer(hermes(), "hello"), HERMES["hello"], [], "stop")
    check_answer(answer(hermes(), "broken"), HERMES["broken"], [], "stop")


@test
def without_tools_nothing_is_taken_out():
    for fields in ({"tools": []}, {"tool_choice": "none"}):
        check_answer(answer(hermes(), "call", **fields), HERMES["call"], [], "stop")
        check_answer(answer(hermes(), "token", **fields), "\n" + G, [], "stop")
    server = hermes()
    text = server.text_of(scripted.cue_of("call"), temperature=0, max_tokens=100)
    equal(text, HERMES["call"], "a completion")


@test
def markers_that_are_control_tokens_are_seen():
    check_answer(answer(hermes(), "token"), None, [G_WANTED])


@test
def every_choice_has_calls_of_its_own():
    choices = ask(hermes(), "both", n=3)["choices"]
    ids = set()
    for choice in choices:
        check_answer(choice, "Let me look.", [F_WANTED, G_WANTED])
        ids |= {call["id"] for call in choice["message"]["tool_calls"]}
    equal(len(ids), 6, "different ids")


@test
def an_answer_cut_off_in_a_call_is_text():
    choice = answer(hermes(), "call", max_tokens=8)
    check(HERMES["call"].startswith(choice["message"]["content"]), choice["message"]["content"])
    check_answer(choice, choice["message"]["content"], [], "length")
    stopped = answer(hermes(), "call", stop=["Inari"])
    check_answer(stopped, HERMES["call"].split("Inari")[0], [], "stop")
    closed = answer(hermes(), "call", stop=["\n</tool_call>"])
    check_answer(closed, None, [F_WANTED])


@test
def usage_and_logprobs_count_the_tokens_of_calls():
    reply = ask(hermes(), "both", logprobs=True, top_logprobs=2)
    entries = reply["choices"][0]["logprobs"]["content"]
    text = "".join(e["token"] for e in entries).removesuffix("</s>")
    equal(text, HERMES["both"], "the tokens")
    equal(reply["usage"]["completion_tokens"] - len(entries) in (0, 1), True, "as many as counted")
    check(all(len(e["top_logprobs"]) == 2 for e in entries), "alternatives")


@test
def forcing_a_call_is_refused():
    named = {"type": "function", "function": {"name": "depth"}}
    for choice in ("required", named):
        body = {"messages": [{"role": "user", "content": "call"}], "tools": TOOLS}
        reply = hermes().post("/v1/chat/completions", {**body, "tool_choice": choice})
        reply.error(400, "unsupported_parameter", "tool_choice")


# --- streams ------------------------------------------------------------------------------------


def streamed(server, script, **fields):
    """The choices of a stream, put together as clients do it."""
    body = {"messages": [{"role": "user", "content": script}], "temperature": 0, "tools": TOOLS}
    choices = {}
    for chunk in server.stream("/v1/chat/completions", {**body, **fields}):
        for part in chunk["choices"]:
            message = {"content": None, "tool_calls": [], "logprobs": []}
            choice = choices.setdefault(part["index"], {"message": message, "finish_reason": None})
            check(choice["finish_reason"] is None, "more behind the finish_reason")
            add_delta(choice["message"], part["delta"])
            choice["finish_reason"] = part["finish_reason"]
            if part["logprobs"]:
                message = choice["message"]
                message["logprobs"] += part["logprobs"]["content"]
    for choice in choices.values():
        if not choice["message"]["tool_calls"]:
            del choice["message"]["tool_calls"]
    return [choices[i] for i in sorted(choices)]


def add_delta(message, delta):
    if delta.get("content") is not None:
        message["content"] = (message["content"] or "") + delta["content"]
    for piece in delta.get("tool_calls", []):
        if piece["index"] == len(message["tool_calls"]):
            equal(sorted(piece), ["function", "id", "index", "type"], "members of the first delta")
            function = dict(piece["function"])
            call = {"id": piece["id"], "type": piece["type"], "function": function}
            message["tool_calls"].append(call)
            continue
        equal(piece["index"], len(message["tool_calls"]) - 1, "index of a call that goes on")
        equal(sorted(piece), ["function", "index"], "members of a delta that goes on")
        function = message["tool_calls"][-1]["function"]
        function["arguments"] += piece["function"]["arguments"]


@test
def streams_have_the_same_calls():
    for script, content, calls in (
        ("call", None, [F_WANTED]),
        ("both", "Let me look.", [F_WANTED, G_WANTED]),
        ("token", None, [G_WANTED]),
    ):
        check_answer(streamed(hermes(), script)[0], content, calls)
    for script in ("hello", "broken"):
        check_answer(streamed(hermes(), script)[0], HERMES[script], [], "stop")


@test
def streams_of_choices_with_one_call_each_and_logprobs():
    choices = streamed(hermes(), "both", n=2, parallel_tool_calls=False, logprobs=True)
    equal(len(choices), 2, "choices")
    for choice in choices:
        check_answer(choice, "Let me look.", [F_WANTED])
        text = "".join(e["token"] for e in choice["message"]["logprobs"])
        check(HERMES["both"].startswith(text) and F in text and G not in text, text)


@test
def long_arguments_come_in_pieces():
    scripts = {"long": f"<tool_call>\n{LONG}\n</tool_call>"}
    name = model("long", scripts, HERMES_HEAD, chars=100)
    server = harness.shared_server("--gpu", "off", model=name)
    want = json.loads(LONG)
    choice = streamed(server, "long")[0]
    check_answer(choice, None, [(want["name"], want["arguments"])])
    check_answer(answer(server, "long"), None, [(want["name"], want["arguments"])])


# --- other families -----------------------------------------------------------------------------


@test
def mistral_writes_lists_or_bare_names():
    server = harness.shared_server("--gpu", "off", model=model("mistral", MISTRAL, MISTRAL_HEAD))
    choice = answer(server, "list")
    check_answer(choice, None, [F_WANTED, G_WANTED])
    for call in choice["message"]["tool_calls"]:
        check(re.fullmatch("[0-9A-Za-z]{9}", call["id"]), f"the id is {call['id']!r}")
    check_answer(streamed(server, "list")[0], None, [F_WANTED, G_WANTED])
    new = model("mistral-new", MISTRAL_NEW, MISTRAL_HEAD)
    check_answer(
        answer(harness.shared_server("--gpu", "off", model=new), "bare"), None, [F_WANTED]
    )


@test
def llama_writes_one_object():
    server = harness.shared_server("--gpu", "off", model=model("llama", LLAMA, LLAMA_HEAD))
    check_answer(answer(server, "call"), None, [F_WANTED])
    check_answer(answer(server, "python"), None, [G_WANTED])
    check_answer(answer(server, "hello"), LLAMA["hello"], [], "stop")
    check_answer(streamed(server, "call")[0], None, [F_WANTED])


@test
def the_family_is_among_the_capabilities():
    for name, scripts, head in (
        ("hermes", HERMES, HERMES_HEAD),
        ("mistral", MISTRAL, MISTRAL_HEAD),
        ("llama", LLAMA, LLAMA_HEAD),
    ):
        server = harness.shared_server("--gpu", "off", model=model(name, scripts, head))
        meta = server.get("/v1/models").must(200).json["data"][0]["meta"]
        families = [cap for cap in meta["chat_template_caps"] if cap.startswith("calls_")]
        equal(families, [f"calls_{name}"], "the family")


# --- the way back -------------------------------------------------------------------------------


@test
def a_conversation_with_results_goes_on():
    server = hermes()
    messages = [{"role": "user", "content": "call"}]
    first = answer(server, "call")["message"]
    messages.append({key: first[key] for key in ("role", "content", "tool_calls")})
    call_id = first["tool_calls"][0]["id"]
    messages.append({"role": "tool", "tool_call_id": call_id, "content": "hello"})
    choice = server.chat(messages, temperature=0, tools=TOOLS)["choices"][0]
    check_answer(choice, HERMES["hello"], [], "stop")


@test
def templates_see_arguments_as_an_object():
    source = os.path.join(os.path.dirname(__file__), "../../models/gantry-mini/template.jinja")
    mini = os.path.join(harness.TMP, "mini.gguf")
    with open(source, encoding="utf-8") as file:
        scripted.write(mini, {"hello": "Hello."}, template=file.read())
    own = hermes_model().split("=", 1)[1]
    for path, want in (
        (mini, f"<tool_call>\n{F}\n</tool_call>"),
        (own, 'depth {"lake": "Inari", "unit": "m"}'),
    ):
        texts = set()
        for arguments in ({"lake": "Inari", "unit": "m"}, '{"lake":"Inari","unit":"m"}'):
            call = {"type": "function", "function": {"name": "depth", "arguments": arguments}}
            messages = [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", **call}]},
            ]
            request = json.dumps({"messages": messages, "tools": TOOLS}).encode()
            texts.add(gantry("render", path, stdin=request).succeeded().text)
        equal(len(texts), 1, "texts of an object and of its JSON")
        check(want in texts.pop(), f"no {want!r} in the prompt")
    caps = gantry("inspect", mini).succeeded().text
    check("calls_hermes" in caps, f"gantry-mini's template is not known: {caps}")
