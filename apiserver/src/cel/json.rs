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
                    made.insert(super::schema::unescape(name), value.to_json()?);
                }
                Json::Object(made)
            }
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Opaque(Opaque::Quantity(quantity)) => Json::String(quantity.to_string()),
            other => return Err(format!("a value of type {} can't be written", other.type_name())),
        })
    }
}
