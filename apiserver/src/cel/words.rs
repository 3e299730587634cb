//! Words of the language that are no names.

const LITERALS_AND_OPERATORS: [&str; 4] = ["true", "false", "null", "in"];
/// Kept for later versions of the language, and for the languages that embed it.
const KEPT: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether `word` is kept: the grammar takes it for a name, and it must not be one.
pub(super) fn is_kept(word: &str) -> bool {
    KEPT.contains(&word)
}

/// Whether `word` can't be a name in an expression.
#[must_use]
pub fn is_no_name(word: &str) -> bool {
    LITERALS_AND_OPERATORS.contains(&word) || is_kept(word)
}
