"""test_clients.py - the official npm client against a server; see tests/clients."""
import os
import shutil
import subprocess

import harness
import test_tools
from harness import Server, check, skip, test

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = os.path.join(HERE, "..", "clients")


def installed():
    """A copy of tests/clients with its packages; the checkout stays as it is."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        skip("node and npm are not installed")
    folder = os.path.join(harness.TMP, "clients")
    if os.path.isdir(os.path.join(folder, "node_modules")):
        return folder
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(CLIENTS, folder, ignore=ignored, dirs_exist_ok=True)
    npm = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(npm, cwd=folder, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        skip("npm ci takes too long")
    if done.returncode != 0:
        skip(f"npm ci fails: {done.stderr.decode().strip().splitlines()[:1]}")
    return folder


def url_of(server):
    return f"http://127.0.0.1:{server.port}"


def verdicts(script, server, least, **more):
    """What the script says of the server, a line per check."""
    shared = os.environ.get("GANTRY_SHARED", "../shared")
    env = {
        "GANTRY_URL": url_of(server),
        "GANTRY_OPENAPI": os.path.abspath(os.path.join(shared, "suites/openai-openapi")),
        **more,
    }
    done = subprocess.run(
        ["node", script],
        cwd=installed(),
        env=harness.environment(env),
        capture_output=True,
        timeout=harness.PATIENCE_S * 2,
        check=False,
    )
    lines = done.stdout.decode().splitlines()
    told = any(line.startswith("FAIL ") for line in lines)
    check(len(lines) >= least and (done.returncode == 0 or told),
          f"node ended with {done.returncode}: {done.stderr.decode()[-800:]}")
    return lines


@test
def openai():
    installed()
    with Server() as server, Server("--gpu", "off", model=test_tools.hermes_model()) as tools:
        return verdicts("clients.mjs", server, 10, GANTRY_TOOLS_URL=url_of(tools))


@test
def gantry_mini():
    installed()
    with Server(model="gantry-mini") as server:
        return verdicts("gantry_mini.mjs", server, 4)
