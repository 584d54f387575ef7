#!/bin/sh
# check.sh - is the committed model whole, and the corpus the one that the README names?
# usage: sh models/gantry-mini/check.sh CORPUS-FOLDER      from the repository root
#
# Making the corpus takes half a minute, so only one that is there, and newer than what it is made
# of, is looked at.
set -eu
corpus=${1:?usage: check.sh CORPUS-FOLDER}
cd "$(dirname "$0")"
here=$(pwd)
sha256sum --quiet -c gantry-mini.gguf.sha256 || {
    echo "check-model: gantry-mini.gguf is not what gantry-mini.gguf.sha256 says" >&2
    exit 1
}
cd "$OLDPWD/$corpus" 2>/dev/null || exit 0
[ -e train.jsonl ] && [ -e valid.jsonl ] && [ -e eval.jsonl ] || exit 0
[ -z "$(find "$here/generate.py" "$here"/corpus/*.py "$here"/facts/* -newer train.jsonl)" ] || exit 0
hash=$(cat train.jsonl valid.jsonl eval.jsonl | sha256sum | cut -d' ' -f1)
grep -q "sha256 $hash" "$here/README.md" || {
    echo "check-model: the corpus has sha256 $hash, which $here/README.md does not name" >&2
    exit 1
}
