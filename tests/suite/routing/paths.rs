//! Paths that are written in other ways: none leads around a route, and what goes on to the endpoint.

use serin_tests::serin::Serin;

use super::{application, get};

/// What a reader makes of a target who decodes all, takes parameters off, knows `\` as `/`, and resolves dots.
fn as_anybody_may_read(target: &str) -> String {
    let mut path = target.split('?').next().unwrap().to_ascii_lowercase();
    for _ in 0..3 {
        for (escape, letter) in [("%2f", "/"), ("%5c", "/"), ("%2e", "."), ("%3b", ";"), ("%61", "a"), ("%64", "d")] {
            path = path.replace(escape, letter);
        }
        path = path.replace('\\', "/");
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').map(|segment| segment.split(';').next().unwrap()) {
        match segment {
            "" | "." => {}
            ".." => _ = kept.pop(),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[tokio::test]
async fn no_way_of_writing_a_path_leads_around_a_route() {
    let (web, admin) = (application("web").await, application("admin").await);
    let config = format!(
        "[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n\
         [service.admin]\nhosts = [\"*\"]\nstable = [\"{}\"]\n[[service.admin.route]]\npath_prefix = \"/admin\"\n",
        web.address(),
        admin.address()
    );
    let serin = Serin::start(&config).await.unwrap();
    let mut served = 0;
    for target in [
        "/admin",
        "/admin/",
        "/%61dmin/x",
        "//admin/x",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin/y",
        "/admin;a=b/x",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/.;/admin",
        "/;a/admin",
        "/x%2f..%2fadmin",
        "/x/..%2fadmin",
        "/%2fadmin",
        "/admin%2fx",
        "/x%5c..%5cadmin",
        "/admin%5cx",
        "/x\\..\\admin",
        "\\admin",
        "/%5cadmin",
        "/admin%00",
        "/admin%",
        "/%zzadmin",
        "/../admin",
        "/..%2fadmin",
        "/x/%2e%2e%2fadmin",
        "/admin?/../x",
        "/%2e/admin",
        "/admin/..;/x",
        "http://a.example//admin",
        "http://a.example/x/../admin",
    ] {
        let answer = get(&serin, target).await;
        assert!([200, 400].contains(&answer.status()), "{target}: {answer:?}");
        served += usize::from(answer.status() == 200);
    }
    assert!(served >= 10, "only {served} were served");
    for target in web.targets().unwrap() {
        assert!(!as_anybody_may_read(&target).starts_with("/admin"), "web was asked for {target}");
    }
    let asked = admin.targets().unwrap();
    assert_eq!(asked.len(), served);
    for target in asked {
        assert!(as_anybody_may_read(&target).starts_with("/admin"), "admin was asked for {target}");
        let target = target.split('?').next().unwrap();
        assert!(!target.contains("..") && !target.contains("//"), "{target} isn't in its normal form");
    }
    // while what only looks like it is served as it came
    for (target, wanted) in
        [("/administration", "/administration"), ("/pkg/%40scope%2fname", "/pkg/%40scope%2Fname"), ("/a;b=c", "/a;b=c")]
    {
        assert_eq!(get(&serin, target).await.text(), format!("web {wanted}"), "{target}");
    }
}

#[tokio::test]
async fn empty_segments_go_on_only_by_a_route_that_says_so_and_never_lead_around_one() {
    let (web, admin) = (application("web").await, application("admin").await);
    let config = format!(
        "[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\nroute = [{{}}, {{ path_prefix = \"/fetch\", merge_slashes = false }}]\n\
         [service.admin]\nhosts = [\"*\"]\nstable = [\"{}\"]\nroute = [{{ path_prefix = \"/fetch/admin\" }}]\n",
        web.address(),
        admin.address()
    );
    let serin = Serin::start(&config).await.unwrap();
    for (target, wanted) in [
        ("/a//b", "web /a/b"),
        ("/fetch/https://b.example//c/%2e/?d=//e", "web /fetch/https://b.example//c/?d=//e"),
        ("//fetch//x", "web /fetch//x"),
        // what a route takes is taken however many slashes there are
        ("/fetch//admin", "admin /fetch/admin"),
        ("//fetch///admin//x", "admin /fetch/admin/x"),
        // and where not everybody would come to the same, there are none
        ("/fetch/x//../y", "web /fetch/y"),
        ("/fetch//x/../../admin", "web /admin"),
    ] {
        assert_eq!(get(&serin, target).await.text(), wanted, "{target}");
    }
}
