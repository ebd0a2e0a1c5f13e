//! What the codec makes of good, odd and poisoned values.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::super::keys::Keys;
use super::*;
use crate::model::rollout::Fence;
use crate::model::scaling::{Act, Lesson, ScalingChange};
use crate::model::split::{EpisodeId, Salt};
use crate::model::state::{Change, MemberSpec};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

const SECRET: &str = "s3cret-value";

fn keys() -> ServiceKeys {
    Keys::new("test").expect("a namespace").service("checkbox")
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn service(pairs: &[(&str, &str)]) -> Raw {
    Raw { service: Some(fields(pairs)), pools: PerArm::from_fn(|_| Some(Fields::new())) }
}

fn canary(pairs: &[(&str, &str)]) -> Raw {
    let mut raw = service(&[(REVISION, "1")]);
    raw.pools.canary = Some(fields(pairs));
    raw
}

fn a_state() -> ServiceState {
    let spec = MemberSpec { version: Some("v2".into()), ..MemberSpec::new(([10, 0, 0, 21], 3002).into()) };
    let fresh = Episode { id: EpisodeId(7), salt: Salt(9) };
    let weight = Weight::from_percent(12.5).expect("a weight");
    ServiceState::default()
        .apply(&Change::SetWeight { weight, fresh })
        .apply(&Change::PutMember { arm: Arm::Canary, id: "a".into(), spec })
        .apply(&Change::RemoveMember { arm: Arm::Stable, id: "b".into() })
}

/// The fields after these writes to an empty hash.
fn written(writes: Vec<Write>) -> Fields {
    let mut fields = Fields::new();
    for write in writes {
        match write {
            Write::Set(field, value) => drop(fields.insert(field.into_bytes(), value.into_bytes())),
            Write::Delete(field) => panic!("there is no {field} to delete"),
        }
    }
    fields
}

#[test]
fn a_state_survives_its_fields() {
    // given a state written to an empty store
    let (state, nothing) = (a_state(), ServiceState::default());
    let mut own = written(service_writes(&nothing, &state));
    own.extend(fields(&[(REVISION, "3")]));
    let pools = PerArm::from_fn(|arm| Some(written(pool_writes(&BTreeMap::new(), state.pools.get(arm)))));
    // when it is read back, then it is the same, and nothing is left to write
    let decoded = decode(&keys(), &Raw { service: Some(own), pools }, None);
    assert_eq!(decoded.state, state);
    assert_eq!(decoded.poisoned, []);
    assert_eq!(service_writes(&decoded.sound, &state), []);
    assert_eq!(pool_writes(&decoded.sound.pools.canary, &state.pools.canary), []);
}

#[test]
fn the_fields_are_those_that_are_documented() {
    let state = a_state();
    let own = written(service_writes(&ServiceState::default(), &state));
    let expected = [(WEIGHT, "12.5"), (EPISODE, "0000000000000007"), (SALT, "00000000000000000000000000000009")];
    assert_eq!(own, fields(&expected));
    let pool = written(pool_writes(&BTreeMap::new(), &state.pools.canary));
    let member = r#"{"state":"ready","address":"10.0.0.21:3002","weight":1,"version":"v2"}"#;
    assert_eq!(pool, fields(&[("a", member)]));
    let gone = written(pool_writes(&BTreeMap::new(), &state.pools.stable));
    assert_eq!(gone, fields(&[("b", r#"{"state":"removed"}"#)]));
}

#[test]
fn what_people_write_by_hand_is_enough() {
    let mut raw = service(&[(WEIGHT, "10")]);
    raw.pools.canary = Some(fields(&[("a", r#"{"state":"ready","address":"10.0.0.21:3002"}"#)]));
    let decoded = decode(&keys(), &raw, None);
    assert_eq!(decoded.poisoned, []);
    assert_eq!(decoded.state.weight.map(Weight::hundredths), Some(1_000));
    assert_eq!(decoded.state.revision, 1, "what holds a weight isn't nothing");
    assert!(decoded.state.pools.canary.contains_key("a"));
}

#[test]
fn a_hash_that_is_missing_is_revision_zero_whatever_is_in_the_pools() {
    let mut raw = service(&[]);
    raw.pools.canary = Some(fields(&[("a", r#"{"state":"removed"}"#)]));
    let decoded = decode(&keys(), &raw, Some(&a_state()));
    assert!(!decoded.known);
    assert_eq!(decoded.state.revision, 0);
    assert_eq!(decoded.state.weight, None);
}

#[test]
fn a_field_that_makes_no_sense_is_passed_over_alone() {
    for (field, value) in [
        (WEIGHT, "abc"),
        (WEIGHT, "NaN"),
        (WEIGHT, "101"),
        (WEIGHT, "-1"),
        (WEIGHT, ""),
        (REVISION, "-3"),
        (REVISION, "many"),
        (EPISODE, "7"),
        (SALT, SECRET),
        (CIRCUIT, "open"),
        (CIRCUIT, "{\"state\":\"ajar\"}"),
        (REVISION, "18446744073709551615"),
        (CIRCUIT, "{\"state\":\"closed\",\"epoch\":18446744073709551615}"),
        (CIRCUIT, "{\"state\":\"open\",\"epoch\":3,\"trip_epoch\":18446744073709551615}"),
    ] {
        // given a hash whose other fields are sound, and a last good state
        let mut pairs = vec![
            (REVISION, "9"),
            (WEIGHT, "50"),
            (EPISODE, "0000000000000001"),
            (SALT, "00000000000000000000000000000002"),
        ];
        pairs.retain(|(name, _)| *name != field);
        pairs.push((field, value));
        let last_good = a_state();
        // when it is read
        let decoded = decode(&keys(), &service(&pairs), Some(&last_good));
        // then that field is named, without its value, and the last good value counts
        let [poison] = decoded.poisoned.as_slice() else { panic!("{field} {value}: {:?}", decoded.poisoned) };
        let named = if field == SALT { EPISODE } else { field };
        assert_eq!(poison.key, format!("serin:{{test}}:service:checkbox {named}"));
        assert!(value.len() < 3 || !poison.problem.contains(value), "{poison:?}");
        let (state, percent) = (decoded.state, |percent| Weight::from_percent(percent).ok());
        assert_eq!(state.weight, if field == WEIGHT { last_good.weight } else { percent(50.0) });
        assert_eq!(state.revision, if field == REVISION { last_good.revision } else { 9 });
        let episode = if named == EPISODE { last_good.episode.map(|e| e.id) } else { Some(EpisodeId(1)) };
        assert_eq!(state.episode.map(|e| e.id), episode);
    }
}

#[test]
fn a_member_that_makes_no_sense_is_passed_over_alone() {
    for member in [
        "ready",
        "{\"state\":\"ready\"}",
        "{\"state\":\"ready\",\"address\":\"nowhere\"}",
        "{\"state\":\"asleep\",\"address\":\"10.0.0.1:80\"}",
        "{\"state\":\"ready\",\"address\":\"10.0.0.1:0\"}",
        "{\"state\":\"draining\",\"address\":\"0.0.0.0:80\"}",
        "{\"state\":\"ready\",\"address\":\"224.0.0.1:80\"}",
        "{\"state\":\"ready\",\"address\":\"10.0.0.1:80\",\"weight\":0}",
        "{\"state\":\"ready\",\"address\":\"10.0.0.1:80\",\"weight\":1001}",
        "{\"state\":\"ready\",\"address\":\"10.0.0.1:80\",\"ttl_ms\":0}",
        "{\"state\":\"ready\",\"address\":\"10.0.0.1:80\",\"ttl_ms\":-5}",
        "{\"state\":\"ready\",\"address\":\"10.0.0.1:80\",\"zone\":\"a\\nb\"}",
        "{\"state\":\"ready\",\"address\":\"10.0.0.1:80\",\"metadata\":{\"a b\":\"\"}}",
    ] {
        let raw = canary(&[("a", member), ("fine", r#"{"state":"ready","address":"[::1]:80"}"#)]);
        // with a last good value, that counts
        let last_good = a_state();
        let decoded = decode(&keys(), &raw, Some(&last_good));
        assert_eq!(decoded.state.pools.canary["a"], last_good.pools.canary["a"], "{member}");
        // without one, the member isn't there; others are in any case
        let decoded = decode(&keys(), &raw, None);
        assert_eq!(decoded.state.pools.canary.keys().collect::<Vec<_>>(), ["fine"], "{member}");
        assert_eq!(decoded.poisoned[0].key, "serin:{test}:service:checkbox:pool:canary a");
    }
}

#[test]
fn an_id_that_the_api_would_refuse_names_no_member() {
    let member = r#"{"state":"ready","address":"10.0.0.1:80"}"#;
    let long = "x".repeat(129);
    for id in ["", "a b", "a/b", "<script>", "ä", &long] {
        let decoded = decode(&keys(), &canary(&[(id, member), ("fine", member)]), None);
        assert_eq!(decoded.state.pools.canary.keys().collect::<Vec<_>>(), ["fine"], "{id}");
        assert_eq!(decoded.poisoned.len(), 1, "{id}: {:?}", decoded.poisoned);
    }
}

#[test]
fn a_pool_has_no_more_members_than_are_possible() {
    let member = br#"{"state":"ready","address":"10.0.0.1:80"}"#;
    for (count, read, poisoned) in [(MOST_MEMBERS, MOST_MEMBERS, 0), (MOST_MEMBERS + 5, MOST_MEMBERS, 1)] {
        let mut raw = service(&[(REVISION, "1")]);
        raw.pools.canary = Some((0..count).map(|n| (format!("m{n}").into_bytes(), member.to_vec())).collect());
        let decoded = decode(&keys(), &raw, None);
        assert_eq!((decoded.state.pools.canary.len(), decoded.poisoned.len()), (read, poisoned));
        assert!(decoded.poisoned.iter().all(|poison| poison.problem.contains(&MOST_MEMBERS.to_string())));
    }
}

#[test]
fn a_key_of_another_type_leaves_the_last_good_values() {
    let last_good = a_state();
    let raw = Raw { service: None, pools: PerArm { stable: None, canary: Some(Fields::new()) } };
    let decoded = decode(&keys(), &raw, Some(&last_good));
    assert_eq!((decoded.state.weight, decoded.state.revision), (last_good.weight, last_good.revision));
    assert_eq!(decoded.state.pools.stable, last_good.pools.stable);
    assert!(decoded.state.pools.canary.is_empty(), "an emptied pool is no poison");
    assert_eq!(decoded.wrong_type.len(), 2);
}

#[test]
fn names_from_outside_cannot_break_a_log_line() {
    let long = format!("a\n{}", "x".repeat(500));
    let decoded = decode(&keys(), &canary(&[(&long, "?")]), None);
    let key = &decoded.poisoned[0].key;
    assert!(!key.contains('\n') && key.len() < 200, "{key}");
}

#[test]
fn a_change_writes_what_makes_no_sense_anew() {
    let last_good = a_state();
    let decoded = decode(&keys(), &service(&[(REVISION, "3"), (WEIGHT, "abc")]), Some(&last_good));
    let writes = service_writes(&decoded.sound, &decoded.state);
    assert_eq!(writes, [Write::Set(WEIGHT.into(), "12.5".into())]);
}

#[test]
fn a_week_that_nobody_can_have_learned_is_passed_over_and_keeps_nothing_else_from_being_read() {
    let at = Timestamp::from_millis(1_767_571_200_000);
    let learned = Change::Scaling(ScalingChange::Lead { fence: Fence(3), act: Act::Learn(Lesson::of(at, 412.0)) });
    let known = ServiceState::default().apply(&learned);
    let [Write::Set(_, week)] =
        &service_writes(&ServiceState::default(), &ServiceState { scaling: None, ..known.clone() })[..]
    else {
        panic!("{known:?}")
    };
    let good = decode(&keys(), &service(&[(REVISION, "3"), (WEEK, week)]), None);
    assert_eq!((&good.state.week, good.poisoned.len()), (&known.week, 0));
    for bad in ["NaN", "", "{}", &week[..week.len() - 1], &format!("{week}0"), &week.replace('0', "NaN")] {
        let decoded = decode(&keys(), &service(&[(REVISION, "4"), (WEEK, bad), (WEIGHT, "7")]), Some(&good.state));
        assert_eq!((decoded.state.week, decoded.sound.week), (good.state.week.clone(), None));
        assert_eq!(decoded.poisoned, [poison("serin:{test}:service:checkbox", WEEK, BAD_WEEK)]);
        assert!(decoded.state.weight.is_some());
        let first = decode(&keys(), &service(&[(REVISION, "4"), (WEEK, bad)]), None);
        assert_eq!((first.state.week, first.poisoned.len()), (None, 1));
    }
}

#[test]
fn a_scaling_that_nobody_can_have_asked_for_is_passed_over() {
    let grant =
        |count: u32| format!(r#"{{"grants":[{{"token":"t","count":{count},"at":0,"stage":"asked","before":[]}}]}}"#);
    let (sound, huge) = (grant(5), grant(100_000));
    let last_good = decode(&keys(), &service(&[(REVISION, "3"), (SCALING, &sound)]), None).state;
    assert_eq!(last_good.scaling.as_ref().map(|scaling| scaling.grants[0].count), Some(5));
    let decoded = decode(&keys(), &service(&[(REVISION, "4"), (SCALING, &huge)]), Some(&last_good));
    assert_eq!((decoded.state.scaling, decoded.sound.scaling), (last_good.scaling, None));
    assert_eq!(decoded.poisoned, [poison("serin:{test}:service:checkbox", SCALING, BAD_SCALING)]);
}

#[test]
fn numbers_are_read_as_they_were_written() {
    // given evidence as it is computed: any number
    let mut dice = StdRng::seed_from_u64(11);
    let mut numbers = std::iter::repeat_with(|| f64::from_bits(dice.random())).filter(|number| number.is_finite());
    for number in numbers.by_ref().take(10_000).chain([783_997.612_066_76, 979_997.015_083_449_9]) {
        // then it is the same from the store: one that isn't would have its circuit written again for ever
        let read: f64 = serde_json::from_str(&json(&number)).expect("a number");
        assert_eq!(read.to_bits(), number.to_bits(), "{number} comes back as {read}");
    }
}
