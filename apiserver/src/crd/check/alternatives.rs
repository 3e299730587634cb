//! `anyOf`, `oneOf`, `allOf` and `not`.

use serde_json::Value;

use super::{Checker, Found};
use crate::crd::rules::Rules;

impl Checker {
    /// An alternative is judged as a whole; what is below it may stay as it was.
    pub(super) fn logic(&mut self, rules: &Rules, value: &Value, old: Option<&Value>) -> Found {
        let mut main = Found::default();
        self.any_of(&rules.any_of, value, old, &mut main);
        self.one_of(&rules.one_of, value, old, &mut main);
        if !rules.all_of.is_empty() {
            let mut validated = 0;
            for rules in &rules.all_of {
                let found = self.judged(rules, value, old);
                validated += usize::from(found.fits());
                main.merge(found);
            }
            if validated != rules.all_of.len() {
                let none = if validated == 0 { ". None validated" } else { "" };
                self.pathless(format!("{:?} must validate all the schemas (allOf){none}", self.path), &mut main);
            }
        }
        if let Some(not) = &rules.not {
            let mut found = self.judged(not, value, old);
            if found.fits() {
                self.pathless(format!("{:?} must not validate the schema (not)", self.path), &mut main);
            }
            self.forget(&mut found);
        }
        main.matches += 1;
        main
    }

    fn any_of(&mut self, alternatives: &[Rules], value: &Value, old: Option<&Value>, main: &mut Found) {
        let mut best: Option<Found> = None;
        for rules in alternatives {
            let found = self.judged(rules, value, old);
            if found.fits() {
                best.iter_mut().for_each(|best| self.forget(best));
                main.merge(found);
                return;
            }
            self.closest(&mut best, found);
        }
        if let Some(best) = best {
            self.pathless(format!("{:?} must validate at least one schema (anyOf)", self.path), main);
            main.merge(best);
        }
    }

    fn one_of(&mut self, alternatives: &[Rules], value: &Value, old: Option<&Value>, main: &mut Found) {
        if alternatives.is_empty() {
            return;
        }
        let (mut best, mut first, mut validated): (Option<Found>, Option<Found>, usize) = (None, None, 0);
        for rules in alternatives {
            let found = self.judged(rules, value, old);
            if found.fits() {
                validated += 1;
                first.get_or_insert(found);
            } else {
                self.closest(&mut best, found);
            }
        }
        if validated > 0 {
            best.iter_mut().for_each(|best| self.forget(best));
        }
        if validated == 1 {
            first.into_iter().for_each(|found| main.merge(found));
            return;
        }
        let what = if validated == 0 {
            "Found none valid".to_owned()
        } else {
            format!("Found {validated} valid alternatives")
        };
        self.pathless(format!("{:?} must validate one and only one schema (oneOf). {what}", self.path), main);
        if validated == 0 {
            best.into_iter().for_each(|found| main.merge(found));
        }
    }

    /// Of alternatives that fail, the one of which most was found fit is kept.
    fn closest(&self, best: &mut Option<Found>, mut found: Found) {
        match best {
            Some(best) if found.matches <= best.matches => self.forget(&mut found),
            Some(best) => self.forget(&mut std::mem::replace(best, found)),
            None => *best = Some(found),
        }
    }
}
