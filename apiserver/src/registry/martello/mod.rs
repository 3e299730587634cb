//! Kinds of our own group.

use std::sync::LazyLock;

use martello_api::schema::Schema;

use super::{kind::Kind, reviews::asked};

pub mod access_explanation;
pub mod client_certificate;
pub mod image_inventory;
pub mod join_token;
pub mod node_enrollment;
pub mod server_status;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        asked(access_explanation::AccessExplanations),
        asked(client_certificate::ClientCertificates),
        Kind::new(image_inventory::ImageInventories),
        asked(join_token::JoinTokens),
        asked(node_enrollment::NodeEnrollments),
        asked(server_status::ServerStatuses),
    ]
}

/// A schema that keeps whatever it is given.
#[must_use]
pub fn open_schema() -> &'static Schema {
    static OPEN: LazyLock<Schema> = LazyLock::new(|| {
        let mut open = Schema::of("dev.martello.Open", Vec::new());
        open.preserve_unknown = true;
        open
    });
    &OPEN
}
