//! What must hold of real pods.

use std::path::Path;

use crate::node::with_node;
use crate::{confinement, lifecycle, network, streams, volumes};

/// Names and counts of phases.
pub(crate) const ALL: &[(&str, u32)] = &[
    ("a_container_is_nobody_on_the_node", 1),
    ("an_exec_is_confined_as_its_container", 1),
    ("logs_and_exit_codes_are_kept", 1),
    ("a_deaf_container_is_killed_after_its_grace", 1),
    ("limits_hold", 1),
    ("pods_outlive_the_agent", 2),
    ("pods_talk_and_services_answer", 1),
    ("files_belong_to_the_pod", 1),
    ("parts_of_volumes_stay_inside", 1),
    ("parts_of_volumes_outlive_the_agent", 2),
    ("terminals_work", 1),
    ("input_for_one_caller_ends_with_it", 1),
    ("what_cannot_start_leaves_nothing", 1),
];

pub(crate) fn run(name: &str, state_dir: &Path, phase: Option<&str>) {
    let last = phase != Some("0");
    match name {
        "a_container_is_nobody_on_the_node" => with_node(state_dir, confinement::nobody),
        "an_exec_is_confined_as_its_container" => with_node(state_dir, confinement::exec),
        "logs_and_exit_codes_are_kept" => with_node(state_dir, streams::logs),
        "a_deaf_container_is_killed_after_its_grace" => with_node(state_dir, lifecycle::deaf),
        "limits_hold" => with_node(state_dir, confinement::limits),
        "pods_outlive_the_agent" if !last => with_node(state_dir, lifecycle::before_the_kill),
        "pods_outlive_the_agent" => with_node(state_dir, lifecycle::after_the_kill),
        "pods_talk_and_services_answer" => with_node(state_dir, network::network),
        "files_belong_to_the_pod" => with_node(state_dir, volumes::files),
        "parts_of_volumes_stay_inside" => with_node(state_dir, volumes::parts),
        "parts_of_volumes_outlive_the_agent" if !last => with_node(state_dir, volumes::parts_before_the_kill),
        "parts_of_volumes_outlive_the_agent" => with_node(state_dir, volumes::parts_after_the_kill),
        "terminals_work" => with_node(state_dir, streams::terminals),
        "input_for_one_caller_ends_with_it" => with_node(state_dir, streams::input_once),
        "what_cannot_start_leaves_nothing" => with_node(state_dir, lifecycle::failures),
        other => panic!("no scenario {other}"),
    }
}
