//! A server for trying things out: everything in memory, an administrator's kubeconfig in the file that is named.
//!
//! `serve ADDRESS KUBECONFIG`, for instance `serve 127.0.0.1:7443 /tmp/kubeconfig`.

use std::{error::Error, net::SocketAddr, sync::Arc};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, ResourceExt as _,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use martello_api::{clock, identity::User};
use martello_apiserver::{
    Config, Server,
    server::{audit::Audit, nodes::NoNodes},
    store::MemoryStore,
};
use martello_kms::Kms;
use martello_pki::{ClientCertificates, Pki, server_config};
use martello_policy::Authorizer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("the address to listen on is missing")?.parse()?;
    let kubeconfig = arguments.next().ok_or("the file for the kubeconfig is missing")?;
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let now = clock::now();
    let kms = Kms::ephemeral(now)?;
    let directory = tempfile::tempdir()?;
    let pki = Pki::load_or_create(directory.path(), &kms, now)?;
    let (identity, _renewals) = pki.server_identity([address.ip().into()], now)?;
    let tls = server_config(&identity, pki.trust(), ClientCertificates::ProvenOnly)?;
    let admin = pki.user_certificate("admin", &["system:masters"], None, now)?;
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters:\n- name: c\n  cluster:\n    server: https://{address}\n    certificate-authority-data: {}\n\
         users:\n- name: u\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        encode(pki.server_ca_pem().as_bytes()),
        encode(admin.chain_pem().as_bytes()),
        encode(admin.key_pem().expose()),
    );
    let server = Server::build(Config {
        store: Arc::new(MemoryStore::default()),
        authorizer: Authorizer::new(),
        kms,
        pki,
        audit: Audit::default(),
        nodes: Arc::new(NoNodes),
        service_network: "10.96.0.0/12".parse()?,
        node_ports: (30000, 32767),
        advertise: (address.ip(), address.port()),
        product_version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    server.start().await?;
    tokio::spawn(default_accounts(server.client(User::authenticated("trial", ["system:masters"]))));
    let listener = TcpListener::bind(address).await?;
    tokio::fs::write(kubeconfig, text).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    server.serve(listener, tls, shutdown).await?;
    Ok(())
}

/// Every namespace gets its default ServiceAccount, as the controllers would see to.
async fn default_accounts(client: kube::Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut seen = std::pin::pin!(watcher(namespaces, watcher::Config::default()).applied_objects());
    while let Some(event) = seen.next().await {
        let Ok(namespace) = event else { continue };
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace.name_any());
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".to_owned());
        if let Err(error) = accounts.create(&PostParams::default(), &account).await {
            tracing::debug!(%error, "making a default ServiceAccount");
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
