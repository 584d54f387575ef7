"""test_ahead.py - steps that a GPU gets before the one before them has ended, on the software GPU.

Answers are those of a server that takes one step after the other, whoever ends when: by EOS, by a
stop id, by length, or because the client has gone.  How many steps ran ahead is counted.
"""
import json

import harness
from harness import Server, check, equal, gantry, in_parallel, test
from test_sim import on_gpu

FLAGS = ("--gpu", "require", "--parallel", "4", "--step-tokens-max", "32", "--ctx", "256")
DEFERRED = {"gpus": [{"preset": "t4"}], "streams": "deferred", "seed": 5}
PLAIN = {"ignore_eos": True}


def wishes():
    """Answers that end at different times and for different reasons; more than there are seats."""
    yield "one", {"max_tokens": 40, "temperature": 0, **PLAIN}
    yield "two", {"max_tokens": 7, "temperature": 0, **PLAIN}
    yield "three", {"max_tokens": 23, "temperature": 0.9, "seed": 7, **PLAIN}
    yield "four", {"max_tokens": 40, "temperature": 1.3, "seed": 8, "top_p": 0.9, "top_k": 50}
    yield "five", {"max_tokens": 40, "temperature": 0}
    yield "six", {"max_tokens": 31, "temperature": 0.7, "seed": 9, "n": 2, **PLAIN}
    yield "seven", {"max_tokens": 40, "temperature": 2, "seed": 3, "min_tokens": 5}
    yield "eight", {"max_tokens": 1, "temperature": 0, **PLAIN}
    yield "nine", {"max_tokens": 12, "temperature": 0, "frequency_penalty": 0.5, **PLAIN}
    yield "ten", {"max_tokens": 12, "temperature": 0, "logprobs": 2, **PLAIN}
    yield "twelve", {"max_tokens": 14, "temperature": 1, "seed": 6, **PLAIN,
                     "allowed_token_ids": list(range(7, 400, 9))}
    yield "eleven", {"max_tokens": 90, "temperature": 2, "seed": 4, **PLAIN,
                     "stop_token_ids": list(range(20, 40))}


def answer(server, prompt, fields):
    got = server.complete(prompt, **fields)
    return [(c["text"], c["finish_reason"]) for c in got["choices"]], got["usage"]


def answers(server):
    """Of all wishes at once, and of each alone."""
    all_of = list(wishes())
    jobs = [lambda p=p, f=f: answer(server, p, f) for p, f in all_of]
    together = in_parallel(jobs, turns=harness.scaled(3))
    alone = [answer(server, p, f) for p, f in all_of]
    for i, (p, f) in enumerate(all_of):
        equal(together[i][0], alone[i][0], f"{p} in company")
    return alone


def served(flags, env):
    with Server(*FLAGS, *flags, env=env) as server:
        got = answers(server)
        server.wait_idle()
        page = server.metrics()
    return got, page.total("ahead_steps_total"), page.total("steps_total")


@test
def answers_are_the_same_with_and_without():
    want, ahead, _ = served(["--no-gpu-ahead"], on_gpu("t4"))
    equal(ahead, 0, "steps ahead where they are switched off")
    check(len({str(a[0]) for a in want}) > 5, f"the answers hardly differ: {want}")
    equal(want[-1][0][0][1], "stop", "why the one with ids to stop at ended")
    equal(want[0][0][0][1], "length", "why the first one ended")
    ways = [((), DEFERRED), ((), "t4"), (("--no-gpu-graphs",), DEFERRED)]
    for flags, machine in ways[: harness.scaled(len(ways))]:
        got, ahead, steps = served(flags, on_gpu(machine))
        equal(got, want, f"answers with {flags} on {machine}")
        check(ahead > steps / 3, f"{ahead} of {steps} steps were ahead")


def told_ones():
    """Requests whose next token depends on those before it, or of which more is said than it is."""
    yield {"temperature": 0, "frequency_penalty": 0.6}
    yield {"temperature": 0.8, "seed": 3, "presence_penalty": 0.5, "repetition_penalty": 1.2}
    yield {"temperature": 0, "logprobs": 3}
    yield {"temperature": 1.1, "seed": 4, "logprobs": 1, "frequency_penalty": -0.3}
    yield {"temperature": 0, "min_tokens": 12}
    yield {"temperature": 0.9, "seed": 6, "allowed_token_ids": list(range(5, 500, 11))}
    yield {"temperature": 0, "allowed_token_ids": list(range(3, 500, 7)), "frequency_penalty": 0.9}
    yield {"temperature": 1, "seed": 5, "min_tokens": 9, "logit_bias": {"40": 2}, "logprobs": 2}


def said(server, fields):
    got = server.complete("one", max_tokens=25, ignore_eos="min_tokens" not in fields, **fields)
    return got["choices"], got["usage"]


@test
def what_the_host_says_of_a_row_holds_up_its_drawing_alone():
    with Server(*FLAGS, "--no-gpu-ahead", env=on_gpu("t4")) as server:
        want = [said(server, fields) for fields in told_ones()]
    for flags, machine in (((), "t4"), (("--no-gpu-graphs",), DEFERRED))[: harness.scaled(2)]:
        with Server(*FLAGS, *flags, env=on_gpu(machine)) as server:
            for fields, alone in zip(told_ones(), want):
                before = server.metrics().total("ahead_steps_total")
                equal(said(server, fields), alone, f"answer with {fields}, {flags} on {machine}")
                server.wait_idle()
                ahead = server.metrics().total("ahead_steps_total") - before
                least = alone[1]["completion_tokens"] - 3
                check(ahead >= least, f"{ahead} steps were ahead with {fields}, not {least}")
            jobs = [lambda f=f: said(server, f) for f in told_ones()]
            equal(in_parallel(jobs), want, f"all at once, {flags} on {machine}")


@test
def a_stream_that_is_hung_up_leaves_nothing_behind():
    env = on_gpu(DEFERRED)
    with Server(*FLAGS, env=env) as server:
        fields = {"max_tokens": 20, "temperature": 0, **PLAIN}
        want = answer(server, "one", fields)
        for turn in range(6):
            gone = [server.open_stream(f"gone {i}", max_tokens=200, temperature=0, **PLAIN)
                    for i in range(3)]
            harness.wait_for_bytes(gone[turn % 3], b"data: ")
            for i, s in enumerate(gone):
                s.close()
                if i == 1:
                    equal(answer(server, "one", fields), want, "beside clients that come and go")
        server.wait_idle()
        equal(answer(server, "one", fields), want, "behind them")
        check(server.metrics().total("ahead_steps_total") > 20, "steps ran ahead")
        check(server.metrics().total("cancelled_total") > 6, "sequences were canceled")


@test
def a_fault_of_a_step_ahead_ends_the_process():
    penalty = {"frequency_penalty": 0.5}
    for kernel, fields in (("k_argmax", {}), ("k_sample", penalty))[: harness.scaled(2)]:
        check_fault(kernel, {"prompt": "one", "max_tokens": 30, "temperature": 0, **PLAIN, **fields})


def check_fault(kernel, body):
    faults = [{"kernel": kernel, "at": 12, "result": 700}]
    server = Server(*FLAGS, env=on_gpu({**DEFERRED, "faults": faults}))
    try:
        equal(server.post("/v1/completions", body).status, 500, "status")
        server.process.wait(harness.PATIENCE_S)
        check(server.process.returncode not in (None, 0), "exit status")
        check("GPU 0 'Tesla T4'" in server.stderr, server.stderr[-600:])
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()


@test
def a_bench_runs_ahead_as_a_server_does():
    args = ("synth:tiny:q8_0", "-p", "0", "-n", "4", "--batch", "1,3", "--repeat", "1", "--json")
    for flags in ((), ("--no-gpu-ahead",)):
        report = json.loads(gantry("bench", *args, *flags, "--gpu", "require",
                                   env=on_gpu(DEFERRED)).succeeded().out)
        equal([row["test"] for row in report["rows"]], ["tg4", "tg4@b3"], "tests")
