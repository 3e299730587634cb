//! Publishes what an image is made of, once per digest, as a cluster object.

use std::sync::Arc;

use kube::{
    api::{Api, DynamicObject, PostParams},
    core::ApiResource,
};

use super::{checks::full, context::Context};

/// The kind of the published object.
fn resource() -> ApiResource {
    ApiResource {
        group: "martello.dev".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "martello.dev/v1alpha1".to_owned(),
        kind: "ImageInventory".to_owned(),
        plural: "imageinventories".to_owned(),
    }
}

/// Publishes the inventory of an image in the background, unless this agent has done so.
pub fn publish(context: &Arc<Context>, digest: &str) {
    if !context.published.lock().insert(digest.to_owned()) {
        return;
    }
    let (context, digest) = (Arc::clone(context), digest.to_owned());
    tokio::spawn(async move {
        if let Err(error) = create(&context, &digest).await {
            // The next start of a container of this image tries again.
            context.published.lock().remove(&digest);
            tracing::warn!(image = digest, error = full(&error), "the image's inventory was not published");
        }
    });
}

async fn create(context: &Context, digest: &str) -> Result<(), kube::Error> {
    let Some(inventory) = context.images.inventory(digest).await else { return Ok(()) };
    let object: DynamicObject = serde_json::from_value(inventory).map_err(kube::Error::SerdeError)?;
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource());
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}
