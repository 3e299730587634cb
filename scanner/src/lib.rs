//! Images in, inventories out.
//!
//! Image bytes enter Martello through this crate only: from an OCI registry ([`registry`]) or from a
//! tar file ([`import`]), into a content-addressed [`store`]. Every layer is read by one parser
//! ([`layers`]) that refuses what a hostile builder could put into it; the same parser feeds the
//! unpacking and the [`inventory`], so that what was inventoried is what runs. The [`gate`] holds the
//! verdict that a node asks for before it starts a container.
//!
//! [`Images`] is the door for the node agent; [`unpack`] is the part that runs inside a pod's user
//! namespace.

pub mod credentials;
mod digest;
pub mod gate;
pub mod image;
mod images;
pub mod import;
pub mod inventory;
pub mod layers;
mod reference;
pub mod registry;
pub mod store;
pub mod summary;
pub mod unpack;

pub use digest::{Digest, DigestError, Hasher};
pub use image::{Image, ImageConfig, LayerRef};
pub use images::{Config, Ensured, Error, Images, Listed, PullPolicy, explain};
pub use reference::{Reference, ReferenceError};
