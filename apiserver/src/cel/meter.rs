//! What an evaluation may spend, what it spent, and how it ends when it spends too much.

use std::{cell::Cell, sync::Arc, time::Instant};

use super::limits;

/// Between looks at the clock; a call that costs much counts for several.
const STEPS_PER_LOOK: u64 = 100;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// What kind of reason.
    pub kind: ErrorKind,
    /// The reason, in upstream's words.
    pub message: Arc<str>,
}

/// What kind of reason there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The expression does not fit the values.
    Runtime,
    /// It costs more than it may.
    CostExceeded,
    /// It takes longer than it may.
    Interrupted,
}

impl Budget {
    /// So much cost, and the time from now on that evaluations may take.
    #[must_use]
    pub fn of(limit: u64) -> Self {
        Self { limit, deadline: Some(Instant::now() + super::MAX_TIME) }
    }
}

impl EvalError {
    /// Of an expression that does not fit the values.
    #[must_use]
    pub fn runtime(message: impl Into<Arc<str>>) -> Self {
        Self { kind: ErrorKind::Runtime, message: message.into() }
    }

    /// Whether another operand may make up for it.
    pub(super) fn is_final(&self) -> bool {
        self.kind != ErrorKind::Runtime
    }
}

/// How much an evaluation may cost and take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Most cost.
    pub limit: u64,
    /// When it must have ended.
    pub deadline: Option<Instant>,
}

/// Counts what an evaluation costs.
#[derive(Debug)]
pub struct Meter {
    budget: Budget,
    cost: Cell<u64>,
    steps: Cell<u64>,
    built: Cell<usize>,
    /// What was spent on what has a limit of its own.
    aside: Cell<u64>,
    /// How many constants, one within the other, are being worked out.
    constants: Cell<u32>,
    pub(super) depth: Cell<u32>,
}

impl Meter {
    /// Nothing spent yet.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            cost: Cell::new(0),
            steps: Cell::new(0),
            built: Cell::new(0),
            aside: Cell::new(0),
            constants: Cell::new(0),
            depth: Cell::new(0),
        }
    }

    /// What was spent.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.cost.get().saturating_add(self.aside.get())
    }

    /// For a part that has a limit of its own: depth, memory and time are still counted together.
    #[must_use]
    pub fn apart(&self, limit: u64) -> Self {
        let own = Self::new(Budget { limit, deadline: self.budget.deadline });
        own.depth.set(self.depth.get());
        own.built.set(self.built.get());
        own
    }

    /// Takes over what such a part has spent.
    pub fn settle(&self, part: &Self) {
        self.built.set(part.built.get());
        self.aside.set(self.aside.get().saturating_add(part.cost()));
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> Budget {
        Budget { limit: self.budget.limit.saturating_sub(self.cost.get()), deadline: self.budget.deadline }
    }

    /// Works out a constant: that costs nothing.
    pub(super) fn freely<T>(&self, work: impl FnOnce() -> T) -> T {
        self.constants.set(self.constants.get().saturating_add(1));
        let done = work();
        self.constants.set(self.constants.get().saturating_sub(1));
        done
    }

    /// Spends.
    pub fn charge(&self, cost: u64) -> Result<(), EvalError> {
        if self.constants.get() > 0 {
            return Ok(());
        }
        let cost = self.cost.get().saturating_add(cost);
        self.cost.set(cost);
        if cost > self.budget.limit {
            let message = "operation cancelled: actual cost limit exceeded".into();
            return Err(EvalError { kind: ErrorKind::CostExceeded, message });
        }
        Ok(())
    }

    /// Gives back what was spent on a name that is a part of a longer path: upstream counts the path once.
    pub(super) fn refund(&self, cost: u64) {
        if self.constants.get() == 0 {
            self.cost.set(self.cost.get().saturating_sub(cost));
        }
    }

    /// Counts bytes that are about to be made.
    pub(super) fn build(&self, bytes: usize) -> Result<(), EvalError> {
        let built = self.built.get().saturating_add(bytes);
        self.built.set(built);
        if built > limits::MAX_BUILT_BYTES {
            let most = limits::MAX_BUILT_BYTES;
            return Err(limits::too_large(&format!("more than {most} bytes would be made in all")));
        }
        Ok(())
    }

    /// Looks at the clock now and then, the more often the more things cost.
    pub(super) fn step(&self, cost: u64) -> Result<(), EvalError> {
        let steps = self.steps.get().saturating_add(1).saturating_add(cost / STEPS_PER_LOOK);
        let looks = steps >= STEPS_PER_LOOK;
        self.steps.set(if looks { 0 } else { steps });
        if looks && self.budget.deadline.is_some_and(|end| Instant::now() > end) {
            return Err(EvalError { kind: ErrorKind::Interrupted, message: "operation interrupted".into() });
        }
        Ok(())
    }
}
