#!/usr/bin/env bash
# The GPU's kernels on the CPU (needs a C++ compiler), through the tests of the operations and, with --parity, through
# whole networks too: the smaller parity fixtures (with ABN_EMULATE_ALL=1 all, for hours), training in bf16, and
# gpu-check's steps and bench.
set -euo pipefail
cd "$(dirname "$0")/.."
export ABN_EMULATE_CUDA=1
# The CPU's own kernels hardly run here: no need to wait until they are optimised.
quick=(--config 'profile.dev.package.abn-ops.opt-level=1')
# With xtask, whose features are the workspace's: candle is not built once more.
cargo test --locked "${quick[@]}" -p abn-ops -p xtask --lib --features abn-ops/cuda-emulation
# Batches that are cut out of a data set on the GPU are the loader's.
cargo test --locked "${quick[@]}" -p abn-train -p xtask --lib --features abn-ops/cuda-emulation feed::
if [ "${1:-}" = --parity ]; then
    # Training steps are kernels alone.
    cargo test --locked "${quick[@]}" -p abn-train -p xtask --features abn-ops/cuda-emulation --test gpu -- --ignored
    cargo test --locked "${quick[@]}" -p abn-tests -p xtask --test parity --test precision --test gpu_check \
        --features abn-tests/cuda-emulation,xtask/cuda-emulation
fi
