//! Names and values for people.

use serde_json::Value;

/// One line for each field of an object.
pub(super) fn pairs(text: &mut String, object: &Value) {
    for (name, value) in object.as_object().into_iter().flatten() {
        let value = match value {
            Value::String(value) => value.clone(),
            value => value.to_string(),
        };
        text.push_str(&format!("  {name:<22} {value}\n"));
    }
}
