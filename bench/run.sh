#!/bin/sh
# run.sh - speed of a gantry binary on synthetic models; usage: sh bench/run.sh BINARY
#
# The tiny model takes seconds and shows overheads.  BENCH_FULL=1 adds a model of the shape of
# TinyLlama 1.1B in three types, which takes minutes and up to 2.5 GB of memory and shows how
# near decoding comes to the machine's memory speed.
set -eu
binary=${1:?usage: run.sh BINARY}

echo "synth:tiny:q8_0"
"$binary" bench synth:tiny:q8_0 --batch 1,8,32
[ "${BENCH_FULL:-0}" = 1 ] || exit 0
for type in q4_0 q8_0 f16; do
    echo
    echo "synth:llama-1.1b:$type"
    "$binary" bench "synth:llama-1.1b:$type" -p 128 -n 32
done
