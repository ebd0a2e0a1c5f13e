//! Which service takes a request, and by which of its routes: compiled once for a configuration.
//!
//! A host of one service without routes costs one look. For any other there is a tree of path segments with exact paths
//! and prefixes, in which a request costs a look for each of its segments, however many routes there are; regular
//! expressions are tried one by one, behind it. `model/route.rs` has the order.
//!
//! All of it is only read, and so shared by the cores, but for expressions: each match takes scratch memory from the
//! expression's pool, and writes to the pool to say so. Each core has copies with pools of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::Method;
use http::header::HeaderMap;

use crate::model::route::{PathRule, RouteSpec};
use crate::model::spec::ServiceSpec;

/// Where services stand in a snapshot, and who answers for which host. It follows from the configuration alone, so
/// snapshots share it.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_name: HashMap<String, usize>,
    by_host: HashMap<String, Answer>,
    /// `*.example.org` by `example.org`.
    below: HashMap<String, Answer>,
    any_host: Option<Answer>,
}

impl Places {
    /// For so many cores.
    pub(super) fn of<'s>(services: impl Iterator<Item = &'s ServiceSpec>, cores: usize) -> Self {
        let services: Vec<_> = services.collect();
        let mut places = Self::default();
        let mut claims: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, service) in services.iter().enumerate() {
            places.by_name.entry(service.name.clone()).or_insert(index);
            for host in &service.hosts {
                claims.entry(host).or_default().push(index);
            }
        }
        // Hosts of the same services share a tree.
        let mut made: BTreeMap<Vec<usize>, Answer> = BTreeMap::new();
        for (host, claimants) in claims {
            let answer =
                made.entry(claimants).or_insert_with_key(|claimants| Answer::of(&services, claimants, cores)).clone();
            match (host, host.strip_prefix("*.")) {
                ("*", _) => places.any_host = Some(answer),
                (_, Some(parent)) => _ = places.below.insert(parent.to_owned(), answer),
                _ => _ = places.by_host.insert(host.to_owned(), answer),
            }
        }
        places
    }

    pub(super) fn of_service(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Who answers for a host: its own name first, then the nearest name that it lies below.
    pub(super) fn answer(&self, host: &str) -> Option<&Answer> {
        let named = if self.by_host.is_empty() { None } else { self.by_host.get(host) };
        named.or_else(|| self.answer_below(host)).or(self.any_host.as_ref())
    }

    fn answer_below(&self, host: &str) -> Option<&Answer> {
        if self.below.is_empty() {
            return None;
        }
        host.match_indices('.').find_map(|(dot, _)| self.below.get(&host[dot + 1..]))
    }
}

/// Who answers for a host.
#[derive(Clone, Debug)]
pub enum Answer {
    /// One service, for all of it.
    Whole(usize),
    /// By routes.
    Routed(Arc<RouteTree>),
}

/// The service that takes a request, by its place in the snapshot, and the place of the route among its own; none where
/// it takes what no route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The service.
    pub service: usize,
    /// The route.
    pub route: Option<usize>,
}

/// What routes are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// The path as it is matched: [`Matched::text`](crate::model::path::Matched::text).
    pub path: &'r str,
    /// The method.
    pub method: &'r Method,
    /// The header.
    pub headers: &'r HeaderMap,
    /// The core that asks.
    pub core: usize,
}

/// Who takes a request.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// In the snapshot.
    pub hit: Hit,
    /// The route, as the core that asked has it; none where the service takes what no route does.
    pub route: Option<&'t RouteSpec>,
}

impl Answer {
    fn of(services: &[&ServiceSpec], claimants: &[usize], cores: usize) -> Self {
        match claimants {
            [only] if services[*only].routes.is_empty() => Self::Whole(*only),
            _ => Self::Routed(Arc::new(RouteTree::of(claimants.iter().map(|index| (*index, services[*index])), cores))),
        }
    }

    /// Whether a service is among those that answer.
    pub fn may_be(&self, service: usize) -> bool {
        match self {
            Self::Whole(only) => *only == service,
            Self::Routed(tree) => tree.services.contains(&service),
        }
    }
}

/// The routes of a host.
#[derive(Debug, Default)]
pub struct RouteTree {
    services: Vec<usize>,
    /// The root, which stands for `/` and has no routes, and below it a node for each beginning of a path.
    nodes: Vec<Node>,
    /// Those with an expression, for each core. None where there is none at all.
    regexes: Box<[Vec<Entry>]>,
    any: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize>,
    exact: Vec<Entry>,
    prefix: Vec<Entry>,
    /// The nearest node above that has a prefix.
    above: Option<usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    hit: Hit,
    /// None where the service takes what nobody else does.
    route: Option<Arc<RouteSpec>>,
}

impl Entry {
    fn takes(&self, asked: &Asked<'_>) -> bool {
        self.route.as_ref().is_none_or(|route| route.takes(asked.method, asked.headers))
    }

    fn holds(&self, path: &str) -> bool {
        self.route.as_ref().is_none_or(|route| route.path.holds(path))
    }

    fn found(&self) -> Found<'_> {
        Found { hit: self.hit, route: self.route.as_deref() }
    }

    /// The same, which shares nothing that a match writes to.
    fn own(&self) -> Self {
        Self { hit: self.hit, route: self.route.as_ref().map(|route| Arc::new(RouteSpec::clone(route))) }
    }
}

impl RouteTree {
    /// The routes of these services, each with its place in the snapshot, for so many cores.
    pub fn of<'s>(services: impl Iterator<Item = (usize, &'s ServiceSpec)>, cores: usize) -> Self {
        let mut tree = Self { nodes: vec![Node::default()], ..Self::default() };
        let mut regexes = Vec::new();
        for (service, spec) in services {
            tree.services.push(service);
            if spec.routes.is_empty() {
                tree.any.push(Entry { hit: Hit { service, route: None }, route: None });
            }
            for (nth, route) in spec.routes.iter().enumerate() {
                let entry = Entry { hit: Hit { service, route: Some(nth) }, route: Some(Arc::clone(route)) };
                match &route.path {
                    PathRule::Any => tree.any.push(entry),
                    PathRule::Regex(_) => regexes.push(entry),
                    PathRule::Exact(path) => tree.node_of(path).exact.push(entry),
                    PathRule::Prefix(path) => tree.node_of(path).prefix.push(entry),
                }
            }
        }
        tree.settle();
        if !regexes.is_empty() {
            regexes.sort_by_key(|entry| entry.route.as_ref().map(|route| route.place));
            tree.regexes = (0..cores).map(|_| regexes.iter().map(Entry::own).collect()).collect();
        }
        tree
    }

    fn node_of(&mut self, path: &str) -> &mut Node {
        let mut at = 0;
        for segment in segments(path) {
            let next = self.nodes.len();
            at = *self.nodes[at].children.entry(segment.into()).or_insert(next);
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        &mut self.nodes[at]
    }

    /// Brings everything into its order.
    fn settle(&mut self) {
        let lists = self.nodes.iter_mut().flat_map(|node| [&mut node.exact, &mut node.prefix]);
        for list in lists.chain([&mut self.any]) {
            list.sort_by_cached_key(|entry| (entry.route.is_none(), entry.route.as_ref().map(|route| route.rank())));
        }
        // A node comes before those below it.
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let above = if node.prefix.is_empty() { node.above } else { Some(at) };
            for child in node.children.values().copied().collect::<Vec<_>>() {
                self.nodes[child].above = above;
            }
        }
    }

    /// Who takes a request; none if nobody does.
    pub fn find(&self, asked: &Asked<'_>) -> Option<Found<'_>> {
        let by_expression = || {
            let own = self.regexes.get(asked.core).into_iter().flatten();
            own.into_iter().find(|entry| entry.takes(asked) && entry.holds(asked.path))
        };
        let entry = self.find_in_tree(asked).or_else(by_expression).or_else(|| first(&self.any, asked));
        entry.map(Entry::found)
    }

    fn find_in_tree(&self, asked: &Asked<'_>) -> Option<&Entry> {
        let mut at = 0;
        let mut rest = segments(asked.path);
        let is_whole = loop {
            let Some(segment) = rest.next() else { break true };
            let Some(next) = self.nodes[at].children.get(segment) else { break false };
            at = *next;
        };
        if is_whole && let Some(entry) = first(&self.nodes[at].exact, asked) {
            return Some(entry);
        }
        let mut above = Some(at);
        while let Some(node) = above.map(|at| &self.nodes[at]) {
            if let Some(entry) = first(&node.prefix, asked) {
                return Some(entry);
            }
            above = node.above;
        }
        None
    }
}

/// The first that takes a request.
fn first<'e>(entries: &'e [Entry], asked: &Asked<'_>) -> Option<&'e Entry> {
    entries.iter().find(|entry| entry.takes(asked))
}

/// The segments of a path; `/` has one, which is empty. None of what is no path, such as `*`.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|path| path.split('/'))
}

#[cfg(test)]
mod tests;
