//! `secctl kubeconfig`: an administrator's kubeconfig, printed and kept nowhere.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use http::Method;
use jiff::SignedDuration;
use martello_api::identity::GROUP_MASTERS;
use serde_json::json;

use crate::admin;

/// Who it is for if nobody is named.
const ADMIN: &str = "admin";

/// For whom, and for how long.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Flags {
    #[command(flatten)]
    admin: admin::Flags,
    /// How long the certificate holds, as 8h or 30m.
    #[arg(long, default_value = "8h", value_name = "DURATION")]
    ttl: SignedDuration,
    /// Name of the user.
    #[arg(long, default_value = ADMIN, value_name = "NAME")]
    user: String,
    /// Groups of the user; may be given again [default: for admin system:masters, which may do anything; for others none].
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Address of the API server [default: the one that the server advertises].
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

/// Prints the kubeconfig.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    if flags.ttl.as_secs() <= 0 {
        anyhow::bail!("--ttl must be longer than nothing, as 8h");
    }
    let groups = groups(&flags.user, flags.group);
    let request = json!({
        "apiVersion": "martello.dev/v1alpha1", "kind": "ClientCertificate", "metadata": {},
        "spec": {"user": flags.user, "groups": groups, "ttlSeconds": flags.ttl.as_secs()},
    });
    let path = "/apis/martello.dev/v1alpha1/clientcertificates";
    let answer = crate::runtime()?.block_on(admin::ask(&flags.admin.data_dir, Method::POST, path, Some(&request)))?;
    let status = |key: &str| admin::text(&answer, &format!("/status/{key}"));
    let server = flags.server.map_or_else(|| status("server").map(str::to_owned), Ok)?;
    let user = format!("{}@martello", flags.user);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "martello", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(status("certificateAuthority")?)}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(status("certificate")?),
            "client-key-data": STANDARD.encode(status("key")?)}}],
        "contexts": [{"name": "martello", "context": {"cluster": "martello", "user": user}}],
        "current-context": "martello",
    });
    eprintln!("# holds until {}", status("expirationTimestamp")?);
    // Every value on the line of its name, for readers that know no more of YAML.
    let mut options = serde_saphyr::SerializerOptions::default();
    options.prefer_block_scalars = false;
    print!("{}", serde_saphyr::to_string_with_options(&config, options)?);
    Ok(())
}

/// The groups of a user: those that were asked for. Only the administrator has one without being asked.
fn groups(user: &str, asked: Vec<String>) -> Vec<String> {
    if asked.is_empty() && user == ADMIN { vec![GROUP_MASTERS.to_owned()] } else { asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_administrator_has_a_group_without_asking() {
        assert_eq!(groups(ADMIN, Vec::new()), [GROUP_MASTERS]);
        assert!(groups("jane", Vec::new()).is_empty());
        assert_eq!(groups("jane", vec!["shop".to_owned()]), ["shop"]);
        assert_eq!(groups(ADMIN, vec!["shop".to_owned()]), ["shop"]);
    }
}
