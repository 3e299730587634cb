//! Which form an answer takes (`Accept`) and in which form a body came (`Content-Type`).

/// How an answer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// Into what an answer is turned before it is encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The objects themselves.
    #[default]
    Objects,
    /// `meta.k8s.io Table` of this version.
    Table(String),
    /// `PartialObjectMetadata` of this version.
    Metadata(String),
    /// `PartialObjectMetadataList` of this version.
    MetadataList(String),
}

/// What the client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Encoding.
    pub encoding: Encoding,
    /// Form.
    pub form: Form,
}

impl Default for Accepted {
    fn default() -> Self {
        Self { encoding: Encoding::Json, form: Form::Objects }
    }
}

/// Media type of protobuf in its envelope.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Longest list of media types that is looked at.
const MAX_CLAUSES: usize = 32;

/// Picks the first clause that can be served; none if nothing can. An empty header accepts JSON.
///
/// `protobuf`: whether the kind's objects can be told in it. Metadata always can, and tables never.
#[must_use]
pub fn accept(header: &str, protobuf: bool) -> Option<Accepted> {
    if header.trim().is_empty() {
        return Some(Accepted::default());
    }
    let served = |accepted: &Accepted| match (accepted.encoding, &accepted.form) {
        (Encoding::Protobuf, Form::Objects) => protobuf,
        (Encoding::Protobuf, Form::Table(_)) => false,
        _ => true,
    };
    header.split(',').take(MAX_CLAUSES).filter_map(clause).find(served)
}

fn clause(clause: &str) -> Option<Accepted> {
    let mut parts = clause.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        PROTOBUF => Encoding::Protobuf,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    if kind.is_empty() {
        return Some(Accepted { encoding, form: Form::Objects });
    }
    if group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") {
        return None;
    }
    let form = match kind {
        "Table" => Form::Table(version.to_owned()),
        "PartialObjectMetadata" => Form::Metadata(version.to_owned()),
        "PartialObjectMetadataList" => Form::MetadataList(version.to_owned()),
        _ => return None,
    };
    Some(Accepted { encoding, form })
}

/// The media type of a `Content-Type` header, without its parameters; JSON where it is empty.
#[must_use]
pub fn content_type(header: &str) -> &str {
    match header.split(';').next().unwrap_or_default().trim() {
        "" => "application/json",
        media => media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl, true).unwrap().form, Form::Table("v1".into()));
        assert_eq!(accept("text/html, application/json;q=0.9, */*;q=0.8", true), Some(Accepted::default()));
        assert_eq!(accept("application/json;as=Frob;g=x;v=v1, application/json", true), Some(Accepted::default()));
        assert_eq!(accept("text/plain", true), None);
    }

    #[test]
    fn protobuf_is_for_built_in_kinds_and_metadata() {
        let both =
            |protobuf| accept("application/vnd.kubernetes.protobuf,application/json", protobuf).unwrap().encoding;
        assert_eq!((both(true), both(false)), (Encoding::Protobuf, Encoding::Json));
        assert_eq!(accept("application/vnd.kubernetes.protobuf", false), None);
        let metadata =
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(accept(metadata, false).unwrap().encoding, Encoding::Protobuf);
        let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1";
        assert_eq!(accept(table, true), Some(Accepted { encoding: Encoding::Json, form: Form::Table("v1".into()) }));
        assert_eq!(accept("application/json,application/vnd.kubernetes.protobuf", true), Some(Accepted::default()));
    }
}
