//! From tokens to a tree. Precedence climbing with a bound on nesting, so that hostile text can't exhaust the stack.

use std::sync::Arc;

use super::{
    ast::{Expr, ExprKind, Literal, MAX_DEPTH, MAX_NESTING},
    lexer::{self, Token, TokenKind},
    macros,
    recovery::{IN_CALL, IN_INDEX, Step, Stopped},
    source::{Issues, MAX_SOURCE_CHARS},
    words,
};

mod aggregates;
mod literals;

/// A parsed expression and how many nodes it has.
pub(crate) struct Parsed {
    /// The tree.
    pub root: Expr,
    /// Ids are below this.
    pub nodes: u32,
}

/// Parses an expression.
pub(crate) fn parse(source: &str) -> Result<Parsed, Issues> {
    let mut issues = Issues::of(source);
    let chars = source.chars().count();
    if chars > MAX_SOURCE_CHARS {
        let mut issues = Issues::of("");
        issues.add(0, format!("expression code point size exceeds limit: size: {chars}, limit {MAX_SOURCE_CHARS}"));
        return Err(issues);
    }
    let tokens = lexer::tokens(source, &mut issues);
    let chars = source.chars().collect();
    let mut parser = Parser { tokens, chars, at: 0, nodes: 0, level: 0, open: Vec::new(), recovering: false, issues };
    let root = parser.expression().and_then(|root| parser.end().map(|()| root));
    match root {
        Ok(root) if parser.issues.is_empty() => Ok(Parsed { root, nodes: parser.nodes }),
        Ok(_) | Err(Stopped) => Err(parser.issues),
    }
}

/// The state of a parse.
pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) chars: Vec<char>,
    pub(super) at: usize,
    nodes: u32,
    level: u16,
    /// What ends the parts that have begun, each with what else may follow an expression in it.
    pub(super) open: Vec<&'static [&'static str]>,
    /// Nothing has fit since an issue was told: further ones say no more.
    pub(super) recovering: bool,
    pub(super) issues: Issues,
}

impl Parser {
    /// Makes a node.
    pub(super) fn node(&mut self, at: u32, kind: ExprKind) -> Expr {
        let mut expr = Expr { id: self.nodes, at, depth: 1, kind };
        self.nodes += 1;
        let below = expr.children().into_iter().map(|child| child.depth).max().unwrap_or(0);
        expr.depth = below + 1;
        if expr.depth > MAX_DEPTH {
            self.too_deep(at);
            expr.kind = ExprKind::Literal(Literal::Null);
            expr.depth = 1;
        }
        expr
    }

    /// Notes what is wrong.
    pub(super) fn issue(&mut self, at: u32, message: impl Into<String>) {
        self.issues.add(at, message);
    }

    fn too_deep(&mut self, at: u32) {
        if !self.issues.mention("recursion limit") {
            self.issues.add(at, format!("expression recursion limit exceeded: {MAX_DEPTH}"));
        }
    }

    pub(super) fn expression(&mut self) -> Step<Expr> {
        self.level += 1;
        if self.level > MAX_NESTING {
            self.too_deep(self.place());
            return Err(Stopped);
        }
        let expr = self.conditional();
        self.level -= 1;
        expr
    }

    fn conditional(&mut self) -> Step<Expr> {
        let condition = self.logical("||")?;
        let at = self.place();
        if !self.eat("?") {
            return Ok(condition);
        }
        self.open.push(&[":"]);
        let truthy = self.logical("||");
        self.open.pop();
        let truthy = truthy?;
        self.expect(":", "':'")?;
        let falsy = self.expression()?;
        Ok(self.call(at, "_?_:_", vec![condition, truthy, falsy]))
    }

    /// Terms joined by one operator, as a balanced tree: a long chain stays shallow.
    fn logical(&mut self, sign: &str) -> Step<Expr> {
        let mut terms = vec![self.logical_term(sign)?];
        let mut places = Vec::new();
        while self.is(sign) {
            places.push(self.place());
            self.advance();
            terms.push(self.logical_term(sign)?);
        }
        let function = if sign == "||" { "_||_" } else { "_&&_" };
        Ok(self.balance(function, &mut terms.into_iter(), &places))
    }

    fn logical_term(&mut self, sign: &str) -> Step<Expr> {
        if sign == "||" { self.logical("&&") } else { self.binary(0) }
    }

    fn balance(&mut self, function: &str, terms: &mut std::vec::IntoIter<Expr>, places: &[u32]) -> Expr {
        let middle = places.len() / 2;
        let Some((place, right)) = places.get(middle..).and_then(<[u32]>::split_first) else {
            return terms.next().unwrap_or_else(|| self.node(0, ExprKind::Literal(Literal::Null)));
        };
        let left = places.get(..middle).unwrap_or_default();
        let left = self.balance(function, terms, left);
        let right = self.balance(function, terms, right);
        self.call(*place, function, vec![left, right])
    }

    fn binary(&mut self, level: usize) -> Step<Expr> {
        const LEVELS: [&[(&str, &str)]; 3] = [
            &[
                ("==", "_==_"),
                ("!=", "_!=_"),
                ("<", "_<_"),
                ("<=", "_<=_"),
                (">", "_>_"),
                (">=", "_>=_"),
                ("in", "@in"),
            ],
            &[("+", "_+_"), ("-", "_-_")],
            &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
        ];
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some((_, function)) = operators.iter().find(|(sign, _)| self.is(sign)) {
            let at = self.place();
            self.advance();
            let right = self.binary(level + 1)?;
            left = self.call(at, function, vec![left, right]);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Step<Expr> {
        for (sign, function) in [("!", "!_"), ("-", "-_")] {
            if !self.is(sign) {
                continue;
            }
            let at = self.place();
            let mut times = 0_usize;
            while self.is(sign) {
                self.advance();
                times += 1;
            }
            if sign == "-"
                && times == 1
                && let Some(literal) = self.negative(at)
            {
                return self.members(literal);
            }
            if sign == "!" {
                self.negated();
            }
            let operand = if sign == "!" { self.signed()? } else { self.member()? };
            return Ok(if times % 2 == 1 { self.call(at, function, vec![operand]) } else { operand });
        }
        self.member()
    }

    /// What may have a sign of its own, as a number has.
    fn signed(&mut self) -> Step<Expr> {
        let start = self.at;
        let at = self.place();
        if self.eat("-") {
            if let Some(literal) = self.negative(at) {
                return self.members(literal);
            }
            let what = self.written(start, self.at);
            self.syntax(&format!("no viable alternative at input '{what}'"));
            self.at = start;
        }
        self.member()
    }

    fn negative(&mut self, at: u32) -> Option<Expr> {
        let literal = match self.peek() {
            TokenKind::Int(text) => {
                let text = format!("-{text}");
                self.whole(at, &text)
            }
            TokenKind::Double(text) => {
                let text = format!("-{text}");
                self.double(at, &text)
            }
            _ => return None,
        };
        self.advance();
        Some(self.node(at, ExprKind::Literal(literal)))
    }

    fn member(&mut self) -> Step<Expr> {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut operand: Expr) -> Step<Expr> {
        loop {
            let at = self.place();
            if self.eat(".") {
                operand = self.dotted(at, operand)?;
            } else if self.eat("[") {
                self.starts(&["?"], IN_INDEX)?;
                let optional = self.eat("?");
                let index = self.within(&["]"])?;
                self.close("]")?;
                operand = self.call(at, if optional { "_[?_]" } else { "_[_]" }, vec![operand, index]);
            } else {
                return Ok(operand);
            }
        }
    }

    fn dotted(&mut self, at: u32, operand: Expr) -> Step<Expr> {
        let optional = self.eat("?");
        let name_at = self.place();
        let (field, escaped) = match self.peek().clone() {
            TokenKind::Ident(name) => (name, false),
            TokenKind::Escaped(name) => (name, true),
            _ if optional => return self.mismatch("{IDENTIFIER, ESC_IDENTIFIER}"),
            _ => return self.no_name(),
        };
        self.advance();
        if escaped {
            self.issues.add(name_at, "unsupported syntax: '`'");
        }
        if optional {
            let field = self.node(name_at, ExprKind::Literal(Literal::String(field)));
            return Ok(self.call(at, "_?._", vec![operand, field]));
        }
        let open = self.place();
        if !escaped && self.eat("(") {
            let args = self.arguments()?;
            return Ok(match macros::expand_member(self, open, &field, operand, args) {
                Ok(expanded) => expanded,
                Err((operand, args)) => {
                    let kind = ExprKind::Call { function: field, target: Some(Box::new(operand)), args };
                    self.node(open, kind)
                }
            });
        }
        Ok(self.node(at, ExprKind::Select { operand: Box::new(operand), field, test: false }))
    }

    /// Behind a dot stands no name.
    fn no_name<T>(&mut self) -> Step<T> {
        let dot = self.at.saturating_sub(1);
        let last = if *self.peek() == TokenKind::End { self.tokens.len() } else { self.at };
        let what = self.written(dot, last);
        self.syntax(&format!("no viable alternative at input '{what}'"));
        Err(Stopped)
    }

    /// Expressions up to the closing bracket, which is eaten; a trailing comma is not allowed.
    fn arguments(&mut self) -> Step<Vec<Expr>> {
        let mut args = Vec::new();
        self.starts(&[")"], IN_CALL)?;
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            args.push(self.within(&[")", ","])?);
            if !self.eat(",") {
                self.close(")")?;
                return Ok(args);
            }
        }
    }

    pub(super) fn primary(&mut self) -> Step<Expr> {
        let at = self.place();
        match self.peek().clone() {
            TokenKind::Sign("(") => {
                self.advance();
                let inner = self.within(&[")"])?;
                self.close(")")?;
                Ok(inner)
            }
            TokenKind::Sign("[") => self.list(at),
            TokenKind::Sign("{") => self.map(at),
            TokenKind::Sign(".") => {
                self.advance();
                match self.peek().clone() {
                    TokenKind::Ident(name) => self.named(at, format!(".{name}").into()),
                    _ => self.no_name(),
                }
            }
            TokenKind::Ident(name) => self.named(at, name),
            kind => {
                let literal = match kind {
                    TokenKind::Sign("true") => Literal::Bool(true),
                    TokenKind::Sign("false") => Literal::Bool(false),
                    TokenKind::Sign("null") => Literal::Null,
                    TokenKind::Int(text) => self.whole(at, &text),
                    TokenKind::Uint(text) => self.unsigned(at, &text),
                    TokenKind::Double(text) => self.double(at, &text),
                    TokenKind::String(text) => Literal::String(text),
                    TokenKind::Bytes(data) => Literal::Bytes(data),
                    _ => return self.no_term(),
                };
                self.advance();
                Ok(self.node(at, ExprKind::Literal(literal)))
            }
        }
    }

    /// A name, a call of a function, or a message: the name has yet to be eaten.
    fn named(&mut self, at: u32, name: Arc<str>) -> Step<Expr> {
        self.advance();
        let open = self.place();
        if self.eat("(") {
            let args = self.arguments()?;
            return Ok(match macros::expand_global(self, open, &name, args) {
                Ok(expanded) => expanded,
                Err(args) => self.node(open, ExprKind::Call { function: name, target: None, args }),
            });
        }
        if words::is_kept(&name) {
            self.issues.add(at, format!("reserved identifier: {name}"));
        }
        if let Some((message, eaten)) = self.message_name(&name) {
            self.at += eaten;
            return self.message(message);
        }
        Ok(self.node(at, ExprKind::Ident(name)))
    }

    /// A call without target.
    pub(super) fn call(&mut self, at: u32, function: &str, args: Vec<Expr>) -> Expr {
        self.node(at, ExprKind::Call { function: function.into(), target: None, args })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cel::recovery::TERM;

    fn refused(source: &str) -> String {
        parse(source).err().map(|issues| issues.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_missing_is_told_at_the_end() {
        assert_eq!(
            refused("object.x =="),
            format!(
                "ERROR: <input>:1:12: Syntax error: mismatched input '<EOF>' expecting {TERM}\n | object.x ==\n | ...........^"
            )
        );
        assert!(refused("Object{").contains("<input>:1:8: Syntax error: mismatched input '<EOF>' expecting {'}', ','"));
        assert!(refused("for").contains("reserved identifier: for"));
        assert!(refused("9223372036854775808").contains("invalid int literal"));
        assert!(refused("a.map(b.c, d)").contains("argument must be a simple name"));
        assert!(refused("has(a)").contains("invalid argument to has() macro"));
    }

    #[test]
    fn hostile_nesting_ends_in_an_error() {
        for source in [
            "(".repeat(40_000),
            "[".repeat(40_000),
            "1+".repeat(40_000) + "1",
            "a.".repeat(40_000) + "a",
            "!".repeat(40_000) + "a",
            format!("{}a{}", "a.all(x,".repeat(2000), ")".repeat(2000)),
            format!("a{}", "[0]".repeat(30_000)),
            "a?a:".repeat(20_000) + "a",
            "f(".repeat(20_000),
        ] {
            let refusal = refused(&source);
            assert!(source.starts_with('!') || refusal.contains("recursion limit"), "{}", &source[..10]);
        }
    }

    #[test]
    fn a_long_chain_of_conditions_is_shallow() {
        let source = vec!["a"; 5000].join(" && ");
        assert!(parse(&source).unwrap().root.depth < 20);
    }

    #[test]
    fn operators_bind_as_they_should() {
        fn show(expr: &Expr) -> String {
            match &expr.kind {
                ExprKind::Ident(name) => name.to_string(),
                ExprKind::Literal(Literal::Int(value)) => value.to_string(),
                ExprKind::Call { function, args, .. } => {
                    format!("{function}({})", args.iter().map(show).collect::<Vec<_>>().join(","))
                }
                ExprKind::Select { operand, field, .. } => format!("{}.{field}", show(operand)),
                other => format!("{other:?}"),
            }
        }
        let shown = show(&parse("a || b && c == d + 2 * -3 ? x.y : -z").unwrap().root);
        assert_eq!(shown, "_?_:_(_||_(a,_&&_(b,_==_(c,_+_(d,_*_(2,-3))))),x.y,-_(z))");
    }
}
