//! One run over one server, or over two in turn.

use anyhow::{Context as _, Result};

use super::{figure::Figure, target::Target};

/// Who is measured in one run.
#[derive(Debug)]
pub struct Run {
    targets: Vec<Target>,
}

impl Run {
    /// Measures these, one after the other, figure by figure.
    #[must_use]
    pub fn over(targets: Vec<Target>) -> Self {
        Self { targets }
    }

    /// Measures each server and prints what is found; of two servers also how many times the second's figure the first's is.
    pub async fn each(&self, measure: impl AsyncFn(&Target) -> Result<Vec<Figure>>) -> Result<()> {
        let mut all = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            let figures = measure(target).await.with_context(|| format!("measure {}", target.name))?;
            for figure in &figures {
                match self.targets.len() {
                    1 => figure.print()?,
                    _ => figure.clone().of("server", target.name.as_str()).print()?,
                }
            }
            all.push((target, figures));
        }
        let [(one, ours), (other, theirs)] = all.as_slice() else { return Ok(()) };
        let server = format!("{} / {}", one.name, other.name);
        let ratios = ours.iter().filter_map(|figure| theirs.iter().find_map(|theirs| figure.over(theirs)));
        ratios.map(|ratio| ratio.of("server", server.as_str())).try_for_each(|ratio| ratio.print())
    }
}
