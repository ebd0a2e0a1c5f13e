# shellcheck shell=bash
# What the suite's scripts share. They source it from the root of the repository.

# Who speaks.
PROGRAM=tests/${BASH_SOURCE[1]##*/}

fail() {
    printf '%s: %s\n' "$PROGRAM" "$*" >&2
    exit 1
}

# A Python environment in target/NAME with the packages of a list, made again when the list changes.
make_python_env() {
    local env=target/$1 wanted=$2
    if cmp -s "$wanted" "$env/requirements.txt" && "$env/bin/python" -c '' 2>/dev/null; then
        return
    fi
    echo "$PROGRAM: making $env"
    rm -rf "$env"
    mkdir -p target
    python3 -m venv "$env" || fail "can't make a Python environment in $env"
    "$env/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" ||
        fail "pip can't install $wanted: is the package index reachable?"
    cp "$wanted" "$env/requirements.txt"
}
