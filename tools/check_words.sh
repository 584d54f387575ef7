#!/bin/sh
# check_words.sh - words and paths that do not belong in the tree.
# Unfinished work is finished or made an explicit error; nothing names a machine of ours.
bad=0
look() { # look PATTERN WHY PATHS...
    pattern=$1 why=$2
    shift 2
    if hits=$(grep -rnIiE "$pattern" "$@" 2>/dev/null | grep -v '^tools/check_words.sh'); then
        echo "$hits" | sed "s/\$/   <- $why/" >&2
        bad=1
    fi
}
look 'not implemented yet|stubbed|placeholder|simplified version|in a real implementation' \
    'reads like unfinished work' src cuda tools tests
look '(^|[^A-Za-z0-9_.~-])/(root|home)/' 'an absolute path of somebody' src cuda tools tests docs bench \
    README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md start check .ci
exit $bad
