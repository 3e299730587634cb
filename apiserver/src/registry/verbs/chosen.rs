//! Which entries a selection selects, where a field may be one that only a conversion tells.

use std::sync::Arc;

use martello_api::status::ApiError;

use crate::{
    registry::{kind::Kind, select::Selection},
    server::Core,
    store::Entry,
};

/// Of each of these entries, whether it is selected. What has to be converted for that is converted in one go.
pub async fn chosen(
    core: &Core,
    kind: &Kind,
    selection: &Selection,
    entries: &[Arc<Entry>],
) -> Result<Vec<bool>, ApiError> {
    let needs: Vec<bool> = entries.iter().map(|entry| selection.needs_shown(kind, entry)).collect();
    let hidden = entries.iter().zip(&needs).filter(|(_, needs)| **needs).map(|(entry, _)| Arc::clone(entry));
    let hidden: Vec<Arc<Entry>> = hidden.collect();
    let shown = if hidden.is_empty() { Vec::new() } else { core.values(kind, &hidden).await? };
    let mut shown = shown.into_iter();
    let mut chosen = Vec::with_capacity(entries.len());
    for (entry, needs) in entries.iter().zip(needs) {
        chosen.push(if needs {
            shown.next().is_some_and(|shown| selection.selects_shown(kind, &shown))
        } else {
            selection.selects(entry)
        });
    }
    Ok(chosen)
}

/// Whether an entry is selected.
pub async fn is_chosen(core: &Core, kind: &Kind, selection: &Selection, entry: &Arc<Entry>) -> Result<bool, ApiError> {
    if !selection.needs_shown(kind, entry) {
        return Ok(selection.selects(entry));
    }
    Ok(selection.selects_shown(kind, &core.value(kind, entry).await?))
}
