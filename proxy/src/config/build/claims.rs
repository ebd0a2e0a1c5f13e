//! Who takes which requests of a host: no two the same, and a word about routes that can never take any.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::config::findings::Findings;
use crate::model::route::{PathRegex, PathRule, RouteSpec};

/// Routes of one path of a host: a request to it may have to be held against each.
const MOST_OF_A_PATH: usize = 100;

/// What takes requests of a host: a route, or a service that has none.
#[derive(Clone, Copy)]
pub(super) struct Claim<'s> {
    pub(super) service: &'s str,
    /// None where the service takes all that nobody else does.
    pub(super) route: Option<&'s RouteSpec>,
    /// Where that is written: of a service without routes, where it names the host.
    pub(super) at: &'s Range<usize>,
}

impl Claim<'_> {
    fn rule(&self) -> &PathRule {
        self.route.map_or(&PathRule::Any, |route| &route.path)
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self.route, other.route) {
            (Some(one), Some(other)) => one.is_same(other),
            (Some(only), None) | (None, Some(only)) => only.is_unconditional(),
            (None, None) => true,
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self.route, other.route) {
            (None, _) => true,
            (Some(own), None) => own.is_unconditional(),
            (Some(own), Some(other)) => own.covers(other),
        }
    }

    /// What it is called: by its name, or else by its path, and where it stands.
    fn called(&self, findings: &Findings<'_>) -> String {
        let line = findings.line(self.at);
        match self.route {
            None => format!("service `{}`, which takes all of its hosts (line {line})", self.service),
            Some(RouteSpec { name: Some(name), .. }) => {
                format!("route `{name}` of service `{}` (line {line})", self.service)
            }
            Some(route) => format!("the route for {} of service `{}` (line {line})", route.path, self.service),
        }
    }
}

/// The claims on each host.
pub(super) type Claims<'s> = BTreeMap<&'s str, Vec<Claim<'s>>>;

/// Finds claims that are the same, and those that another one leaves nothing.
pub(super) fn examine(claims: &Claims<'_>, findings: &mut Findings<'_>) {
    let mut told = BTreeSet::new();
    for (host, claims) in claims {
        let by_paths = by_paths(claims);
        for group in by_paths.values() {
            compare(host, group, &mut told, findings);
        }
        for claim in claims {
            if let Some(first) = hidden_by(claim, &by_paths)
                && told.insert(claim.at.start)
            {
                note_hidden(host, claim, first, findings);
            }
        }
    }
}

/// The paths of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Paths<'c> {
    Any,
    Exact(&'c str),
    Prefix(&'c str),
    Like(&'c str),
}

impl<'c> Paths<'c> {
    fn of(rule: &'c PathRule) -> Self {
        match rule {
            PathRule::Any => Self::Any,
            PathRule::Exact(path) => Self::Exact(path),
            PathRule::Prefix(path) => Self::Prefix(path),
            PathRule::Regex(regex) => Self::Like(regex.pattern()),
        }
    }
}

type ByPaths<'c, 's> = HashMap<Paths<'c>, Vec<&'c Claim<'s>>>;

/// Claims by their paths, each list in the order in which they are asked.
fn by_paths<'c, 's>(claims: &'c [Claim<'s>]) -> ByPaths<'c, 's> {
    let mut by_paths: ByPaths<'c, 's> = HashMap::new();
    for claim in claims {
        by_paths.entry(Paths::of(claim.rule())).or_default().push(claim);
    }
    for (paths, list) in &mut by_paths {
        match paths {
            Paths::Like(_) => list.sort_by_key(|claim| claim.at.start),
            _ => list
                .sort_by_cached_key(|claim| (claim.route.is_none(), claim.route.map(RouteSpec::rank), claim.at.start)),
        }
    }
    by_paths
}

/// Compares the claims on one path with each other.
fn compare(host: &str, group: &[&Claim<'_>], told: &mut BTreeSet<usize>, findings: &mut Findings<'_>) {
    if let Some(beyond) = group.get(MOST_OF_A_PATH) {
        if told.insert(beyond.at.start) {
            let text = format!("a host has at most {MOST_OF_A_PATH} routes for one path");
            findings.problem(beyond.at.clone(), text);
        }
        return;
    }
    for (nth, later) in group.iter().enumerate() {
        let Some(first) = group[..nth].iter().find(|first| first.covers(later)) else { continue };
        // Of two that are the same, the one further down is at fault.
        let (first, later) = if first.at.start < later.at.start { (first, later) } else { (later, first) };
        if !told.insert(later.at.start) {
            continue;
        }
        if !first.is_same(later) {
            note_hidden(host, later, first, findings);
        } else if first.route.is_none() && later.route.is_none() {
            let line = findings.line(first.at);
            let text = format!("service `{}` answers for this host already, on line {line}", first.service);
            findings.problem(later.at.clone(), text);
        } else {
            let (first, later_called) = (first.called(findings), later.called(findings));
            findings
                .problem(later.at.clone(), format!("at `{host}` {later_called} takes the same requests as {first}"));
        }
    }
}

fn note_hidden(host: &str, hidden: &Claim<'_>, by: &Claim<'_>, findings: &mut Findings<'_>) {
    let text = format!("at `{host}` {} never matches: {} comes first", hidden.called(findings), by.called(findings));
    findings.note_at(hidden.at, text);
}

/// What takes all requests of a claim before it is asked, among claims on other paths.
fn hidden_by<'c, 's>(claim: &Claim<'s>, by_paths: &ByPaths<'c, 's>) -> Option<&'c Claim<'s>> {
    let covering = |paths: &Paths<'_>| by_paths.get(paths)?.iter().copied().find(|first| first.covers(claim));
    match claim.rule() {
        PathRule::Exact(_) | PathRule::Prefix(_) => None,
        // Prefixes come before it, and may leave it nothing.
        PathRule::Regex(regex) => {
            let head = regex.head();
            let prefixes = head.match_indices('/').map(|(at, _)| &head[..at]).filter(|prefix| !prefix.is_empty());
            prefixes.filter_map(|prefix| covering(&Paths::Prefix(prefix))).next()
        }
        PathRule::Any => PathRegex::OF_ANY.iter().filter_map(|pattern| covering(&Paths::Like(pattern))).next(),
    }
}
