//! From text to tokens.

use std::sync::Arc;

use super::source::Issues;

/// A token and where it begins, in characters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    /// Where it begins.
    pub at: u32,
    /// What it is.
    pub kind: TokenKind,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A name.
    Ident(Arc<str>),
    /// A name between backticks.
    Escaped(Arc<str>),
    /// A whole number, as written.
    Int(String),
    /// A whole number with `u`, as written without it.
    Uint(String),
    /// A number with a point or an exponent.
    Double(String),
    /// Text.
    String(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// An operator, a bracket, or a word of the language.
    Sign(&'static str),
    /// The end.
    End,
}

impl TokenKind {
    /// As errors name it.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Ident(name) => name.to_string(),
            Self::Escaped(name) => format!("`{name}`"),
            Self::Int(text) | Self::Double(text) => text.clone(),
            Self::Uint(text) => format!("{text}u"),
            Self::String(text) => format!("{text:?}"),
            Self::Bytes(_) => "b\"…\"".to_owned(),
            Self::Sign(sign) => (*sign).to_owned(),
            Self::End => "<EOF>".to_owned(),
        }
    }
}

const WORDS: [&str; 4] = ["in", "true", "false", "null"];
/// Longest first.
const SIGNS: [&str; 26] = [
    "==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ".", ",", "-", "!", "?", ":", "+", "*", "/", "%",
    "<", ">", "=", "&",
];

/// The tokens of a text.
pub(crate) fn tokens(source: &str, issues: &mut Issues) -> Vec<Token> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        match lexer.next() {
            Ok(TokenKind::End) => {
                tokens.push(Token { at: place, kind: TokenKind::End });
                return tokens;
            }
            Ok(kind) => tokens.push(Token { at: place, kind }),
            Err(message) => {
                issues.add(place, format!("Syntax error: {message}"));
                lexer.at = lexer.at.max(at + 1);
            }
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(index, wanted)| self.peek(index) == Some(wanted))
    }

    fn skip_blank(&mut self) {
        loop {
            match self.peek(0) {
                Some(' ' | '\t' | '\n' | '\r' | '\x0c') => self.at += 1,
                Some('/') if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(c) = self.peek(0).filter(|c| accept(*c)) {
            text.push(c);
            self.at += 1;
        }
        text
    }

    fn next(&mut self) -> Result<TokenKind, String> {
        let Some(first) = self.peek(0) else { return Ok(TokenKind::End) };
        if let Some(kind) = self.quoted()? {
            return Ok(kind);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            return Ok(match WORDS.into_iter().find(|own| *own == word) {
                Some(own) => TokenKind::Sign(own),
                None => TokenKind::Ident(word.into()),
            });
        }
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if first == '`' {
            return self.escaped();
        }
        for sign in SIGNS {
            if self.looking_at(sign) && !matches!(sign, "=" | "&") {
                self.at += sign.len();
                return Ok(TokenKind::Sign(sign));
            }
        }
        self.at += 1;
        Err(format!("token recognition error at: '{first}'"))
    }

    fn escaped(&mut self) -> Result<TokenKind, String> {
        self.at += 1;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '));
        if self.peek(0) != Some('`') || name.is_empty() {
            return Err(format!("token recognition error at: '`{name}'"));
        }
        self.at += 1;
        Ok(TokenKind::Escaped(name.into()))
    }

    fn number(&mut self) -> Result<TokenKind, String> {
        if self.peek(0) == Some('0') && matches!(self.peek(1), Some('x' | 'X')) {
            if !self.peek(2).is_some_and(|c| c.is_ascii_hexdigit()) {
                self.at += 2;
                return Err("token recognition error at: '0x'".to_owned());
            }
            self.at += 2;
            let text = format!("0x{}", self.take_while(|c| c.is_ascii_hexdigit()));
            return Ok(self.suffixed(text));
        }
        let mut text = self.take_while(|c| c.is_ascii_digit());
        let mut whole = true;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            whole = false;
            self.at += 1;
            text.push('.');
            text.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        if matches!(self.peek(0), Some('e' | 'E')) {
            let signed = matches!(self.peek(1), Some('+' | '-'));
            if self.peek(if signed { 2 } else { 1 }).is_some_and(|c| c.is_ascii_digit()) {
                whole = false;
                text.push('e');
                self.at += 1;
                if signed {
                    text.extend(self.peek(0));
                    self.at += 1;
                }
                text.push_str(&self.take_while(|c| c.is_ascii_digit()));
            }
        }
        Ok(if whole { self.suffixed(text) } else { TokenKind::Double(text) })
    }

    fn suffixed(&mut self, text: String) -> TokenKind {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            TokenKind::Uint(text)
        } else {
            TokenKind::Int(text)
        }
    }

    /// Text or bytes, if they begin here.
    fn quoted(&mut self) -> Result<Option<TokenKind>, String> {
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        while let Some(c) = self.peek(ahead) {
            match c {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                '"' | '\'' => break,
                _ => return Ok(None),
            }
            ahead += 1;
        }
        let Some(quote) = self.peek(ahead) else { return Ok(None) };
        self.at += ahead;
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.at += if triple { 3 } else { 1 };
        let mut out = Unquoted { bytes, text: String::new(), data: Vec::new() };
        loop {
            let Some(c) = self.peek(0) else {
                return Err(format!("token recognition error at: '{quote}'"));
            };
            if c == quote && (!triple || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote))) {
                self.at += if triple { 3 } else { 1 };
                return Ok(Some(out.finish()));
            }
            if !triple && matches!(c, '\n' | '\r') {
                return Err(format!("token recognition error at: '{quote}'"));
            }
            self.at += 1;
            if c == '\\' && !raw {
                self.escape(&mut out)?;
            } else if c == '\\' && raw {
                out.push(c);
                if let Some(next) = self.peek(0).filter(|next| *next == quote || *next == '\\') {
                    out.push(next);
                    self.at += 1;
                }
            } else {
                out.push(c);
            }
        }
    }

    fn escape(&mut self, out: &mut Unquoted) -> Result<(), String> {
        let Some(c) = self.peek(0) else { return Err("token recognition error at: '\\'".to_owned()) };
        self.at += 1;
        let plain = match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '?' | '"' | '\'' | '`' => c,
            'x' | 'X' => return self.code(out, 2, 16),
            'u' if !out.bytes => return self.code(out, 4, 16),
            'U' if !out.bytes => return self.code(out, 8, 16),
            '0'..='3' => {
                self.at -= 1;
                return self.code(out, 3, 8);
            }
            _ => return Err(format!("token recognition error at: '\\{c}'")),
        };
        out.push(plain);
        Ok(())
    }

    fn code(&mut self, out: &mut Unquoted, digits: usize, radix: u32) -> Result<(), String> {
        let mut code = 0_u32;
        for _ in 0..digits {
            let Some(digit) = self.peek(0).and_then(|c| c.to_digit(radix)) else {
                return Err("token recognition error: a code in a string is too short".to_owned());
            };
            code = code.saturating_mul(radix).saturating_add(digit);
            self.at += 1;
        }
        if out.bytes {
            out.data.push(u8::try_from(code).map_err(|_| "token recognition error: a byte above 255".to_owned())?);
            return Ok(());
        }
        let c = char::from_u32(code).ok_or("invalid unicode code point")?;
        out.push(c);
        Ok(())
    }
}

struct Unquoted {
    bytes: bool,
    text: String,
    data: Vec<u8>,
}

impl Unquoted {
    fn push(&mut self, c: char) {
        if self.bytes {
            self.data.extend(c.encode_utf8(&mut [0; 4]).bytes());
        } else {
            self.text.push(c);
        }
    }

    fn finish(self) -> TokenKind {
        if self.bytes { TokenKind::Bytes(self.data.into()) } else { TokenKind::String(self.text.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<TokenKind> {
        let mut issues = Issues::of(source);
        let kinds = tokens(source, &mut issues).into_iter().map(|token| token.kind).collect();
        assert!(issues.is_empty(), "{issues}");
        kinds
    }

    #[test]
    fn numbers_texts_and_bytes_are_told_apart() {
        assert_eq!(
            kinds(r#"0x1fu 1.5e-3 r'\d' b"\xffa" '''a'b''' "\u00e9""#),
            vec![
                TokenKind::Uint("0x1f".into()),
                TokenKind::Double("1.5e-3".into()),
                TokenKind::String("\\d".into()),
                TokenKind::Bytes(vec![255, b'a'].into()),
                TokenKind::String("a'b".into()),
                TokenKind::String("é".into()),
                TokenKind::End,
            ]
        );
    }

    #[test]
    fn what_is_no_token_is_reported_where_it_stands() {
        let mut issues = Issues::of("a # b");
        tokens("a # b", &mut issues);
        assert!(issues.to_string().starts_with("ERROR: <input>:1:3: Syntax error: token recognition error at: '#'"));
    }
}
