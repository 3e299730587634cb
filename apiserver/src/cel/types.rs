//! Types, and when one fits where another is asked for.

use std::{collections::HashMap, fmt, sync::Arc};

use super::schema::Fields;

/// A type.
#[derive(Clone, Debug)]
pub enum Type {
    /// Anything, checked when evaluated.
    Dyn,
    /// Anything too, of a value that is no list and no map: nothing walks over it.
    Any,
    /// Of something that is wrong; fits everywhere, so that one mistake is told once.
    Error,
    /// Of `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// Whole numbers of 64 bits.
    Int,
    /// Whole numbers of 64 bits without sign.
    Uint,
    /// Floating numbers.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// Instants.
    Timestamp,
    /// Spans.
    Duration,
    /// Lists.
    List(Arc<Type>),
    /// Maps.
    Map(Arc<Type>, Arc<Type>),
    /// Things with known fields.
    Object(Arc<Fields>),
    /// Things of a library, as `optional_type(int)`.
    Opaque(&'static str, Vec<Type>),
    /// Types as values.
    Type(Option<Arc<Type>>),
    /// To be found out.
    Param(u32),
}

/// Name of the type of optionals.
pub(crate) const OPTIONAL: &str = "optional_type";

impl Type {
    /// A list of these.
    #[must_use]
    pub fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    /// A map from these to those.
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    /// One of these, or nothing.
    #[must_use]
    pub fn optional(of: Self) -> Self {
        Self::Opaque(OPTIONAL, vec![of])
    }

    /// What an optional holds.
    #[must_use]
    pub fn optional_of(&self) -> Option<&Self> {
        match self {
            Self::Opaque(OPTIONAL, parts) => parts.first(),
            _ => None,
        }
    }

    /// Whether anything goes.
    #[must_use]
    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any | Self::Error)
    }

    /// Whether its values have one size.
    #[must_use]
    pub fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            Self::Opaque(OPTIONAL, parts) => parts.first().is_some_and(Self::is_scalar),
            _ => false,
        }
    }

    /// As the value `type(x)` is written, and as messages about results name it.
    #[must_use]
    pub fn runtime_name(&self) -> String {
        match self {
            Self::Null => "null_type".to_owned(),
            Self::Any => "google.protobuf.Any".to_owned(),
            Self::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Self::Duration => "google.protobuf.Duration".to_owned(),
            Self::List(of) => format!("list({})", of.runtime_name()),
            Self::Map(key, value) => format!("map({}, {})", key.runtime_name(), value.runtime_name()),
            Self::Type(Some(of)) => format!("type({})", of.runtime_name()),
            Self::Opaque(name, parts) if !parts.is_empty() => {
                let parts: Vec<String> = parts.iter().map(Self::runtime_name).collect();
                format!("{name}({})", parts.join(", "))
            }
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Dyn => "dyn",
            Self::Any => "any",
            Self::Error => "!error!",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::Object(fields) => return out.write_str(fields.name()),
            Self::List(of) => return write!(out, "list({of})"),
            Self::Map(key, value) => return write!(out, "map({key}, {value})"),
            Self::Type(None) => "type",
            Self::Type(Some(of)) => return write!(out, "type({of})"),
            Self::Param(number) => return write!(out, "_var{number}"),
            Self::Opaque(name, parts) if parts.is_empty() => name,
            Self::Opaque(name, parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                return write!(out, "{name}({})", parts.join(", "));
            }
        };
        out.write_str(name)
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a, b), Self::Map(c, d)) => a == c && b == d,
            (Self::Object(a), Self::Object(b)) => a.name() == b.name(),
            (Self::Opaque(a, parts), Self::Opaque(b, others)) => a == b && parts == others,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Param(a), Self::Param(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// What was found out about types yet unknown.
#[derive(Clone, Default)]
pub(crate) struct Bound {
    known: HashMap<u32, Type>,
    next: u32,
}

impl Bound {
    /// A type yet unknown.
    pub(crate) fn fresh(&mut self) -> Type {
        Type::Param(self.fresh_base(1))
    }

    /// A number for the parameters of a signature, of which there are `count`.
    pub(crate) fn fresh_base(&mut self, count: u32) -> u32 {
        let base = self.next;
        self.next += count;
        base
    }

    /// Whether each of `given` fits where `wanted` is asked for; remembers what that says of unknown types.
    pub(crate) fn fit(&mut self, given: &[Type], wanted: &[Type]) -> bool {
        let mut tried = self.clone();
        let fits = given.len() == wanted.len() && given.iter().zip(wanted).all(|(a, b)| tried.assignable(a, b));
        if fits {
            *self = tried;
        }
        fits
    }

    fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(number) = b {
            let (valid, known) = self.substitutes(a, *number);
            if valid || known {
                return valid;
            }
        }
        if let Type::Param(number) = a {
            return self.substitutes(b, *number).0;
        }
        if a.is_dyn() || b.is_dyn() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => {
                matches!(other, Type::Null | Type::Object(_) | Type::Opaque(..) | Type::Timestamp | Type::Duration)
            }
            (Type::List(a), Type::List(b)) => self.assignable(a, b),
            (Type::Map(a, b), Type::Map(c, d)) => self.assignable(a, c) && self.assignable(b, d),
            (Type::Opaque(a, parts), Type::Opaque(b, others)) => {
                a == b && parts.len() == others.len() && parts.iter().zip(others).all(|(a, b)| self.assignable(a, b))
            }
            (Type::Type(_), Type::Type(_)) => true,
            _ => a == b,
        }
    }

    /// Whether a type may stand for an unknown one, and whether that was known already.
    fn substitutes(&mut self, candidate: &Type, number: u32) -> (bool, bool) {
        if *candidate == Type::Param(number) {
            return (true, true);
        }
        if let Some(known) = self.known.get(&number).cloned() {
            if *candidate == known {
                return (true, true);
            }
            if self.assignable(candidate, &known) {
                let general = if less_specific(candidate, &known) { candidate.clone() } else { known };
                // A type that holds itself would have no end.
                if !self.occurs(number, &general) {
                    self.known.insert(number, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.occurs(number, candidate) {
            return (false, false);
        }
        self.known.insert(number, candidate.clone());
        (true, false)
    }

    fn occurs(&self, number: u32, within: &Type) -> bool {
        match within {
            Type::Param(other) if *other == number => true,
            Type::Param(other) => self.known.get(other).is_some_and(|known| self.occurs(number, known)),
            Type::List(of) => self.occurs(number, of),
            Type::Map(key, value) => self.occurs(number, key) || self.occurs(number, value),
            Type::Opaque(_, parts) => parts.iter().any(|part| self.occurs(number, part)),
            Type::Type(Some(of)) => self.occurs(number, of),
            _ => false,
        }
    }

    /// A type with what is known put in; unknown parts become anything if `settle`.
    #[must_use]
    pub(crate) fn resolve(&self, of: &Type, settle: bool) -> Type {
        match of {
            Type::Param(number) => match self.known.get(number) {
                Some(known) => self.resolve(known, settle),
                None if settle => Type::Dyn,
                None => of.clone(),
            },
            Type::List(inner) => Type::list(self.resolve(inner, settle)),
            Type::Map(key, value) => Type::map(self.resolve(key, settle), self.resolve(value, settle)),
            Type::Opaque(name, parts) => {
                Type::Opaque(name, parts.iter().map(|part| self.resolve(part, settle)).collect())
            }
            Type::Type(Some(inner)) => Type::Type(Some(Arc::new(self.resolve(inner, settle)))),
            other => other.clone(),
        }
    }
}

/// Whether the first says the same as the second, or less.
#[must_use]
pub(crate) fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Any | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Any | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) => less_specific(a, b),
        (Type::Map(a, b), Type::Map(c, d)) => less_specific(a, c) && less_specific(b, d),
        (Type::Opaque(a, parts), Type::Opaque(b, others)) => {
            a == b && parts.len() == others.len() && parts.iter().zip(others).all(|(a, b)| less_specific(a, b))
        }
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}
