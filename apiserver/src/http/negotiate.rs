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
    /// Whether JSON is to be set in lines.
    pub pretty: bool,
}

impl Default for Accepted {
    fn default() -> Self {
        Self::plain(Encoding::Json, Form::Objects)
    }
}

impl Accepted {
    /// That, as programs like it.
    #[must_use]
    pub fn plain(encoding: Encoding, form: Form) -> Self {
        Self { encoding, form, pretty: false }
    }
}

/// Media type of protobuf in its envelope.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Longest list of media types that is looked at; putting them in order takes the square of it.
const MAX_CLAUSES: usize = 256;

/// Why nothing that a client accepts can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAcceptable {
    /// None of the media types is known.
    Media,
    /// The media type is known, and what its parameters ask for is not.
    Form,
}

/// Picks what the client prefers of what can be served. An empty header accepts JSON.
///
/// `protobuf`: whether the kind's objects can be told in it. Metadata always can, and tables never.
pub fn accept(header: &str, protobuf: bool) -> Result<Accepted, NotAcceptable> {
    pick(header, protobuf, |_| true)
}

/// The same for what no table can show: answers that are no stored objects.
pub fn accept_without_tables(header: &str, protobuf: bool) -> Result<Accepted, NotAcceptable> {
    pick(header, protobuf, |form| !matches!(form, Form::Table(_)))
}

/// The same for what upstream serves without its router, which custom kinds are: of what is not known there, `application/*`
/// is something.
pub fn accept_unrouted(header: &str) -> Result<Accepted, NotAcceptable> {
    choose(header, false, |_| true)
}

/// The same for documents, which come as they are and in any encoding.
pub fn accept_document(header: &str) -> Result<Accepted, NotAcceptable> {
    pick(header, true, |form| *form == Form::Objects)
}

/// The same for documents that are served without a router.
pub fn accept_unrouted_document(header: &str) -> Result<Accepted, NotAcceptable> {
    choose(header, true, |form| *form == Form::Objects)
}

fn pick(header: &str, protobuf: bool, fits: impl Fn(&Form) -> bool) -> Result<Accepted, NotAcceptable> {
    if !header.trim().is_empty() && !header.split(',').take(MAX_CLAUSES).any(is_known) {
        return Err(NotAcceptable::Media);
    }
    choose(header, protobuf, fits)
}

fn choose(header: &str, protobuf: bool, fits: impl Fn(&Form) -> bool) -> Result<Accepted, NotAcceptable> {
    if header.trim().is_empty() {
        return Ok(Accepted::default());
    }
    let served = sorted(header).into_iter().filter_map(|clause| clause.served(protobuf));
    let mut fitting = served.filter(|accepted| fits(&accepted.form));
    fitting.next().ok_or(NotAcceptable::Form)
}

/// The form of discovery's roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// One document for each version.
    Plain,
    /// All in one.
    Aggregated {
        /// In version 2 beta 1.
        beta: bool,
        /// Encoding.
        encoding: Encoding,
    },
}

/// Which form of discovery's roots a client likes best.
#[must_use]
pub fn discovery(header: &str) -> Discovery {
    let wanted = sorted(header).into_iter().find_map(|clause| {
        let encoding = match clause.media {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            PROTOBUF => Encoding::Protobuf,
            _ => return None,
        };
        match (clause.parameter("g"), clause.parameter("v"), clause.parameter("as")) {
            ("", "", "") => Some(Discovery::Plain),
            ("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList") => {
                Some(Discovery::Aggregated { beta: false, encoding })
            }
            ("apidiscovery.k8s.io", "v2beta1", "APIGroupDiscoveryList") => {
                Some(Discovery::Aggregated { beta: true, encoding })
            }
            _ => None,
        }
    });
    wanted.unwrap_or(Discovery::Plain)
}

/// The media types of an `Accept` header, the most wanted first; any where it is empty.
#[must_use]
pub fn wanted(header: &str) -> Vec<&str> {
    if header.trim().is_empty() {
        return vec!["*/*"];
    }
    sorted(header).into_iter().map(|clause| clause.media).collect()
}

/// The clauses in the order that upstream's sort gives them. What comes before what is no order there: a clause without
/// wildcards comes before one with them whatever its quality, if it stands behind.
fn sorted(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = Vec::new();
    for clause in header.split(',').take(MAX_CLAUSES).filter_map(Clause::read) {
        let mut at = clauses.len();
        while at > 0 && clauses.get(at - 1).is_some_and(|before| clause.comes_before(before)) {
            at -= 1;
        }
        clauses.insert(at, clause);
    }
    clauses
}

/// Whether a clause names a media type of ours, its parameters apart. Upstream's router knows no `application/*`.
fn is_known(clause: &str) -> bool {
    let media = clause.split(';').next().unwrap_or_default().trim_matches(' ');
    matches!(media, "*/*" | "application/json" | "application/yaml" | PROTOBUF)
}

struct Clause<'h> {
    media: &'h str,
    parameters: Vec<(&'h str, &'h str)>,
    quality: f64,
}

impl<'h> Clause<'h> {
    /// Nothing where it is none: a type without a subtype, unless it is any type. Of what is given twice the last counts.
    fn read(clause: &'h str) -> Option<Self> {
        let blank = ' ';
        let (media, parameters) = clause.split_once(';').unwrap_or((clause, ""));
        let media = match media.trim_matches(blank).split('/').collect::<Vec<_>>().as_slice() {
            ["*"] => "*/*",
            [_, sub] if !sub.is_empty() => media.trim_matches(blank),
            _ => return None,
        };
        let (mut found, mut quality) = (Vec::new(), 1.0);
        for parameter in parameters.split(';') {
            match parameter.split('=').collect::<Vec<_>>().as_slice() {
                [_, ""] => {}
                [name, value] if name.trim_matches(blank) == "q" => {
                    quality = value.parse::<f32>().map_or(0.0, f64::from);
                }
                [name, value] => found.push((name.trim_matches(blank), value.trim_matches(blank))),
                _ => {}
            }
        }
        Some(Self { media, parameters: found, quality })
    }

    fn comes_before(&self, other: &Self) -> bool {
        let wild = |clause: &Self| (clause.media.starts_with("*/"), clause.media.ends_with("/*"));
        let ((own_type, own_sub), (type_, sub)) = (wild(self), wild(other));
        self.quality > other.quality || (!own_type && type_) || (!own_sub && sub)
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().rev().find(|(key, _)| *key == name).map_or("", |(_, value)| *value)
    }

    fn served(&self, protobuf: bool) -> Option<Accepted> {
        let form = self.form()?;
        let encodings: &[Encoding] = match self.media {
            "application/json" => &[Encoding::Json],
            "*/*" | "application/*" => &[Encoding::Json, Encoding::Yaml, Encoding::Protobuf],
            "application/yaml" => &[Encoding::Yaml],
            PROTOBUF => &[Encoding::Protobuf],
            _ => &[],
        };
        let fits = |encoding: &&Encoding| match (encoding, &form) {
            (Encoding::Protobuf, Form::Objects) => protobuf,
            (Encoding::Protobuf, Form::Table(_)) => false,
            (Encoding::Yaml, _) => self.parameter("stream").is_empty(),
            _ => true,
        };
        let pretty = self.parameter("pretty") == "1";
        encodings.iter().find(fits).map(|encoding| Accepted { encoding: *encoding, form, pretty })
    }

    fn form(&self) -> Option<Form> {
        if !matches!(self.parameter("stream"), "" | "watch") {
            return None;
        }
        let (kind, group, version) = (self.parameter("as"), self.parameter("g"), self.parameter("v"));
        if kind.is_empty() && group.is_empty() && version.is_empty() {
            return Some(Form::Objects);
        }
        if group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") {
            return None;
        }
        match kind {
            "Table" => Some(Form::Table(version.to_owned())),
            "PartialObjectMetadata" => Some(Form::Metadata(version.to_owned())),
            "PartialObjectMetadataList" => Some(Form::MetadataList(version.to_owned())),
            _ => None,
        }
    }
}

/// The media type of a `Content-Type` header, without its parameters; JSON where it is empty. One whose parameters are
/// malformed is none that anybody knows.
#[must_use]
pub fn content_type(header: &str) -> &str {
    match header.split_once(';') {
        Some((_, parameters)) if !well_formed(parameters) => header,
        _ => media_type(header),
    }
}

/// Whether parameters are names with values (RFC 2045, 5.1).
fn well_formed(parameters: &str) -> bool {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
    };
    let mut rest = parameters.trim();
    while !rest.is_empty() && rest != ";" {
        let Some((_, value)) = rest.split_once('=').filter(|(name, _)| is_token(name)) else { return false };
        let behind = match value.strip_prefix('"') {
            Some(quoted) => match end_of_quoted(quoted) {
                Some(behind) => behind,
                None => return false,
            },
            None => {
                let (token, behind) = value.split_at(value.find([';', ' ', '\t']).unwrap_or(value.len()));
                if !is_token(token) {
                    return false;
                }
                behind
            }
        };
        rest = match behind.trim_start().strip_prefix(';') {
            Some(next) => next.trim_start(),
            None if behind.trim().is_empty() => "",
            None => return false,
        };
    }
    true
}

/// What stands behind the quote that ends a text in quotes.
fn end_of_quoted(quoted: &str) -> Option<&str> {
    let mut escaped = false;
    let end = quoted.char_indices().find(|(_, letter)| {
        let ends = *letter == '"' && !escaped;
        escaped = *letter == '\\' && !escaped;
        ends
    });
    end.and_then(|(at, _)| quoted.get(at + 1..))
}

/// The same, whatever its parameters are, as patches are read.
#[must_use]
pub fn media_type(header: &str) -> &str {
    match header.split(';').next().unwrap_or_default().trim() {
        "" => "application/json",
        media => media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_in_any_encoding_and_in_no_other_form() {
        let of = |accept: &str| accept_document(accept).map(|accepted| accepted.encoding);
        let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(of(""), Ok(Encoding::Json));
        assert_eq!(of("application/yaml"), Ok(Encoding::Yaml));
        assert_eq!(of(PROTOBUF), Ok(Encoding::Protobuf));
        assert_eq!(of(&format!("{partial},application/json")), Ok(Encoding::Json));
        assert_eq!(of(partial), Err(NotAcceptable::Form));
        assert_eq!(of("text/html"), Err(NotAcceptable::Media));
    }

    #[test]
    fn discovery_is_aggregated_where_that_is_liked_best() {
        let aggregated = |beta, encoding| Discovery::Aggregated { beta, encoding };
        let json = "application/json;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList";
        for (accept, form) in [
            ("", Discovery::Plain),
            ("application/json", Discovery::Plain),
            ("*/*", Discovery::Plain),
            (&*format!("{json};v=v2"), aggregated(false, Encoding::Json)),
            (&format!("{json};v=v2beta1,application/json"), aggregated(true, Encoding::Json)),
            (&format!("{json};v=v9,application/json"), Discovery::Plain),
            (&format!("application/json,{json};v=v2"), Discovery::Plain),
            (&format!("application/json;q=0.5,{json};v=v2"), aggregated(false, Encoding::Json)),
            (
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                aggregated(false, Encoding::Protobuf),
            ),
        ] {
            assert_eq!(discovery(accept), form, "{accept}");
        }
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl, true).unwrap().form, Form::Table("v1".into()));
        assert_eq!(accept("text/html, application/json;q=0.9, */*;q=0.8", true), Ok(Accepted::default()));
        assert_eq!(accept("application/json;as=Frob;g=x;v=v1, application/json", true), Ok(Accepted::default()));
    }

    #[test]
    fn what_is_preferred_wins_over_what_stands_first() {
        let encoding = |header: &str| accept(header, true).unwrap().encoding;
        assert_eq!(encoding("application/json;q=0.5,application/yaml"), Encoding::Yaml);
        assert_eq!(encoding("*/*,application/yaml"), Encoding::Yaml);
        assert_eq!(encoding("application/yaml,application/json"), Encoding::Yaml);
        for (header, wins) in [
            ("*/*;q=0.9,application/yaml;q=0.8", Encoding::Yaml),
            ("application/yaml;q=0.8,*/*;q=0.9", Encoding::Json),
            ("application/json;q=0.5;q=0.9,application/yaml;q=0.7", Encoding::Json),
            ("application/json;q=abc,application/yaml", Encoding::Yaml),
            ("application/json;q=,application/yaml;q=0.9", Encoding::Json),
            ("application/json; q = 0.5,application/yaml;q=0.4", Encoding::Yaml),
        ] {
            assert_eq!(encoding(header), wins, "{header}");
        }
        let twice = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io;as= Table";
        assert_eq!(accept(twice, true).unwrap().form, Form::Table("v1".into()));
        let many = format!("{}application/json", "x/y,".repeat(100));
        assert_eq!(accept(&many, true), Ok(Accepted::default()));
    }

    #[test]
    fn unknown_media_and_unknown_forms_are_told_apart() {
        for header in ["text/plain", "application/*", "application/cbor", "foo"] {
            assert_eq!(accept(header, true), Err(NotAcceptable::Media), "{header}");
        }
        for header in [
            "application/json;as=Table",
            "application/json;as=Table;g=meta.k8s.io;v=v2",
            "application/json;v=v2",
            "application/json;stream=frob",
            "application/yaml;stream=watch",
        ] {
            assert_eq!(accept(header, true), Err(NotAcceptable::Form), "{header}");
        }
    }

    #[test]
    fn a_media_type_with_malformed_parameters_is_none() {
        for header in [
            "application/json",
            " application/json ;charset=utf-8",
            "application/json; charset=utf-8; q=0.5",
            "application/json;a=\"b;\\\"c\" ; d=e",
            "application/json;",
        ] {
            assert_eq!(content_type(header), "application/json", "{header}");
        }
        for header in ["application/json; =", "application/json;a", "application/json;a=\"b", "application/json;a=b c"]
        {
            assert_eq!(content_type(header), header);
            assert_eq!(media_type(header), "application/json");
        }
    }

    #[test]
    fn without_a_router_any_application_will_do() {
        assert_eq!(accept_unrouted("application/*"), Ok(Accepted::default()));
        assert_eq!(accept_unrouted("text/plain"), Err(NotAcceptable::Form));
        assert_eq!(accept_unrouted("*"), Ok(Accepted::default()));
        assert!(accept("application/json;pretty=1", true).unwrap().pretty);
        assert!(!accept("application/json;pretty=true", true).unwrap().pretty);
    }

    #[test]
    fn what_no_table_shows_is_told_otherwise_or_not_at_all() {
        let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
        assert_eq!(accept_without_tables(table, true), Err(NotAcceptable::Form));
        assert_eq!(accept_without_tables(&format!("{table},application/json"), true), Ok(Accepted::default()));
    }

    #[test]
    fn protobuf_is_for_built_in_kinds_and_metadata() {
        let both =
            |protobuf| accept("application/vnd.kubernetes.protobuf,application/json", protobuf).unwrap().encoding;
        assert_eq!((both(true), both(false)), (Encoding::Protobuf, Encoding::Json));
        assert_eq!(accept("application/vnd.kubernetes.protobuf", false), Err(NotAcceptable::Form));
        let metadata =
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(accept(metadata, false).unwrap().encoding, Encoding::Protobuf);
        let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1";
        assert_eq!(accept(table, true), Ok(Accepted::plain(Encoding::Json, Form::Table("v1".into()))));
        assert_eq!(accept("application/json,application/vnd.kubernetes.protobuf", true), Ok(Accepted::default()));
    }
}
