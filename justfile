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

# All that must pass.
ci:
    .ci/run
