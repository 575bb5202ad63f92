#!/bin/sh
# Make .venv from a lock file. Arguments: version of uv, lock file. PYTHON names the interpreter to use.
set -eu
uv_version=$1
lock=$2

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

if [ ! -x .venv/bin/python ]; then
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if usable "$python"; then chosen=$python; break; fi
    done
    if [ -z "${chosen:-}" ]; then
        echo "No Python 3.11, 3.12 or 3.13 with venv was found; install one, or name it: PYTHON=/path/to/python make ..." >&2
        exit 1
    fi
    echo "Making .venv with $("$chosen" --version)"
    "$chosen" -m venv .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
echo "Installing $(grep -c '==' "$lock") packages from $lock"
.venv/bin/uv pip install --quiet --compile-bytecode --require-hashes -r "$lock"
.venv/bin/uv pip install --quiet --no-deps --editable .
