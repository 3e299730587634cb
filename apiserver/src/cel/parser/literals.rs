//! Numbers.

use super::Parser;
use crate::cel::ast::Literal;

impl Parser {
    pub(super) fn whole(&mut self, at: u32, text: &str) -> Literal {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let parsed = match digits.strip_prefix("0x") {
            Some(hex) => i128::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let value = parsed.ok().map(|value| if negative { -value } else { value });
        match value.and_then(|value| i64::try_from(value).ok()) {
            Some(value) => Literal::Int(value),
            None => self.bad_literal(at, "int"),
        }
    }

    pub(super) fn unsigned(&mut self, at: u32, text: &str) -> Literal {
        let parsed = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        parsed.map_or_else(|_| self.bad_literal(at, "uint"), Literal::Uint)
    }

    pub(super) fn double(&mut self, at: u32, text: &str) -> Literal {
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Literal::Double(value),
            _ => self.bad_literal(at, "double"),
        }
    }

    fn bad_literal(&mut self, at: u32, kind: &str) -> Literal {
        self.issues.add(at, format!("invalid {kind} literal"));
        Literal::Null
    }
}
