//! Paths as written, led through symbolic links to their places in the tree.

use super::{Node, NodeKind, View, refused};
use crate::layers::{LayerError, LayerPath};

/// Symbolic links followed in one path: what Linux follows.
const MAX_LINKS: usize = 40;

impl View {
    /// The file that a hard link names: one that this very layer holds.
    pub(super) fn link_target(&self, written: &LayerPath, to: &LayerPath) -> Result<(LayerPath, Node), LayerError> {
        let (parent, name) = to.split_last().ok_or_else(|| refused(written, "a hard link to nothing"))?;
        let to = self.resolve_dir(written, &parent)?.join(name);
        match self.nodes.get(&to) {
            Some(node) if node.kind == NodeKind::Dir => Err(refused(written, "a hard link to a directory")),
            Some(node) if node.layer == self.layer => Ok((to, node.clone())),
            _ => Err(refused(written, "a hard link to a file that is not in its layer")),
        }
    }

    /// The canonical place of a directory as written, following links of lower layers.
    pub(super) fn resolve_dir(&self, written: &LayerPath, dir: &LayerPath) -> Result<LayerPath, LayerError> {
        self.walk(dir.components().map(<[u8]>::to_vec).collect(), true, true).map_err(|why| refused(written, why))
    }

    /// Walks components from the root, following symbolic links inside the image only: `..` stops at the
    /// root. When `writing`, a link of the current layer is refused, and every component must be a
    /// directory or absent.
    pub(super) fn walk(
        &self,
        components: Vec<Vec<u8>>,
        writing: bool,
        follow_last: bool,
    ) -> Result<LayerPath, &'static str> {
        let mut todo: Vec<Vec<u8>> = components.into_iter().rev().collect();
        let mut at = LayerPath::root();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at = at.split_last().map_or_else(LayerPath::root, |(parent, _)| parent);
                    continue;
                }
                _ => {}
            }
            let next = at.join(&component);
            match self.nodes.get(&next) {
                Some(Node { kind: NodeKind::Symlink { target }, layer, .. }) if follow_last || !todo.is_empty() => {
                    if writing && *layer == self.layer {
                        return Err("it passes through a symbolic link of its own layer");
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err("it passes through more than 40 symbolic links");
                    }
                    if target.starts_with(b"/") {
                        at = LayerPath::root();
                    }
                    todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                }
                Some(node) if node.kind != NodeKind::Dir && (writing || !todo.is_empty()) => {
                    return Err("it passes through something that is no directory");
                }
                _ => at = next,
            }
        }
        if at.as_bytes().len() > 4095 {
            return Err("its place, with links followed, is longer than 4095 bytes");
        }
        Ok(at)
    }
}
