//! Chains that make a user, and all that don't.

use jiff::SignedDuration;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::*;
use crate::authority::AuthorityKind;
use crate::identity::{Leaf, LeafKey};
use crate::tests::{at, pki};
use crate::trust::Bundles;
use crate::{Pki, ServerName};

fn leaf(pki: &Pki, profile: &Profile) -> Leaf {
    Leaf::issue(pki.signer(), profile, None, at(0)).unwrap()
}

fn node(name: &str) -> Profile {
    Profile::NodeClient { node: name.to_owned() }
}

#[test]
fn a_node_is_a_node() {
    let (_dir, pki) = pki();
    let user = authenticate(pki.trust(), leaf(&pki, &node("n1")).chain(), at(0)).unwrap();
    assert_eq!(user.node_name(), Some("n1"));
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
}

#[test]
fn a_certificate_holds_from_its_begin_to_its_end() {
    let (_dir, pki) = pki();
    let jane = pki.user_certificate("jane", &[], Some(SignedDuration::from_hours(1)), at(0)).unwrap();
    assert_eq!(authenticate(pki.trust(), jane.chain(), at(3601)), Err(VerifyError::Expired));
    assert_eq!(authenticate(pki.trust(), jane.chain(), at(-301)), Err(VerifyError::NotYetValid));
    assert!(authenticate(pki.trust(), jane.chain(), at(-299)).is_ok(), "clocks may differ by five minutes");
    assert_eq!(expires(jane.chain()), Some(at(3600)));
}

#[test]
fn a_server_is_not_a_client() {
    let (_dir, pki) = pki();
    let serving = Profile::NodeServing { node: "n1".to_owned(), names: Vec::new() };
    assert_eq!(authenticate(pki.trust(), leaf(&pki, &serving).chain(), at(0)), Err(VerifyError::Purpose));
    let server = Profile::Server { names: vec![ServerName::from("localhost")] };
    assert_eq!(authenticate(pki.trust(), leaf(&pki, &server).chain(), at(0)), Err(VerifyError::Purpose));
}

#[test]
fn a_chain_has_a_length() {
    let (_dir, pki) = pki();
    assert_eq!(authenticate(pki.trust(), &[], at(0)), Err(VerifyError::ChainLength { length: 0 }));
    let jane = leaf(&pki, &Profile::User { name: "jane".to_owned(), groups: Vec::new() });
    let long = vec![jane.chain()[0].clone(); MAX_CHAIN + 1];
    assert!(matches!(authenticate(pki.trust(), &long, at(0)), Err(VerifyError::ChainLength { .. })));
}

/// An authority that signs whatever it likes, as ours would if its rules had a hole.
struct Careless(CertifiedIssuer<'static, KeyPair>);

impl Careless {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "careless");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trusted_for(&self, kind: AuthorityKind) -> Trust {
        let bundle = |of| {
            let certificates = if of == kind { vec![self.0.der().clone()] } else { Vec::new() };
            Bundle::new(of, certificates).unwrap()
        };
        let [servers, clients, nodes] = AuthorityKind::ALL.map(bundle);
        Trust::new(Bundles { servers, clients, nodes })
    }

    fn sign(&self, name: &str, groups: &[&str], usages: &[ExtendedKeyUsagePurpose]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = usages.to_vec();
        let key = LeafKey::generate().unwrap();
        let unsigned = params.signed_by(key.public_key().info(), &self.0).unwrap();
        let subject = crate::der::distinguished_name(name, groups.iter().copied());
        let tbs = crate::der::with_subject(unsigned.der(), &subject).unwrap();
        let signature = rcgen::SigningKey::sign(self.0.key(), &tbs).unwrap();
        CertificateDer::from(crate::der::certificate(&tbs, &signature))
    }
}

const CLIENT: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ClientAuth];

#[test]
fn the_authority_for_clients_never_makes_a_node_or_a_service_account() {
    let authority = Careless::new();
    let trust = authority.trusted_for(AuthorityKind::Clients);
    let judge = |name, groups: &[&str]| authenticate(&trust, &[authority.sign(name, groups, CLIENT)], at(0));
    assert_eq!(judge("jane", &["dev"]).unwrap().name, "jane");
    for (name, groups) in [
        ("system:node:n1", &["system:nodes"][..]),
        ("jane", &["system:nodes"]),
        ("system:node:n1", &[]),
        ("system:serviceaccount:kube-system:admin", &[]),
        ("jane", &["system:serviceaccounts:kube-system"]),
        ("system:anonymous", &[]),
    ] {
        assert!(matches!(judge(name, groups), Err(VerifyError::NotAUser(_))), "{name} {groups:?}");
    }
}

#[test]
fn the_authority_for_nodes_makes_nodes_only() {
    let authority = Careless::new();
    let trust = authority.trusted_for(AuthorityKind::Nodes);
    let judge = |name, groups: &[&str]| authenticate(&trust, &[authority.sign(name, groups, CLIENT)], at(0));
    assert_eq!(judge("system:node:n1", &["system:nodes"]).unwrap().node_name(), Some("n1"));
    for (name, groups) in [
        ("jane", &["system:nodes"][..]),
        ("system:node:n1", &[]),
        ("system:node:n1", &["system:nodes", "system:masters"]),
        ("system:node:", &["system:nodes"]),
        ("system:node:N/1", &["system:nodes"]),
        ("root", &["system:masters"]),
    ] {
        assert!(matches!(judge(name, groups), Err(VerifyError::NotANode { .. })), "{name} {groups:?}");
    }
}

#[test]
fn a_certificate_for_everything_or_for_servers_is_not_for_clients() {
    let authority = Careless::new();
    let trust = authority.trusted_for(AuthorityKind::Clients);
    for usages in [&[][..], &[ExtendedKeyUsagePurpose::ServerAuth], &[ExtendedKeyUsagePurpose::Any]] {
        let chain = [authority.sign("jane", &[], usages)];
        assert_eq!(authenticate(&trust, &chain, at(0)), Err(VerifyError::Purpose), "{usages:?}");
    }
}

#[test]
fn any_changed_byte_is_refused() {
    let (_dir, pki) = pki();
    let jane = leaf(&pki, &Profile::User { name: "jane".to_owned(), groups: vec!["dev".to_owned()] });
    let der = jane.chain()[0].to_vec();
    proptest!(|(index in 0..der.len(), bit in 0..8u8, bytes in proptest::collection::vec(any::<u8>(), 0..300))| {
        let mut changed = der.clone();
        changed[index] ^= 1 << bit;
        prop_assert!(authenticate(pki.trust(), &[CertificateDer::from(changed)], at(0)).is_err());
        prop_assert!(authenticate(pki.trust(), &[CertificateDer::from(bytes)], at(0)).is_err());
    });
}
