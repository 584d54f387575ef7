"""test_quantize.py - gantry quantize: the file it makes, what it says, what it refuses."""
import array
import json
import os
import resource
import signal
import stat
import struct
import subprocess
import time

import harness
from harness import check, equal, gantry, skip, test


def out_path(name):
    return os.path.join(harness.TMP, name)


def tensor_types(path):
    report = json.loads(gantry("inspect", "--json", path).succeeded().text)
    return {tensor["name"]: tensor["type"] for tensor in report["tensors"]}


def refused(*args, before=None):
    """Without the warnings, which are no part of the refusal."""
    return gantry("quantize", *args, "--log-level", "error", before=before)


def no_temporary():
    left = [name for name in os.listdir(harness.TMP) if ".tmp-" in name]
    equal(left, [], "temporary files")


@test
def the_file_has_the_wanted_types_and_runs():
    path = out_path("q8.gguf")
    done = gantry("quantize", harness.TINY, path, "Q8_0").succeeded()
    check(done.text.startswith(path + ": ") and "bits per weight" in done.text, done.text)
    types = tensor_types(path)
    equal(types["blk.0.attn_q.weight"], "Q8_0", "a matrix")
    equal(types["blk.0.attn_norm.weight"], "F32", "a norm")
    gantry("run", path, "--raw", "-p", "x", "-n", "2", "--temp", "0").succeeded()
    no_temporary()


@test
def a_fallback_is_told():
    done = gantry("quantize", harness.TINY, out_path("q4k.gguf"), "q4_k_m").succeeded()
    check("fallback tensor=blk.0.attn_q.weight wanted=Q4_K got=Q5_0" in done.err, done.err)
    check("to a fallback type" in done.text, done.text)


@test
def a_mix_for_experts_says_so_where_there_are_none():
    done = gantry("quantize", harness.TINY, out_path("dense.gguf"), "MXFP4").succeeded()
    check("--pure" in done.err and "MXFP4" in done.err, done.err)
    done = gantry("quantize", harness.TINY, out_path("dense.gguf"), "MXFP4", "--pure").succeeded()
    check("--pure" not in done.err, done.err)
    equal(tensor_types(out_path("dense.gguf"))["blk.0.attn_q.weight"], "MXFP4", "a matrix")


@test
def threads_do_not_change_a_byte():
    files = []
    for threads in ("1", "3"):
        path = out_path(f"threads-{threads}.gguf")
        gantry("quantize", harness.TINY, path, "Q5_1", "--threads", threads).succeeded()
        with open(path, "rb") as file:
            files.append(file.read())
    check(files[0] == files[1], "1 and 3 threads give different files")


@test
def types_can_be_set_by_hand():
    path = out_path("set.gguf")
    gantry("quantize", harness.TINY, path, "Q4_0", "--pure", "--token-embd-type", "f16").succeeded()
    types = tensor_types(path)
    equal(types["token_embd.weight"], "F16", "token_embd")
    equal(types["blk.0.ffn_down.weight"], "Q4_0", "ffn_down")


@test
def wrong_arguments_are_named():
    refused(harness.TINY, out_path("x.gguf")).failed_with(2, "IN, OUT and TYPE")
    refused(harness.TINY, out_path("x.gguf"), "Q9").failed_with(2, "Q9", "Q4_K_M")
    refused(harness.TINY, out_path("x.gguf"), "IQ1_S").failed_with(2, "IQ1_S", "read", "not written")
    done = refused(harness.TINY, out_path("x.gguf"), "Q4_0", "--output-type", "IQ1_S")
    done.failed_with(2, "--output-type", "IQ1_S", "Q6_K")
    check(not os.path.exists(out_path("x.gguf")), "an output of nothing")


@test
def what_cannot_be_quantized_is_refused():
    refused("nowhere.gguf", out_path("x.gguf"), "Q4_0").failed_with(1, "nowhere.gguf")
    refused(harness.TMP, out_path("x.gguf"), "Q4_0").failed_with(1, "directory")
    refused(harness.TINY, harness.TINY, "Q4_0").failed_with(1, "the same file")
    refused(harness.TINY, "/nowhere/x.gguf", "Q4_0").failed_with(1, "/nowhere/x.gguf")
    done = refused(harness.TINY, out_path("x.gguf"), "Q4_0", "--imatrix", harness.TINY)
    done.failed_with(1, harness.TINY, "general.type")
    no_temporary()


@test
def an_output_that_is_no_file_is_refused_before_the_work():
    fifo = out_path("fifo")
    os.mkfifo(fifo)
    refused(harness.TINY, fifo, "Q4_0").failed_with(1, fifo, "special")
    check(stat.S_ISFIFO(os.stat(fifo).st_mode), "a file in the place of the pipe")
    os.unlink(fifo)
    refused(harness.TINY, harness.TMP, "Q4_0").failed_with(1, harness.TMP, "a directory")
    refused(harness.TINY, "", "Q4_0").failed_with(1, "no name")
    no_temporary()


@test
def a_full_disk_is_an_error():
    def small_files_only():
        """A folder cannot be full on demand; a limit on the file's size fails the same write."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    path = out_path("full.gguf")
    done = refused(harness.TINY, path, "F16", before=small_files_only)
    done.failed_with(1, path, "File too large")
    check(not os.path.exists(path), "an output that is not whole")
    no_temporary()


def write_large_model(path, rows):
    """One F16 matrix [rows, 4096] of varied numbers."""

    def text(value):
        return struct.pack("<Q", len(value)) + value

    name = b"blk.0.ffn_up.weight"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    head += text(name) + struct.pack("<IQQIQ", 2, 4096, rows, 1, 0)
    numbers = array.array("H", ((i * 7919) % 0x7800 for i in range(65536)))  # all finite
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for _ in range(rows // 16):
            file.write(numbers.tobytes())


def resident_peak(pid):
    """Bytes; what rusage tells also counts the fork of the tests, before it became the command."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0  # it has ended
    return next((int(line[1]) * 1024 for line in lines if line[0] == "VmHWM:"), 0)


@test
def memory_does_not_grow_with_the_file():
    if harness.SANITIZER:
        skip("the sanitizer's own memory")
    model, path = out_path("large.gguf"), out_path("small.gguf")
    write_large_model(model, 16384)
    process = subprocess.Popen(
        [harness.BINARY, "quantize", model, path, "Q8_0", "--threads", "2"],
        stdout=subprocess.DEVNULL,
    )
    peak_bytes = 0
    while process.poll() is None:
        peak_bytes = max(peak_bytes, resident_peak(process.pid))
        time.sleep(0.005)
    file_bytes = os.stat(model).st_size
    os.unlink(model)
    equal(process.returncode, 0, "exit status")
    check(0 < peak_bytes < file_bytes // 3, f"{peak_bytes} bytes for a file of {file_bytes}")


@test
def an_interrupt_leaves_nothing():
    model, path = out_path("large.gguf"), out_path("interrupted.gguf")
    write_large_model(model, 8192)  # some seconds of work
    process = subprocess.Popen(
        [harness.BINARY, "quantize", model, path, "Q2_K"],
        stderr=subprocess.PIPE,
        text=True,
        # whoever started the tests in the background has SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + harness.PATIENCE_S
    while not any(".tmp-" in name for name in os.listdir(harness.TMP)):
        check(time.monotonic() < deadline, "no temporary file appears")
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=harness.PATIENCE_S)[1]
    os.unlink(model)
    equal(process.returncode, 1, "exit status")
    check("interrupted" in err, err)
    check(not os.path.exists(path), "an output that is not whole")
    no_temporary()


@test
def a_signal_that_was_ignored_stays_ignored():
    """As under nohup: the terminal goes, the work goes on."""
    model, path = out_path("large.gguf"), out_path("nohup.gguf")
    write_large_model(model, 2048)
    process = subprocess.Popen(
        [harness.BINARY, "quantize", model, path, "Q2_K"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    while process.poll() is None and not any(".tmp-" in name for name in os.listdir(harness.TMP)):
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    equal(process.wait(timeout=harness.PATIENCE_S), 0, "exit status")
    os.unlink(model)
    check(os.path.exists(path), "no output")
