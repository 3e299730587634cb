//! The life of a kind: through all verbs, of itself, of its status, and of its collection.

use serde_json::{Value, json};

use super::Server;
use crate::answers::refused;

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Kinds whose status is written without their metadata.
const KEEP_METADATA: [&str; 5] =
    ["flowschemas", "prioritylevelconfigurations", "servicecidrs", "validatingadmissionpolicies", "volumeattachments"];
const ONE: &str = "life-0";
const OTHERS: [&str; 2] = ["life-1", "life-2"];

/// A kind that is to live.
pub(super) struct Kind<'a> {
    /// Path of group and version.
    pub(super) base: &'a str,
    pub(super) plural: &'a str,
    /// Path of the namespace below `base`; none for a kind that is not in namespaces.
    pub(super) namespace: Option<&'a str>,
    /// An object, without its name.
    pub(super) object: Value,
    /// What a status may say; none where there is no status.
    pub(super) status: Option<Value>,
}

impl Kind<'_> {
    fn collection(&self) -> String {
        match self.namespace {
            Some(namespace) => format!("{}/namespaces/{namespace}/{}", self.base, self.plural),
            None => format!("{}/{}", self.base, self.plural),
        }
    }

    fn named(&self, name: &str) -> Value {
        let mut object = self.object.clone();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["labels"] = json!({"life": self.plural});
        object
    }

    /// Lives through everything.
    pub(super) async fn lives(self, server: &Server) {
        self.is_discovered(server).await;
        let (collection, label) = (self.collection(), format!("labelSelector=life%3D{}", self.plural));
        let (selected, one) = (format!("{collection}?{label}"), format!("{collection}/{ONE}"));
        let made = server.post(&collection, &self.named(ONE)).await;
        refused(&server.ask("POST", &collection, &self.named(ONE)).await, 409, "AlreadyExists");
        assert_eq!(server.get(&one).await["metadata"]["uid"], made["metadata"]["uid"]);
        for name in OTHERS {
            server.post(&collection, &self.named(name)).await;
        }
        let list = server.get(&selected).await;
        assert_eq!(list["items"].as_array().unwrap().len(), 3, "{selected}");
        let everywhere = server.get(&format!("{}/{}?{label}", self.base, self.plural)).await;
        assert_eq!(everywhere["items"].as_array().unwrap().len(), 3, "{} in all namespaces", self.plural);

        let from = list["metadata"]["resourceVersion"].as_str().unwrap();
        let mut events = server.watch(&format!("{selected}&watch=1&resourceVersion={from}")).await;
        let note = |key: &'static str| move |object: &Value| object["metadata"]["annotations"][key] == json!("yes");
        let patched = server.merge(&one, &json!({"metadata": {"annotations": {"patched": "yes"}}})).await;
        assert!(note("patched")(&patched), "{patched}");
        events.until(|kind, object| kind == "MODIFIED" && note("patched")(object)).await;
        let updated = server.change(&one, |object| object["metadata"]["annotations"]["updated"] = json!("yes")).await;
        assert!(note("patched")(&updated) && note("updated")(&updated), "{updated}");
        events.until(|kind, object| kind == "MODIFIED" && note("updated")(object)).await;
        self.has_its_status(server, &one).await;

        server.delete(&one).await;
        events.until(|kind, object| kind == "DELETED" && object["metadata"]["name"] == ONE).await;
        refused(&server.ask("GET", &one, &Value::Null).await, 404, "NotFound");
        server.delete(&selected).await;
        for name in OTHERS {
            server.gone(&format!("{collection}/{name}")).await;
        }
        assert_eq!(server.get(&selected).await["items"], json!([]));
    }

    async fn is_discovered(&self, server: &Server) {
        let parts: Vec<&str> = self.base.split('/').skip(1).collect();
        if let ["apis", group, version] = parts[..] {
            let groups = server.get("/apis").await;
            assert!(groups["groups"].as_array().unwrap().iter().any(|found| found["name"] == group), "{group}");
            let versions = server.get(&format!("/apis/{group}")).await;
            let served = |found: &Value| found["version"] == version;
            assert!(versions["versions"].as_array().unwrap().iter().any(served), "{group}/{version}");
        }
        let list = server.get(self.base).await;
        let verbs = |name: &str| {
            let found = list["resources"].as_array().unwrap().iter().find(|found| found["name"] == name).cloned();
            found.unwrap_or_else(|| panic!("{name} is not told in {}", self.base))["verbs"].clone()
        };
        let told = verbs(self.plural);
        assert!(VERBS.iter().all(|verb| told.as_array().unwrap().contains(&json!(verb))), "{}: {told}", self.plural);
        if self.status.is_some() {
            assert_eq!(verbs(&format!("{}/status", self.plural)), json!(["get", "patch", "update"]));
        }
    }

    /// A status is read, patched and replaced on a path of its own, and the object tells it.
    async fn has_its_status(&self, server: &Server, one: &str) {
        let Some(status) = &self.status else { return };
        let path = format!("{one}/status");
        assert_eq!(server.get(&path).await["metadata"]["name"], ONE);
        let note = |note: &str| json!({"metadata": {"annotations": {"status": note}}, "status": status});
        // Some kinds let nothing but the status be written there.
        let told = |note: &str| if KEEP_METADATA.contains(&self.plural) { Value::Null } else { json!(note) };
        let patched = server.merge(&path, &note("patched")).await;
        assert!(holds(&patched["status"], status), "{patched}");
        assert_eq!(patched["metadata"]["annotations"]["status"], told("patched"));
        let updated = server.change(&path, |object| {
            object["metadata"]["annotations"]["status"] = json!("updated");
            object["status"] = status.clone();
            object["spec"] = json!({});
        });
        let updated = updated.await;
        assert_eq!(updated["metadata"]["annotations"]["status"], told("updated"));
        assert!(self.object["spec"].is_null() || holds(&updated["spec"], &self.object["spec"]), "{updated}");
    }
}

/// Whether everything that is wanted is there.
pub(super) fn holds(found: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(map) => map.iter().all(|(key, value)| holds(&found[key], value)),
        Value::Array(items) => {
            items.iter().all(|item| found.as_array().is_some_and(|all| all.iter().any(|one| holds(one, item))))
        }
        other => found == other,
    }
}

/// A kind without a status of its own.
pub(super) fn kind<'a>(base: &'a str, plural: &'a str, namespace: Option<&'a str>, object: Value) -> Kind<'a> {
    Kind { base, plural, namespace, object, status: None }
}
