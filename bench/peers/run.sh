#!/bin/sh
# run.sh - gantry and llama.cpp on the same file, in turns:
#
#   sh bench/peers/run.sh [--isa native|avx2|avx512] [--types q4_k_m,q4_0,...] [--shape llama-1.1b]
#                         [--threads N] [--prompt N] [--tokens N] [--depth N] [--batch 1,8]
#                         [--rounds N] [--repeat N] [--numerics auto|exact|fast]
#                         [--only gantry|llama.cpp] [--binary FILE] [--json]
#
# llama.cpp comes from the npm package node-llama-cpp (newest, or PEER_VERSION) and goes into
# build/peers with the synthetic models; PEER_UPDATE=1 looks for a newer one.  docs/bench.md
# explains the figures.
set -eu
cd "$(dirname "$0")/../.."
peers=build/peers
isa=native types=q4_k_m,q4_0,q8_0,f16 shape=llama-1.1b binary=build/release/gantry
kept=

while [ $# -gt 0 ]; do
    case $1 in
    --isa) isa=$2; shift 2 ;;
    --types) types=$2; shift 2 ;;
    --shape) shape=$2; shift 2 ;;
    --binary) binary=$2; shift 2 ;;
    --json) kept="$kept --json"; shift ;;
    --threads | --prompt | --tokens | --depth | --batch | --rounds | --repeat | --numerics | --only)
        kept="$kept $1 $2"; shift 2 ;;
    *) echo "run.sh: unknown argument '$1'" >&2; exit 2 ;;
    esac
done

# The package of this platform alone: those for GPUs are ten times as large.
install_peer() {
    case $(uname -m) in
    x86_64) platform=linux-x64 ;;
    aarch64) platform=linux-arm64 ;;
    *) echo "run.sh: no llama.cpp for $(uname -m)" >&2; exit 1 ;;
    esac
    bins=$peers/node_modules/@node-llama-cpp/$platform/bins/$platform
    if [ ! -e "$bins/llama-addon.node" ] || [ "${PEER_UPDATE:-0}" = 1 ]; then
        mkdir -p $peers
        [ -e $peers/package.json ] || echo '{"private": true}' >$peers/package.json
        npm install --prefix $peers --ignore-scripts --no-audit --no-fund --omit=optional \
            "@node-llama-cpp/$platform@${PEER_VERSION:-latest}" >&2
        rm -rf "${peers:?}/lib"
    fi
}

# llama.cpp loads the best of the libggml-cpu-*.so beside it that the processor can run.  A folder
# without the better ones holds it to an instruction set:
#   avx2    haswell: AVX2, FMA, F16C and BMI2
#   avx512  every one without AMX; on a processor with AVX512-BF16 that is zen4 or cooperlake
choose_libraries() {
    lib=$peers/lib/$isa
    [ -e "$lib/llama-addon.node" ] && return
    mkdir -p "$lib"
    cp "$bins"/* "$lib"
    case $isa in
    native) ;;
    avx2) find "$lib" -name 'libggml-cpu-*.so' ! -name '*-haswell.so' -exec rm {} + ;;
    avx512) rm -f "$lib"/libggml-cpu-sapphirerapids.so ;;
    *) echo "run.sh: --isa is native, avx2 or avx512, not '$isa'" >&2; rm -rf "$lib"; exit 2 ;;
    esac
}

export_models() {
    mkdir -p $peers/models
    for type in $(echo "$types" | tr , ' '); do
        file=$peers/models/$shape-$type.gguf
        [ -e "$file" ] || "$binary" bench "synth:$shape:$type" --export "$file"
        files="${files:-} $file"
    done
}

install_peer
choose_libraries
export_models
[ "$isa" = native ] && cap=auto || cap=$isa
# shellcheck disable=SC2086 # lists of words without blanks
exec node bench/peers/compare.mjs --lib "$lib" --binary "$binary" --isa "$cap" $kept $files
