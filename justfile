# The recipes of this repository. `.ci/run` runs all that must pass.

# List the recipes.
default:
    @just --list

# Format the code.
fmt:
    cargo fmt --all

# Formatting and lints, as CI holds them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Unit tests alone: quick, nothing installed.
test *FILTER:
    cargo test --workspace --lib --bins {{FILTER}}

# Every test, real servers included.
e2e *FILTER:
    tests/run {{FILTER}}

# The API documentation, with no broken link.
check-docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace

# Licences, sources and bans of dependencies.
deny:
    cargo deny --offline check bans licenses sources

# Known vulnerabilities of dependencies; needs the network.
advisories:
    cargo deny check advisories

# The statistical report on the verdict, docs/verdict-report.md: some minutes.
verdict-report:
    cargo build --release --package serin-tests --bin verdict-report
    target/release/verdict-report > target/verdict-report.md
    mv target/verdict-report.md docs/verdict-report.md

# serin beside its peers; see tests/bench/README.md for how to get them.
bench *ARGS:
    cargo build --profile dist --package serin
    tests/bench/compare.py --bin serin={{justfile_directory()}}/target/dist/serin {{ARGS}}

# Every row of the benchmark beside its peers, then one table with the goals: Markdown.
bench-table *ARGS: (bench "--table --rounds 5 --duration 3" ARGS)

# serin as `dist` has it, laid out by a profile of its own work: the demo, and the plain works of the
# benchmark (see tests/bench/README.md for what those need). PROFDATA must be of rustc's LLVM or newer
# (`rustc -vV`): rustup's llvm-tools, or Debian's llvm-22.
release-pgo PROFDATA="llvm-profdata":
    #!/usr/bin/env bash
    set -euo pipefail
    cd {{justfile_directory()}}
    host=$(rustc -vV | sed -n 's/^host: //p')
    profile=$PWD/target/pgo-profile
    build() { # target folder, flags; only for the host, so that build scripts keep theirs
        RUSTFLAGS="$2" cargo build --profile dist --package serin --target "$host" --target-dir "$1"
    }
    rm -rf "$profile" "$profile.profdata"
    build target/pgo-train "-Cprofile-generate=$profile"
    trainee=$PWD/target/pgo-train/$host/dist/serin
    "$trainee" demo --once > /dev/null
    tests/bench/compare.py --peers serin --bin serin="$trainee" --rounds 1 --duration 2 \
        --work W1,W1r,W1s,W2,W3,W4h1,W4h2,W4h2b,W4hs,W5c,W6chunked,W6chunkup,W6upload,W6head,W6304,W6pipe
    {{PROFDATA}} merge -o "$profile.profdata" "$profile"
    build target/pgo "-Cprofile-use=$profile.profdata"
    echo "built target/pgo/$host/dist/serin"

# All that must pass.
ci:
    .ci/run
