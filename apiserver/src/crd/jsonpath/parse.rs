//! From text to nodes.

use serde_json::Value;

use super::Node;

/// Why a text is no template, in upstream's words.
type Parsed<T> = Result<T, String>;

/// Reads a template: what stands in braces is an action, the rest is text.
pub(super) fn template(text: &str) -> Parsed<Vec<Vec<Node>>> {
    let letters: Vec<char> = text.chars().collect();
    let mut parser = Parser { letters: &letters, at: 0 };
    let mut roots = Vec::new();
    loop {
        let begins = parser.at;
        while parser.peek().is_some_and(|letter| letter != '{') {
            parser.at += 1;
        }
        if parser.at > begins {
            roots.push(vec![Node::Known(parser.since(begins).into())]);
        }
        if parser.peek().is_none() {
            return Ok(roots);
        }
        parser.at += 1;
        roots.push(parser.action()?);
    }
}

/// The nodes of a text that is an action by itself.
fn action(text: &str) -> Parsed<Vec<Node>> {
    Ok(template(&format!("{{{text}}}"))?.into_iter().next().unwrap_or_default())
}

struct Parser<'t> {
    letters: &'t [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn since(&self, begins: usize) -> String {
        self.letters.get(begins..self.at).unwrap_or_default().iter().collect()
    }

    fn begins(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(place, letter)| self.letters.get(self.at + place) == Some(&letter))
    }

    /// Up to the closing brace, which is passed.
    fn action(&mut self) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            match self.peek() {
                None | Some('\n' | '\r') => return Err("unclosed action".into()),
                Some('}') => {
                    self.at += 1;
                    return Ok(nodes);
                }
                Some(' ' | '@' | '$') => self.at += 1,
                Some('[') if self.begins("[?(") => nodes.push(self.filter()?),
                Some('[') => self.array(&mut nodes)?,
                Some('.') if self.begins("..") => {
                    if nodes.last() == Some(&Node::Descend) {
                        return Err("invalid multiple recursive descent".into());
                    }
                    self.at += 2;
                    nodes.push(Node::Descend);
                    if self.peek().is_some_and(is_letter) {
                        nodes.push(self.field());
                    }
                }
                Some('.') => {
                    self.at += 1;
                    nodes.push(self.field());
                }
                Some(quote @ ('"' | '\'')) => nodes.push(self.quoted(quote)?),
                Some(first) if first.is_numeric() || matches!(first, '+' | '-') => nodes.push(self.number()?),
                Some(first) if is_letter(first) => nodes.push(self.word()),
                Some(other) => {
                    let code = u32::from(other);
                    return Err(format!("unrecognized character in action: U+{code:04X} '{other}'"));
                }
            }
        }
    }

    /// A name; a backslash takes away what the letter behind it means.
    fn field(&mut self) -> Node {
        let begins = self.at;
        while let Some(letter) = self.peek().filter(|letter| !is_terminator(*letter)) {
            self.at += if letter == '\\' { 2 } else { 1 };
        }
        self.at = self.at.min(self.letters.len());
        match self.since(begins).as_str() {
            "*" => Node::Wildcard,
            name => Node::Field(name.replace('\\', "")),
        }
    }

    fn word(&mut self) -> Node {
        let begins = self.at;
        while self.peek().is_some_and(|letter| !is_terminator(letter)) {
            self.at += 1;
        }
        match self.since(begins).as_str() {
            "true" => Node::Known(true.into()),
            "false" => Node::Known(false.into()),
            _ => Node::Word,
        }
    }

    fn number(&mut self) -> Parsed<Node> {
        let begins = self.at;
        self.at += usize::from(matches!(self.peek(), Some('+' | '-')));
        while self.peek().is_some_and(|letter| letter == '.' || letter.is_numeric()) {
            self.at += 1;
        }
        let text = self.since(begins);
        let number = match text.parse::<i64>() {
            Ok(whole) => Value::from(whole),
            Err(_) => match text.parse::<f64>() {
                Ok(float) if float.is_finite() => Value::from(float),
                _ => return Err(format!("cannot parse number {text}")),
            },
        };
        Ok(Node::Known(number))
    }

    fn quoted(&mut self, quote: char) -> Parsed<Node> {
        let begins = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None | Some('\n') => return Err("unterminated quoted string".into()),
                Some(letter) if letter == quote && self.letters.get(self.at.wrapping_sub(1)) != Some(&'\\') => break,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        let text = self.since(begins);
        match unquoted(self.letters.get(begins + 1..self.at - 1).unwrap_or_default(), quote) {
            Some(value) => Ok(Node::Known(value.into())),
            None => Err(format!("unquote string {text} error invalid syntax")),
        }
    }

    /// What stands in brackets, which end with the first that closes.
    fn array(&mut self, nodes: &mut Vec<Node>) -> Parsed<()> {
        let begins = self.at + 1;
        loop {
            match self.peek() {
                None | Some('\n') => return Err("unterminated array".into()),
                Some(']') => break,
                Some(_) => self.at += 1,
            }
        }
        let text = self.since(begins);
        self.at += 1;
        let parts: Vec<&str> = text.split(',').collect();
        if parts.len() > 1 {
            let parts = parts.into_iter().map(|part| action(&format!("[{}]", part.trim_matches(' '))));
            nodes.push(Node::Union(parts.collect::<Result<_, _>>()?));
            return Ok(());
        }
        let name = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).filter(|name| !name.contains('\''));
        match name {
            // A name in quotes is read as one behind a dot.
            Some(name) => nodes.extend(action(&format!(".{name}"))?),
            None => nodes.push(slice(if text == "*" { ":" } else { &text })?),
        }
        Ok(())
    }

    fn filter(&mut self) -> Parsed<Node> {
        self.at += 3;
        let begins = self.at;
        let (mut opened, mut closed) = (None, false);
        loop {
            match self.peek() {
                None | Some('\n') => return Err("unterminated filter".into()),
                Some(quote @ ('"' | '\'')) => match opened {
                    None => opened = Some(quote),
                    Some(first) => {
                        let escaped = self.letters.get(self.at.wrapping_sub(1)) == Some(&'\\');
                        closed |= first == quote && !escaped;
                    }
                },
                Some(')') if opened.is_some() == closed => break,
                Some(_) => {}
            }
            self.at += 1;
        }
        let text = self.since(begins);
        self.at += 1;
        if self.peek() != Some(']') {
            return Err("unclosed array expect ]".into());
        }
        self.at += 1;
        let is_sign = |letter: char| "!<>=".contains(letter);
        let signs = text.find(is_sign).filter(|at| *at > 0);
        let compared = signs.and_then(|at| text.split_at_checked(at)).and_then(|(left, rest)| {
            let end = rest.find(|letter| !is_sign(letter)).or_else(|| rest.len().checked_sub(1))?;
            let (operator, right) = rest.split_at_checked(end)?;
            (!operator.is_empty() && !right.is_empty()).then_some((left, operator, right))
        });
        match compared {
            Some((left, operator, right)) => Ok(Node::Filter(action(left)?, operator.to_owned(), action(right)?)),
            None => action(&text).map(Node::Exists),
        }
    }
}

/// An index, or a slice of up to three numbers.
fn slice(text: &str) -> Parsed<Node> {
    let parts: Vec<&str> = text.split(':').collect();
    let fits = |part: &&str| part.strip_prefix('-').unwrap_or(part).bytes().all(|byte| byte.is_ascii_digit());
    if parts.len() > 3 || !parts.iter().all(fits) {
        return Err(format!("invalid array index {text}"));
    }
    let number = |part: Option<&&str>| match part {
        None | Some(&"") => Ok(None),
        Some(part) => part.parse().map(Some).map_err(|_| format!("array index {part} is not a number")),
    };
    let mut numbers = parts.iter();
    let bounds = [number(numbers.next())?, number(numbers.next())?, number(numbers.next())?];
    match (parts.len(), bounds) {
        (1, [at, ..]) => Ok(Node::Index(at.unwrap_or(0))),
        _ => Ok(Node::Slice(bounds)),
    }
}

/// A text without its quotes, and with Go's escapes read.
fn unquoted(letters: &[char], quote: char) -> Option<String> {
    let mut text = String::new();
    let mut letters = letters.iter().copied();
    while let Some(letter) = letters.next() {
        if letter == quote {
            return None;
        }
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        let (digits, radix) = match letters.next()? {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            first @ '0'..='7' => {
                let rest: String = letters.by_ref().take(2).collect();
                text.push(octal(&format!("{first}{rest}"))?);
                continue;
            }
            plain => {
                text.push(escape(plain, quote)?);
                continue;
            }
        };
        let code: String = letters.by_ref().take(digits).collect();
        let code = (code.len() == digits).then(|| u32::from_str_radix(&code, radix).ok())??;
        text.push(char::from_u32(code)?);
    }
    Some(text)
}

/// Three digits of an octet.
fn octal(digits: &str) -> Option<char> {
    if digits.len() == 3 { u8::from_str_radix(digits, 8).ok().map(char::from) } else { None }
}

fn escape(letter: char, quote: char) -> Option<char> {
    Some(match letter {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' => '\\',
        same if same == quote => same,
        _ => return None,
    })
}

fn is_letter(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

fn is_terminator(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}
