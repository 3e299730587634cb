//! From values back to JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map as JsonMap, Value as Json};

use super::{
    opaque::Opaque,
    read,
    value::{List, Map, Value},
};

impl Value<'_> {
    /// As JSON; the error says what has no place there.
    pub fn to_json(&self) -> Result<Json, String> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(flag) => (*flag).into(),
            Self::Int(number) => (*number).into(),
            Self::Uint(number) => (*number).into(),
            Self::Double(number) => {
                serde_json::Number::from_f64(*number).map(Json::Number).ok_or("a number is not finite")?
            }
            Self::String(text) => Json::String(text.to_string()),
            Self::Bytes(data) => Json::String(STANDARD.encode(data)),
            Self::Timestamp(time) => Json::String(time.to_string()),
            Self::Duration(nanos) => Json::String(read::seconds(*nanos).to_string()),
            Self::List(List::View(items, _)) => Json::Array(items.to_vec()),
            Self::List(list) => Json::Array(list.iter().map(|item| item.to_json()).collect::<Result<_, _>>()?),
            Self::Map(Map::View(map, _)) => Json::Object((*map).clone()),
            Self::Map(map) => {
                let mut made = JsonMap::new();
                for (key, value) in map.entries() {
                    let key = match &key {
                        Value::String(text) => text.to_string(),
                        other => return Err(format!("map key of type {} is no string", other.type_name())),
                    };
                    made.insert(key, value.to_json()?);
                }
                Json::Object(made)
            }
            Self::Object(object) => {
                let mut made = JsonMap::new();
                for (name, value) in &object.fields {
                    made.insert(name.to_string(), value.to_json()?);
                }
                Json::Object(made)
            }
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Opaque(Opaque::Quantity(quantity)) => Json::String(quantity.to_string()),
            other => return Err(format!("a value of type {} can't be written", other.type_name())),
        })
    }

    /// As JSON in the way of protobuf's values, in which all numbers are floats: a whole number that is none exactly is
    /// written as text. What has no place there is told in the library's words.
    pub fn to_proto_json(&self) -> Result<Json, String> {
        Ok(match self {
            Self::Int(number) => whole(*number),
            Self::Uint(number) => i64::try_from(*number).map_or_else(|_| Json::String(number.to_string()), whole),
            Self::Double(number) => match whole_part(*number) {
                Some(number) => number.into(),
                None => self.to_json()?,
            },
            Self::List(List::View(items, _)) => Json::Array(items.iter().map(carried).collect()),
            Self::List(list) => Json::Array(list.iter().map(|item| item.to_proto_json()).collect::<Result<_, _>>()?),
            Self::Map(Map::View(map, _)) => {
                Json::Object(map.iter().map(|(name, value)| (name.clone(), carried(value))).collect())
            }
            Self::Map(map) => {
                let mut made = JsonMap::new();
                for (key, value) in map.entries() {
                    let name = match &key {
                        Value::String(text) => text.to_string(),
                        Value::Bool(_) => return Err("type conversion error from bool to 'string'".to_owned()),
                        other => {
                            return Err(format!("unsupported type conversion from '{}' to string", other.type_name()));
                        }
                    };
                    made.insert(name, value.to_proto_json()?);
                }
                Json::Object(made)
            }
            Self::Object(object) => {
                let mut made = JsonMap::new();
                for (name, value) in &object.fields {
                    made.insert(name.to_string(), value.to_proto_json()?);
                }
                Json::Object(made)
            }
            Self::Optional(Some(value)) => value.to_proto_json()?,
            Self::Optional(None) => return Err("optional.none() dereference".to_owned()),
            Self::Type(_) => return Err("type conversion not supported for 'type'".to_owned()),
            Self::Opaque(opaque) => {
                let own = match opaque {
                    Opaque::Quantity(_) => "Quantity",
                    Opaque::Ip(_) => "IP",
                    Opaque::Cidr(_) => "CIDR",
                    Opaque::Url(_) => "URL",
                    Opaque::Semver(_) => "Semver",
                    Opaque::Format(_) => "Format",
                    other => other.type_name(),
                };
                return Err(format!("type conversion error from '{own}' to '*structpb.Value'"));
            }
            other => other.to_json()?,
        })
    }
}

/// A number without a fraction, as a whole one.
#[must_use]
pub fn whole_part(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it counts only if it is whole and below the bound of 64 bits")]
    let whole = number as i64;
    (number.fract() == 0.0 && number.abs() < 9e18).then_some(whole)
}

/// The largest whole number below which each is a float.
const MAX_EXACT: u64 = (1 << 53) - 1;

fn whole(number: i64) -> Json {
    if number.unsigned_abs() <= MAX_EXACT { number.into() } else { Json::String(number.to_string()) }
}

fn carried(json: &Json) -> Json {
    match json {
        Json::Number(number) => number.as_i64().map_or_else(|| json.clone(), whole),
        Json::Array(items) => Json::Array(items.iter().map(carried).collect()),
        Json::Object(map) => Json::Object(map.iter().map(|(name, value)| (name.clone(), carried(value))).collect()),
        other => other.clone(),
    }
}
