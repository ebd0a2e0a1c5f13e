//! Which word was meant: the edit distance between what was written and what is known.

/// The known word nearest to what was written, if any is near enough to be what was meant.
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = written.to_lowercase().replace('-', "_");
    // "timeout" for "header_timeout", "password" for "password_file": slips of another kind than letters.
    let half = |word: &&&str| {
        let rest = word.strip_prefix(lower.as_str()).or_else(|| word.strip_suffix(lower.as_str()));
        lower.len() > 3 && rest.is_some_and(|rest| rest.starts_with('_') || rest.ends_with('_'))
    };
    if let Some(word) = known.iter().find(half) {
        return Some(word);
    }
    let (word, distance) = known.iter().map(|word| (*word, distance(&lower, word))).min_by_key(|(_, d)| *d)?;
    let longer = lower.chars().count().max(word.len());
    (distance <= (longer / 3).max(1)).then_some(word)
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour.
pub(super) fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // Three rows of the usual table; the one two above is needed for swaps.
    let mut above_two: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = above[j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(above_two[j - 2] + 1);
            }
            row.push(best);
        }
        above_two = std::mem::replace(&mut above, row);
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_slips() {
        for (one, other, slips) in [
            ("weight", "weight", 0),
            ("wieght", "weight", 1),
            ("weigh", "weight", 1),
            ("hostss", "hosts", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), slips, "{one} {other}");
            assert_eq!(distance(other, one), slips, "{other} {one}");
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["hosts", "stable", "canary", "max_body"];
        assert_eq!(nearest("host", &known), Some("hosts"));
        assert_eq!(nearest("Max-Body", &known), Some("max_body"));
        assert_eq!(nearest("body", &known), Some("max_body"));
        assert_eq!(nearest("password", &["username_file", "password_file"]), Some("password_file"));
        assert_eq!(nearest("retries", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
