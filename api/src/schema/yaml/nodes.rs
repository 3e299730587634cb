//! The nodes of a YAML document, as libyaml's parser would tell them one after the other.

use std::collections::HashMap;

use super::scanner::{Fault, Kind, Scanner};
use crate::schema::json::MAX_DEPTH;

/// More nodes than this are refused: one takes a letter and a comma, and a hundred bytes in memory. An object that is small
/// enough to be stored has fewer.
const MAX_NODES: usize = 800_000;
/// Tags are cut here; those that mean anything are shorter.
const MAX_TAG_LETTERS: usize = 64;

/// A node, by its place among those of the document.
pub(super) type Place = usize;

/// One node.
pub(super) struct Node {
    pub(super) content: Content,
    /// In full; empty where none was given.
    pub(super) tag: String,
    pub(super) line: usize,
}

/// What a node is.
pub(super) enum Content {
    Scalar {
        text: String,
        /// Whether it may stand for something else than text.
        implicit: bool,
    },
    List(Vec<Place>),
    Map(Vec<(Place, Place)>),
    Alias {
        name: String,
        of: Place,
    },
}

/// The nodes of the first document of a text.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Option<Place>,
}

/// Anchor and tag of a node, and the line on which it begins.
#[derive(Default)]
struct Properties {
    anchor: Option<String>,
    tag: String,
    line: usize,
}

struct Parser {
    scanner: Scanner,
    nodes: Vec<Node>,
    anchors: HashMap<String, Place>,
    /// What stands for the handles of tags.
    prefixes: HashMap<String, String>,
    depth: usize,
}

type Parsed<T = Place> = Result<T, Fault>;
/// Keys and values.
type Pairs = Vec<(Place, Place)>;

/// Parses the first document, which is all that upstream reads.
pub(super) fn parse(bytes: &[u8]) -> Parsed<Tree> {
    let scanner = Scanner::new(bytes);
    let mut parser = Parser { scanner, nodes: Vec::new(), anchors: HashMap::new(), prefixes: HashMap::new(), depth: 0 };
    let root = parser.document()?;
    Ok(Tree { nodes: parser.nodes, root })
}

impl Parser {
    fn peek(&mut self) -> Parsed<(Kind, usize)> {
        // Kinds that hold text are few at the places where this is asked.
        self.scanner.peek().map(|token| (token.kind.clone(), token.line))
    }

    fn peek_is(&mut self, kinds: &[Kind]) -> Parsed<bool> {
        self.scanner.peek().map(|token| kinds.contains(&token.kind))
    }

    fn take(&mut self) -> Parsed<(Kind, usize)> {
        self.scanner.take().map(|token| (token.kind, token.line))
    }

    fn line(&mut self) -> Parsed<usize> {
        self.scanner.peek().map(|token| token.line)
    }

    fn fault<T>(&mut self, why: &str) -> Parsed<T> {
        let line = self.line()?;
        Err(Fault::on(line, why))
    }

    fn add(&mut self, content: Content, properties: Properties) -> Place {
        let place = self.nodes.len();
        if let Some(anchor) = properties.anchor {
            self.anchors.insert(anchor, place);
        }
        self.nodes.push(Node { content, tag: properties.tag, line: properties.line });
        place
    }

    fn has_room(&mut self) -> Parsed<()> {
        if self.nodes.len() >= MAX_NODES { self.fault(&format!("more than {MAX_NODES} nodes")) } else { Ok(()) }
    }

    fn empty(&mut self, line: usize) -> Place {
        let nothing = Content::Scalar { text: String::new(), implicit: true };
        self.add(nothing, Properties { line, ..Properties::default() })
    }

    fn document(&mut self) -> Parsed<Option<Place>> {
        self.take()?;
        let marked = match self.scanner.peek()?.kind {
            Kind::StreamEnd => return Ok(None),
            Kind::Version { .. } | Kind::TagPrefix { .. } | Kind::DocumentStart => true,
            _ => false,
        };
        self.directives()?;
        let mut is_empty = false;
        if marked {
            if !self.peek_is(&[Kind::DocumentStart])? {
                return self.fault("did not find expected <document start>");
            }
            self.take()?;
            is_empty = matches!(
                self.scanner.peek()?.kind,
                Kind::Version { .. }
                    | Kind::TagPrefix { .. }
                    | Kind::DocumentStart
                    | Kind::DocumentEnd
                    | Kind::StreamEnd
            );
        }
        let root = if is_empty {
            let line = self.line()?;
            self.empty(line)
        } else {
            self.node(true, false)?
        };
        self.scanner.peek()?;
        Ok(Some(root))
    }

    fn directives(&mut self) -> Parsed<()> {
        let mut has_version = false;
        loop {
            let line = self.line()?;
            match self.scanner.peek()?.kind.clone() {
                Kind::Version { .. } if has_version => return self.fault("found duplicate %YAML directive"),
                Kind::Version { major: 1, minor: 1 } => has_version = true,
                Kind::Version { .. } => return self.fault("found incompatible YAML document"),
                Kind::TagPrefix { handle, prefix } => {
                    if self.prefixes.insert(handle, prefix).is_some() {
                        return Err(Fault::on(line, "found duplicate %TAG directive"));
                    }
                }
                _ => break,
            }
            self.take()?;
        }
        for (handle, prefix) in [("!", "!"), ("!!", super::resolve::COMMON)] {
            self.prefixes.entry(handle.into()).or_insert_with(|| prefix.into());
        }
        Ok(())
    }

    /// A node; `block`: outside of brackets; `indentless`: where the entries of a list need be no deeper than its key.
    fn node(&mut self, block: bool, indentless: bool) -> Parsed {
        self.has_room()?;
        if matches!(self.scanner.peek()?.kind, Kind::Alias(_)) {
            return self.alias();
        }
        let properties = self.properties()?;
        let (implicit, is_named) =
            (properties.tag.is_empty(), properties.anchor.is_some() || !properties.tag.is_empty());
        let (kind, line) = match self.scanner.peek()?.kind {
            Kind::Scalar { .. } => self.take()?,
            _ => self.peek()?,
        };
        match kind {
            Kind::BlockEntry if indentless => self.list(properties, Self::indentless_entries),
            Kind::Scalar { text, plain } => {
                let implicit = (implicit && plain) || properties.tag == "!";
                Ok(self.add(Content::Scalar { text, implicit }, properties))
            }
            Kind::FlowSequenceStart => self.list(properties, Self::flow_entries),
            Kind::FlowMappingStart => self.map(properties, Self::flow_pairs),
            Kind::BlockSequenceStart if block => self.list(properties, Self::block_entries),
            Kind::BlockMappingStart if block => self.map(properties, Self::block_pairs),
            _ if is_named => Ok(self.add(Content::Scalar { text: String::new(), implicit }, properties)),
            _ => Err(Fault::on(line, "did not find expected node content")),
        }
    }

    fn alias(&mut self) -> Parsed {
        let (Kind::Alias(name), line) = self.take()? else { return self.fault("did not find expected node content") };
        let Some(of) = self.anchors.get(&name).copied() else {
            return Err(Fault::plain(&format!("unknown anchor '{name}' referenced")));
        };
        Ok(self.add(Content::Alias { name, of }, Properties { line, ..Properties::default() }))
    }

    /// Anchor and tag, in any order.
    fn properties(&mut self) -> Parsed<Properties> {
        let mut found = Properties { line: self.line()?, ..Properties::default() };
        let mut has_tag = false;
        loop {
            match self.scanner.peek()?.kind {
                Kind::Anchor(_) if found.anchor.is_none() => {
                    if let (Kind::Anchor(name), _) = self.take()? {
                        found.anchor = Some(name);
                    }
                }
                Kind::Tag { .. } if !has_tag => {
                    has_tag = true;
                    if let (Kind::Tag { handle, suffix }, line) = self.take()? {
                        // That it is known is looked at behind all of them.
                        found.tag = self.full_tag(&handle, suffix).unwrap_or_default();
                        if found.tag.is_empty() && !handle.is_empty() {
                            self.later_anchor(&found)?;
                            return Err(Fault::on(line, "found undefined tag handle"));
                        }
                    }
                }
                _ => return Ok(found),
            }
        }
    }

    /// What comes behind a tag is found before the tag is judged.
    fn later_anchor(&mut self, found: &Properties) -> Parsed<()> {
        if found.anchor.is_none() && matches!(self.scanner.peek()?.kind, Kind::Anchor(_)) {
            self.take()?;
        }
        self.scanner.peek().map(|_| ())
    }

    fn full_tag(&self, handle: &str, suffix: String) -> Option<String> {
        if handle.is_empty() {
            return Some(suffix);
        }
        let prefix = self.prefixes.get(handle)?;
        // Each node keeps its own, and a prefix may be as long as the body.
        Some(prefix.chars().chain(suffix.chars()).take(MAX_TAG_LETTERS).collect())
    }

    /// Goes a level deeper; the brackets are nested no deeper than JSON's may be.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.has_room()?;
        if self.depth >= MAX_DEPTH {
            return self.fault(&format!("exceeded max depth of {MAX_DEPTH}"));
        }
        self.depth += 1;
        let read = read(self)?;
        self.depth -= 1;
        Ok(read)
    }

    fn list(&mut self, properties: Properties, entries: fn(&mut Self) -> Parsed<Vec<Place>>) -> Parsed {
        let place = self.add(Content::List(Vec::new()), properties);
        let found = self.deeper(entries)?;
        if let Some(node) = self.nodes.get_mut(place) {
            node.content = Content::List(found);
        }
        Ok(place)
    }

    fn map(&mut self, properties: Properties, pairs: fn(&mut Self) -> Parsed<Pairs>) -> Parsed {
        let place = self.add(Content::Map(Vec::new()), properties);
        let found = self.deeper(pairs)?;
        if let Some(node) = self.nodes.get_mut(place) {
            node.content = Content::Map(found);
        }
        Ok(place)
    }

    /// What comes behind an indicator: nothing, where one of `ends` follows.
    fn behind(&mut self, line: usize, ends: &[Kind], block: bool, indentless: bool) -> Parsed {
        if self.peek_is(ends)? { Ok(self.empty(line)) } else { self.node(block, indentless) }
    }

    fn block_entries(&mut self) -> Parsed<Vec<Place>> {
        let mut found = Vec::new();
        self.take()?;
        loop {
            let line = self.line()?;
            match self.scanner.peek()?.kind {
                Kind::BlockEntry => {
                    self.take()?;
                    found.push(self.behind(line, &[Kind::BlockEntry, Kind::BlockEnd], true, false)?);
                }
                Kind::BlockEnd => {
                    self.take()?;
                    return Ok(found);
                }
                _ => return Err(Fault::on(line, "did not find expected '-' indicator")),
            }
        }
    }

    fn indentless_entries(&mut self) -> Parsed<Vec<Place>> {
        let mut found = Vec::new();
        while self.peek_is(&[Kind::BlockEntry])? {
            let (_, line) = self.take()?;
            found.push(self.behind(line, &[Kind::BlockEntry, Kind::Key, Kind::Value, Kind::BlockEnd], true, false)?);
        }
        Ok(found)
    }

    fn block_pairs(&mut self) -> Parsed<Pairs> {
        const ENDS: [Kind; 3] = [Kind::Key, Kind::Value, Kind::BlockEnd];
        let mut found = Vec::new();
        self.take()?;
        loop {
            let line = self.line()?;
            match self.scanner.peek()?.kind {
                Kind::Key => {
                    self.take()?;
                    let key = self.behind(line, &ENDS, true, true)?;
                    let line = self.line()?;
                    let value = if self.peek_is(&[Kind::Value])? {
                        self.take()?;
                        self.behind(line, &ENDS, true, true)?
                    } else {
                        self.empty(line)
                    };
                    found.push((key, value));
                }
                Kind::BlockEnd => {
                    self.take()?;
                    return Ok(found);
                }
                _ => return Err(Fault::on(line, "did not find expected key")),
            }
        }
    }

    /// Passes a comma between entries; whether there is another one.
    fn next_in_flow(&mut self, first: bool, end: &Kind, why: &str) -> Parsed<bool> {
        if self.peek_is(std::slice::from_ref(end))? {
            return Ok(false);
        }
        if !first {
            if !self.peek_is(&[Kind::FlowEntry])? {
                return self.fault(why);
            }
            self.take()?;
        }
        Ok(!self.peek_is(std::slice::from_ref(end))?)
    }

    fn flow_entries(&mut self) -> Parsed<Vec<Place>> {
        let mut found = Vec::new();
        self.take()?;
        while self.next_in_flow(found.is_empty(), &Kind::FlowSequenceEnd, "did not find expected ',' or ']'")? {
            let entry =
                if self.peek_is(&[Kind::Key])? { self.deeper(Self::lone_pair)? } else { self.node(false, false)? };
            found.push(entry);
        }
        self.take()?;
        Ok(found)
    }

    /// A map of one pair, which needs no brackets of its own within a list.
    fn lone_pair(&mut self) -> Parsed {
        const ENDS: [Kind; 2] = [Kind::FlowEntry, Kind::FlowSequenceEnd];
        let (_, line) = self.take()?;
        let place = self.add(Content::Map(Vec::new()), Properties { line, ..Properties::default() });
        let key = if self.peek_is(&[Kind::Value, Kind::FlowEntry, Kind::FlowSequenceEnd])? {
            // As libyaml does, the token that shows that there is no key is passed over.
            let (_, line) = self.take()?;
            self.empty(line)
        } else {
            self.node(false, false)?
        };
        if self.peek_is(&[Kind::Value])? {
            self.take()?;
        } else {
            let line = self.line()?;
            let value = self.empty(line);
            return Ok(self.paired(place, key, value));
        }
        let line = self.line()?;
        let value = self.behind(line, &ENDS, false, false)?;
        self.scanner.peek()?;
        Ok(self.paired(place, key, value))
    }

    fn paired(&mut self, place: Place, key: Place, value: Place) -> Place {
        if let Some(node) = self.nodes.get_mut(place) {
            node.content = Content::Map(vec![(key, value)]);
        }
        place
    }

    fn flow_pairs(&mut self) -> Parsed<Pairs> {
        const ENDS: [Kind; 2] = [Kind::FlowEntry, Kind::FlowMappingEnd];
        let mut found = Vec::new();
        self.take()?;
        while self.next_in_flow(found.is_empty(), &Kind::FlowMappingEnd, "did not find expected ',' or '}'")? {
            if !self.peek_is(&[Kind::Key])? {
                let key = self.node(false, false)?;
                let line = self.line()?;
                found.push((key, self.empty(line)));
                continue;
            }
            self.take()?;
            let line = self.line()?;
            let key = self.behind(line, &[Kind::Value, Kind::FlowEntry, Kind::FlowMappingEnd], false, false)?;
            if self.peek_is(&[Kind::Value])? {
                self.take()?;
                let line = self.line()?;
                found.push((key, self.behind(line, &ENDS, false, false)?));
            } else {
                let line = self.line()?;
                found.push((key, self.empty(line)));
            }
        }
        self.take()?;
        Ok(found)
    }
}
