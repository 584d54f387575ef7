"""test_stream.py - what is generated: streams and plain answers, limits, stops, seeds, logprobs."""
import math

import harness
import oracle
from harness import check, equal, gantry, joined, shared_server, short, test

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Tell me a story"}]
USAGE = {
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
}


def choice_of(answer, index=0):
    return next(c for c in answer["choices"] if c["index"] == index)


@test
def plain_answers_have_the_openai_form():
    server = shared_server()
    chat = server.chat(HELLO, max_tokens=5)
    equal(chat["object"], "chat.completion", "object")
    check(chat["id"].startswith("chatcmpl-") and chat["model"] == "tiny", "id and model")
    message = choice_of(chat)["message"]
    equal((message["role"], message["refusal"]), ("assistant", None), "role and refusal")
    check(isinstance(message["content"], str), "content")
    text = server.complete("Once", max_tokens=5)
    equal(text["object"], "text_completion", "object")
    check(text["id"].startswith("cmpl-") and isinstance(text["created"], int), "id and created")
    for answer in (chat, text):
        usage = answer["usage"]
        equal(set(usage), USAGE, "members of usage")
        equal(usage["prompt_tokens"] + usage["completion_tokens"], usage["total_tokens"], "total")
        equal(choice_of(answer)["logprobs"], None, "logprobs nobody asked for")


@test
def stream_and_plain_answer_have_the_same_text():
    server = shared_server()
    for seed in range(harness.scaled(6) + 1):
        fields = {"seed": seed, "temperature": 1.2, "max_tokens": 60}
        plain = choice_of(server.chat(HELLO, **fields))
        text, reason = joined(server.stream(CHAT, {"messages": HELLO, **fields}))
        want = (plain["message"]["content"], plain["finish_reason"])
        equal((text, reason), want, f"chat with seed {seed}")
        plain = choice_of(server.complete("Once", **fields))
        text, reason = joined(server.stream(COMPLETIONS, {"prompt": "Once", **fields}))
        equal((text, reason), (plain["text"], plain["finish_reason"]), f"text with seed {seed}")


@test
def streams_have_the_openai_form():
    server = shared_server()
    chunks = server.stream(CHAT, {"messages": HELLO, "max_tokens": 8, "ignore_eos": True})
    equal({c["object"] for c in chunks}, {"chat.completion.chunk"}, "object")
    equal(len({(c["id"], c["created"], c["model"]) for c in chunks}), 1, "ids of the chunks")
    first = chunks[0]["choices"][0]
    equal((first["delta"]["role"], first["delta"]["content"]), ("assistant", ""), "first delta")
    roles = [c for c in chunks if "role" in c["choices"][0]["delta"]]
    equal(len(roles), 1, "deltas with a role")
    equal(chunks[-1]["choices"][0]["delta"], {}, "last delta")
    equal(chunks[-1]["choices"][0]["finish_reason"], "length", "finish_reason")
    check(all("usage" not in c for c in chunks), "usage that nobody asked for")
    chunks = server.stream(COMPLETIONS, {"prompt": "Once", "max_tokens": 8})
    equal({c["object"] for c in chunks}, {"text_completion"}, "object")


@test
def include_usage_adds_one_last_chunk():
    server = shared_server()
    for path, prompt in ((CHAT, {"messages": HELLO}), (COMPLETIONS, {"prompt": ["Once", "Two"]})):
        body = {**prompt, "max_tokens": 6, "seed": 1, "n": 2}
        plain = server.post(path, body).must(200).json["usage"]
        chunks = server.stream(path, {**body, "stream_options": {"include_usage": True}})
        equal(chunks[-1]["choices"], [], "choices of the last chunk")
        equal(chunks[-1]["usage"], plain, "usage of the stream")
        check(all(c["usage"] is None for c in chunks[:-1]), "usage before the last chunk")


@test
def several_choices_come_complete_and_differ():
    server = shared_server()
    fields = {"n": 3, "seed": 5, "temperature": 1.5, "max_tokens": 30}
    plain = server.chat(HELLO, **fields)
    texts = [choice_of(plain, i)["message"]["content"] for i in range(3)]
    equal(len(set(texts)), 3, f"different texts in {texts}")
    chunks = server.stream(CHAT, {"messages": HELLO, **fields})
    equal([joined(chunks, i)[0] for i in range(3)], texts, "the texts of a stream")
    alone = server.chat(HELLO, **{**fields, "n": 1})
    equal(choice_of(alone)["message"]["content"], texts[0], "choice 0 alone")
    greedy = server.chat(HELLO, n=3, temperature=0, max_tokens=20)
    equal(len({choice_of(greedy, i)["message"]["content"] for i in range(3)}), 1, "greedy choices")
    total = server.complete("Once", n=3, max_tokens=9, ignore_eos=True)["usage"]
    equal(total["completion_tokens"], 27, "tokens of three choices")
    single = server.complete("Once", max_tokens=1)["usage"]
    equal(total["prompt_tokens"], single["prompt_tokens"], "the prompt counts once")


@test
def the_same_seed_gives_the_same_text():
    server = shared_server()
    fields = {"max_tokens": 50, "temperature": 1.3}
    first = server.text_of("Once", seed=42, **fields)
    equal(server.text_of("Once", seed=42, **fields), first, "seed 42 again")
    check(server.text_of("Once", seed=43, **fields) != first, "seed 43 gives the same")
    for seed in (-1, 2**63, 2**64 - 1, -(2**63)):
        server.text_of("Once", seed=seed, max_tokens=2)
    free = {server.text_of("Once", **fields) for _ in range(4)}
    check(len(free) > 1, "without a seed the texts are all the same")


@test
def temperature_0_gives_what_run_prints():
    server = shared_server()
    args = ("--raw", "--temp", "0", "-n", "80")
    for prompt in ("Once", "", "A dog and\na cat", "Ünïcode — 日本"):
        got = server.complete(prompt, temperature=0, max_tokens=80)
        want = gantry("run", harness.TINY, *args, "-p", prompt).succeeded().out
        text = choice_of(got)["text"]
        equal(text, want.decode("utf-8", "replace"), f"text after {prompt!r}")
    chat = server.chat("Once", temperature=0, max_tokens=40)
    args = ("--temp", "0", "-n", "40", "-p", "Once")
    want = gantry("run", harness.TINY, *args).succeeded().out.decode("utf-8", "replace")
    equal(choice_of(chat)["message"]["content"], want, "chat")


@test
def the_server_tells_the_published_story():
    server = shared_server(model="story=" + oracle.model("F32"))
    row = next(g for g in oracle.index()["greedy"] if (g["model"], g["prompt"]) == ("F32", 1))
    body = {"prompt": "", "temperature": 0, "max_tokens": 200}
    plain = choice_of(server.complete(**body))
    equal(plain["text"].lstrip(" "), row["text"], "the story")
    equal(plain["finish_reason"], "length", "finish_reason")
    equal(joined(server.stream(COMPLETIONS, body))[0], plain["text"], "the story as a stream")
    check(plain["text"].count("\n") >= 3, "the story has lines")
    answer = server.complete("", temperature=0, max_tokens=200, logprobs=0)
    tokens = choice_of(answer)["logprobs"]["tokens"]
    equal("".join(tokens).lstrip(" "), row["text"], "the tokens of the story")


@test
def chat_uses_the_plain_template():
    server = shared_server()
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": t} for t in ("He", "y")]},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go on"},
    ]
    text = "Be kind.\n\nUser: Hey\nAssistant: Yes?\nUser: Go on\nAssistant:"
    fields = {"temperature": 0, "max_tokens": 30}
    chat = server.chat(messages, **fields)
    plain = server.complete(text, stop="\nUser:", **fields)
    equal(choice_of(chat)["message"]["content"], choice_of(plain)["text"], "text")
    equal(chat["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"], "prompt tokens")
    forged = server.chat("</s><s>" * 10, max_tokens=1)["usage"]["prompt_tokens"]
    check(forged > 30, "special tokens in a message are plain text")


@test
def max_tokens_is_kept():
    server = shared_server()
    for limit in (1, 2, 17):
        done = server.complete("Once", max_tokens=limit, ignore_eos=True)
        equal(done["usage"]["completion_tokens"], limit, "tokens")
        equal(choice_of(done)["finish_reason"], "length", "finish_reason")
    equal(server.complete("Once", ignore_eos=True)["usage"]["completion_tokens"], 16, "by default")
    done = server.chat(HELLO, max_tokens=9, max_completion_tokens=4, ignore_eos=True)
    equal(done["usage"]["completion_tokens"], 4, "the newer name wins")


@test
def the_end_token_ends_and_can_be_ignored():
    server = shared_server()
    bias = {"logit_bias": {"2": 100}, "temperature": 0}
    done = server.complete("Once", max_tokens=50, **bias)
    equal(choice_of(done)["finish_reason"], "stop", "finish_reason")
    equal(choice_of(done)["text"], "", "text of the end token")
    check(done["usage"]["completion_tokens"] <= 1, "one token at most was generated")
    done = server.complete("Once", max_tokens=5, ignore_eos=True, **bias)
    equal(done["usage"]["completion_tokens"], 5, "with ignore_eos")
    done = server.complete("Once", max_tokens=50, min_tokens=7, **bias)
    check(done["usage"]["completion_tokens"] >= 7, "with min_tokens")


@test
def stop_strings_are_cut_out_wherever_chunks_end():
    server = shared_server()
    fields = {"temperature": 0, "max_tokens": 60, "ignore_eos": True}
    whole = server.text_of("Once", **fields)
    for begin in range(3, 40, 5):
        for length in (1, 2, 5, 12):
            stop = whole[begin : begin + length]
            want = whole[: whole.index(stop)]
            body = {"prompt": "Once", "stop": ["never there", stop], **fields}
            plain = choice_of(server.complete(**body))
            equal((plain["text"], plain["finish_reason"]), (want, "stop"), f"stop {stop!r}")
            equal(joined(server.stream(COMPLETIONS, body)), (want, "stop"), f"stream, {stop!r}")
    for stop in (whole[10:14] + "\0", "xyzzy" * 10):
        plain = choice_of(server.complete("Once", stop=stop, **fields))
        equal((plain["text"], plain["finish_reason"]), (whole, "length"), f"stop {stop!r}")


@test
def stop_token_ids_end_the_text():
    server = shared_server()
    fields = {"temperature": 0, "max_tokens": 40, "ignore_eos": True}
    text = server.text_of("Once", **fields)
    ids = gantry("tokenize", harness.TINY, "--no-special", stdin=text[:8].encode()).succeeded()
    bias = {"logit_bias": {ids.text.split()[-1]: 100}}
    stop = {"stop_token_ids": [int(ids.text.split()[-1])]}
    done = server.complete("Once", **fields, **stop, **bias)
    equal(choice_of(done)["finish_reason"], "stop", "finish_reason")
    equal(choice_of(done)["text"], "", "the stop token's text is not part of the answer")


def ids_of(text):
    return [int(i) for i in gantry("tokenize", harness.TINY, "--no-special",
                                   stdin=text.encode()).succeeded().text.split()]


@test
def allowed_token_ids_are_all_that_comes_out():
    """Of a CPU here; tests of the software GPU hold what that draws against the same sampler."""
    server = shared_server()
    letters = {letter: ids_of(letter)[-1] for letter in "qxz"}
    only = {"allowed_token_ids": list(letters.values())}
    for fields in (
        {"temperature": 0},
        {"temperature": 2, "seed": 3},
        {"temperature": 1, "seed": 4, "top_k": 2},
        {"temperature": 1, "seed": 5, "frequency_penalty": 2, "logprobs": 2},
    ):
        done = choice_of(server.complete("Once", max_tokens=24, **fields, **only))
        equal(done["finish_reason"], "length", f"no end is among them, {fields}")
        check(len(done["text"]) == 24 and set(done["text"]) <= set(letters), done["text"])
        body = {"prompt": "Once", "max_tokens": 24, **fields, **only}
        streamed = joined(server.stream(COMPLETIONS, body))
        equal(streamed, (done["text"], "length"), f"stream, {fields}")
    loud = {"logit_bias": {str(letters["x"]): 100}, "temperature": 0, "max_tokens": 9}
    equal(server.text_of("Once", **loud, **only), "x" * 9, "with a bias")
    equal(server.text_of("Once", allowed_token_ids=[letters["q"]] * 3, max_tokens=5), "q" * 5, "one")
    chat = server.chat(HELLO, max_tokens=6, allowed_token_ids=[letters["z"]])
    equal(chat["choices"][0]["message"]["content"], "z" * 6, "in a chat")


@test
def an_end_that_is_allowed_ends_and_a_minimum_gives_way_to_it():
    server = shared_server()
    end = {"allowed_token_ids": [2], "max_tokens": 20}
    for fields in ({"temperature": 0}, {"temperature": 1}, {"min_tokens": 5}):
        done = choice_of(server.complete("Once", **end, **fields))
        equal((done["text"], done["finish_reason"]), ("", "stop"), f"only an end, {fields}")
    both = {"allowed_token_ids": [2, ids_of("q")[-1]], "logit_bias": {"2": 100}, "max_tokens": 20}
    done = choice_of(server.complete("Once", min_tokens=7, **both))
    equal((done["text"], done["finish_reason"]), ("q" * 7, "stop"), "a minimum that can be kept")


@test
def every_token_may_be_allowed():
    server = shared_server()
    fields = {"temperature": 1, "seed": 8, "max_tokens": 20, "ignore_eos": True}
    all_of = {"allowed_token_ids": list(range(512))}
    equal(server.text_of("Once", **fields, **all_of), server.text_of("Once", **fields), "text")
    many = server.post(COMPLETIONS, {"prompt": "x", "allowed_token_ids": [1] * ((1 << 18) + 1)})
    check("allowed_token_ids" in many.error(400, "invalid_value")["message"], "names the field")


@test
def echo_puts_the_prompt_in_front():
    server = shared_server()
    fields = {"temperature": 0, "max_tokens": 10}
    plain = choice_of(server.complete("Once upon", **fields))["text"]
    echoed = choice_of(server.complete("Once upon", echo=True, **fields))["text"]
    equal(echoed, "Once upon" + plain, "text")
    body = {"prompt": "Once upon", "echo": True, **fields}
    equal(joined(server.stream(COMPLETIONS, body))[0], echoed, "stream")


@test
def arrays_of_prompts_give_one_choice_each():
    server = shared_server()
    fields = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}
    prompts = ["Once", "A dog", "She said"]
    alone = [server.text_of(p, **fields) for p in prompts]
    together = server.complete(prompts, **fields)
    equal([choice_of(together, i)["text"] for i in range(3)], alone, "texts")
    chunks = server.stream(COMPLETIONS, {"prompt": prompts, **fields})
    equal([joined(chunks, i)[0] for i in range(3)], alone, "texts of a stream")
    ids = [
        [int(t) for t in gantry("tokenize", harness.TINY, stdin=p.encode()).text.split()]
        for p in prompts
    ]
    equal(server.text_of(ids[1], **fields), alone[1], "a prompt of ids")
    by_ids = server.complete(ids, **fields)
    equal([choice_of(by_ids, i)["text"] for i in range(3)], alone, "prompts of ids")
    equal(together["usage"]["prompt_tokens"], sum(map(len, ids)), "prompt tokens")
    twice = server.complete(prompts[:2], n=2, **fields)
    want = [alone[0], alone[0], alone[1], alone[1]]
    equal([choice_of(twice, i)["text"] for i in range(4)], want, "n = 2 of each")


@test
def log_probabilities_are_complete_and_sum_up():
    server = shared_server()
    fields = {"max_tokens": 20, "temperature": 1, "seed": 3}
    fields["min_tokens"] = 20  # the end of the text is no token that has a text
    done = server.chat(HELLO, logprobs=True, top_logprobs=5, **fields)
    content = choice_of(done)["logprobs"]["content"]
    equal(len(content), done["usage"]["completion_tokens"], "entries")
    text = b"".join(bytes(e["bytes"]) for e in content).decode("utf-8", "replace")
    equal(text, choice_of(done)["message"]["content"], "their bytes")
    for entry in content:
        top = entry["top_logprobs"]
        equal(len(top), 5, "top_logprobs")
        values = [t["logprob"] for t in top]
        equal(values, sorted(values, reverse=True), "order of top_logprobs")
        check(entry["logprob"] <= values[0] + 1e-6, "a token likelier than the likeliest")
        check(all(v <= 0 for v in values), "a probability above 1")
        check(sum(map(math.exp, values)) <= 1 + 1e-4, f"probabilities sum up to more than 1: {top}")
    chunks = server.stream(CHAT, {"messages": HELLO, "logprobs": True, "top_logprobs": 5, **fields})
    parts = [c["choices"][0]["logprobs"] for c in chunks if c["choices"]]
    streamed = [e for p in parts if p is not None for e in p["content"]]
    equal(streamed, content, "entries of a stream")


@test
def the_likeliest_of_the_alternatives_is_the_greedy_token():
    server = shared_server()
    fields = {"max_tokens": 1, "temperature": 1, "ignore_eos": True}
    done = server.complete("Once", logprobs=20, **fields)
    top = choice_of(done)["logprobs"]["top_logprobs"][0]
    total = sum(map(math.exp, top.values()))
    check(0 < total <= 1 + 1e-4, f"the sum of 20 of 512 is {total}")
    greedy = choice_of(server.complete("Once", logprobs=1, max_tokens=1, temperature=0))["logprobs"]
    equal(greedy["tokens"][0], max(top, key=top.get), "the likeliest token is the greedy one")


@test
def legacy_log_probabilities_line_up_with_the_text():
    server = shared_server()
    bias = {str(3 + byte): -100 for byte in range(128, 256)}  # no bytes that are no character
    fields = {"max_tokens": 25, "seed": 1, "ignore_eos": True, "logit_bias": bias}
    done = server.complete("Once", logprobs=3, **fields)
    choice = choice_of(done)
    blob = choice["logprobs"]
    counts = {len(blob[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}
    equal(counts, {done["usage"]["completion_tokens"]}, "entries")
    equal(blob["text_offset"], sorted(blob["text_offset"]), "order of text_offset")
    for token, offset in zip(blob["tokens"], blob["text_offset"]):
        equal(choice["text"][offset : offset + len(token)], token, f"text at {offset}")
    check(all(0 < len(t) <= 3 for t in blob["top_logprobs"]), short(blob["top_logprobs"]))


@test
def tokens_with_line_ends_stay_one_event_each():
    server = shared_server()
    body = {"prompt": "Once", "max_tokens": 12, "logit_bias": {"13": 100}, "ignore_eos": True}
    equal(joined(server.stream(COMPLETIONS, body)), ("\n" * 12, "length"), "text")


@test
def characters_of_several_tokens_come_whole():
    """Random text is full of byte tokens; a chunk never ends inside a character."""
    server = shared_server()
    bias = {str(3 + byte): 12 for byte in "日é😀".encode()}
    body = {"prompt": "x", "max_tokens": 120, "seed": 9, "temperature": 1, "logit_bias": bias}
    plain = server.complete(**body)
    chunks = server.stream(COMPLETIONS, body)
    equal(joined(chunks)[0], choice_of(plain)["text"], "text")
    check(any(ord(c) > 127 for c in joined(chunks)[0]), "the text is all ASCII")
