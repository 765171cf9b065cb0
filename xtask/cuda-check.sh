#!/usr/bin/env bash
# The feature `cuda` builds and is free of warnings, on a machine that needs neither GPU nor toolkit. Not part
# of .ci/run: the first time it takes a quarter of an hour and more.
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(xtask/cuda-toolchain.sh)"
export CARGO_TARGET_DIR=target/cuda

cargo build --workspace --locked --features cuda
cargo clippy --workspace --all-targets --locked --features cuda -- -D warnings
cargo clippy -p abn-train -p xtask --all-targets --locked --features nccl -- -D warnings
# The program asks for NVIDIA's libraries by the names that an installed toolkit and driver have.
program=target/cuda/$CARGO_BUILD_TARGET/debug/abn
needed=$(readelf -d "$program" | grep NEEDED)
for library in libcuda.so.1 libcublas.so.13 libcudnn.so.9; do
    grep -q "\[$library\]" <<<"$needed" || { echo "abn does not ask for $library" >&2; exit 1; }
done
# And for each of their functions: what the linker leaves to nobody is a call of address 0.
functions() { nm "$@" --undefined-only "$program" | sed 's/@.*//' | awk '$1 == "U" {print $2}' | sort -u; }
lost=$(comm -23 <(functions) <(functions -D))
[ -z "$lost" ] || { echo "abn would call at address 0:" $lost >&2; exit 1; }
echo "feature cuda: builds, without warnings"
