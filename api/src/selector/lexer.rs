//! Cuts the text of a label selector into tokens.

/// A piece of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Comma,
    Open,
    Close,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    /// A key, a value, or one of the words `in` and `notin`.
    Word(String),
    End,
}

impl Token {
    /// As it was written; nothing for the end.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Not => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Word(text) => text,
            Self::End => "",
        }
    }
}

fn is_symbol(c: char) -> bool {
    "=!(),<>".contains(c)
}

/// All tokens, the end included.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else {
            found.push(Token::End);
            return found;
        };
        let length = if is_symbol(first) {
            if rest.starts_with("==") || rest.starts_with("!=") { 2 } else { 1 }
        } else {
            rest.find(|c| is_symbol(c) || " \t\r\n".contains(c)).unwrap_or(rest.len())
        };
        let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        found.push(match piece {
            "," => Token::Comma,
            "(" => Token::Open,
            ")" => Token::Close,
            "!" => Token::Not,
            "=" => Token::Equals,
            "==" => Token::DoubleEquals,
            "!=" => Token::NotEquals,
            ">" => Token::Greater,
            "<" => Token::Less,
            word => Token::Word(word.to_owned()),
        });
        rest = after;
    }
}
