//! What pods and the API server's clients send to a node: names to look up, SPDY frames, lines of logs.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::LazyLock};

use martello_node::{
    network::{DnsTable, dns_reply},
    server::{
        logs,
        spdy::{frame, headers::Decompressor},
    },
};

static TABLE: LazyLock<DnsTable> = LazyLock::new(|| DnsTable {
    cluster_domain: "cluster.local".to_owned(),
    addresses: BTreeMap::from([("web.default.svc".to_owned(), vec![Ipv4Addr::new(10, 96, 0, 7)])]),
    services: BTreeMap::from([("_http._tcp.web.default.svc".to_owned(), vec![("web.default.svc".to_owned(), 80)])]),
    aliases: BTreeMap::from([("db.default.svc".to_owned(), "db.example.org".to_owned())]),
});

/// Queries to the cluster's DNS.
pub fn dns(bytes: &[u8]) {
    for tcp in [false, true] {
        let reply = dns_reply(&TABLE, bytes, tcp);
        assert!(reply.is_none_or(|reply| reply.len() <= 65_535));
    }
}

/// SPDY frames.
pub fn spdy(bytes: &[u8]) {
    let mut buffer = bytes.into();
    while let Ok(Some(_)) = frame::take(&mut buffer) {}
}

/// A stream of SPDY's compressed headers.
pub fn spdy_headers(bytes: &[u8]) {
    let mut decompressor = Decompressor::default();
    for block in bytes.chunks(256) {
        if decompressor.headers(block).is_err() {
            return;
        }
    }
}

/// A container's log file.
pub fn container_log(bytes: &[u8]) {
    let mut out = bytes::BytesMut::new();
    let options = logs::Options { timestamps: true, ..logs::Options::default() };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        std::hint::black_box(logs::parse(line));
        logs::show(line, &options, &mut out);
    }
}
