//! An API call in Cedar's terms.
//!
//! The principal is `User::"jane"`, whose ancestors are its groups (`Group::"devs"`); the action is the verb
//! (`Action::"get"`); the resource is `Resource::"pods/log"` or `Path::"/healthz"`. The context says the rest:
//! `apiGroup`, `subresource`, `namespace`, `name` and `path` are always there and empty where they do not apply; `node` is
//! there for node agents.

use std::{collections::HashSet, sync::LazyLock};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, ParseErrors, Request, RestrictedExpression,
};
use martello_api::{
    attributes::{Attributes, Target},
    identity::User,
};

use crate::node::NodeFacts;

/// Why a call could not be put in Cedar's terms; it is denied then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// An entity type of ours is not taken.
    #[error("naming the entity types of authorization: {0}")]
    Types(&'static str),
    /// The user cannot be made an entity.
    #[error("describing user {user:?} and its groups to Cedar: {cause}")]
    Principal { user: String, cause: String },
    /// The context cannot be built.
    #[error("describing the call to Cedar: {cause}")]
    Context { cause: String },
}

/// A user as Cedar sees it; kept for the user's next request.
#[derive(Debug)]
pub(crate) struct Principal {
    uid: EntityUid,
    /// The user with its groups as ancestors.
    pub(crate) entities: Entities,
}

struct Types {
    user: EntityTypeName,
    group: EntityTypeName,
    action: EntityTypeName,
    resource: EntityTypeName,
    path: EntityTypeName,
}

static TYPES: LazyLock<Result<Types, String>> = LazyLock::new(|| {
    let name = |text: &str| text.parse().map_err(|error: ParseErrors| error.to_string());
    Ok(Types {
        user: name("User")?,
        group: name("Group")?,
        action: name("Action")?,
        resource: name("Resource")?,
        path: name("Path")?,
    })
});

fn types() -> Result<&'static Types, RequestError> {
    TYPES.as_ref().map_err(|cause| RequestError::Types(cause))
}

fn uid(entity_type: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(entity_type.clone(), EntityId::new(id))
}

impl Principal {
    pub(crate) fn of(user: &User) -> Result<Self, RequestError> {
        let types = types()?;
        let own = uid(&types.user, &user.name);
        let groups: HashSet<EntityUid> = user.groups.iter().map(|group| uid(&types.group, group)).collect();
        let entity = Entity::new_no_attrs(own.clone(), groups);
        let entities = Entities::from_entities([entity], None)
            .map_err(|error| RequestError::Principal { user: user.name.clone(), cause: error.to_string() })?;
        Ok(Self { uid: own, entities })
    }
}

/// The call of `principal`. `node` carries the facts that the policies for nodes look at.
pub(crate) fn request(
    principal: &Principal,
    attributes: &Attributes,
    node: Option<&NodeFacts>,
) -> Result<Request, RequestError> {
    let types = types()?;
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let (resource, [group, subresource, namespace, name, path]) = match &attributes.target {
        Target::Path(path) => (uid(&types.path, path), ["", "", "", "", path.as_str()]),
        Target::Resource(target) if target.subresource.is_empty() => {
            (uid(&types.resource, &target.resource), [&*target.group, "", &target.namespace, &target.name, ""])
        }
        Target::Resource(target) => (
            uid(&types.resource, &target.resource_and_subresource()),
            [&*target.group, &target.subresource, &target.namespace, &target.name, ""],
        ),
    };
    let mut pairs = Vec::with_capacity(6);
    pairs.push(("apiGroup".to_owned(), text(group)));
    pairs.push(("subresource".to_owned(), text(subresource)));
    pairs.push(("namespace".to_owned(), text(namespace)));
    pairs.push(("name".to_owned(), text(name)));
    pairs.push(("path".to_owned(), text(path)));
    let failed = |cause: String| RequestError::Context { cause };
    if let Some(node) = node {
        let facts = [
            ("name".to_owned(), text(&node.name)),
            ("related".to_owned(), RestrictedExpression::new_bool(node.related)),
            ("selectsOwnPods".to_owned(), RestrictedExpression::new_bool(node.selects_own_pods)),
        ];
        let facts = RestrictedExpression::new_record(facts).map_err(|error| failed(error.to_string()))?;
        pairs.push(("node".to_owned(), facts));
    }
    let context = Context::from_pairs(pairs).map_err(|error| failed(error.to_string()))?;
    let action = uid(&types.action, &attributes.verb);
    Request::new(principal.uid.clone(), action, resource, context, None).map_err(|error| failed(error.to_string()))
}
