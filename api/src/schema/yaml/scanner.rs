//! Tokens of YAML 1.1, found as libyaml finds them: what upstream refuses, and in which words, follows from how it looks.

mod markup;
mod scalars;
mod structure;

use std::collections::{HashMap, VecDeque};

use super::reader::Letters;

/// A place in the text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub(super) index: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Why a text is no YAML.
#[derive(Debug)]
pub(super) struct Fault(pub(super) String);

impl Fault {
    /// Something that no place is told of.
    pub(super) fn plain(why: &str) -> Self {
        Self(format!("yaml: {why}"))
    }

    /// As upstream tells places: the scanner counts lines from 1 and the parser from 0, and neither names the first.
    pub(super) fn on(line: usize, why: &str) -> Self {
        if line == 0 { Self::plain(why) } else { Self(format!("yaml: line {line}: {why}")) }
    }
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    StreamStart,
    StreamEnd,
    Version { major: u8, minor: u8 },
    TagPrefix { handle: String, prefix: String },
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    Tag { handle: String, suffix: String },
    Scalar { text: String, plain: bool },
}

/// A token and the line of its beginning.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

/// What may turn out to be a key, once its colon is met.
#[derive(Clone, Copy, Debug, Default)]
struct PossibleKey {
    possible: bool,
    required: bool,
    token: usize,
    mark: Mark,
}

/// Finds tokens one after the other, and as few ahead as it takes.
pub(super) struct Scanner {
    letters: Letters,
    mark: Mark,
    begun: bool,
    tokens: VecDeque<Token>,
    /// How many tokens were taken.
    taken: usize,
    /// Whether the first of the tokens can't become the one behind a key's mark any more.
    settled: bool,
    flow_level: usize,
    /// The column of the block that is open; none outside of all.
    indent: Option<usize>,
    indents: Vec<Option<usize>>,
    key_allowed: bool,
    /// One for each level of brackets, the outside being one.
    keys: Vec<PossibleKey>,
    /// Which of them a token may belong to.
    key_of_token: HashMap<usize, usize>,
}

type Scanned<T = ()> = Result<T, Fault>;

impl Scanner {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self {
            letters: Letters::decode(bytes),
            mark: Mark::default(),
            begun: false,
            tokens: VecDeque::new(),
            taken: 0,
            settled: false,
            flow_level: 0,
            indent: None,
            indents: Vec::new(),
            key_allowed: false,
            keys: Vec::new(),
            key_of_token: HashMap::new(),
        }
    }

    /// The next token, which stays.
    pub(super) fn peek(&mut self) -> Scanned<&Token> {
        if !self.settled {
            self.settle()?;
        }
        self.tokens.front().ok_or_else(|| Fault::plain("unknown problem parsing YAML content"))
    }

    /// The next token.
    pub(super) fn take(&mut self) -> Scanned<Token> {
        self.peek()?;
        self.settled = false;
        self.taken += 1;
        self.tokens.pop_front().ok_or_else(|| Fault::plain("unknown problem parsing YAML content"))
    }

    fn settle(&mut self) -> Scanned {
        loop {
            if !self.tokens.is_empty() {
                let Some(key) = self.key_of_token.get(&self.taken).copied() else { break };
                if !self.is_still_key(key)? {
                    break;
                }
            }
            self.fetch()?;
        }
        self.settled = true;
        Ok(())
    }

    /// Passes the end of a line on which only a comment may follow.
    fn end_line(&mut self) -> Scanned<()> {
        self.skip_blanks()?;
        self.skip_comment()?;
        if !is_break_or_end(self.at(0)) {
            return self.fault("did not find expected comment or line break");
        }
        if is_break(self.at(0)) {
            self.need(2)?;
            self.skip_line();
        }
        Ok(())
    }

    fn fault<T>(&self, why: &str) -> Scanned<T> {
        Err(Fault::on(if self.mark.line == 0 { 0 } else { self.mark.line + 1 }, why))
    }

    /// Makes sure that so many letters can be looked at.
    fn need(&self, count: usize) -> Scanned {
        self.letters.have(self.mark.index + count).map_err(Fault::plain)
    }

    fn at(&self, ahead: usize) -> char {
        self.letters.at(self.mark.index + ahead)
    }

    fn skip(&mut self) {
        self.mark.index += 1;
        self.mark.column += 1;
    }

    fn skip_line(&mut self) {
        if is_break(self.at(0)) {
            self.mark.index += if self.at(0) == '\r' && self.at(1) == '\n' { 2 } else { 1 };
            self.mark.column = 0;
            self.mark.line += 1;
        }
    }

    fn skip_blanks(&mut self) -> Scanned {
        self.need(1)?;
        while is_blank(self.at(0)) {
            self.skip();
            self.need(1)?;
        }
        Ok(())
    }

    fn skip_comment(&mut self) -> Scanned {
        if self.at(0) == '#' {
            while !is_break_or_end(self.at(0)) {
                self.skip();
                self.need(1)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, text: &mut String) {
        text.push(self.at(0));
        self.skip();
    }

    /// Reads the end of a line: most become a plain one.
    fn read_line(&mut self, text: &mut String) {
        match self.at(0) {
            kept @ ('\u{2028}' | '\u{2029}') => text.push(kept),
            end if is_break(end) => text.push('\n'),
            _ => return,
        }
        self.skip_line();
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.tokens.push_back(Token { kind, line });
    }

    /// An indicator of one letter.
    fn push_sign(&mut self, kind: Kind) {
        let line = self.mark.line;
        self.skip();
        self.push(kind, line);
    }

    fn is_document_mark(&self, sign: char) -> bool {
        self.mark.column == 0 && (0..3).all(|ahead| self.at(ahead) == sign) && is_blank_or_end(self.at(3))
    }

    fn fetch(&mut self) -> Scanned {
        self.need(1)?;
        if !self.begun {
            (self.begun, self.key_allowed) = (true, true);
            self.keys.push(PossibleKey::default());
            self.push(Kind::StreamStart, 0);
            return Ok(());
        }
        self.skip_to_token()?;
        self.close_blocks(Some(self.mark.column));
        self.need(4)?;
        let (sign, next) = (self.at(0), self.at(1));
        let in_flow = self.flow_level > 0;
        match sign {
            '\0' => self.fetch_end(),
            '%' if self.mark.column == 0 => self.fetch_directive(),
            '-' if self.is_document_mark('-') => self.fetch_document_mark(Kind::DocumentStart),
            '.' if self.is_document_mark('.') => self.fetch_document_mark(Kind::DocumentEnd),
            '[' => self.open_flow(Kind::FlowSequenceStart),
            '{' => self.open_flow(Kind::FlowMappingStart),
            ']' => self.close_flow(Kind::FlowSequenceEnd),
            '}' => self.close_flow(Kind::FlowMappingEnd),
            ',' => {
                self.forget_key()?;
                self.key_allowed = true;
                self.push_sign(Kind::FlowEntry);
                Ok(())
            }
            '-' if is_blank_or_end(next) => self.fetch_block_entry(),
            '?' if in_flow || is_blank_or_end(next) => self.fetch_key(),
            ':' if in_flow || is_blank_or_end(next) => self.fetch_value(),
            '*' | '&' => self.fetch_anchor(),
            '!' => self.fetch_tag(),
            '|' | '>' if !in_flow => self.fetch_block_scalar(),
            '\'' | '"' => self.fetch_quoted(),
            _ if self.begins_plain(sign, next) => self.fetch_plain(),
            _ => self.fault("found character that cannot start any token"),
        }
    }

    fn begins_plain(&self, sign: char, next: char) -> bool {
        match sign {
            '-' => !is_blank(next),
            '?' | ':' => self.flow_level == 0 && !is_blank_or_end(next),
            sign => !(is_blank_or_end(sign) || ",[]{}#&*!|>'\"%@`".contains(sign)),
        }
    }

    fn skip_to_token(&mut self) -> Scanned {
        loop {
            self.need(1)?;
            if self.mark.index == 0 && self.at(0) == '\u{feff}' {
                self.skip();
                self.need(1)?;
            }
            while self.at(0) == ' ' || (self.at(0) == '\t' && (self.flow_level > 0 || !self.key_allowed)) {
                self.skip();
                self.need(1)?;
            }
            self.skip_comment()?;
            if !is_break(self.at(0)) {
                return Ok(());
            }
            self.need(2)?;
            self.skip_line();
            if self.flow_level == 0 {
                self.key_allowed = true;
            }
        }
    }
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t')
}

fn is_break(letter: char) -> bool {
    matches!(letter, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_break_or_end(letter: char) -> bool {
    letter == '\0' || is_break(letter)
}

fn is_blank_or_end(letter: char) -> bool {
    is_blank(letter) || is_break_or_end(letter)
}

/// A letter of names.
fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}
