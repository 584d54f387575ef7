#!/bin/sh
# run.sh - black-box tests of a gantry binary: its command line and its HTTP side.
# usage: sh tests/api/run.sh BINARY [FILTER]      from the repository root
#
# A binary below a folder named asan or tsan gets smaller counts (GANTRY_TEST_SCALE) and the
# sanitizer options its flavour needs; everything it starts inherits both.  GANTRY_TEST_GPU is the
# folder of the software GPU's libraries, by default cudasim/lib beside the binary.
set -eu
binary=${1:?usage: run.sh BINARY [FILTER]}
filter=${2:-}
here=$(dirname "$0")
wrap=
case $binary in
*tsan*)
    GANTRY_TEST_SANITIZER=tsan GANTRY_TEST_SCALE=8
    TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp halt_on_error=1 exitcode=66"
    export TSAN_OPTIONS
    wrap="setarch -R" # the sanitizer's shadow memory wants no address randomization
    ;;
*asan*)
    GANTRY_TEST_SANITIZER=asan GANTRY_TEST_SCALE=4
    ASAN_OPTIONS=${ASAN_OPTIONS:-exitcode=66} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
    export ASAN_OPTIONS UBSAN_OPTIONS
    ;;
*)
    GANTRY_TEST_SANITIZER= GANTRY_TEST_SCALE=1
    ;;
esac
GANTRY_TEST_GPU=${GANTRY_TEST_GPU:-$(dirname "$binary")/cudasim/lib}
export GANTRY_TEST_SANITIZER GANTRY_TEST_SCALE GANTRY_TEST_GPU
PYTHONDONTWRITEBYTECODE=1 exec $wrap python3 "$here/main.py" "$binary" "$filter"
