//! The place of a value in the body that is decoded.

use std::fmt::Write as _;

use crate::{
    go,
    schema::{Kind, Schema},
};

/// Where the shaper is; lives on its stack, and becomes text only in an error.
pub(super) struct Path<'p> {
    pub(super) parent: Option<&'p Path<'p>>,
    pub(super) part: Part<'p>,
}

/// One step of a path.
pub(super) enum Part<'p> {
    Root,
    Field(&'p Schema, &'p str),
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    pub(super) fn below<'q>(&'q self, part: Part<'q>) -> Path<'q>
    where
        'p: 'q,
    {
        Path { parent: Some(self), part }
    }

    /// `spec.containers[0].name`
    pub(super) fn text(&self, last: &str) -> String {
        let mut text = self.parts().iter().fold(String::new(), |mut text, part| {
            let _infallible = match part {
                Part::Root => Ok(()),
                Part::Field(_, name) | Part::Key(name) if text.is_empty() => write!(text, "{name}"),
                Part::Field(_, name) | Part::Key(name) => write!(text, ".{name}"),
                Part::Index(at) => write!(text, "[{at}]"),
            };
            text
        });
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(last);
        text
    }

    fn parts(&self) -> Vec<&Part<'_>> {
        let (mut parts, mut here) = (Vec::new(), Some(self));
        while let Some(path) = here {
            parts.push(&path.part);
            here = path.parent;
        }
        parts.reverse();
        parts
    }

    /// `json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string`
    pub(super) fn refusal(&self, found: &str, wanted: &str) -> String {
        let (mut holder, mut names) = ("", Vec::new());
        for part in self.parts() {
            if let Part::Field(schema, name) = part {
                holder = schema.short_name();
                names.extend(schema.field(name).and_then(|field| field.go_embedded.as_deref()));
                names.push(*name);
            }
        }
        go::field_not_of_type(found, &format!("{holder}.{}", names.join(".")), wanted)
    }

    /// What Go calls the type of what should stand here.
    pub(super) fn go_type(&self, kind: &Kind) -> String {
        let mut depth = 0;
        for part in self.parts().into_iter().rev() {
            match part {
                Part::Key(_) | Part::Index(_) => depth += 1,
                Part::Field(schema, name) => {
                    let field = schema.field(name);
                    return field.map_or_else(|| kind.go_type(), |field| field.go_type_below(kind, depth));
                }
                Part::Root => {}
            }
        }
        kind.go_type()
    }
}
