//! Mutated files: whatever is written, the answer is a spec or a report, never a panic.

use super::*;

const CHECKBOX: &str = include_str!("../../../../config/checkbox.toml");
const ROUNDS: u32 = 1_500;

/// A small generator (xorshift): the same files in every run, from a seed that a failure names.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound.max(1)
    }
}

fn mutated(text: &str, draw: &mut Draw) -> String {
    const BITS: [&str; 24] = [
        "\"",
        "'",
        "\"\"\"",
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\r\n",
        "#",
        "nan",
        "-inf",
        "1e999",
        "\u{feff}",
        "ü",
        "\t",
        "\0",
        "99999999999999999999",
        "redis://:hunter2@h",
        "5xx",
        "\u{1b}[31m",
    ];
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=draw.below(4) {
        let at = draw.below(letters.len());
        let end = (at + draw.below(12)).min(letters.len());
        match draw.below(4) {
            0 => drop(letters.drain(at..end)),
            1 => drop(letters.splice(at..at, BITS[draw.below(BITS.len())].chars())),
            2 => drop(letters.splice(at..end, BITS[draw.below(BITS.len())].chars())),
            _ => {
                let copied = letters[at..end].to_vec();
                let to = draw.below(letters.len());
                drop(letters.splice(to..to, copied));
            }
        }
    }
    letters.into_iter().collect()
}

#[test]
fn a_mutated_file_is_answered_and_never_shows_its_password() {
    let text = CHECKBOX.replace("redis://127", "redis://:hunter2@127").replace("smtp://127", "smtp://u:hunter2@127");
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let seed = 0x5e71_0000_u64 + u64::from(round);
        let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let base = if round % 2 == 0 { CHECKBOX } else { text.as_str() };
        let file = mutated(base, &mut draw);
        match parse_below(&file, "f.toml", None) {
            Ok((spec, notes)) => {
                accepted += 1;
                assert!(
                    !format!("{notes:?}{:?}{:?}", spec.store.kind, spec.email).contains("hunter2"),
                    "seed {seed}:\n{file}"
                );
            }
            Err(error) => {
                refused += 1;
                let report = error.to_string();
                assert!(!report.contains("hunter2"), "seed {seed}:\n{report}\n\n{file}");
                assert!(report.starts_with("f.toml:") && report.contains('^'), "seed {seed}:\n{report}");
                assert!(report.chars().all(|c| c == '\n' || !c.is_control()), "seed {seed}:\n{report}");
            }
        }
    }
    assert!(accepted > ROUNDS / 20 && refused > ROUNDS / 2, "{accepted} accepted, {refused} refused");
}

#[test]
fn a_file_cut_off_anywhere_is_answered() {
    for (end, _) in CHECKBOX.char_indices() {
        let _ = parse_below(&CHECKBOX[..end], "f.toml", None);
    }
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(50_000)),
        "a.".repeat(50_000),
    ] {
        assert!(parse_below(&text, "f.toml", None).is_err());
    }
}
