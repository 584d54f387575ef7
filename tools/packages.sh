# packages.sh - what the build and the tests need, and how it gets there.  Sourced by ./start
# and ./check.

BUILD_PACKAGES="gcc libc6-dev make pkg-config libmicrohttpd-dev libjansson-dev libyaml-dev libedit-dev libsodium-dev libutf8proc-dev libpcre2-dev"
# Where ARM is the machine itself, the native tests run these kernels.
NEON_PACKAGES="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
[ "$(uname -m)" != aarch64 ] || NEON_PACKAGES=
CHECK_PACKAGES="g++ clang clang-format clang-tidy libclang-rt-dev python3 git util-linux"
# With an NVIDIA GPU and no compiler for its code, nobody should get a CPU-only binary by accident.
DEVICE_PACKAGES=
if [ -e /dev/nvidiactl ] || [ -e /proc/driver/nvidia/version ]; then
    command -v nvcc clang clang-14 >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || DEVICE_PACKAGES=clang
fi

# Install those of the packages that are missing; say what is done.
need_packages() {
    missing=
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "missing packages:$missing; this script installs with apt-get only, install them by hand" >&2
        return 1
    fi
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "installing:$missing"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
