//! Whether the pods near the node are ones that the pod wants, or does not want, beside it; and whether they want it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec};
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};

use super::{Request, labels};
use crate::snapshot::{NodeInfo, Snapshot};

/// Said of a node that would not do whoever left it.
pub(super) const UNMATCHED: &str = "node(s) didn't match pod affinity rules";

/// A term of pod (anti-)affinity in a form that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    selector: Option<Selector>,
    namespaces: HashSet<String>,
    namespace_selector: Option<Selector>,
    pub(crate) topology_key: String,
}

impl Term {
    /// Prepares `term` of a pod in `namespace`.
    pub(crate) fn new(term: &PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces: HashSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Self {
            selector: term.label_selector.clone().and_then(|selector| Selector::try_from(selector).ok()),
            namespaces,
            namespace_selector: term.namespace_selector.clone().and_then(|selector| Selector::try_from(selector).ok()),
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether the term speaks of `pod`.
    pub(crate) fn selects(&self, pod: &Pod, namespaces: &BTreeMap<String, BTreeMap<String, String>>) -> bool {
        let namespace = pod.namespace().unwrap_or_default();
        let there = self.namespaces.contains(&namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                let none = BTreeMap::new();
                selector.matches(namespaces.get(&namespace).unwrap_or(&none))
            });
        there && self.selector.as_ref().is_some_and(|selector| selector.matches(&labels(pod)))
    }
}

type Topology = (String, String);

/// What the existing pods mean for a new one, worked out once for all nodes.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    wanted: Vec<Term>,
    unwanted: Vec<Term>,
    /// For each wanted term, the topology values where a matching pod runs.
    wanted_at: Vec<HashSet<String>>,
    unwanted_at: Vec<HashSet<String>>,
    /// Where an existing pod does not want the new one.
    refused_at: HashSet<Topology>,
    selects_itself: bool,
    anywhere: bool,
}

fn required_terms(spec: &PodSpec, anti: bool, namespace: &str) -> Vec<Term> {
    let affinity = spec.affinity.as_ref();
    let terms = if anti {
        let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_deref())
    } else {
        let affinity = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_deref())
    };
    terms.unwrap_or_default().iter().map(|term| Term::new(term, namespace)).collect()
}

impl Prepared {
    pub(super) fn new(pod: &Pod, spec: &PodSpec, snapshot: &Snapshot) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let mut prepared = Self {
            wanted: required_terms(spec, false, &namespace),
            unwanted: required_terms(spec, true, &namespace),
            ..Self::default()
        };
        prepared.wanted_at = vec![HashSet::new(); prepared.wanted.len()];
        prepared.unwanted_at = vec![HashSet::new(); prepared.unwanted.len()];
        prepared.selects_itself = prepared.wanted.iter().all(|term| term.selects(pod, &snapshot.namespaces));
        for node in snapshot.nodes.values() {
            for existing in &node.pods {
                prepared.take_in(pod, existing, node, snapshot);
            }
        }
        prepared
    }

    fn take_in(&mut self, pod: &Pod, existing: &Arc<Pod>, node: &NodeInfo, snapshot: &Snapshot) {
        let value = |term: &Term| node.label(&term.topology_key).map(str::to_owned);
        if !self.wanted.is_empty() && self.wanted.iter().all(|term| term.selects(existing, &snapshot.namespaces)) {
            self.anywhere = true;
            for (term, at) in self.wanted.iter().zip(&mut self.wanted_at) {
                at.extend(value(term));
            }
        }
        for (term, at) in self.unwanted.iter().zip(&mut self.unwanted_at) {
            if term.selects(existing, &snapshot.namespaces) {
                at.extend(value(term));
            }
        }
        let Some(spec) = existing.spec.as_ref().filter(|spec| spec.affinity.is_some()) else { return };
        for term in required_terms(spec, true, &existing.namespace().unwrap_or_default()) {
            if let Some(value) = value(&term).filter(|_| term.selects(pod, &snapshot.namespaces)) {
                self.refused_at.insert((term.topology_key, value));
            }
        }
    }
}

pub(super) fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    let prepared = &request.affinity;
    let at = |term: &Term, values: &HashSet<String>| {
        node.label(&term.topology_key).is_some_and(|value| values.contains(value))
    };
    let has_keys = prepared.wanted.iter().all(|term| node.label(&term.topology_key).is_some());
    let near = prepared.wanted.iter().zip(&prepared.wanted_at).all(|(term, values)| at(term, values));
    // The first pod of a group that wants its own kind must be able to start somewhere.
    let first = !prepared.anywhere && prepared.selects_itself;
    if !prepared.wanted.is_empty() && !(has_keys && (near || first)) {
        return vec![UNMATCHED.to_owned()];
    }
    if prepared.unwanted.iter().zip(&prepared.unwanted_at).any(|(term, values)| at(term, values)) {
        return vec!["node(s) didn't match pod anti-affinity rules".to_owned()];
    }
    if prepared.refused_at.iter().any(|(key, value)| node.label(key) == Some(value)) {
        return vec!["node(s) didn't satisfy existing pods anti-affinity rules".to_owned()];
    }
    Vec::new()
}
