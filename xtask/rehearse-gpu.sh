#!/usr/bin/env bash
# The programs with the features `cuda` and `nccl` on a machine without a GPU: one library (xtask/rehearsal) stands for
# NVIDIA's driver, cuBLAS, cuDNN and NCCL and runs our kernels on the CPU. Shows that training steps can be captured and
# copy nothing from or to the host, that what goes over a stream of its own is ordered by events, that the libraries are
# told what is meant, and that two processes on two GPUs train as one; nothing of speed or of the real libraries. Ten
# minutes, and the first time as many again to build candle with NCCL. Needs a C++ compiler and what xtask/cuda-check.sh
# builds; not part of .ci/run. With words after it, gpu-check alone, with these:
# `--rehearse --parts parity` are all fixtures (half an hour).
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(xtask/cuda-toolchain.sh)"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/cuda}
features=xtask/nccl,xtask/cuda-emulation
executable() { grep "\"name\":\"$1\"" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1; }
# As gpu-check builds them; it takes the tests of the operations from there.
operations=$(cargo test -p abn-ops -p xtask --locked --features "$features" --lib --no-run --message-format=json |
    executable abn_ops)
built=$(cargo test -p abn-train -p xtask --locked --features "$features" --test gpu --test nccl --no-run \
    --message-format=json)
tests=$(executable gpu <<<"$built")
nccl=$(executable nccl <<<"$built")
abn=$(executable abn <<<"$built")
program=$(cargo build -p xtask -p abn-ops --locked --features "$features" --message-format=json | executable xtask)

folder=$(realpath -m "$CARGO_TARGET_DIR")/rehearsal
mkdir -p "$folder"
source=$PWD/crates/abn-ops/src
flags=(-std=c++17 -O3 -march=native -fPIC -fvisibility=hidden -ffp-contract=off -U_FORTIFY_SOURCE -w
    -I "$source" -I xtask/rehearsal -I "$CUDA_HOME/include")
objects=()
compile() { # SOURCE NAME
    local object=$folder/$2.o
    objects+=("$object")
    local newer='( -name *.cu -o -name *.h ) -newer'
    if [ ! "$object" -nt "$1" ] || (set -f; find "$source" xtask/rehearsal $newer "$object" | grep -q .); then
        c++ "${flags[@]}" -c -o "$object" "$1"
    fi
}
# All kernels, once for each number type, with what the driver must know of their arguments.
for element in f32 bf16 f64; do
    file=$folder/kernels_$element.cpp
    {
        echo "#define ELEMENT_$element"
        for kernels in "$source"/*/kernels.cu; do echo "#include \"$kernels\""; done
        echo '#include "kernels.h"'
        echo 'static const standin::Kernel known[] = {'
        sed -n 's/^KERNEL(\([a-z0-9_]*\)).*/\1 false/p; s/^BLOCK_KERNEL(\([a-z0-9_]*\)).*/\1 true/p' \
            "$source"/*/kernels.cu |
            while read -r name meets; do
                echo "{{\"$name\", abn::call<$name>, $meets}, standin::parameters($name)},"
            done
        echo "};"
        echo "const standin::Kernel* standin::find_$element(const char* name) {"
        echo "for (auto& one : known) if (!std::strcmp(one.entry.name, name)) return &one;"
        echo "return nullptr; }"
    } >"$file.new"
    cmp -s "$file.new" "$file" || cp "$file.new" "$file"
    compile "$file" "kernels_$element"
done
compile "$source/cuda/emulator.cpp" emulator
for part in xtask/rehearsal/*.cpp; do compile "$part" "$(basename "$part" .cpp)"; done
# What the program's libraries ask for and nobody here should call.
{
    echo '#include <cstdio>'
    echo '#include <cstdlib>'
    nm -D --undefined-only "$tests" "$operations" "$program" "$abn" | awk '{print $2}' |
        grep -E '^(__cuda|cu|nvrtc|nccl)' | sort -u |
        grep -vxFf <(nm "${objects[@]}" | awk '$2 == "T" {print $3}') |
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
export LD_LIBRARY_PATH=$folder PATH=$PWD/xtask/rehearsal:$PATH
# Mistakes show.
for test in misuse sums; do
    c++ -w -std=c++17 -I "$CUDA_HOME/include" -I xtask/rehearsal -o "$folder/$test" \
        "xtask/rehearsal/tests/$test.cpp" "$folder/librehearsal.so"
done
"$folder/misuse"
for mode in late early; do ABN_REHEARSE=$mode "$folder/sums"; done
if [ $# -gt 0 ]; then exec "$program" gpu-check --out "$folder/results" "$@"; fi
# What cuDNN refuses is done by kernels of ours; what is asked of it wrongly is an error.
convolutions() { # STATUS
    ABN_REHEARSE_CUDNN=$1 ABN_STAGE_CUDA=1 "$operations" reference_on_shapes --test-threads 1 >"$folder/log" 2>&1
}
for status in 3002 -3000; do convolutions $status || { cat "$folder/log"; exit 1; }; done
for status in 2008 -2000 3009; do
    ! convolutions $status && grep -q 'Library.*cuDNN' "$folder/log" ||
        { tail "$folder/log"; echo "cuDNN's status $status is no error" >&2; exit 1; }
done
for mode in late early; do
    echo "whole trainings, copies as $mode as events allow:"
    ABN_REHEARSE=$mode "$tests" --ignored --test-threads 1
done
# Failures and stops in the mode that holds up most.
export ABN_REHEARSE_DEVICES=2 ABN_REHEARSE_QUIETLY=1
ABN_REHEARSE=late "$nccl" two_gpus --ignored --test-threads 1
ABN_REHEARSE=early "$nccl" --ignored --test-threads 1
unset ABN_REHEARSE_DEVICES ABN_REHEARSE_QUIETLY
"$program" gpu-check --rehearse --quick --parts ops,parity,steps,bench --out "$folder/results"
