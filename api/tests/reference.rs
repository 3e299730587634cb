//! Objects with every field set, where `MARTELLO_REFERENCE` names a folder that holds them: each makes the round trip
//! in every encoding without losing or changing anything. Without that folder there is nothing to compare with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what sets a test up fails as the test does")]

use std::{env, fs, path::PathBuf};

use martello_api::{
    resource::GroupVersionKind,
    schema::{Envelope, Schema, Schemas, decode_json, decode_yaml, encode_protobuf, has_protobuf, normalize},
};
use serde_json::Value;

/// Names the folder.
const REFERENCE: &str = "MARTELLO_REFERENCE";

/// An object in its encodings.
struct Sample {
    name: String,
    gvk: GroupVersionKind,
    value: Value,
    json: Vec<u8>,
    yaml: Vec<u8>,
    protobuf: Vec<u8>,
}

/// The samples of kinds that are known; of the others only how many there are.
fn samples() -> Option<(Vec<Sample>, usize)> {
    let folder = PathBuf::from(env::var_os(REFERENCE)?).join("objects");
    let (mut found, mut unknown) = (Vec::new(), 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let json = fs::read(&path).unwrap();
        let value: Value = serde_json::from_slice(&json).unwrap();
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let version = text("apiVersion");
        let (group, short) = version.split_once('/').unwrap_or(("", &version));
        let gvk = GroupVersionKind {
            group: group.to_owned().into(),
            version: short.to_owned().into(),
            kind: text("kind").into(),
        };
        if Schemas::builtin().get(&gvk).is_none() {
            unknown += 1;
            continue;
        }
        found.push(Sample {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            gvk,
            value,
            json,
            yaml: fs::read(path.with_extension("yaml")).unwrap(),
            protobuf: fs::read(path.with_extension("pb")).unwrap(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Some((found, unknown))
}

/// Where two values differ first.
fn difference(ours: &Value, theirs: &Value, path: &str) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let here = format!("{path}.{key}");
            match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => difference(a, b, &here),
                (Some(a), None) => Some(format!("{here}: {a} is too much")),
                (None, b) => Some(format!("{here}: {} is missing", b.unwrap_or(&Value::Null))),
            }
        }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| difference(a, b, &format!("{path}[{at}]")))
        }
        _ if ours == theirs => None,
        _ => Some(format!("{path}: {ours} instead of {theirs}")),
    }
}

fn faults(sample: &Sample, schema: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |encoding: &str, outcome: Result<Value, String>| {
        let fault = match outcome {
            Ok(mut value) => {
                normalize(schema, &mut value);
                difference(&value, &sample.value, "")
            }
            Err(error) => Some(error),
        };
        found.extend(fault.map(|fault| format!("{} from {encoding}: {fault}", sample.name)));
    };
    let strict = |decoded: martello_api::schema::Decoded| match decoded.issues.first() {
        None => Ok(decoded.value),
        Some(issue) => Err(issue.to_string()),
    };
    compare("JSON", decode_json(schema, &sample.json).map_err(|error| error.to_string()).and_then(strict));
    compare("YAML", decode_yaml(schema, &sample.yaml).map_err(|error| error.to_string()).and_then(strict));
    if has_protobuf(&sample.gvk) {
        let opened = Envelope::open(&sample.protobuf).and_then(|envelope| envelope.decode(schema));
        compare(
            "protobuf",
            opened.map_err(|error| error.to_string()).map(|mut value| {
                if let Value::Object(map) = &mut value {
                    for key in ["kind", "apiVersion"] {
                        map.entry(key).or_insert_with(|| sample.value.get(key).cloned().unwrap_or_default());
                    }
                }
                value
            }),
        );
        if encode_protobuf(&sample.value).as_deref() != Some(&*sample.protobuf) {
            found.push(format!("{} to protobuf: other bytes", sample.name));
        }
    }
    found
}

#[test]
fn every_reference_object_makes_the_round_trip_in_every_encoding() {
    let Some((samples, unknown)) = samples() else { return };
    assert!(samples.len() > 50, "only {} objects of known kinds, {unknown} of others", samples.len());
    let faults: Vec<String> =
        samples.iter().flat_map(|sample| faults(sample, Schemas::builtin().get(&sample.gvk).unwrap())).collect();
    assert!(faults.is_empty(), "{} of {} objects:\n{}", faults.len(), samples.len(), faults.join("\n"));
}
