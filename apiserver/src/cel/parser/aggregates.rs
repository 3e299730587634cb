//! Lists, maps and messages.

use std::sync::Arc;

use super::Parser;
use crate::cel::{
    ast::{Expr, ExprKind, FieldInit, ListItem, MapEntry},
    lexer::TokenKind,
    recovery::{IN_LIST, IN_MAP, Step},
};

impl Parser {
    /// If dots and names lead to an opening brace: the whole name, and how many tokens it takes.
    pub(super) fn message_name(&self, first: &str) -> Option<(Arc<str>, usize)> {
        let mut name = first.to_owned();
        let mut ahead = 0;
        let kind = |at: usize| self.tokens.get(self.at + at).map(|token| &token.kind);
        loop {
            match (kind(ahead), kind(ahead + 1)) {
                (Some(TokenKind::Sign("{")), _) => return Some((name.into(), ahead)),
                (Some(TokenKind::Sign(".")), Some(TokenKind::Ident(next))) => {
                    name.push('.');
                    name.push_str(next);
                    ahead += 2;
                }
                _ => return None,
            }
        }
    }

    pub(super) fn message(&mut self, name: Arc<str>) -> Step<Expr> {
        const EXPECTING: &str = "{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}";
        let open = self.expect("{", "'{'")?;
        let mut fields = Vec::new();
        while !self.eat("}") {
            if self.eat(",") {
                self.close("}")?;
                break;
            }
            let optional = self.eat("?");
            let (TokenKind::Ident(field) | TokenKind::Escaped(field)) = self.peek().clone() else {
                return self.mismatch(EXPECTING);
            };
            self.advance();
            let at = self.expect(":", "':'")?;
            let value = self.within(&["}", ","])?;
            fields.push(FieldInit { at, optional, field, value });
            if self.ends("}", "{'}', ','}")? {
                break;
            }
        }
        Ok(self.node(open, ExprKind::Struct { name, fields }))
    }

    pub(super) fn list(&mut self, at: u32) -> Step<Expr> {
        self.advance();
        self.starts(&["]", ",", "?"], IN_LIST)?;
        let mut items = Vec::new();
        if self.eat(",") {
            self.close("]")?;
            return Ok(self.node(at, ExprKind::List(items)));
        }
        while !self.eat("]") {
            let optional = self.eat("?");
            let value = self.within(&["]", ","])?;
            items.push(ListItem { optional, value });
            if self.ends("]", "{']', ','}")? {
                break;
            }
        }
        Ok(self.node(at, ExprKind::List(items)))
    }

    pub(super) fn map(&mut self, at: u32) -> Step<Expr> {
        self.advance();
        self.starts(&["}", ",", "?"], IN_MAP)?;
        let mut entries = Vec::new();
        if self.eat(",") {
            self.close("}")?;
            return Ok(self.node(at, ExprKind::Map(entries)));
        }
        while !self.eat("}") {
            let optional = self.eat("?");
            let key = self.within(&[":"])?;
            self.expect(":", "':'")?;
            let value = self.within(&["}", ","])?;
            entries.push(MapEntry { optional, key, value });
            if self.ends("}", "{'}', ','}")? {
                break;
            }
        }
        Ok(self.node(at, ExprKind::Map(entries)))
    }
}
