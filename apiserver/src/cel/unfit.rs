//! What is said where a value does not fit what is done with it.

use super::{opaque::Opaque, value::Value};

/// What is said of values that no signature is for. Operators look only whether the first can do what they do.
pub(super) fn unfit(name: &str, values: &[Value<'_>]) -> String {
    use Value::{Bool, Bytes, Double, Duration, Int, List, String, Timestamp, Uint};
    let Some(first) = values.first() else { return format!("no such overload: {name}()") };
    let able = match name {
        "!_" | "@in" | "_==_" | "_!=_" => true,
        "_+_" => {
            matches!(first, Bytes(_) | Double(_) | Duration(_) | Int(_) | List(_) | String(_) | Timestamp(_) | Uint(_))
        }
        "_-_" => matches!(first, Double(_) | Duration(_) | Int(_) | Timestamp(_) | Uint(_)),
        "_*_" | "_/_" => matches!(first, Double(_) | Int(_) | Uint(_)),
        "_%_" => matches!(first, Int(_) | Uint(_)),
        "-_" => matches!(first, Bool(_) | Double(_) | Duration(_) | Int(_)),
        "_<_" | "_<=_" | "_>_" | "_>=_" => {
            matches!(first, Bool(_) | Bytes(_) | Double(_) | Duration(_) | Int(_) | String(_) | Timestamp(_) | Uint(_))
        }
        "size" | "sort" | "matches" => false,
        "contains" | "startsWith" | "endsWith" => true,
        _ => {
            let types: Vec<&str> = values.iter().map(Value::type_name).collect();
            return format!("no such overload: {name}({})", types.join(", "));
        }
    };
    let receives = matches!(first, String(_) | Timestamp(_) | Duration(_));
    if able || receives { "no such overload".to_owned() } else { format!("no such overload: {name}") }
}

/// The type of a value as upstream's own language names it, where it is told so.
pub(super) fn go_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "types.Null",
        Value::Bool(_) => "types.Bool",
        Value::Int(_) => "types.Int",
        Value::Uint(_) => "types.Uint",
        Value::Double(_) => "types.Double",
        Value::String(_) => "types.String",
        Value::Bytes(_) => "types.Bytes",
        Value::Timestamp(_) => "types.Timestamp",
        Value::Duration(_) => "types.Duration",
        Value::Optional(_) => "*types.Optional",
        Value::Type(_) => "*types.Type",
        Value::List(_) => "*types.baseList",
        Value::Map(_) => "*types.baseMap",
        Value::Object(_) => "*dynamic.ObjectVal",
        Value::Broken(_) => "*types.Err",
        Value::Opaque(Opaque::Quantity(_)) => "cel.Quantity",
        Value::Opaque(Opaque::Ip(_)) => "cel.IP",
        Value::Opaque(Opaque::Cidr(_)) => "cel.CIDR",
        Value::Opaque(Opaque::Url(_)) => "cel.URL",
        Value::Opaque(Opaque::Semver(_)) => "cel.Semver",
        Value::Opaque(Opaque::Format(_)) => "cel.Format",
        Value::Opaque(Opaque::Authorizer(_)) => "library.authorizerVal",
        Value::Opaque(Opaque::PathCheck(_)) => "library.pathCheckVal",
        Value::Opaque(Opaque::GroupCheck(_)) => "library.groupCheckVal",
        Value::Opaque(Opaque::ResourceCheck(_)) => "library.resourceCheckVal",
        Value::Opaque(Opaque::Decision(_)) => "library.decisionVal",
    }
}
