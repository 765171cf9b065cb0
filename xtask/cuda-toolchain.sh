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
    # The linker asks a library only for its name.
    for library in "${libraries[@]}"; do
        cc -shared -x c -o "$folder/stubs/lib${library%%.so*}.so" -Wl,-soname,"lib$library" - </dev/null
    done
    touch "$folder/.complete"
fi
root=$folder/py/nvidia/cu13
chmod +x "$root"/bin/* 2>/dev/null || true
# The libraries' functions are missing until the program runs, and the linker is told not to mind. With a target
# that is named, these flags do not reach build scripts, which run here.
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
