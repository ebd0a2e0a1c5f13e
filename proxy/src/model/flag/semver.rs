//! Semantic versions, as `sem_ver` compares them.

use std::cmp::Ordering;

/// A version without its build metadata, which has no part in any comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version<'t> {
    core: [u64; 3],
    /// What follows the `-`; empty for a release.
    pre: &'t str,
}

/// How two versions are to relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
    /// `^`: the same major version.
    SameMajor,
    /// `~`: the same major and minor version.
    SameMinor,
}

impl Relation {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::AtMost,
            ">" => Self::More,
            ">=" => Self::AtLeast,
            "^" => Self::SameMajor,
            "~" => Self::SameMinor,
            _ => return None,
        })
    }

    pub(super) fn holds(self, left: Version<'_>, right: Version<'_>) -> bool {
        let order = left.compare(right);
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::More => order.is_gt(),
            Self::AtLeast => order.is_ge(),
            Self::SameMajor => left.core[0] == right.core[0],
            Self::SameMinor => left.core[..2] == right.core[..2],
        }
    }
}

impl<'t> Version<'t> {
    /// Reads `1.2.3-rc.1+build`, also with a `v` in front, and `1` or `1.2` for `1.0.0` and `1.2.0`.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (numbers, pre) = match text.split_once('-') {
            Some((numbers, pre)) => (numbers, Some(pre)),
            None => (text, None),
        };
        let mut core = [0; 3];
        let mut given = 0;
        for part in numbers.split('.') {
            *core.get_mut(given)? = number(part)?;
            given += 1;
        }
        let full = given == 3;
        let well_formed = |part: &str| part.split('.').all(is_identifier);
        let no_leading_zero = |part: &str| part.split('.').all(|id| !is_numeric(id) || number(id).is_some());
        if build.is_some_and(|build| !full || !well_formed(build))
            || pre.is_some_and(|pre| !full || !well_formed(pre) || !no_leading_zero(pre))
        {
            return None;
        }
        Some(Self { core, pre: pre.unwrap_or_default() })
    }

    fn compare(self, other: Self) -> Ordering {
        self.core.cmp(&other.core).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => compare_pre(self.pre, other.pre),
        })
    }
}

fn compare_pre(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => compare_identifiers(left, right),
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Numbers by value and before words; numbers have no leading zero, so the longer is the greater.
fn compare_identifiers(left: &str, right: &str) -> Ordering {
    match (is_numeric(left), is_numeric(right)) {
        (true, true) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => left.cmp(right),
    }
}

fn is_identifier(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_numeric(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

fn number(part: &str) -> Option<u64> {
    let well_formed = is_numeric(part) && (part.len() == 1 || !part.starts_with('0'));
    well_formed.then(|| part.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(left: &str, relation: &str, right: &str) -> bool {
        let version = |text| Version::parse(text).expect("a version");
        Relation::parse(relation).expect("a relation").holds(version(left), version(right))
    }

    #[test]
    fn versions_have_the_order_of_the_specification() {
        let rising = [
            "1.0.0-0",
            "1.0.0-2",
            "1.0.0-11",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
        ];
        for pair in rising.windows(2) {
            assert!(holds(pair[0], "<", pair[1]), "{pair:?}");
            assert!(holds(pair[1], ">", pair[0]), "{pair:?}");
            assert!(holds(pair[1], ">=", pair[0]) && !holds(pair[1], "<=", pair[0]), "{pair:?}");
            assert!(holds(pair[0], "=", pair[0]) && holds(pair[0], "!=", pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn ranges_look_at_the_leading_numbers_only() {
        assert!(holds("3.0.1", "~", "3.0.0") && !holds("3.1.0", "~", "3.0.0"));
        assert!(holds("3.1.0", "^", "3.0.0") && !holds("4.0.0", "^", "3.0.0"));
    }

    #[test]
    fn short_forms_prefixes_and_build_metadata_are_understood() {
        assert!(holds("v1", "=", "1.0.0") && holds("V1.2", "=", "1.2.0"));
        assert!(holds("1.0.0+one", "=", "1.0.0+two.three"));
    }

    #[test]
    fn what_is_no_version_is_not_read() {
        let not = ["", "v", "1.", ".1", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1-rc", "1.0.0-a..b", "x"];
        for text in not {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
        assert_eq!(Version::parse("99999999999999999999.0.0"), None);
    }
}
