//! The merged tree of the layers read so far: a pure state machine from entries to operations.

use std::collections::{BTreeMap, BTreeSet};

use super::limits::MAX_ENTRIES;
use super::{Entry, EntryKind, LayerError, LayerPath, Meta};
use crate::Digest;

mod op;
mod resolve;

pub use op::Op;

/// Prefix of a name that stands for "removed here" (OCI image spec, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Name that stands for "nothing of the layers below shows in this directory".
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bytes of paths, link targets and extended attributes that the tree may hold: 268 for each of its nodes.
const MAX_NAME_BYTES: u64 = 256 << 20;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Its length.
        size: u64,
        /// The digest of its content, once it was read.
        digest: Option<Digest>,
    },
    /// A symbolic link.
    Symlink {
        /// To what.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
}

/// One place of the merged tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// What stands there.
    pub kind: NodeKind,
    /// Its metadata.
    pub meta: Meta,
    /// The last layer that holds it, counted from 1.
    layer: usize,
}

/// The merged tree, and what the current layer has done to it.
#[derive(Debug)]
pub struct View {
    nodes: BTreeMap<LayerPath, Node>,
    /// Bytes of the nodes' names and attributes.
    name_bytes: u64,
    most_nodes: u64,
    most_name_bytes: u64,
    layer: usize,
    /// Paths whose whiteout stands in the current layer's directory.
    whiteouts: BTreeSet<LayerPath>,
    /// Directories that the current layer has made opaque: a second time would find nothing to hide.
    opaque: BTreeSet<LayerPath>,
}

impl View {
    /// A tree without layers: an empty root.
    pub fn new() -> Self {
        Self::within(MAX_ENTRIES, MAX_NAME_BYTES)
    }

    /// A tree without layers that may grow to so many nodes, and to so many bytes of names.
    fn within(most_nodes: u64, most_name_bytes: u64) -> Self {
        let root = Node { kind: NodeKind::Dir, meta: Meta::implicit_dir(), layer: 0 };
        Self {
            nodes: BTreeMap::from([(LayerPath::root(), root)]),
            name_bytes: 0,
            most_nodes,
            most_name_bytes,
            layer: 0,
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
        }
    }

    /// Begins the next layer.
    pub fn next_layer(&mut self) {
        self.layer += 1;
        self.whiteouts.clear();
        self.opaque.clear();
    }

    /// The root's metadata.
    pub fn root(&self) -> &Meta {
        static IMPLICIT: Meta = Meta::implicit_dir();
        self.nodes.get(&LayerPath::root()).map_or(&IMPLICIT, |node| &node.meta)
    }

    /// Every place with what stands there, sorted by path.
    pub fn nodes(&self) -> impl Iterator<Item = (&LayerPath, &Node)> {
        self.nodes.iter()
    }

    /// What stands at `path`, symbolic links followed in its last component too.
    pub fn lookup(&self, path: &LayerPath) -> Option<(LayerPath, &Node)> {
        let at = self.walk(path.components().map(<[u8]>::to_vec).collect(), false, true).ok()?;
        self.nodes.get(&at).map(|node| (at.clone(), node))
    }

    /// Notes the digest of a file's content.
    pub fn set_digest(&mut self, path: &LayerPath, content: Digest) {
        if let Some(Node { kind: NodeKind::File { digest, .. }, .. }) = self.nodes.get_mut(path) {
            *digest = Some(content);
        }
    }

    /// Judges an entry, merges it into the tree, and says what that means for the layer's directory.
    /// The operation that takes the entry's content, if any, is the last one.
    ///
    /// # Errors
    /// If the entry has no honest meaning, or the tree grows past a limit.
    pub fn apply(&mut self, entry: Entry) -> Result<Vec<Op>, LayerError> {
        let mut ops = Vec::new();
        let written = entry.path.clone();
        let Some((parent, name)) = written.split_last() else {
            return self.apply_root(entry);
        };
        if parent.components().any(|c| c.starts_with(WHITEOUT)) {
            return Err(refused(&written, "a directory bears a whiteout's name"));
        }
        let parent = self.resolve_dir(&written, &parent)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if !matches!(entry.kind, EntryKind::File { size: 0 }) {
                return Err(refused(&written, "a whiteout must be an empty file"));
            }
            match hidden {
                _ if name == OPAQUE => self.make_opaque(&parent, &mut ops)?,
                b"" | b"." | b".." => return Err(refused(&written, "a whiteout of nothing")),
                special if special.starts_with(WHITEOUT) => {
                    return Err(refused(&written, "a whiteout of a whiteout has no meaning"));
                }
                hidden => self.white_out(parent.join(hidden), &mut ops)?,
            }
            return Ok(ops);
        }
        let path = parent.join(name);
        self.ensure_dir(&parent, &mut ops)?;
        self.place(&written, path, entry, &mut ops)?;
        Ok(ops)
    }

    fn apply_root(&mut self, entry: Entry) -> Result<Vec<Op>, LayerError> {
        if entry.kind != EntryKind::Dir {
            return Err(refused(&entry.path, "the root of an image must be a directory"));
        }
        let node = Node { kind: NodeKind::Dir, meta: entry.meta.clone(), layer: self.layer };
        self.insert(LayerPath::root(), node)?;
        Ok(vec![Op::Dir { path: LayerPath::root(), meta: entry.meta, opaque: false }])
    }

    /// Puts what is no whiteout at its place, whose directory exists.
    fn place(
        &mut self,
        written: &LayerPath,
        path: LayerPath,
        entry: Entry,
        ops: &mut Vec<Op>,
    ) -> Result<(), LayerError> {
        let here = self.nodes.get(&path).filter(|node| node.layer == self.layer).map(|node| node.kind.clone());
        let meta = entry.meta;
        match (&here, &entry.kind) {
            (Some(NodeKind::Dir), EntryKind::Dir) | (None, _) => {}
            (Some(old), new) if same_kind(old, new) => ops.push(Op::Remove { path: path.clone() }),
            (Some(_), _) => return Err(refused(written, "the layer holds two different things of this name")),
        }
        let hidden_below = self.whiteouts.remove(&path);
        if hidden_below {
            ops.push(Op::Remove { path: path.clone() });
        }
        if entry.kind != EntryKind::Dir {
            self.remove_below(&path, |_| true);
        }
        let (kind, op) = match entry.kind {
            EntryKind::Dir => (NodeKind::Dir, Op::Dir { path: path.clone(), meta: meta.clone(), opaque: hidden_below }),
            EntryKind::File { size } => {
                (NodeKind::File { size, digest: None }, Op::File { path: path.clone(), meta: meta.clone() })
            }
            EntryKind::Symlink { target } => (
                NodeKind::Symlink { target: target.clone() },
                Op::Symlink { path: path.clone(), target, meta: meta.clone() },
            ),
            EntryKind::Fifo => (NodeKind::Fifo, Op::Fifo { path: path.clone(), meta: meta.clone() }),
            EntryKind::Hardlink { to } => {
                let (to, node) = self.link_target(written, &to)?;
                if to == path {
                    return Err(refused(written, "a hard link to itself"));
                }
                self.insert(path.clone(), node)?;
                ops.push(Op::Hardlink { path, to });
                return Ok(());
            }
        };
        self.insert(path, Node { kind, meta, layer: self.layer })?;
        ops.push(op);
        Ok(())
    }

    /// Hides what lower layers have at `path`. What this layer itself has there stays (OCI image spec:
    /// whiteouts apply to lower layers only, in whatever order they stand).
    fn white_out(&mut self, path: LayerPath, ops: &mut Vec<Op>) -> Result<(), LayerError> {
        let layer = self.layer;
        match self.nodes.get(&path) {
            None => {}
            Some(node) if node.layer < layer => {
                self.remove_below(&path, |_| true);
                self.remove(&path);
                if let Some((parent, _)) = path.split_last() {
                    self.ensure_dir(&parent, ops)?;
                }
                self.whiteouts.insert(path.clone());
                ops.push(Op::Whiteout { path });
            }
            Some(node) if node.kind == NodeKind::Dir => self.make_opaque(&path, ops)?,
            // A file of this layer hides the lower one already.
            Some(_) => {}
        }
        Ok(())
    }

    fn make_opaque(&mut self, dir: &LayerPath, ops: &mut Vec<Op>) -> Result<(), LayerError> {
        let layer = self.layer;
        if !self.opaque.insert(dir.clone()) {
            return Ok(());
        }
        if dir.is_root() {
            // Overlayfs merges the roots of its layers whatever they bear: hide one by one.
            let lower = self.nodes.iter().filter(|(path, node)| node.layer < layer && path.components().count() == 1);
            let lower: Vec<LayerPath> = lower.map(|(path, _)| path.clone()).collect();
            let here = self.nodes.iter().filter(|(path, node)| node.layer == layer && path.components().count() == 1);
            let dirs = here.filter(|(_, node)| node.kind == NodeKind::Dir).map(|(path, _)| path.clone());
            for dir in dirs.collect::<Vec<_>>() {
                self.make_opaque(&dir, ops)?;
            }
            for path in lower {
                self.white_out(path, ops)?;
            }
            return Ok(());
        }
        self.ensure_dir(dir, ops)?;
        self.remove_below(dir, |node| node.layer < layer);
        if let Some(node) = self.nodes.get(dir) {
            ops.push(Op::Dir { path: dir.clone(), meta: node.meta.clone(), opaque: true });
        }
        Ok(())
    }

    /// Sees to it that `dir`, which is canonical, and everything above it stands in this layer's
    /// directory. A directory that only lower layers have is repeated with its own metadata.
    fn ensure_dir(&mut self, dir: &LayerPath, ops: &mut Vec<Op>) -> Result<(), LayerError> {
        let layer = self.layer;
        if self.nodes.get(dir).is_some_and(|node| node.layer == layer) || dir.is_root() {
            return Ok(());
        }
        if let Some((parent, _)) = dir.split_last() {
            self.ensure_dir(&parent, ops)?;
        }
        let opaque = self.whiteouts.remove(dir);
        if opaque {
            ops.push(Op::Remove { path: dir.clone() });
        }
        let known = self.nodes.get_mut(dir).map(|node| {
            node.layer = layer;
            node.meta.clone()
        });
        let meta = match known {
            Some(meta) => meta,
            None => {
                let meta = Meta::implicit_dir();
                self.insert(dir.clone(), Node { kind: NodeKind::Dir, meta: meta.clone(), layer })?;
                meta
            }
        };
        ops.push(Op::Dir { path: dir.clone(), meta, opaque });
        Ok(())
    }

    /// Puts a node at its place and counts it: a long path makes many directories that no entry names.
    fn insert(&mut self, path: LayerPath, node: Node) -> Result<(), LayerError> {
        self.remove(&path);
        self.name_bytes = self.name_bytes.saturating_add(name_bytes(&path, &node));
        self.nodes.insert(path, node);
        if self.nodes.len() as u64 > self.most_nodes {
            return Err(LayerError::Limit(format!("more than {} files and directories in the image", self.most_nodes)));
        }
        if self.name_bytes > self.most_name_bytes {
            let why = format!("more than {} bytes of names and attributes in the image", self.most_name_bytes);
            return Err(LayerError::Limit(why));
        }
        Ok(())
    }

    fn remove(&mut self, path: &LayerPath) {
        if let Some(node) = self.nodes.remove(path) {
            self.name_bytes = self.name_bytes.saturating_sub(name_bytes(path, &node));
        }
    }

    fn remove_below(&mut self, path: &LayerPath, which: impl Fn(&Node) -> bool) {
        let (from, to) = path.below();
        let doomed: Vec<LayerPath> = match to {
            Some(to) => self.nodes.range(from..to).filter(|(_, n)| which(n)).map(|(p, _)| p.clone()).collect(),
            None => self.nodes.range(from..).filter(|(_, n)| which(n)).map(|(p, _)| p.clone()).collect(),
        };
        for path in doomed {
            self.remove(&path);
        }
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that a node's path, link target and extended attributes take.
fn name_bytes(path: &LayerPath, node: &Node) -> u64 {
    let target = match &node.kind {
        NodeKind::Symlink { target } => target.len(),
        NodeKind::Dir | NodeKind::File { .. } | NodeKind::Fifo => 0,
    };
    let xattrs: usize = node.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    (path.as_bytes().len() + target + xattrs) as u64
}

fn same_kind(old: &NodeKind, new: &EntryKind) -> bool {
    matches!(
        (old, new),
        (NodeKind::File { .. }, EntryKind::File { .. } | EntryKind::Hardlink { .. })
            | (NodeKind::Symlink { .. }, EntryKind::Symlink { .. })
            | (NodeKind::Fifo, EntryKind::Fifo)
    )
}

fn refused(path: &LayerPath, why: impl Into<String>) -> LayerError {
    LayerError::Refused { path: super::printable(path.as_bytes()), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: LayerPath::parse(path.as_bytes()).unwrap(), kind, meta: Meta::implicit_dir() }
    }

    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File { size: 0 })
    }

    fn passes_the_limit(view: &mut View, entry: Entry) -> bool {
        match view.apply(entry) {
            Ok(_) => false,
            Err(LayerError::Limit(_)) => true,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn directories_that_no_entry_names_count_too() {
        // The root, three directories, and the file.
        assert!(!passes_the_limit(&mut View::within(5, 1000), file("a/b/c/d")));
        assert!(passes_the_limit(&mut View::within(4, 1000), file("a/b/c/d")));
        // "a", "a/b", "a/b/c" and "a/b/c/d".
        assert!(!passes_the_limit(&mut View::within(10, 16), file("a/b/c/d")));
        assert!(passes_the_limit(&mut View::within(10, 15), file("a/b/c/d")));
    }

    #[test]
    fn link_targets_and_attributes_count() {
        let link = entry("l", EntryKind::Symlink { target: b"target".to_vec() });
        assert!(!passes_the_limit(&mut View::within(10, 7), link.clone()));
        assert!(passes_the_limit(&mut View::within(10, 6), link));
        let mut bearer = file("f");
        bearer.meta.xattrs = vec![(b"user.a".to_vec(), b"value".to_vec())];
        assert!(!passes_the_limit(&mut View::within(10, 12), bearer.clone()));
        assert!(passes_the_limit(&mut View::within(10, 11), bearer));
    }

    #[test]
    fn what_is_replaced_or_removed_counts_no_longer() {
        let mut view = View::within(3, 4);
        for _ in 0..10 {
            view.next_layer();
            assert!(!passes_the_limit(&mut view, file("d/f")));
            view.next_layer();
            assert!(!passes_the_limit(&mut view, file(".wh.d")));
            assert_eq!((view.nodes.len(), view.name_bytes), (1, 0));
        }
        view.next_layer();
        assert!(!passes_the_limit(&mut view, file("f")));
        assert!(!passes_the_limit(&mut view, file("f")));
        assert_eq!((view.nodes.len(), view.name_bytes), (2, 1));
    }
}
