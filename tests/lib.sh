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

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "needs root to run: $*"
    fi
}

# Installs packages of the distribution.
install_packages() {
    local packages=("$@")
    command -v apt-get >/dev/null || fail "install these by hand, there is no apt here: ${packages[*]}"
    echo "$PROGRAM: installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update -qq || fail "apt-get update failed: is the package mirror reachable?"
    as_root apt-get install -y -qq --no-install-recommends "${packages[@]}" || fail "apt can't install: ${packages[*]}"
    # The suite starts a Redis, an nginx and an Engine of its own for each test; the distribution's would only be in the way.
    local package service
    for package in redis-server nginx docker.io; do
        [[ " ${packages[*]} " == *" $package"* ]] || continue
        service=${package%.io}
        if [ -d /run/systemd/system ]; then
            as_root systemctl disable --quiet --now "$service"
        else
            as_root service "$service" stop >/dev/null 2>&1 || true
        fi
    done
}
