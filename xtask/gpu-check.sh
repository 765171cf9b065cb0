#!/bin/sh
# Starts the check that `cargo xtask gpu-check --pack` put beside this file. Where CUDA's libraries are not installed for
# all programs, those that came with a Python's torch are taken: that of --against-pytorch, or python3's.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for program in xtask abn-ops-tests; do
    if [ ! -e "$here/$program" ]; then
        gunzip -c "$here/$program.gz" >"$here/$program.part"
        chmod +x "$here/$program.part"
        mv "$here/$program.part" "$here/$program"
    fi
done
python=python3
last=
for word in "$@"; do
    if [ "$last" = --against-pytorch ]; then python=$word; fi
    case $word in --against-pytorch=*) python=${word#*=} ;; esac
    last=$word
done
if ldd "$here/xtask" 2>/dev/null | grep -q 'not found'; then
    more=$("$python" -c '
import glob, os, sysconfig
site = sysconfig.get_paths()["purelib"]
print(":".join(sorted(glob.glob(os.path.join(site, "nvidia", "*", "lib")))))' 2>/dev/null) || true
    if [ -n "$more" ]; then export LD_LIBRARY_PATH="$more${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"; fi
fi
exec "$here/xtask" gpu-check "$@"
