#!/bin/sh
# eval.sh - serve the model in a binary on a free port, ask it the questions of a file, stop it.
# usage: sh models/gantry-mini/eval.sh BINARY EVAL.jsonl      exit status: that of eval.py
set -eu
binary=${1:?usage: eval.sh BINARY EVAL.jsonl} questions=${2:?usage: eval.sh BINARY EVAL.jsonl}
log=$(mktemp)
GANTRY_GPU=off "$binary" serve -m gantry-mini --port 0 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null || :; wait $server 2>/dev/null || :; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

url= tries=0
while [ -z "$url" ]; do
    url=$(sed -n 's/^gantry .* ready: \(http:[^ ]*\) .*/\1/p' "$log")
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 $server 2>/dev/null; then # 30 s
        cat "$log" >&2
        echo "eval: no ready line" >&2
        exit 2
    fi
    [ -n "$url" ] || sleep 0.1
done
status=0
python3 -B "$(dirname "$0")/eval.py" --url "$url" --file "$questions" || status=$?
exit $status
