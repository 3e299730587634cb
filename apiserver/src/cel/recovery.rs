//! What is said where a token does not fit, and where to go on: one token too many is skipped, one that is missing is
//! taken for there, and what is no term stands for one. Upstream's parser is made by ANTLR, whose strategy this is.

use super::{
    ast::{Expr, ExprKind, Literal},
    lexer::{Token, TokenKind},
    parser::Parser,
};

/// What a term may begin with, as errors list it.
pub(super) const TERM: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, \
                               STRING, BYTES, IDENTIFIER}";
/// As [`TERM`], with what else may stand first among arguments.
pub(super) const IN_CALL: &str = "{'[', '{', '(', ')', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, \
                                  NUM_UINT, STRING, BYTES, IDENTIFIER}";
/// As [`TERM`], with what else may stand first in an index.
pub(super) const IN_INDEX: &str = "{'[', '{', '(', '.', '-', '!', '?', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, \
                                   NUM_UINT, STRING, BYTES, IDENTIFIER}";
/// As [`TERM`], with what else may stand first in a list.
pub(super) const IN_LIST: &str = "{'[', ']', '{', '(', '.', ',', '-', '!', '?', 'true', 'false', 'null', NUM_FLOAT, \
                                  NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
/// As [`TERM`], with what else may stand first in a map.
pub(super) const IN_MAP: &str = "{'[', '{', '}', '(', '.', ',', '-', '!', '?', 'true', 'false', 'null', NUM_FLOAT, \
                                 NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
/// What may follow a term anywhere.
const OPERATORS: [&str; 15] = ["==", "!=", "<", "<=", ">", ">=", "in", "&&", "||", "+", "-", "*", "/", "%", "?"];
/// What may follow a bracket that closes.
const FOLLOWING: [&str; 17] =
    ["==", "!=", "<", "<=", ">", ">=", "in", "&&", "||", "+", "-", "*", "/", "%", "?", ".", "["];

/// The text can't be understood from here on; an issue says why.
#[derive(Debug)]
pub(super) struct Stopped;

pub(super) type Step<T> = Result<T, Stopped>;

impl Parser {
    pub(super) fn peek(&self) -> &TokenKind {
        self.tokens.get(self.at).map_or(&TokenKind::End, |token| &token.kind)
    }

    pub(super) fn place(&self) -> u32 {
        self.tokens.get(self.at).map_or(0, |token| token.at)
    }

    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), TokenKind::Sign(own) if *own == sign)
    }

    pub(super) fn eat(&mut self, sign: &str) -> bool {
        let there = self.is(sign);
        if there {
            self.advance();
        }
        there
    }

    /// Takes a token that fits.
    pub(super) fn advance(&mut self) {
        self.at += 1;
        self.recovering = false;
    }

    /// What a token says in the text; several, with what stands between them.
    pub(super) fn written(&self, from: usize, to: usize) -> String {
        let place = |at: usize, of: fn(&Token) -> u32| self.tokens.get(at).or(self.tokens.last()).map_or(0, of);
        let (start, end) = (place(from, |token| token.at) as usize, place(to, |token| token.end) as usize);
        let text: String = self.chars.get(start..end).unwrap_or_default().iter().collect();
        let text = if text.is_empty() { "<EOF>".to_owned() } else { text };
        text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
    }

    pub(super) fn syntax(&mut self, message: &str) {
        if !self.recovering {
            let at = self.place();
            self.issues.add(at, format!("Syntax error: {message}"));
        }
        self.recovering = true;
    }

    /// Whether the token after the next is one of these.
    fn then(&self, signs: &[&str]) -> bool {
        self.tokens
            .get(self.at + 1)
            .is_some_and(|token| matches!(token.kind, TokenKind::Sign(own) if signs.contains(&own)))
    }

    /// Takes the sign. One token too many before it is told of and skipped.
    pub(super) fn expect(&mut self, sign: &str, expecting: &str) -> Step<u32> {
        if !self.is(sign) && self.then(&[sign]) {
            self.extraneous(expecting);
        }
        let at = self.place();
        if self.eat(sign) {
            return Ok(at);
        }
        if sign == ":" && Self::begins_term(Some(self.peek())) {
            // What follows the sign is there: only the sign is missing.
            let what = self.written(self.at, self.at);
            self.syntax(&format!("missing {expecting} at '{what}'"));
            return Ok(at);
        }
        self.mismatch(expecting)
    }

    /// Looks whether a term stands behind a negation, which may be repeated.
    pub(super) fn negated(&mut self) {
        if Self::begins_term(Some(self.peek())) || Self::begins_term(self.tokens.get(self.at + 1).map(|own| &own.kind))
        {
            return;
        }
        let what = self.written(self.at, self.at);
        self.syntax(&format!("extraneous input '{what}' expecting {TERM}"));
    }

    /// As [`Self::expect`] for what ends a part: where what is there may follow it, only that it is missing is told.
    pub(super) fn close(&mut self, sign: &'static str) -> Step<()> {
        let follows = match self.peek() {
            TokenKind::End => self.open.is_empty(),
            TokenKind::Sign(next) => {
                FOLLOWING.contains(next) || self.open.last().is_some_and(|closing| closing.contains(next))
            }
            _ => false,
        };
        if !self.is(sign) && !self.then(&[sign]) && follows {
            let what = self.written(self.at, self.at);
            self.syntax(&format!("missing '{sign}' at '{what}'"));
            return Ok(());
        }
        self.expect(sign, &format!("'{sign}'")).map(|_| ())
    }

    /// An expression within a part that `closing` may end.
    pub(super) fn within(&mut self, closing: &'static [&'static str]) -> Step<Expr> {
        self.open.push(closing);
        let expr = self.expression();
        self.open.pop();
        expr
    }

    fn extraneous(&mut self, expecting: &str) {
        let what = self.written(self.at, self.at);
        self.syntax(&format!("extraneous input '{what}' expecting {expecting}"));
        self.at += 1;
    }

    pub(super) fn mismatch<T>(&mut self, expecting: &str) -> Step<T> {
        let what = self.written(self.at, self.at);
        self.syntax(&format!("mismatched input '{what}' expecting {expecting}"));
        Err(Stopped)
    }

    pub(super) fn end(&mut self) -> Step<()> {
        if *self.peek() == TokenKind::End {
            return Ok(());
        }
        if self.tokens.get(self.at + 1).is_some_and(|token| token.kind == TokenKind::End) {
            self.extraneous("<EOF>");
            return Ok(());
        }
        self.mismatch("<EOF>")
    }

    /// Whether a token may begin a term.
    fn begins_term(kind: Option<&TokenKind>) -> bool {
        match kind {
            None | Some(TokenKind::End | TokenKind::Escaped(_)) => false,
            Some(TokenKind::Sign(sign)) => ["[", "{", "(", ".", "-", "!", "true", "false", "null"].contains(sign),
            Some(_) => true,
        }
    }

    /// A term that is none: skips one token before a term, or stands in for it up to what may follow one.
    pub(super) fn no_term(&mut self) -> Step<Expr> {
        if Self::begins_term(self.tokens.get(self.at + 1).map(|token| &token.kind)) && !self.recovering {
            self.extraneous(TERM);
            return self.primary();
        }
        let at = self.place();
        let what = self.written(self.at, self.at);
        self.syntax(&format!("mismatched input '{what}' expecting {TERM}"));
        while !self.may_follow() {
            self.at += 1;
        }
        Ok(self.node(at, ExprKind::Literal(Literal::Null)))
    }

    /// Whether the next token may follow a term somewhere in what has begun.
    fn may_follow(&self) -> bool {
        match self.peek() {
            TokenKind::End => true,
            TokenKind::Sign(next) => OPERATORS.contains(next) || self.open.iter().any(|closing| closing.contains(next)),
            _ => false,
        }
    }

    /// Looks whether a part begins as it may: with a term or one of these signs.
    pub(super) fn starts(&mut self, signs: &[&str], expecting: &str) -> Step<()> {
        let fits = |kind: Option<&TokenKind>| {
            Self::begins_term(kind) || matches!(kind, Some(TokenKind::Sign(sign)) if signs.contains(sign))
        };
        if fits(Some(self.peek())) {
            return Ok(());
        }
        if fits(self.tokens.get(self.at + 1).map(|token| &token.kind)) {
            self.extraneous(expecting);
            return Ok(());
        }
        self.mismatch(expecting)
    }

    /// Whether a part ends after one of its items; one more comma may stand before its end.
    pub(super) fn ends(&mut self, sign: &'static str, expecting: &str) -> Step<bool> {
        if !self.is(",") && !self.is(sign) {
            if !self.then(&[",", sign]) {
                return self.mismatch(expecting);
            }
            self.extraneous(expecting);
        }
        let next = self.tokens.get(self.at + 1).map(|token| &token.kind);
        let has_more = self.is(",")
            && (Self::begins_term(next) || matches!(next, Some(TokenKind::Sign("?") | TokenKind::Escaped(_))));
        self.eat(",");
        if has_more {
            return Ok(false);
        }
        self.close(sign)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cel::parser::parse;

    fn refused(source: &str) -> String {
        parse(source).err().map(|issues| issues.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_does_not_fit_is_told_as_upstreams_parser_tells_it() {
        let told = |source: &str| {
            let lines = refused(source);
            let lines = lines.lines().filter_map(|line| line.strip_prefix("ERROR: <input>:1:"));
            lines
                .map(|line| {
                    line.replace(TERM, "TERM")
                        .replace(IN_MAP, "IN_MAP")
                        .replace(IN_LIST, "IN_LIST")
                        .replace(IN_CALL, "IN_CALL")
                        .replace("Syntax error: ", "")
                })
                .collect::<Vec<_>>()
        };
        let cases: [(&str, &[&str]); 29] = [
            ("a b", &["3: extraneous input 'b' expecting <EOF>"]),
            ("a 'b' c", &["3: mismatched input ''b'' expecting <EOF>"]),
            ("TestAllTypes(){}", &["15: mismatched input '{' expecting <EOF>"]),
            ("a = 'b'", &["3: token recognition error at: '= '", "5: extraneous input ''b'' expecting <EOF>"]),
            ("a | b", &["3: token recognition error at: '| '", "5: extraneous input 'b' expecting <EOF>"]),
            ("1 + $", &["5: token recognition error at: '$'", "6: mismatched input '<EOF>' expecting TERM"]),
            ("*@a", &["1: extraneous input '*' expecting TERM", "2: token recognition error at: '@'"]),
            ("1 + +", &["5: mismatched input '+' expecting TERM", "6: mismatched input '<EOF>' expecting TERM"]),
            ("in", &["1: mismatched input 'in' expecting TERM", "3: mismatched input '<EOF>' expecting TERM"]),
            ("?", &["1: mismatched input '?' expecting TERM", "2: mismatched input '<EOF>' expecting TERM"]),
            ("a == == b", &["6: extraneous input '==' expecting TERM"]),
            ("(a", &["3: missing ')' at '<EOF>'"]),
            ("f(a, b", &["7: missing ')' at '<EOF>'"]),
            ("f(a b)", &["5: extraneous input 'b' expecting ')'"]),
            ("f(g(a", &["6: mismatched input '<EOF>' expecting ')'"]),
            ("a[0", &["4: missing ']' at '<EOF>'"]),
            ("a in [1, 2, ", &["13: missing ']' at '<EOF>'"]),
            ("[1", &["3: mismatched input '<EOF>' expecting {']', ','}"]),
            ("[1 2]", &["4: extraneous input '2' expecting {']', ','}"]),
            ("{a}", &["3: mismatched input '}' expecting ':'"]),
            ("a ? b", &["6: mismatched input '<EOF>' expecting ':'"]),
            ("{'a': 1}.'a'", &["10: no viable alternative at input '.'a''"]),
            ("a. ", &["4: no viable alternative at input '. '"]),
            ("9223372036854775808", &["1: invalid int literal"]),
            ("{:a}", &["2: extraneous input ':' expecting IN_MAP", "4: mismatched input '}' expecting ':'"]),
            ("{", &["2: mismatched input '<EOF>' expecting IN_MAP"]),
            ("[", &["2: mismatched input '<EOF>' expecting IN_LIST"]),
            ("f(]", &["3: mismatched input ']' expecting IN_CALL"]),
            ("as", &["1: reserved identifier: as"]),
        ];
        for (source, expected) in cases {
            assert_eq!(told(source), expected, "{source}");
        }
    }
}
