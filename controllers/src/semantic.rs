//! Whether an object in the cluster already is what was built, so that nothing needs to be written.
//!
//! What the API server fills in (defaults, cluster IPs, status) is not ours and does not count. Every field that was
//! built must be there with the same meaning: quantities by value (`1000m` is `1`), an empty object or list like one
//! that is absent, named list elements (containers, volumes, environment, ports) by name, other lists by position and
//! with the same length.

use serde_json::Value;

/// `None` when `live` says everything that `desired` says; otherwise the path of the first field that differs.
pub fn difference(desired: &Value, live: &Value) -> Option<String> {
    compare("", desired, live)
}

fn compare(path: &str, desired: &Value, live: &Value) -> Option<String> {
    match (desired, live) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, value) in wanted {
                let below = format!("{path}.{key}");
                match found.get(key) {
                    Some(other) => {
                        if let Some(at) = compare(&below, value, other) {
                            return Some(at);
                        }
                    }
                    None if is_empty(value) => {}
                    None => return Some(below),
                }
            }
            None
        }
        (Value::Array(wanted), Value::Array(found)) => compare_lists(path, wanted, found),
        (Value::String(wanted), Value::String(found)) => {
            let same = wanted == found || (holds_quantities(path) && same_quantity(wanted, found));
            (!same).then(|| path.to_owned())
        }
        _ if desired == live || (is_empty(desired) && is_empty(live)) => None,
        _ => Some(path.to_owned()),
    }
}

/// The field that tells the elements of a list apart, as in the API's `x-kubernetes-list-map-keys`.
fn key_of(elements: &[Value]) -> Option<&'static str> {
    ["mountPath", "name"]
        .into_iter()
        .find(|key| !elements.is_empty() && elements.iter().all(|element| element.get(key).is_some()))
}

fn compare_lists(path: &str, wanted: &[Value], found: &[Value]) -> Option<String> {
    let Some(key) = key_of(wanted) else {
        if wanted.len() != found.len() {
            return Some(path.to_owned());
        }
        for (at, (value, other)) in wanted.iter().zip(found).enumerate() {
            if let Some(at) = compare(&format!("{path}[{at}]"), value, other) {
                return Some(at);
            }
        }
        return None;
    };
    for value in wanted {
        let below = format!("{path}[{}]", value[key].as_str().unwrap_or_default());
        match found.iter().find(|other| other.get(key) == value.get(key)) {
            Some(other) => {
                if let Some(at) = compare(&below, value, other) {
                    return Some(at);
                }
            }
            None => return Some(below),
        }
    }
    None
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}

fn holds_quantities(path: &str) -> bool {
    [".limits.", ".requests.", ".sizeLimit"].iter().any(|part| path.contains(part))
}

/// Whether two Kubernetes quantities are the same amount.
pub fn same_quantity(a: &str, b: &str) -> bool {
    matches!((nanos(a), nanos(b)), (Some(a), Some(b)) if a == b)
}

/// Whether quantity `a` is more than `b`; `None` if one of them is no quantity.
pub fn compare_quantities(a: &str, b: &str) -> Option<std::cmp::Ordering> {
    Some(nanos(a)?.cmp(&nanos(b)?))
}

/// A quantity in billionths, the finest unit that Kubernetes has.
fn nanos(text: &str) -> Option<i128> {
    const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
    const DECIMAL: [(&str, u32); 9] =
        [("n", 0), ("u", 3), ("m", 6), ("k", 12), ("M", 15), ("G", 18), ("T", 21), ("P", 24), ("E", 27)];
    for (suffix, bits) in BINARY {
        if let Some(number) = text.strip_suffix(suffix) {
            return decimal(number, 9)?.checked_mul(1 << bits);
        }
    }
    for (suffix, digits) in DECIMAL {
        if let Some(number) = text.strip_suffix(suffix) {
            return decimal(number, digits);
        }
    }
    match text.split_once(['e', 'E']) {
        Some((number, exponent)) => {
            let exponent: i32 = exponent.parse().ok()?;
            decimal(number, u32::try_from(9 + exponent).ok().filter(|digits| *digits <= 30)?)
        }
        None => decimal(text, 9),
    }
}

/// `12.5` with three digits is `12500`; more digits than that are refused.
fn decimal(text: &str, digits: u32) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let missing = digits.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    number.checked_mul(10_i128.checked_pow(missing)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(desired: Value, live: Value, expect: Option<&str>) {
        assert_eq!(difference(&desired, &live).as_deref(), expect);
    }

    #[test]
    fn what_the_api_server_fills_in_does_not_count() {
        check(
            json!({"spec": {"ports": [{"name": "https", "port": 8443}]}}),
            json!({"spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}]}, "status": {}}),
            None,
        );
    }

    #[test]
    fn the_first_field_that_differs_is_named() {
        check(json!({"a": {"b": 1, "c": [1, 2]}}), json!({"a": {"b": 1, "c": [1, 3]}}), Some(".a.c[1]"));
        check(json!({"a": {"b": 1}}), json!({"a": {}}), Some(".a.b"));
        check(json!({"a": [{"name": "x", "v": 1}]}), json!({"a": [{"name": "x", "v": 2}]}), Some(".a[x].v"));
    }

    #[test]
    fn empty_is_like_absent() {
        check(json!({"a": {}, "b": [], "c": null}), json!({}), None);
        check(json!({"a": {"b": {}}}), json!({"a": null}), None);
        check(json!({}), json!({"a": 1}), None);
    }

    #[test]
    fn named_elements_are_compared_by_name_whatever_their_order() {
        let live = json!([{"name": "b", "v": 2}, {"name": "a", "v": 1}]);
        check(json!([{"name": "a", "v": 1}, {"name": "b", "v": 2}]), live.clone(), None);
        check(json!([{"name": "c"}]), live, Some("[c]"));
    }

    #[test]
    fn mounts_of_the_same_volume_are_told_apart_by_their_path() {
        check(
            json!([{"name": "d", "mountPath": "/a"}, {"name": "d", "mountPath": "/b", "readOnly": true}]),
            json!([{"name": "d", "mountPath": "/b", "readOnly": true}, {"name": "d", "mountPath": "/a"}]),
            None,
        );
    }

    #[test]
    fn other_lists_must_have_the_same_length() {
        check(json!({"args": ["run"]}), json!({"args": ["run", "--debug"]}), Some(".args"));
    }

    #[test]
    fn quantities_are_compared_by_their_amount_where_quantities_are_meant() {
        check(
            json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}}),
            json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
            None,
        );
        check(json!({"limits": {"cpu": "1001m"}}), json!({"limits": {"cpu": "1"}}), Some(".limits.cpu"));
        check(json!({"args": ["1000m"]}), json!({"args": ["1"]}), Some(".args[0]"));
        for (a, b) in [("0.5", "500m"), ("1e3", "1k"), ("1.5Gi", "1536Mi"), ("100n", "0.1u"), ("2G", "2000M")] {
            assert!(same_quantity(a, b), "{a} {b}");
        }
        assert!(!same_quantity("x", "x"));
        assert_eq!(compare_quantities("10Gi", "9Gi"), Some(std::cmp::Ordering::Greater));
    }
}
