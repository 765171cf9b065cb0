#!/usr/bin/env bash
# The program with the feature `cuda` on a machine without a GPU: a driver made for this (xtask/rehearsal) stands for
# NVIDIA's, and runs our kernels on the CPU. Shows that training steps can be captured and copy nothing from or to the
# host, and that what goes over a stream of its own is ordered by events. Needs a C++ compiler and what
# xtask/cuda-check.sh builds; not part of .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(xtask/cuda-toolchain.sh)"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/cuda}
tests=$(cargo test -p abn-train -p xtask --locked --features cuda --test gpu --no-run --message-format=json |
    grep '"name":"gpu"' | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)

folder=$CARGO_TARGET_DIR/rehearsal
mkdir -p "$folder"
source=$PWD/crates/abn-ops/src
flags=(-std=c++17 -O2 -fPIC -fvisibility=hidden -ffp-contract=off -U_FORTIFY_SOURCE -w -I "$source" -I xtask/rehearsal)
objects=()
compile() { # SOURCE NAME
    c++ "${flags[@]}" -c -o "$folder/$2.o" "$1"
    objects+=("$folder/$2.o")
}
# All kernels, once for each number type, with the bytes of their arguments.
for element in f32 bf16 f64; do
    file=$folder/kernels_$element.cpp
    {
        echo "#define ELEMENT_$element"
        for kernels in "$source"/*/kernels.cu; do echo "#include \"$kernels\""; done
        echo '#include "rehearsal.h"'
        echo 'static const abn::Known known[] = {'
        sed -n 's/^KERNEL(\([a-z0-9_]*\)).*/\1 false/p; s/^BLOCK_KERNEL(\([a-z0-9_]*\)).*/\1 true/p' \
            "$source"/*/kernels.cu |
            while read -r name meets; do
                echo "{{\"$name\", abn::call<$name>, $meets}, abn::sizes_by_type($name)},"
            done
        echo "};"
        echo "const abn::Known* find_$element(const char* name) {"
        echo "for (auto& one : known) if (!std::strcmp(one.entry.name, name)) return &one;"
        echo "return nullptr; }"
    } >"$file"
    compile "$file" "kernels_$element"
done
compile "$source/cuda/emulator.cpp" emulator
compile xtask/rehearsal/driver.cpp driver
# What the program's libraries ask for and nobody here should call.
{
    echo '#include <cstdio>'
    echo '#include <cstdlib>'
    nm -D --undefined-only "$tests" | awk '{print $2}' | grep -E '^(cu|nvrtc|nccl)' | sed 's/@.*//' | sort -u |
        grep -vxFf <(nm "$folder/driver.o" | awk '$2 == "T" {print $3}') |
        while read -r name; do
            echo "extern \"C\" __attribute__((visibility(\"default\"))) int $name() {"
            echo "std::fprintf(stderr, \"rehearsal: $name was called\\n\"); std::abort(); }"
        done
} >"$folder/others.cpp"
compile "$folder/others.cpp" others
c++ -shared -o "$folder/librehearsal.so" "${objects[@]}"
for library in cuda.so.1 cublas.so.13 cublasLt.so.13 cudart.so.13 curand.so.10 nvrtc.so.13 cudnn.so.9 nccl.so.2; do
    ln -sf librehearsal.so "$folder/lib$library"
done
for mode in late early; do
    echo "copies as $mode as events allow:"
    ABN_REHEARSE=$mode LD_LIBRARY_PATH=$folder "$tests" --ignored --test-threads 1 "$@"
done
