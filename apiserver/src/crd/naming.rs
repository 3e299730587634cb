//! Which names a definition gets, and what its conditions say: pure.

use std::collections::HashSet;

use jiff::Timestamp;
use martello_api::clock::rfc3339_seconds;
use serde_json::{Value, json};

use super::approval::{Approval, is_protected};
use crate::registry::{admissionregistration::webhook_rules, object};

/// The status that `crd` should have beside the other definitions of its group; none where it has it.
#[must_use]
pub fn plan<'v>(crd: &Value, others: impl Iterator<Item = &'v Value>, now: Timestamp) -> Option<Value> {
    let (mut resources, mut kinds) = (HashSet::new(), HashSet::new());
    for other in others {
        let accepted = object::at(other, &["status", "acceptedNames"]).unwrap_or(&Value::Null);
        resources.extend(["plural", "singular"].map(|key| object::text(accepted, &[key])));
        resources.extend(object::list(accepted, &["shortNames"]).iter().filter_map(Value::as_str));
        kinds.extend(["kind", "listKind"].map(|key| object::text(accepted, &[key])));
    }
    let mut names = Accepting { crd, accepted: accepted_names(crd), conflict: None };
    names.take("plural", "PluralConflict", &resources);
    names.take("singular", "SingularConflict", &resources);
    names.take_short(&resources);
    names.take("kind", "KindConflict", &kinds);
    names.take("listKind", "ListKindConflict", &kinds);
    names.copy("categories");
    let mut status = crd.get("status").cloned().unwrap_or_else(|| json!({}));
    object::set(&mut status, &[], "acceptedNames", names.accepted);
    match &names.conflict {
        Some((reason, message)) => set_condition(&mut status, "NamesAccepted", false, reason, message, now),
        None => set_condition(&mut status, "NamesAccepted", true, "NoConflicts", "no conflicts found", now),
    }
    let was_established = super::definition::has_condition(crd, "Established");
    match (was_established, &names.conflict) {
        (true, _) => {}
        (false, None) if !is_installing(crd) => {
            let message = "the initial names have been accepted";
            set_condition(&mut status, "Established", false, "Installing", message, now);
        }
        (false, None) if webhook_rules::bundle_fault(bundle(crd)).is_some() => {
            let message = "The conversion webhook CABundle is invalid";
            set_condition(&mut status, "Established", false, "InvalidCABundle", message, now);
        }
        (false, None) => {
            let message = "the initial names have been accepted";
            set_condition(&mut status, "Established", true, "InitialNamesAccepted", message, now);
        }
        (false, Some(_)) => {
            set_condition(&mut status, "Established", false, "NotAccepted", "not all names are accepted", now);
        }
    }
    if is_protected(object::text(crd, &["spec", "group"])) {
        let approval = Approval::of(crd);
        let approved = approval.is_approved();
        set_condition(
            &mut status,
            "KubernetesAPIApprovalPolicyConformant",
            approved,
            approval.reason(),
            &approval.message(),
            now,
        );
    }
    (Some(&status) != crd.get("status")).then_some(status)
}

/// Whether a definition says that its names are accepted and that it is not established yet: whoever watches sees that before
/// it is.
fn is_installing(crd: &Value) -> bool {
    let said = object::list(crd, &["status", "conditions"]).iter();
    let mut said = said.filter(|condition| object::text(condition, &["type"]) == "Established");
    super::definition::has_condition(crd, "NamesAccepted")
        && said.any(|condition| matches!(object::text(condition, &["reason"]), "Installing" | "InvalidCABundle"))
}

/// What the conversion webhook of a definition is trusted by.
fn bundle(crd: &Value) -> &str {
    object::text(crd, &["spec", "conversion", "webhook", "clientConfig", "caBundle"])
}

fn accepted_names(crd: &Value) -> Value {
    object::at(crd, &["status", "acceptedNames"]).cloned().unwrap_or_else(|| json!({}))
}

struct Accepting<'c> {
    crd: &'c Value,
    accepted: Value,
    /// The last conflict, by reason and message: it is the one that is told.
    conflict: Option<(&'static str, String)>,
}

impl Accepting<'_> {
    fn wanted(&self, key: &str) -> &str {
        object::text(self.crd, &["spec", "names", key])
    }

    fn take(&mut self, key: &str, reason: &'static str, used: &HashSet<&str>) {
        let wanted = self.wanted(key).to_owned();
        if wanted != object::text(&self.accepted, &[key]) && used.contains(wanted.as_str()) {
            self.conflict = Some((reason, format!("{wanted:?} is already in use")));
        } else {
            object::set(&mut self.accepted, &[], key, wanted);
        }
    }

    fn take_short(&mut self, used: &HashSet<&str>) {
        let wanted = object::list(self.crd, &["spec", "names", "shortNames"]);
        let own = object::list(&self.accepted, &["shortNames"]);
        let taken: Vec<String> = wanted
            .iter()
            .filter(|name| {
                !own.contains(name) && !["plural", "singular"].iter().any(|key| self.accepted.get(key) == Some(name))
            })
            .filter_map(Value::as_str)
            .filter(|name| used.contains(name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match taken.as_slice() {
            [] => self.copy("shortNames"),
            [one] => self.conflict = Some(("ShortNamesConflict", one.clone())),
            many => self.conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
        }
    }

    fn copy(&mut self, key: &str) {
        match object::at(self.crd, &["spec", "names", key]).filter(|names| !object::is_zero(names)) {
            Some(names) => object::set(&mut self.accepted, &[], key, names.clone()),
            None => {
                object::remove(&mut self.accepted, &[], key);
            }
        }
    }
}

/// Sets a condition; its time is that of the last change of its status.
pub fn set_condition(status: &mut Value, name: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let truth = if holds { "True" } else { "False" };
    let condition = |time: Value| json!({"type": name, "status": truth, "lastTransitionTime": time, "reason": reason, "message": message});
    if object::list(status, &["conditions"]).is_empty() {
        object::set(status, &[], "conditions", json!([]));
    }
    let Some(conditions) = object::list_mut(status, &["conditions"]) else { return };
    match conditions.iter_mut().find(|condition| object::text(condition, &["type"]) == name) {
        Some(known) => {
            let same = object::text(known, &["status"]) == truth;
            let time = known.get("lastTransitionTime").filter(|_| same).cloned();
            *known = condition(time.unwrap_or_else(|| rfc3339_seconds(now).into()));
        }
        None => conditions.push(condition(rfc3339_seconds(now).into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, short: &[&str]) -> Value {
        let kind = plural.to_uppercase();
        json!({"spec": {"group": "example.com", "names": {
            "plural": plural, "singular": plural, "shortNames": short, "kind": kind, "listKind": format!("{kind}List"),
        }}})
    }

    fn told(status: &Value) -> Vec<String> {
        let conditions = object::list(status, &["conditions"]).iter();
        conditions.map(|one| format!("{} {} {}", one["type"], one["status"], one["reason"]).replace('"', "")).collect()
    }

    #[test]
    fn free_names_are_accepted_and_taken_ones_are_not() {
        let now = Timestamp::UNIX_EPOCH;
        let mut first = crd("widgets", &["w"]);
        let status = plan(&first, std::iter::empty(), now).unwrap();
        assert_eq!(told(&status), ["NamesAccepted True NoConflicts", "Established False Installing"]);
        first["status"] = status;
        let status = plan(&first, std::iter::empty(), now).unwrap();
        assert_eq!(told(&status), ["NamesAccepted True NoConflicts", "Established True InitialNamesAccepted"]);
        first["status"] = status;
        assert_eq!(plan(&first, std::iter::empty(), now), None);
        let second = crd("wheels", &["w"]);
        let status = plan(&second, std::iter::once(&first), now).unwrap();
        assert_eq!(told(&status), ["NamesAccepted False ShortNamesConflict", "Established False NotAccepted"]);
        assert_eq!(
            status["acceptedNames"],
            json!({"plural": "wheels", "singular": "wheels", "kind": "WHEELS", "listKind": "WHEELSList"})
        );
    }

    #[test]
    fn a_webhook_that_nobody_can_trust_keeps_a_definition_from_being_established() {
        let mut crd = crd("widgets", &[]);
        crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"caBundle": "Zm9v"}}});
        crd["status"] = plan(&crd, std::iter::empty(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(told(&crd["status"])[1], "Established False Installing");
        crd["status"] = plan(&crd, std::iter::empty(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(told(&crd["status"])[1], "Established False InvalidCABundle");
        assert_eq!(plan(&crd, std::iter::empty(), Timestamp::UNIX_EPOCH), None);
        crd["spec"]["conversion"] = json!({"strategy": "None"});
        crd["status"] = plan(&crd, std::iter::empty(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(told(&crd["status"])[1], "Established True InitialNamesAccepted");
    }

    #[test]
    fn a_protected_group_tells_of_its_approval() {
        let mut crd = crd("widgets", &[]);
        crd["spec"]["group"] = json!("x.k8s.io");
        crd["metadata"] = json!({"annotations": {"api-approved.kubernetes.io": "unapproved, an experiment"}});
        let status = plan(&crd, std::iter::empty(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(told(&status)[2], "KubernetesAPIApprovalPolicyConformant False UnapprovedAnnotation");
    }
}
