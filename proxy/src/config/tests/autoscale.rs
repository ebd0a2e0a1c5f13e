//! Rules to scale by that make no sense, and what is said of them.

use super::refusals::refuses;
use super::*;

/// As [`refuses`], of what stands below a service's `autoscale`.
#[track_caller]
fn refuses_scaling(text: &str, culprit: &str, reason: &str) {
    refuses(&text.replace("[autoscale", "[service.web.autoscale"), culprit, reason);
}

#[test]
fn rules_to_scale_by_that_contradict_themselves_are_refused() {
    for (text, culprit, reason) in [
        ("[autoscale]\nmin = 5\nmax = 4\n", "4", "`max` is less than `min`, which is 5"),
        ("[autoscale]\nmin = 11\n", "11", "more than `max`, which is 10"),
        ("[autoscale]\nmin = 0\n", "0", "a whole number from 1 to 10000"),
        ("[autoscale]\nmaxx = 9\n", "maxx", "did you mean `max`?"),
        ("[autoscale]\ndeadband = nan\n", "nan", "a number from 0 to 0.5"),
        ("[autoscale]\nmax_shrink = \"150%\"\n", "\"150%\"", "a percent of the pool up to 100 %"),
        ("[autoscale]\nin_rollout = \"shrink\"\n", "\"shrink\"", "\"hold\" or \"grow\""),
        ("[autoscale]\nfreeze = [\"now\"]\n", "\"now\"", "a window is \"fri 16:00 - mon 08:00\""),
        ("[autoscale]\nprometheus = \"https://p:9090\"\n", "\"https://p:9090\"", "over http:// only"),
        ("[[autoscale.rule]]\nmetric = \"cpu\"\ntarget = 1\n", "\"cpu\"", "for others, give a `query`"),
        ("[[autoscale.rule]]\nmetric = \"requests\"\ntarget = -1\n", "-1", "a number above 0"),
        ("[[autoscale.rule]]\nmetric = \"requests\"\ntarget = inf\n", "inf", "a number above 0"),
        ("[[autoscale.rule]]\nmetric = \"p95\"\ntarget = 250\n", "250", "a duration, such as \"250ms\""),
        ("[[autoscale.rule]]\nmetric = \"p95\"\ntarget = \"1s\"\nabove = \"2s\"\n", "\"2s\"", "not both"),
        (
            "[[autoscale.rule]]\nmetric = \"requests\"\ntarget = 1\nadd = 2\n",
            "2",
            "`add` belongs to a rule with `above`",
        ),
        ("[[autoscale.rule]]\nmetric = \"requests\"\nabove = 1\nforecast = \"9s\"\n", "\"9s\"", "`forecast` belongs"),
        (
            "[[autoscale.rule]]\nmetric = \"in_flight\"\ntarget = 1\nlast_week = true\n",
            "true",
            "`last_week` is for `metric = \"requests\"`",
        ),
        (
            "[[autoscale.rule]]\nmetric = \"requests\"\ntarget = 1\nlast_week = true\n",
            "true",
            "`last_week` needs `forecast`",
        ),
        (
            "[[autoscale.rule]]\nmetric = \"requests\"\nabove = 1\nlast_week = false\n",
            "false",
            "`last_week` belongs to a rule with `target`",
        ),
        ("[[autoscale.rule]]\nmetric = \"requests\"\nabove = 5\nbelow = 5.0\n", "5.0", "isn't below `above`"),
        ("[[autoscale.rule]]\nmetric = \"requests\"\nabove = 5\nremove = 2\n", "2", "`remove` needs `below`"),
        ("[[autoscale.rule]]\nmetric = \"requests\"\ntarget = 5\nname = \"r\"\n", "\"r\"", "only a query has a `name`"),
        ("[[autoscale.schedule]]\nwindow = \"daily 1:00 - 2:00\"\nmin = 11\n", "11", "more than the pool's `max`"),
        ("[[autoscale.schedule]]\nwindow = \"daily 1:00 - 2:00\"\nmin = 4\nmax = 3\n", "3", "less than the `min`"),
        ("[[autoscale.schedule]]\nwindow = \"noon\"\nmin = 4\n", "\"noon\"", "a window is"),
        ("[autoscale.driver]\nexec = []\n", "[]", "the command is missing"),
        ("[autoscale.driver.docker]\nimage = \"shop 1\"\nport = 80\n", "\"shop 1\"", "an image has a name"),
        ("[autoscale.driver.docker]\nimage = \"s\"\nport = 0\n", "0", "1"),
        (
            "[autoscale.driver.docker]\nimage = \"s\"\nport = 80\nnetwork = \"host\"\n",
            "\"host\"",
            "no address of its own",
        ),
        ("[autoscale.driver.docker]\nimage = \"s\"\nport = 80\npublish = \"0.0.0.0\"\n", "\"0.0.0.0\"", "one address"),
        (
            "[autoscale.driver.docker]\nimage = \"s\"\nport = 80\nengine = \"tcp://h\"\n",
            "\"tcp://h\"",
            "an Engine is at",
        ),
        ("[autoscale.driver.docker]\nimage = \"s\"\nport = 80\nca_file = \"/c\"\n", "\"/c\"", "this one is a socket"),
    ] {
        refuses_scaling(text, culprit, reason);
    }
    for (text, reason) in [
        ("[[autoscale.rule]]\nmetric = \"requests\"\n", "`target` or `above` is missing here"),
        ("[[autoscale.rule]]\ntarget = 1\n", "`metric` or `query` is missing here"),
        ("[[autoscale.schedule]]\nwindow = \"daily 1:00 - 2:00\"\n", "this schedule changes nothing"),
        ("[autoscale.driver]\ntimeout = \"9s\"\n", "`exec` is missing here, or a table `docker`"),
        ("[autoscale.driver]\nexec = [\"/d\"]\ndocker = { image = \"s\", port = 80 }\n", "not both"),
    ] {
        let report = refused(&text.replace("[autoscale", "[service.web.autoscale"));
        assert!(report.contains(reason), "{report}");
    }
    let rule = "[[service.web.autoscale.rule]]\nmetric = \"requests\"\ntarget = 1\n";
    assert!(refused(&rule.repeat(2)).contains("a rule of this kind on this metric already"));
}
