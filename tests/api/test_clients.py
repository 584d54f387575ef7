"""test_clients.py - the official npm client against a server; see tests/clients."""
import os
import shutil
import subprocess

import harness
from harness import Server, check, skip, test

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = os.path.join(HERE, "..", "clients")


def installed():
    """A copy of tests/clients with its packages; the checkout stays as it is."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        skip("node and npm are not installed")
    folder = os.path.join(harness.TMP, "clients")
    shutil.copytree(CLIENTS, folder, ignore=shutil.ignore_patterns("node_modules"))
    npm = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(npm, cwd=folder, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        skip("npm ci takes too long")
    if done.returncode != 0:
        skip(f"npm ci fails: {done.stderr.decode().strip().splitlines()[:1]}")
    return folder


@test
def openai():
    folder = installed()
    with Server() as server:
        shared = os.environ.get("GANTRY_SHARED", "../shared")
        env = {
            "GANTRY_URL": f"http://127.0.0.1:{server.port}",
            "GANTRY_OPENAPI": os.path.abspath(os.path.join(shared, "suites/openai-openapi")),
        }
        done = subprocess.run(
            ["node", "clients.mjs"],
            cwd=folder,
            env=harness.environment(env),
            capture_output=True,
            timeout=harness.PATIENCE_S * 2,
            check=False,
        )
        lines = done.stdout.decode().splitlines()
        told = any(line.startswith("FAIL ") for line in lines)
        check(len(lines) >= 10 and (done.returncode == 0 or told),
              f"node ended with {done.returncode}: {done.stderr.decode()[-800:]}")
        return lines
