//! Switching a boolean flag for everybody, and giving it back to its rule.
//!
//! Works on the definition, not on the compiled flag. What it said before is kept inside it, under a
//! `$` key that no evaluation looks at: so a definition that is copied, mirrored or edited by hand
//! takes its way back along, and nothing else has to remember it.

use serde_json::{Map, Value};

/// Where a switched definition keeps what it said before.
pub const KEPT: &str = "$switched";

/// What decides who gets what: all that switching touches.
const DECIDING: [&str; 3] = ["state", "defaultVariant", "targeting"];

/// What a flag is switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Everybody gets `false`.
    Off,
    /// Everybody gets `true`.
    On,
    /// Everybody gets what the definition said before it was switched.
    Back,
}

/// Why a definition can't be switched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// The definition is no object, or its variants are none.
    #[error("the definition has no variants")]
    NoVariants,
    /// No variant has the value.
    #[error("no variant is {0}: only a boolean flag can be switched on and off")]
    NoSuchValue(bool),
    /// There is no variant of this name.
    #[error("`{0}` is no variant of the flag: it has {1}")]
    NoSuchVariant(String, String),
    /// Several variants have the value.
    #[error("{0} are both {1}: set the flag's defaultVariant instead")]
    Ambiguous(String, bool),
    /// It was never switched, or somebody set it anew since.
    #[error("the flag isn't switched: its own rule decides already")]
    NotSwitched,
}

/// The definition, switched. Of a flag that is where it shall be, the definition as it is.
///
/// # Errors
///
/// When the flag has no one variant of that value, or there is nothing to go back to.
pub fn switch(definition: &Value, to: Switch) -> Result<Value, SwitchError> {
    let fields = definition.as_object().ok_or(SwitchError::NoVariants)?;
    let switched = match to {
        Switch::Off => everybody(fields, false)?,
        Switch::On => everybody(fields, true)?,
        Switch::Back => {
            let Some(Value::Object(kept)) = fields.get(KEPT) else { return Err(SwitchError::NotSwitched) };
            decided_by(fields, kept)
        }
    };
    Ok(Value::Object(switched))
}

/// The definition with this variant for everybody, for good: with no rule, and no way back.
///
/// # Errors
///
/// When the flag has no such variant.
pub fn settled(definition: &Value, variant: &str) -> Result<Value, SwitchError> {
    let fields = definition.as_object().ok_or(SwitchError::NoVariants)?;
    let variants = fields.get("variants").and_then(Value::as_object).ok_or(SwitchError::NoVariants)?;
    if !variants.contains_key(variant) {
        let known = variants.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(SwitchError::NoSuchVariant(variant.to_owned(), known));
    }
    Ok(Value::Object(decided_by(fields, &fixed_to(variant))))
}

/// Whether a definition is switched, and so has a way back.
pub fn is_switched(definition: &Value) -> bool {
    definition.get(KEPT).is_some_and(Value::is_object)
}

fn everybody(fields: &Map<String, Value>, value: bool) -> Result<Map<String, Value>, SwitchError> {
    let variant = only_variant(fields, value)?;
    let own = match fields.get(KEPT) {
        Some(Value::Object(kept)) => kept.clone(),
        _ => deciding(fields),
    };
    let fixed = fixed_to(variant);
    let mut switched = decided_by(fields, &fixed);
    // A flag that says so by itself isn't held by a switch.
    if own != fixed {
        switched.insert(KEPT.to_owned(), Value::Object(own));
    }
    Ok(switched)
}

/// What decides where everybody gets one variant.
fn fixed_to(variant: &str) -> Map<String, Value> {
    let fixed = [("state", "ENABLED"), ("defaultVariant", variant)];
    fixed.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

fn only_variant(fields: &Map<String, Value>, value: bool) -> Result<&str, SwitchError> {
    let variants = fields.get("variants").and_then(Value::as_object).ok_or(SwitchError::NoVariants)?;
    let mut found = variants.iter().filter(|(_, given)| given.as_bool() == Some(value)).map(|(name, _)| name);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(one), Some(other)) => Err(SwitchError::Ambiguous(format!("`{one}` and `{other}`"), value)),
        (None, _) => Err(SwitchError::NoSuchValue(value)),
    }
}

/// The fields that decide, as far as they are there.
fn deciding(fields: &Map<String, Value>) -> Map<String, Value> {
    let of = |name: &str| fields.get(name).map(|value| (name.to_owned(), value.clone()));
    DECIDING.into_iter().filter_map(of).collect()
}

/// The fields with others in place of those that decide, and without what was kept.
fn decided_by(fields: &Map<String, Value>, others: &Map<String, Value>) -> Map<String, Value> {
    let stays = |name: &String| !DECIDING.contains(&name.as_str()) && name != KEPT;
    let staying = fields.iter().filter(|(name, _)| stays(name)).map(|(name, value)| (name.clone(), value.clone()));
    staying.chain(deciding(others)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn partial() -> Value {
        json!({
            "state": "ENABLED",
            "variants": { "on": true, "off": false },
            "defaultVariant": "off",
            "targeting": { "fractional": [["on", 10], ["off", 90]] },
            "metadata": { "owner": "editor-team" }
        })
    }

    fn switched(definition: &Value, to: Switch) -> Value {
        switch(definition, to).expect("a boolean flag")
    }

    #[test]
    fn off_is_off_for_everybody_and_the_way_back_leads_to_the_same_definition() {
        let off = switched(&partial(), Switch::Off);
        assert_eq!(off["state"], "ENABLED");
        assert_eq!(off["defaultVariant"], "off");
        assert_eq!(off["metadata"], partial()["metadata"]);
        assert!(off.get("targeting").is_none() && is_switched(&off), "{off}");
        assert_eq!(switched(&off, Switch::Back), partial());
    }

    #[test]
    fn on_after_off_is_on_for_everybody_and_keeps_the_first_way_back() {
        let on = switched(&switched(&partial(), Switch::Off), Switch::On);
        assert_eq!(on["defaultVariant"], "on");
        assert_eq!(switched(&on, Switch::Back), partial());
    }

    #[test]
    fn a_disabled_flag_that_is_switched_off_is_off_and_not_left_to_the_application() {
        let mut disabled = partial();
        disabled["state"] = "DISABLED".into();
        let off = switched(&disabled, Switch::Off);
        assert_eq!((&off["state"], &off["defaultVariant"]), (&json!("ENABLED"), &json!("off")));
        assert_eq!(switched(&off, Switch::Back), disabled);
    }

    #[test]
    fn switching_twice_is_switching_once_and_a_flag_without_a_rule_needs_no_way_back() {
        let off = switched(&partial(), Switch::Off);
        assert_eq!(switched(&off, Switch::Off), off);
        let plain = json!({ "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "off" });
        assert_eq!(switched(&plain, Switch::Off), plain);
        let on = switched(&plain, Switch::On);
        assert!(is_switched(&on));
        assert_eq!(switched(&on, Switch::Off), plain);
    }

    #[test]
    fn a_settled_flag_gives_everybody_one_variant_and_has_no_way_back() {
        let off = switched(&partial(), Switch::Off);
        for definition in [partial(), off] {
            let on = settled(&definition, "on").expect("a variant");
            assert_eq!((&on["defaultVariant"], on.get("targeting"), is_switched(&on)), (&json!("on"), None, false));
            assert_eq!(on["metadata"], partial()["metadata"]);
        }
        let error = settled(&partial(), "blue").expect_err("no such variant").to_string();
        assert!(error.contains("`on`") && error.contains("`off`"), "{error}");
    }

    #[test]
    fn what_has_no_one_variant_of_that_value_is_refused() {
        let with = |variants: Value| json!({ "state": "ENABLED", "variants": variants });
        for (definition, says) in [
            (with(json!({ "a": "x" })), "only a boolean flag"),
            (with(json!({ "on": true })), "no variant is false"),
            (with(json!({ "a": false, "b": false })), "`a` and `b` are both false"),
            (json!([]), "no variants"),
        ] {
            let error = switch(&definition, Switch::Off).expect_err("not to be switched").to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(switch(&partial(), Switch::Back), Err(SwitchError::NotSwitched));
    }
}
