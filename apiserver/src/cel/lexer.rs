//! From text to tokens.

use std::sync::Arc;

use super::source::Issues;

/// A token and where it stands, in characters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    /// Where it begins.
    pub at: u32,
    /// Where it has ended.
    pub end: u32,
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

const WORDS: [&str; 4] = ["in", "true", "false", "null"];
/// Longest first.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ".", ",", "-", "!", "?", ":", "+", "*", "/", "%",
    "<", ">",
];

/// The tokens of a text. What is none is told of and left out.
pub(crate) fn tokens(source: &str, issues: &mut Issues) -> Vec<Token> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        match lexer.next() {
            Ok(kind) => {
                let is_end = kind == TokenKind::End;
                tokens.push(Token { at: place(at), end: place(lexer.at), kind });
                if is_end {
                    return tokens;
                }
            }
            Err(message) => {
                issues.add(place(at), message);
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
            if self.looking_at(sign) {
                self.at += sign.len();
                return Ok(TokenKind::Sign(sign));
            }
        }
        // These begin a sign, so that it is the letter behind them that does not fit.
        let stray = self.at + usize::from(matches!(first, '=' | '&' | '|'));
        Err(self.unknown(self.at, stray))
    }

    /// Skips what is no token: from `start` up to and with the letter at `stray` that fits nothing.
    fn unknown(&mut self, start: usize, stray: usize) -> String {
        self.at = self.chars.len().min(stray + 1);
        let text: String = self.chars.get(start..self.at).unwrap_or_default().iter().collect();
        format!("Syntax error: token recognition error at: '{text}'")
    }

    fn escaped(&mut self) -> Result<TokenKind, String> {
        let start = self.at;
        self.at += 1;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '));
        if self.peek(0) != Some('`') || name.is_empty() {
            return Err(self.unknown(start, self.at));
        }
        self.at += 1;
        Ok(TokenKind::Escaped(name.into()))
    }

    fn number(&mut self) -> Result<TokenKind, String> {
        let is_hex = self.peek(0) == Some('0') && self.peek(1) == Some('x');
        if is_hex && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit()) {
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
        let start = self.at;
        self.at += ahead;
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.at += if triple { 3 } else { 1 };
        let mut out = Unquoted { bytes, text: String::new(), data: Vec::new() };
        match self.unquote(quote, triple, raw, &mut out) {
            Ok(()) => Ok(Some(out.finish())),
            Err(Malformed::Code) => Err("invalid unicode code point".to_owned()),
            // The longest that fits is a token: nothing between two quotes, or what stands before the first.
            Err(Malformed::At(_)) if triple => {
                self.at = start + ahead + 2;
                Ok(Some(Unquoted { bytes, text: String::new(), data: Vec::new() }.finish()))
            }
            Err(Malformed::At(_)) if ahead > 0 => {
                self.at = start + ahead;
                let prefix: String = self.chars.get(start..self.at).unwrap_or_default().iter().collect();
                Ok(Some(TokenKind::Ident(prefix.into())))
            }
            Err(Malformed::At(stray)) => Err(self.unknown(start, stray)),
        }
    }

    /// Reads up to the closing quote and past it.
    fn unquote(&mut self, quote: char, triple: bool, raw: bool, out: &mut Unquoted) -> Result<(), Malformed> {
        loop {
            let Some(c) = self.peek(0) else { return Err(Malformed::At(self.at)) };
            if c == quote && (!triple || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote))) {
                self.at += if triple { 3 } else { 1 };
                return Ok(());
            }
            if !triple && matches!(c, '\n' | '\r') {
                return Err(Malformed::At(self.at));
            }
            self.at += 1;
            if c == '\\' && !raw {
                self.escape(out)?;
            } else {
                out.push(c);
            }
        }
    }

    fn escape(&mut self, out: &mut Unquoted) -> Result<(), Malformed> {
        let Some(c) = self.peek(0) else { return Err(Malformed::At(self.at)) };
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
            _ => return Err(Malformed::At(self.at - 1)),
        };
        out.push(plain);
        Ok(())
    }

    fn code(&mut self, out: &mut Unquoted, digits: usize, radix: u32) -> Result<(), Malformed> {
        let mut code = 0_u32;
        for _ in 0..digits {
            let digit = self.peek(0).and_then(|c| c.to_digit(radix)).ok_or(Malformed::At(self.at))?;
            code = code.saturating_mul(radix).saturating_add(digit);
            self.at += 1;
        }
        if out.bytes {
            out.data.push(u8::try_from(code).map_err(|_| Malformed::Code)?);
            return Ok(());
        }
        out.push(char::from_u32(code).ok_or(Malformed::Code)?);
        Ok(())
    }
}

/// What is wrong with a text between quotes.
enum Malformed {
    /// The letter at this place does not fit, or there is none.
    At(usize),
    /// A number that stands for no letter.
    Code,
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
        let told = |source: &str| {
            let mut issues = Issues::of(source);
            let count = tokens(source, &mut issues).len();
            let issues = issues.to_string();
            let lines = issues
                .lines()
                .filter_map(|line| line.strip_prefix("ERROR: <input>:1:"))
                .map(|line| line.replace("Syntax error: token recognition error at: ", ""));
            (count, lines.collect::<Vec<_>>())
        };
        let cases: [(&str, usize, &[&str]); 9] = [
            ("a # b", 3, &["3: '#'"]),
            ("a = b", 3, &["3: '= '"]),
            ("a &b", 2, &["3: '&b'"]),
            ("a |", 2, &["3: '|'"]),
            (r#"a == "x"#, 3, &[r#"6: '"x'"#]),
            (r#""\xFh""#, 1, &[r#"1: '"\xFh'"#, r#"6: '"'"#]),
            ("a.`$b`)", 4, &["3: '`$'", "6: '`)'"]),
            (r#"r"a"#, 2, &[r#"2: '"a'"#]),
            (r#""""a"#, 2, &[r#"3: '"a'"#]),
        ];
        for (source, count, expected) in cases {
            assert_eq!(told(source), (count, expected.iter().map(|one| (*one).to_owned()).collect()), "{source}");
        }
        assert_eq!(
            kinds(r#"r"a\" 0x"#),
            vec![
                TokenKind::String("a\\".into()),
                TokenKind::Int("0".into()),
                TokenKind::Ident("x".into()),
                TokenKind::End
            ]
        );
    }
}
