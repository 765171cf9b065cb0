#!/usr/bin/env bash
# The environment in which the feature `cuda` builds on a machine that has neither NVIDIA's toolkit nor a GPU:
#
#     eval "$(xtask/cuda-toolchain.sh)"
#     cargo build --features cuda --target-dir target/cuda
#
# Puts the compiler, its headers and libraries without contents to link against into a folder
# (~/.cache/abn-cuda, or the one that is named), if they are not there yet: about 400 MB, by pip. What is built
# so runs where libcuda.so.1, libcublas.so.13, libcudnn.so.9 and the others are installed. The first build
# takes a quarter of an hour, nearly all of it candle's own kernels. With CUDA_COMPUTE_CAP the
# kernels are for another architecture than 90 (H100).
set -euo pipefail
folder=${1:-$HOME/.cache/abn-cuda}
libraries=(cuda.so.1 cublas.so.13 cublasLt.so.13 cudart.so.13 curand.so.10 nvrtc.so.13 cudnn.so.9 nccl.so.2)
if [ ! -e "$folder/.complete" ]; then
    mkdir -p "$folder/stubs"
    python3 -m pip install -q --no-deps --target "$folder/py" \
        nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
        nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96 nvidia-curand==10.4.0.35 >&2
    touch "$folder/.complete"
fi
root=$folder/py/nvidia/cu13
# Libraries that have the names of what they stand for, and of all their functions: those that cudarc declares,
# and those of the runtime, which is here. Without the functions' names the linker would leave each call at address 0.
if [ ! -e "$folder/stubs/.named" ]; then
    cudarc=$(cargo metadata --format-version 1 --locked --all-features --manifest-path "$(dirname "$0")/../Cargo.toml" |
        grep -o '"manifest_path":"[^"]*/cudarc-[^"]*"' | cut -d '"' -f 4)
    for library in "${libraries[@]}"; do
        name=${library%%.so*}
        {
            case $name in
            cuda) grep -oE '^pub unsafe fn cu\w+' "${cudarc%/*}/src/driver/sys/mod.rs" ;;
            cudart) nm -D --defined-only "$root/lib/lib$library" | sed 's/@.*//' ;;
            *) grep -oE '^pub unsafe fn (cu|nccl|nvrtc)\w+' "${cudarc%/*}/src/${name,,}/sys/mod.rs" ;;
            esac
        } | awk '{print "void " $NF "(void) {}"}' | grep -E '^void (__)?(cu|nccl|nvrtc)' | sort -u |
            cc -w -shared -fno-builtin -x c -o "$folder/stubs/lib$name.so" -Wl,-soname,"lib$library" -
    done
    touch "$folder/stubs/.named"
fi
chmod +x "$root"/bin/* 2>/dev/null || true
# With a target that is named, these flags do not reach build scripts, which run here.
flags="-L native=$folder/stubs -C link-arg=-fuse-ld=bfd"
flags+=" -C link-arg=-Wl,--unresolved-symbols=ignore-all -C link-arg=-Wl,--no-as-needed"
for library in cuda cublas cublasLt cudart curand nvrtc cudnn; do flags+=" -C link-arg=-l$library"; done
cat <<ENVIRONMENT
export CUDA_HOME=$root CUDA_PATH=$root CUDA_ROOT=$root CUDA_TOOLKIT_ROOT_DIR=$root
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} CUDARC_CUDA_VERSION=13000
export PATH=$root/bin:\$PATH
export CARGO_BUILD_TARGET=x86_64-unknown-linux-gnu
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$flags"
ENVIRONMENT
