#!/bin/sh
# run.sh - build and run the stream benchmark: sh bench/streams/run.sh [streams] [events] [pace_ms]
set -e
cd "$(dirname "$0")/../.."
out=${TMPDIR:-/tmp}/gantry-streams.$$
trap 'rm -f "$out"' EXIT
${CC:-gcc} -std=c17 -D_GNU_SOURCE -Wall -Wextra -Wshadow -O2 -g -Isrc \
    $(pkg-config --cflags libmicrohttpd libsodium) \
    bench/streams/streams.c src/net/*.c src/base/*.c -o "$out" \
    $(pkg-config --libs libmicrohttpd libsodium) -pthread -lm
ulimit -n "$(ulimit -H -n)"
"$out" "$@"
