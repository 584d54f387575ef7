"""harness.py - what the black-box tests share: a registry, commands, servers and clients.

Standard library only.  setup() fills BINARY, TMP and the test model; tests are functions
marked with @test and say what is wrong with check(), equal() or an exception.
"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BINARY = None
TMP = None  # a folder of this run
TINY = None  # a generated model: random weights, 512 tokens, context 2048
MACHINE = {}  # variables of all commands: the GPU that there is for them
SOFTWARE_GPU = os.path.abspath(os.environ.get("GANTRY_TEST_GPU", "build/release/cudasim/lib"))
SANITIZER = os.environ.get("GANTRY_TEST_SANITIZER", "")
SCALE = int(os.environ.get("GANTRY_TEST_SCALE", "1"))
PATIENCE_S = 60 * (4 if SANITIZER else 1)  # nothing that works takes this long

REPORT_OF_SANITIZER = re.compile(
    r"(AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehaviorSanitizer|runtime error:).*"
)


# --- registry and verdicts ----------------------------------------------------------------


class Failure(Exception):
    pass


class Skip(Exception):
    pass


TESTS = []  # (topic, function), in the order of the files


def test(function):
    TESTS.append((function.__module__.removeprefix("test_"), function))
    return function


def check(condition, why):
    if not condition:
        raise Failure(why() if callable(why) else why)


def short(value, most=300):
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def equal(got, want, what):
    check(got == want, lambda: f"{what}: got {short(got)}, want {short(want)}")


def skip(why):
    raise Skip(why)


def scaled(count):
    """A count for release builds, smaller under a sanitizer and on the software GPU."""
    return max(1, count // SCALE // (2 if MACHINE else 1))


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def take(self, name, lines):
        """The verdicts of another program, which prints lines like ours."""
        for line in lines:
            verdict, what = line.split(" ", 1)
            {"ok": self.ok, "FAIL": self.fail, "skip": self.skip}[verdict](
                *f"{name}.{what}".split(": ", 1)
            )

    def ok(self, name):
        self.passed += 1
        print(f"ok {name}", flush=True)

    def fail(self, name, why):
        self.failed += 1
        print(f"FAIL {name}: {why}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"skip {name}: {why}", flush=True)


def where(error):
    """The line of the test that led to an unexpected exception."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "tests/api" in f.filename]
    at = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{at}"


def run_one(name, function, report):
    begun = time.monotonic()
    try:
        lines = function()
        if lines is None:
            report.ok(name)
        else:
            report.take(name, lines)
    except Skip as why:
        report.skip(name, why)
    except Failure as why:
        report.fail(name, why)
    except Exception as error:  # a test that breaks has found something, too
        report.fail(name, where(error))
    if "GANTRY_TEST_TIMES" in os.environ:
        print(f"  {time.monotonic() - begun:6.2f} s {name}", file=sys.stderr)


def run_topic(topic, wanted, report, prefix=""):
    ran = False
    for of, function in TESTS:
        name = f"{prefix}{topic}.{function.__name__}"
        if of == topic and wanted in name:
            run_one(name, function, report)
            ran = True
    if ran and SHARED_SERVERS:
        run_one(f"{prefix}{topic}.its_servers_end_without_complaint", stop_shared_servers, report)


def setup(binary):
    global BINARY, TMP, TINY
    BINARY = os.path.abspath(binary)
    TMP = tempfile.mkdtemp(prefix="gantry-api-")
    TINY = os.path.join(TMP, "tiny.gguf")
    done = gantry("bench", "synth:tiny:q8_0", "--export", TINY)
    if done.code != 0:
        shutil.rmtree(TMP)
        sys.exit(f"api: cannot write the test model: {done.err}")


# --- reference data beside the repository ------------------------------------------------------


def shared_path(relative):
    """A file of the shared data; the test is skipped, or fails when it has to be there."""
    path = os.path.join(os.environ.get("GANTRY_SHARED", "../shared"), relative)
    if os.path.exists(path):
        return os.path.abspath(path)
    check(os.environ.get("GANTRY_REQUIRE_ORACLE") != "1", f"{path} is missing and required")
    skip(f"no {relative}")


# --- commands ----------------------------------------------------------------------------------


class Done:
    """A command that has ended; out is bytes, err is text."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        report = REPORT_OF_SANITIZER.search(err)
        check(report is None, lambda: f"a sanitizer reports: {report.group(0)}")
        check(code >= 0, lambda: f"killed by {signal.Signals(-code).name}: {short(err)}")

    @property
    def text(self):
        return self.out.decode("utf-8")

    def succeeded(self):
        equal(self.code, 0, f"exit status (stderr {short(self.err)})")
        return self

    def failed_with(self, code, *words):
        """Nothing on stdout, one line on stderr that has all the words."""
        equal(self.code, code, f"exit status (stderr {short(self.err)})")
        equal(self.out, b"", "stdout of a command that failed")
        lines = [line for line in self.err.splitlines() if line]
        check(len(lines) == 1, lambda: f"want one line on stderr, got {short(self.err)}")
        for word in words:
            check(word in self.err, lambda: f"stderr does not say {word!r}: {short(self.err)}")
        return self


def environment(more=None):
    """Ours without GANTRY_*, which every command would take for its options."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GANTRY_")}
    return {**own, **MACHINE, **(more or {})}


def gantry(*args, stdin=b"", env=None, timeout=None, before=None):
    done = subprocess.run(
        [BINARY, *map(str, args)],
        input=stdin,
        capture_output=True,
        timeout=timeout or PATIENCE_S,
        env=environment(env),
        preexec_fn=before,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


# --- servers ----------------------------------------------------------------------------------


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def must(self, status):
        equal(self.status, status, f"HTTP status (body {short(self.body)})")
        return self

    def error(self, status, code, *words):
        """An error in the form OpenAI's clients know."""
        self.must(status)
        error = self.json["error"]
        equal(sorted(error), ["code", "message", "param", "type"], "members of the error")
        equal(error["code"], code, f"code of the error ({error['message']})")
        for word in words:
            check(str(word) in error["message"], lambda: f"no {word!r} in {error['message']!r}")
        return error


class Server:
    """`gantry serve` as a child process, from its ready line to a checked exit."""

    READY = re.compile(r"gantry \S+ ready: http://127\.0\.0\.1:(\d+)\b")

    def __init__(self, *args, model=None, env=None):
        models = [] if model is False else ["-m", model or "tiny=" + TINY]
        command = [BINARY, "serve", "--port", "0", *models, *map(str, args)]
        begun = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(env),
        )
        self.lines = []
        self.port = None
        self.ready_line = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE_S) or self.port is None:
            self.process.kill()
            raise Failure(f"no ready line; stderr {short(self.stderr)}")
        self.ready_s = time.monotonic() - begun

    def _read_stderr(self):
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace")
            self.lines.append(line)
            found = self.READY.match(line)
            if found and self.port is None:
                self.port = int(found.group(1))
                self.ready_line = line.strip()
                self._ready.set()
        self._ready.set()  # it has ended

    @property
    def stderr(self):
        return "".join(self.lines)

    def wait_said(self, words, times=1):
        """Waits until the log has them so many times."""
        deadline = time.monotonic() + 10 * (4 if SANITIZER else 1)
        while self.stderr.count(words) < times:
            check(time.monotonic() < deadline, f"the log does not say {words!r}")
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            self.stop()
        elif self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        elif self.process.returncode != 0:
            raise Failure(f"{self.verdict()} (after: {error})") from error

    def verdict(self):
        """What is wrong with how the process ended, "" when nothing is."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        report = REPORT_OF_SANITIZER.search(self.stderr)
        if report:
            at = self.stderr[report.start() :]
            return f"a sanitizer reports: {short(at, 1500)}"
        if code < 0:
            return f"the server died of {signal.Signals(-code).name}: {short(self.stderr[-600:])}"
        return f"the server's exit status is {code}: {short(self.stderr[-600:])}" if code else ""

    def send_signal(self, which):
        self.process.send_signal(which)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            wrong = self.verdict()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure("the server does not end after SIGTERM") from None
        check(wrong == "", wrong)

    def must_live(self):
        check(self.process.poll() is None, lambda: self.verdict() or "the server has ended")
        self.get("/livez").must(200)

    # --- the process as the kernel sees it

    def _proc(self, name):
        with open(f"/proc/{self.process.pid}/{name}", encoding="ascii") as file:
            return file.read()

    def rss_kib(self):
        return int(re.search(r"VmRSS:\s*(\d+)", self._proc("status")).group(1))

    def threads(self):
        return int(re.search(r"Threads:\s*(\d+)", self._proc("status")).group(1))

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    # --- requests

    def connect(self, timeout=None):
        s = socket.create_connection(("127.0.0.1", self.port), timeout or PATIENCE_S)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def request(self, method, path, body=None, headers=None, timeout=None):
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=timeout or PATIENCE_S
        )
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.request("GET", path, None, headers)

    def post(self, path, body, headers=None, timeout=None):
        text = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return self.request(
            "POST", path, text, {"Content-Type": "application/json", **(headers or {})}, timeout
        )

    def complete(self, prompt, **fields):
        """The answer of a completion that is not streamed."""
        return self.post("/v1/completions", {"prompt": prompt, **fields}).must(200).json

    def text_of(self, prompt, **fields):
        return self.complete(prompt, **fields)["choices"][0]["text"]

    def chat(self, messages, **fields):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = {"messages": messages, **fields}
        return self.post("/v1/chat/completions", body).must(200).json

    def stream(self, path, body):
        """All chunks of a stream, whose framing is checked on the way."""
        reply = self.post(path, {**body, "stream": True}).must(200)
        equal(reply.headers["Content-Type"].split(";")[0], "text/event-stream", "Content-Type")
        return sse_chunks(reply.body)

    def open_stream(self, prompt, **fields):
        """A raw socket on which a completion streams; the caller reads or does not."""
        body = {"prompt": prompt, "stream": True, **fields}
        return self.open_post("/v1/completions", body)

    def open_post(self, path, body):
        s = self.connect()
        s.sendall(post_bytes(path, body))
        return s

    # --- metrics

    def metrics(self):
        return Metrics(self.get("/metrics").must(200).body.decode())

    def wait_idle(self, seconds=None):
        """Waits until no sequence runs, waits or holds blocks; how long it took.

        What an engine says comes with its heartbeat, so only one from after now counts.
        """
        begun, now = time.monotonic(), time.time()
        names = ("sequences_running", "sequences_waiting", "sequences_parked", "kv_blocks_used")
        names += ("requests_running",)
        limit = (seconds or 5) * (4 if SANITIZER else 1)
        while True:
            metrics = self.metrics()
            busy = {n: metrics.total(n) for n in names if metrics.total(n) != 0}
            fresh = min(metrics.values("heartbeat_timestamp_seconds")) > now
            if fresh and not busy:
                return time.monotonic() - begun
            check(time.monotonic() - begun < limit, f"after {limit} s still busy: {busy}")
            time.sleep(0.02)


SHARED_SERVERS = {}  # arguments -> Server, until the end of the topic


def shared_server(*args, model=None):
    """One server for all tests of a topic that want the same arguments."""
    key = (model, *args)
    server = SHARED_SERVERS.get(key)
    if server is None:
        SHARED_SERVERS[key] = server = Server(*args, model=model)
    elif server.process.poll() is not None:
        del SHARED_SERVERS[key]  # the next test gets a new one
        raise Failure(server.verdict() or "the server has ended before this test")
    return server


def stop_shared_servers():
    wrong = []
    for server in list(SHARED_SERVERS.values()):
        try:
            server.stop()
        except Failure as why:
            wrong.append(str(why))
    SHARED_SERVERS.clear()
    check(not wrong, "; ".join(wrong))


# --- bytes on the wire ------------------------------------------------------------------------


def post_bytes(path, body):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


def read_until_closed(s, most=1 << 26):
    """What the peer sends until it closes or resets."""
    parts, total = [], 0
    try:
        while total < most:
            part = s.recv(1 << 16)
            if not part:
                break
            parts.append(part)
            total += len(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def read_stream(s):
    """The body of a chunked answer with status 200, read to its end from a raw socket."""
    response = http.client.HTTPResponse(s, method="POST")
    response.begin()
    equal(response.status, 200, "HTTP status")
    body = response.read()
    response.close()
    s.close()
    return body


def wait_for_bytes(s, mark):
    """Reads until the mark has come."""
    seen = b""
    while mark not in seen:
        part = s.recv(1 << 16)
        check(part, lambda: f"the connection ended before {mark!r}: {short(seen)}")
        seen += part
    return seen


def sse_chunks(body):
    """The JSON of each event.  Every event is one data line and a blank one, [DONE] is last.
    Under a sanitizer an answer may be so slow that comments keep its connection alive."""
    check(body.endswith(b"\n\n"), lambda: f"the stream ends with {short(body[-80:])}")
    events = body[:-2].split(b"\n\n")
    if SANITIZER:
        events = [event for event in events if event != b": ping"]
    for event in events:
        one_line = event.startswith(b"data: ") and b"\n" not in event and b"\r" not in event
        check(one_line, lambda: f"not one data line: {short(event)}")
    data = [event[len(b"data: ") :] for event in events]
    equal(data[-1], b"[DONE]", "the last event")
    check(b"[DONE]" not in data[:-1], "more than one [DONE]")
    return [json.loads(d) for d in data[:-1]]


def joined(chunks, index=0):
    """Text and finish reason of one choice of a stream, either dialect."""
    text, reason = [], None
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            check(reason is None, f"choice {index} goes on after its finish_reason")
            text.append(choice["delta"].get("content", "") if "delta" in choice else choice["text"])
            reason = choice["finish_reason"]
    return "".join(text), reason


class Metrics:
    """A page in the text exposition format 0.0.4, checked while it is read."""

    SAMPLE = re.compile(
        r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)'
    )

    def __init__(self, page):
        check(page.endswith("\n"), "the page does not end with a line end")
        self.types, self.samples, self.page = {}, [], page
        helped = set()
        for line in page.splitlines():
            if line.startswith("# HELP "):
                helped.add(line.split(" ")[2])
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                check(name not in self.types, f"two TYPE lines for {name}")
                check(name in helped, f"{name} has a TYPE and no HELP before")
                self.types[name] = kind
            else:
                self._sample(line)

    def _sample(self, line):
        found = self.SAMPLE.fullmatch(line)
        check(found, lambda: f"no sample: {line!r}")
        name, labels, value = found.groups()
        family = name
        if name not in self.types:
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            equal(self.types.get(family), "histogram", f"type of {name}")
        pairs = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
        self.samples.append((name, pairs, float(value)))

    def total(self, name):
        """The sum over all series; the name is without the common prefix."""
        return sum(self.values(name))

    def values(self, name):
        values = [v for n, _, v in self.samples if n == "gantry_" + name]
        check(values, f"no metric gantry_{name}")
        return values


def sockets_close(sockets):
    for s in sockets:
        s.close()


def in_parallel(jobs, turns=1):
    """Runs the functions at once in a thread each; their results in order.  turns: how many things
    that may take all of our patience each does, one after the other."""
    results = [None] * len(jobs)

    def work(i):
        try:
            results[i] = jobs[i]()
        except Exception as error:  # told to whoever waits below
            results[i] = error

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S * 2 * turns)
        check(not thread.is_alive(), "a client hangs")
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def for_each(items, work, lanes=2):
    """work(item) for every item, or every n-th under a sanitizer, so many at a time; how many.

    n is odd: where two or four kinds of items take turns, all are met.
    """
    items = list(items)[:: SCALE | 1]
    check(items, "there is nothing to try")
    in_parallel(
        [lambda i=i: [work(item) for item in items[i::lanes]] for i in range(lanes)],
        turns=-(-len(items) // lanes),
    )
    return len(items)
