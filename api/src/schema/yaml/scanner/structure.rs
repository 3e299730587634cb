//! Blocks, brackets and keys: what the layout of a text says of its structure.

use super::{Kind, PossibleKey, Scanned, Scanner, Token};

/// How far from its beginning the colon of a key that is not marked as one may be.
const MAX_KEY_LETTERS: usize = 1024;
/// How deep brackets may be nested before the parser has a say.
const MAX_FLOW_LEVEL: usize = 10_000;

impl Scanner {
    /// Whether what may be a key still may be one: its colon is on the same line, and not far.
    pub(super) fn is_still_key(&mut self, at: usize) -> Scanned<bool> {
        let mark = self.mark;
        let Some(key) = self.keys.get_mut(at).filter(|key| key.possible) else { return Ok(false) };
        if key.mark.line == mark.line && key.mark.index + MAX_KEY_LETTERS >= mark.index {
            return Ok(true);
        }
        if key.required {
            return self.fault("could not find expected ':'");
        }
        key.possible = false;
        Ok(false)
    }

    /// What comes next may be a key.
    pub(super) fn remember_key(&mut self) -> Scanned {
        if !self.key_allowed {
            return Ok(());
        }
        let required = self.flow_level == 0 && self.indent == Some(self.mark.column);
        self.forget_key()?;
        let key = PossibleKey { possible: true, required, token: self.taken + self.tokens.len(), mark: self.mark };
        if let Some(last) = self.keys.last_mut() {
            *last = key;
        }
        self.key_of_token.insert(key.token, self.keys.len() - 1);
        Ok(())
    }

    pub(super) fn forget_key(&mut self) -> Scanned {
        let Some(key) = self.keys.last_mut().filter(|key| key.possible) else { return Ok(()) };
        if key.required {
            return self.fault("could not find expected ':'");
        }
        key.possible = false;
        self.key_of_token.remove(&key.token);
        Ok(())
    }

    /// Opens a block where the column is deeper than that of the open one. `at` is the token before which it begins.
    fn open_block(&mut self, column: usize, at: Option<usize>, kind: Kind, line: usize) -> Scanned {
        if self.flow_level > 0 || self.indent >= Some(column) {
            return Ok(());
        }
        self.indents.push(self.indent);
        self.indent = Some(column);
        if self.indents.len() > MAX_FLOW_LEVEL {
            return self.fault(&format!("exceeded max depth of {MAX_FLOW_LEVEL}"));
        }
        let place = at.map_or(self.tokens.len(), |at| at.saturating_sub(self.taken).min(self.tokens.len()));
        self.tokens.insert(place, Token { kind, line });
        Ok(())
    }

    /// Closes the blocks that are deeper than a column.
    pub(super) fn close_blocks(&mut self, column: Option<usize>) {
        while self.flow_level == 0 && self.indent > column {
            self.push(Kind::BlockEnd, self.mark.line);
            self.indent = self.indents.pop().flatten();
        }
    }

    pub(super) fn fetch_end(&mut self) -> Scanned {
        if self.mark.column != 0 {
            self.mark.column = 0;
            self.mark.line += 1;
        }
        self.close_blocks(None);
        self.forget_key()?;
        self.key_allowed = false;
        self.push(Kind::StreamEnd, self.mark.line);
        Ok(())
    }

    pub(super) fn fetch_document_mark(&mut self, kind: Kind) -> Scanned {
        self.close_blocks(None);
        self.forget_key()?;
        self.key_allowed = false;
        let line = self.mark.line;
        (0..3).for_each(|_| self.skip());
        self.push(kind, line);
        Ok(())
    }

    pub(super) fn open_flow(&mut self, kind: Kind) -> Scanned {
        self.remember_key()?;
        self.keys.push(PossibleKey { token: self.taken + self.tokens.len(), ..PossibleKey::default() });
        self.flow_level += 1;
        if self.flow_level > MAX_FLOW_LEVEL {
            return self.fault(&format!("exceeded max depth of {MAX_FLOW_LEVEL}"));
        }
        self.key_allowed = true;
        self.push_sign(kind);
        Ok(())
    }

    pub(super) fn close_flow(&mut self, kind: Kind) -> Scanned {
        self.forget_key()?;
        if self.flow_level > 0 {
            self.flow_level -= 1;
            if let Some(key) = self.keys.pop() {
                self.key_of_token.remove(&key.token);
            }
        }
        self.key_allowed = false;
        self.push_sign(kind);
        Ok(())
    }

    pub(super) fn fetch_block_entry(&mut self) -> Scanned {
        if self.flow_level == 0 {
            if !self.key_allowed {
                return self.fault("block sequence entries are not allowed in this context");
            }
            self.open_block(self.mark.column, None, Kind::BlockSequenceStart, self.mark.line)?;
        }
        self.forget_key()?;
        self.key_allowed = true;
        self.push_sign(Kind::BlockEntry);
        Ok(())
    }

    pub(super) fn fetch_key(&mut self) -> Scanned {
        if self.flow_level == 0 {
            if !self.key_allowed {
                return self.fault("mapping keys are not allowed in this context");
            }
            self.open_block(self.mark.column, None, Kind::BlockMappingStart, self.mark.line)?;
        }
        self.forget_key()?;
        self.key_allowed = self.flow_level == 0;
        self.push_sign(Kind::Key);
        Ok(())
    }

    pub(super) fn fetch_value(&mut self) -> Scanned {
        let last = self.keys.len().saturating_sub(1);
        if self.is_still_key(last)? {
            let key = self.keys.get(last).copied().unwrap_or_default();
            let place = key.token.saturating_sub(self.taken).min(self.tokens.len());
            self.tokens.insert(place, Token { kind: Kind::Key, line: key.mark.line });
            self.open_block(key.mark.column, Some(key.token), Kind::BlockMappingStart, key.mark.line)?;
            if let Some(key) = self.keys.get_mut(last) {
                key.possible = false;
            }
            self.key_of_token.remove(&key.token);
            self.key_allowed = false;
        } else {
            if self.flow_level == 0 {
                if !self.key_allowed {
                    return self.fault("mapping values are not allowed in this context");
                }
                self.open_block(self.mark.column, None, Kind::BlockMappingStart, self.mark.line)?;
            }
            self.key_allowed = self.flow_level == 0;
        }
        self.push_sign(Kind::Value);
        Ok(())
    }
}
