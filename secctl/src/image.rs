//! `secctl image`: images of this node, imported without a registry.

use std::{io::BufReader, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martello_scanner::{Config, Images, Listed, Reference, layers::Limits, registry::RegistryConfig};
use nix::unistd::{Gid, Uid};

/// What to do with images.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Import an archive (OCI layout or docker-archive) into the node's store, and inventory it.
    Import(Import),
    /// List the node's images.
    List(Place),
    /// Take a reference out of the node's store.
    Remove(Remove),
}

/// Where the node's data is.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Place {
    /// Data directory of the node agent on this machine.
    #[arg(long, default_value = "/var/lib/martello-node", env = "MARTELLO_NODE_DIR", value_name = "DIR")]
    node_dir: PathBuf,
}

/// What to import.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Import {
    /// The archive, as `docker save` or `skopeo copy … oci-archive:` writes it.
    #[arg(value_name = "FILE.tar")]
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// What to remove.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Remove {
    /// The image's reference, as `myapp:1.2.0`.
    reference: String,
    #[command(flatten)]
    place: Place,
}

impl Place {
    /// The node's images. Root takes the part of the store's owner, so that the agent can read what is written.
    fn open(&self) -> anyhow::Result<Images> {
        let directory = self.node_dir.join(crate::node::IMAGES);
        let owner = std::fs::metadata(&directory).with_context(|| {
            format!("find the node's images in {}: has `secctl node` run on this machine?", directory.display())
        })?;
        become_owner(&owner).with_context(|| format!("become the owner of {}", directory.display()))?;
        let config = Config { registry: RegistryConfig::default(), limits: Limits::default() };
        Images::open(&directory, config).with_context(|| format!("open the node's images in {}", directory.display()))
    }
}

fn become_owner(owner: &std::fs::Metadata) -> nix::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if nix::unistd::geteuid().is_root() && !uid.is_root() {
        nix::unistd::setgroups(&[gid])?;
        nix::unistd::setgid(gid)?;
        nix::unistd::setuid(uid)?;
    }
    Ok(())
}

/// Carries the command out.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Import(flags) => {
            let file = std::fs::File::open(&flags.file).with_context(|| format!("open {}", flags.file.display()))?;
            let images = flags.place.open()?;
            let imported = images
                .import(BufReader::with_capacity(1 << 20, file), None)
                .map_err(|error| anyhow::anyhow!(error.explain()))
                .with_context(|| format!("import {}", flags.file.display()))?;
            for one in imported {
                print_line(&one);
            }
        }
        Command::List(place) => {
            for one in place.open()?.list()? {
                print_line(&one);
            }
        }
        Command::Remove(flags) => {
            let reference: Reference =
                flags.reference.parse().with_context(|| format!("parse {:?}", flags.reference))?;
            if !flags.place.open()?.remove(&reference)? {
                anyhow::bail!("there is no image {reference} on this node; `secctl image list` lists them");
            }
        }
    }
    Ok(())
}

fn print_line(one: &Listed) {
    let references: Vec<String> = one.references.iter().map(ToString::to_string).collect();
    println!("{}  {}  {}", one.image.manifest, one.image.platform, references.join(" "));
}
