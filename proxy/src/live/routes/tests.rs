//! The tree against a reading of the rules that looks at every route, and who answers for which host.

use http::HeaderValue;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::live::sample;
use crate::model::policy::RoutePolicy;
use crate::model::route::{HeaderRule, Methods, PathRegex, ValueRule};

const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::DELETE];
const SEGMENTS: [&str; 4] = ["", "a", "b", "ab"];

fn policy() -> RoutePolicy {
    RoutePolicy {
        timeouts: sample::service("any").timeouts,
        max_body_bytes: 1,
        retries: Default::default(),
        rewrite: None,
        keeps_slashes: false,
        redirect: None,
        request_headers: Default::default(),
        response_headers: Default::default(),
    }
}

fn route(path: PathRule, methods: &[Method], headers: Vec<HeaderRule>, place: usize) -> Arc<RouteSpec> {
    let methods = Methods::of(methods.to_vec());
    Arc::new(RouteSpec { name: None, place, path, methods, headers, policy: policy() })
}

fn prefix(path: &str, place: usize) -> Arc<RouteSpec> {
    route(PathRule::Prefix(path.into()), &[], vec![], place)
}

fn service(name: &str, hosts: &[&str], routes: Vec<Arc<RouteSpec>>) -> ServiceSpec {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    ServiceSpec { hosts, routes, ..sample::service(name) }
}

#[test]
fn the_nearest_name_of_a_host_answers() {
    let services = [
        service("exact", &["a.example.org"], vec![]),
        service("near", &["*.b.example.org"], vec![]),
        service("far", &["*.example.org"], vec![]),
        service("rest", &["*"], vec![]),
    ];
    let places = Places::of(services.iter(), 2);
    for (host, wanted) in [
        ("a.example.org", "exact"),
        ("x.a.example.org", "far"),
        ("c.example.org", "far"),
        ("b.example.org", "far"),
        ("x.b.example.org", "near"),
        ("x.y.b.example.org", "near"),
        ("example.org", "rest"),
        ("xexample.org", "rest"),
        ("", "rest"),
    ] {
        let Some(Answer::Whole(index)) = places.answer(host) else { panic!("{host}: {:?}", places.answer(host)) };
        assert_eq!(services[*index].name, wanted, "{host}");
    }
    assert!(Places::of(services[..3].iter(), 2).answer("example.com").is_none());
}

#[test]
fn hosts_of_the_same_services_share_a_tree() {
    let services = [service("one", &["a", "b"], vec![prefix("/x", 0)]), service("two", &["b", "a"], vec![])];
    let places = Places::of(services.iter(), 2);
    let (Some(Answer::Routed(a)), Some(Answer::Routed(b))) = (places.answer("a"), places.answer("b")) else {
        panic!("{places:?}");
    };
    assert!(Arc::ptr_eq(a, b));
    assert!(places.answer("a").is_some_and(|answer| answer.may_be(0) && answer.may_be(1) && !answer.may_be(2)));
}

/// What the rules of `model/route.rs` say, read as they are written.
fn reference(services: &[ServiceSpec], asked: &Asked<'_>) -> Option<Hit> {
    let kind = |rule: &PathRule| match rule {
        PathRule::Exact(_) => (0, 0),
        PathRule::Prefix(path) => (1, usize::MAX - path.len()),
        PathRule::Regex(_) => (2, 0),
        PathRule::Any => (3, 0),
    };
    let routes = services.iter().enumerate().flat_map(|(service, spec)| {
        spec.routes.iter().enumerate().map(move |(nth, route)| (Hit { service, route: Some(nth) }, route))
    });
    let holds = |route: &RouteSpec| route.path.holds(asked.path) && route.takes(asked.method, asked.headers);
    let best = routes.filter(|(_, route)| holds(route)).min_by_key(|(_, route)| {
        let is_regex = matches!(route.path, PathRule::Regex(_));
        (kind(&route.path), (!is_regex).then(|| route.rank()), route.place)
    });
    let rest = services.iter().position(|spec| spec.routes.is_empty());
    best.map(|(hit, _)| hit).or(rest.map(|service| Hit { service, route: None }))
}

fn random_path(rng: &mut StdRng) -> String {
    let length = rng.random_range(1..4);
    (0..length).map(|_| format!("/{}", SEGMENTS[rng.random_range(0..SEGMENTS.len())])).collect()
}

fn random_route(rng: &mut StdRng, place: usize) -> Arc<RouteSpec> {
    let path = random_path(rng);
    let rule = match rng.random_range(0..8) {
        0..3 => PathRule::Exact(path.into()),
        3..6 if path.trim_end_matches('/').is_empty() => PathRule::Any,
        3..6 => PathRule::Prefix(path.trim_end_matches('/').into()),
        6 => PathRule::Regex(PathRegex::new(&path.replace("ab", "[ab]+")).expect("an expression")),
        _ => PathRule::Any,
    };
    let methods: Vec<Method> = METHODS.into_iter().filter(|_| rng.random_bool(0.2)).collect();
    let value = |rng: &mut StdRng| match rng.random_range(0..3) {
        0 => ValueRule::Present,
        1 => ValueRule::Prefix("a".into()),
        _ => ValueRule::Exact("ab".into()),
    };
    let headers = ["x-a", "x-b"].into_iter().filter(|_| rng.random_bool(0.2)).map(http::HeaderName::from_static);
    let headers: Vec<_> = headers.collect();
    let headers = headers.into_iter().map(|name| HeaderRule { name, value: value(rng) }).collect();
    route(rule, &methods, headers, place)
}

#[test]
fn the_tree_finds_what_a_look_at_every_route_finds() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..2_000 {
        let mut place = 0;
        let count = rng.random_range(1..4);
        let mut services: Vec<ServiceSpec> = Vec::new();
        for nth in 0..count {
            let length = rng.random_range(0..10);
            let routes: Vec<_> = (0..length)
                .map(|_| {
                    place += 1;
                    random_route(&mut rng, place)
                })
                .collect();
            let two_for_the_rest = routes.is_empty() && services.iter().any(|spec| spec.routes.is_empty());
            if !two_for_the_rest {
                services.push(service(&nth.to_string(), &["h"], routes));
            }
        }
        let tree = RouteTree::of(services.iter().enumerate(), 2);
        for _ in 0..30 {
            let path = if rng.random_bool(0.05) { "*".to_owned() } else { random_path(&mut rng) };
            let headers: HeaderMap = ["x-a", "x-b"]
                .into_iter()
                .filter(|_| rng.random_bool(0.4))
                .map(|name| (http::HeaderName::from_static(name), HeaderValue::from_static("ab")))
                .collect();
            let method = &METHODS[rng.random_range(0..METHODS.len())];
            let asked = Asked { path: &path, method, headers: &headers, core: rng.random_range(0..2) };
            let routes: Vec<_> = services.iter().map(|spec| &spec.routes).collect();
            assert_eq!(
                tree.find(&asked).map(|found| found.hit),
                reference(&services, &asked),
                "{asked:?} among {routes:#?}"
            );
        }
    }
}

#[test]
fn of_two_routes_of_one_path_the_stricter_is_asked_first() {
    let header = |name, value| HeaderRule { name: http::HeaderName::from_static(name), value };
    let path = || PathRule::Prefix("/a".into());
    let routes = vec![
        prefix("/a", 0),
        route(path(), &[Method::GET, Method::POST], vec![], 1),
        route(path(), &[Method::POST], vec![], 2),
        route(path(), &[], vec![header("x-a", ValueRule::Present)], 3),
        route(path(), &[], vec![header("x-a", ValueRule::Exact("b".into()))], 4),
        route(path(), &[Method::POST], vec![header("x-a", ValueRule::Present)], 5),
    ];
    let services = [service("one", &["h"], routes)];
    let tree = RouteTree::of(services.iter().enumerate(), 2);
    for (method, header, wanted) in [
        (Method::GET, None, 1),
        (Method::POST, None, 2),
        (Method::DELETE, None, 0),
        (Method::DELETE, Some("b"), 4),
        (Method::DELETE, Some("c"), 3),
        (Method::POST, Some("b"), 5),
    ] {
        let headers: HeaderMap = header
            .map(|value| (http::HeaderName::from_static("x-a"), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let hit = tree.find(&Asked { path: "/a/b", method: &method, headers: &headers, core: 0 });
        assert_eq!(hit.and_then(|found| found.hit.route), Some(wanted), "{method} {header:?}");
    }
}

#[test]
fn each_core_has_expressions_of_its_own() {
    let rule = PathRule::Regex(PathRegex::new("/v[0-9]+").expect("an expression"));
    let services = [service("one", &["h"], vec![route(rule, &[], vec![], 0)])];
    let tree = RouteTree::of(services.iter().enumerate(), 3);
    let headers = HeaderMap::new();
    let of_core = |core| {
        let asked = Asked { path: "/v1", method: &Method::GET, headers: &headers, core };
        tree.find(&asked).and_then(|found| found.route).expect("the route")
    };
    // none is the one of the configuration either
    let all = [of_core(0), of_core(1), of_core(2), &*services[0].routes[0]];
    for (nth, one) in all.iter().enumerate() {
        assert!(all[nth + 1..].iter().all(|other| !std::ptr::eq(*one, *other)));
    }
}
