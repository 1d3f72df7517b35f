#!/bin/sh
# Finds a Python that really runs and keeps .venv equal to a lock file. Asks nothing. Called by the Makefile as
#     sh project/setup.sh requirements.txt [requirements-dev.txt]
# The last file named is installed; a stamp in .venv remembers all of them, so a second call only compares checksums.
set -eu
cd "$(dirname "$0")/.."
stamp=.venv/installed

say() { printf '%s\n' "$*" >&2; }

# A shim may stand in the path and fail, and Debian splits venv off: only a Python that did it all counts.
runs() {
    "$1" -c 'import sys, ensurepip, sqlite3, ssl, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

# Every place of a name in the path, not only the first: a working Python may stand behind a broken shim.
find_python() {
    for name in python3.13 python3.12 python3.14 python3 python; do
        rest=$PATH:
        while [ -n "$rest" ]; do
            candidate=${rest%%:*}/$name
            rest=${rest#*:}
            if [ -x "$candidate" ] && runs "$candidate"; then
                echo "$candidate"
                return 0
            fi
        done
    done
    home=${HOME:-/}
    for version in 3.13 3.12 3.14; do
        for candidate in \
            "${PYENV_ROOT:-$home/.pyenv}/versions/$version".*/bin/python3 \
            "$home/.local/share/uv/python/cpython-$version".*/bin/python3 \
            ".uv/python/cpython-$version".*/bin/python3; do
            if [ -x "$candidate" ] && runs "$candidate"; then
                echo "$candidate"
                return 0
            fi
        done
    done
    return 1
}

# uv from the path, else from any older Python's pip, into .uv/ only. No network: fails in seconds.
fetch_python() {
    home=${HOME:-/}
    uv=
    for candidate in "$(command -v uv || true)" "$home/.local/bin/uv" "$home/.cargo/bin/uv" .uv/tool/bin/uv; do
        if [ -x "$candidate" ]; then uv=$candidate && break; fi
    done
    if [ -z "$uv" ]; then
        for name in python3 python; do
            if "$name" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 \
                --target .uv/tool uv >/dev/null 2>&1 && [ -x .uv/tool/bin/uv ]; then
                uv=.uv/tool/bin/uv
                break
            fi
        done
    fi
    [ -n "$uv" ] || return 1
    say "No Python >= 3.12 here: fetching one with uv into .uv/ ..."
    UV_PYTHON_INSTALL_DIR=$PWD/.uv/python UV_PYTHON_INSTALL_BIN=0 UV_HTTP_TIMEOUT=30 \
        "$uv" --no-config python install --quiet 3.13 >/dev/null 2>&1 || return 1
    find_python
}

sum() { printf '%s %s\n' "$(cksum <"$1")" "$1"; }

sums=$(for lock in "$@"; do sum "$lock"; done)
is_current() {
    [ -f "$stamp" ] || return 1
    for lock in "$@"; do grep -qxF "$(sum "$lock")" "$stamp" || return 1; done
    runs .venv/bin/python
}
is_current "$@" && exit 0
for lock in "$@"; do wanted=$lock; done

# No stamp: a pip that was killed half-way, or a moved folder. Half a package looks installed to pip, so start afresh.
if ! { [ -f "$stamp" ] && runs .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    python=$(find_python || fetch_python) || {
        say "Hypodesk needs Python 3.12 or newer with its venv module and none runs here: install one" \
            "(Debian 13, Ubuntu 24.04: apt install python3-venv; Fedora: dnf install python3;" \
            "macOS: brew install python@3.13; any: https://docs.astral.sh/uv) and try again."
        exit 1
    }
    say "Making .venv with $("$python" -V 2>&1) ($python)"
    rm -rf .venv
    "$python" -m venv .venv
fi
rm -f "$stamp"
say "Installing $wanted into .venv (only when it changed; a minute or two) ..."
.venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --retries 10 --timeout 60 \
    --require-hashes --requirement "$wanted" >&2 || {
    say "pip could not install $wanted (its reason stands above). Is the network there? Try again: it starts afresh."
    exit 1
}
printf '%s\n' "$sums" >"$stamp.new"
mv "$stamp.new" "$stamp"
