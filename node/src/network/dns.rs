//! Cluster DNS: what a query is answered with is pure; two small loops serve it over UDP and TCP.
//!
//! Names of the cluster's domain are answered from a table; all else is passed to the node's own resolvers, byte for
//! byte.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::DnsTable;

/// Seconds for which an answer may be kept: endpoints change at any time.
const TTL: u32 = 5;

/// Bytes of an answer over UDP when the asker says nothing (RFC 1035), and at most: beyond, fragments get lost.
const UDP_PLAIN: usize = 512;
const UDP_MOST: usize = 1232;

/// Bytes of a message (its length has 16 bits over TCP).
const MAX_MESSAGE: usize = 65_535;

/// Queries over UDP in work at a time.
const MAX_QUERIES: usize = 1024;

/// TCP connections at a time, and those of one address among them: no pod keeps the others out.
const MAX_CONNECTIONS: usize = 256;
const MAX_CONNECTIONS_EACH: usize = 16;

/// How long a resolver has to answer before the next is asked, how long a TCP connection may idle, and how long it
/// may last at all.
const UPSTREAM_TIME: Duration = Duration::from_secs(2);
const IDLE_TIME: Duration = Duration::from_secs(10);
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// What to do with a query.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Send this.
    Reply(Box<Message>),
    /// Ask the node's resolvers.
    Forward,
    /// Not even a query.
    Ignore,
}

/// Answers one query from the table.
pub(crate) fn answer(table: &DnsTable, bytes: &[u8]) -> Answer {
    let Ok(query) = Message::from_vec(bytes) else { return Answer::Ignore };
    if query.metadata.message_type != MessageType::Query {
        return Answer::Ignore;
    }
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.queries = query.queries.clone();
    let [question] = query.queries.as_slice() else {
        reply.metadata.response_code = ResponseCode::FormErr;
        return Answer::Reply(Box::new(reply));
    };
    if query.metadata.op_code != OpCode::Query || question.query_class() != DNSClass::IN {
        reply.metadata.response_code = ResponseCode::NotImp;
        return Answer::Reply(Box::new(reply));
    }
    let name = question.name().to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    let found = match name.strip_suffix(table.cluster_domain.as_str()) {
        Some("") => Some(Found::Nothing),
        Some(rest) if rest.ends_with('.') => Some(look_up(table, rest.trim_end_matches('.'), question.query_type())),
        _ => reverse(table, name),
    };
    let Some(found) = found else { return Answer::Forward };
    reply.metadata.authoritative = true;
    match found {
        Found::Records(records) => {
            reply.add_answers(records.into_iter().map(|data| Record::from_rdata(question.name().clone(), TTL, data)));
        }
        Found::Nothing => {}
        Found::NoSuchName => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    if reply.answers.is_empty() {
        reply.authorities.extend(authority(table));
    }
    Answer::Reply(Box::new(reply))
}

/// What is sent to whoever asks `query` over UDP or TCP; nothing where the table doesn't answer it.
#[must_use]
pub fn reply(table: &DnsTable, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
    match answer(table, query) {
        Answer::Reply(reply) => encode(&reply, most_bytes(query, tcp)),
        Answer::Ignore | Answer::Forward => None,
    }
}

enum Found {
    Records(Vec<RData>),
    /// The name exists, without such records.
    Nothing,
    NoSuchName,
}

fn look_up(table: &DnsTable, name: &str, kind: RecordType) -> Found {
    if let Some(target) = table.aliases.get(name) {
        return Name::from_ascii(format!("{}.", target.trim_end_matches('.')))
            .map_or(Found::Nothing, |target| Found::Records(vec![RData::CNAME(CNAME(target))]));
    }
    let pod = pod_address(name);
    let addresses = table.addresses.get(name).map(Vec::as_slice).or(pod.as_ref().map(std::slice::from_ref));
    let services = table.services.get(name);
    match kind {
        RecordType::A if addresses.is_some_and(|list| !list.is_empty()) => {
            Found::Records(addresses.into_iter().flatten().map(|ip| RData::A(A(*ip))).collect())
        }
        RecordType::SRV if services.is_some_and(|list| !list.is_empty()) => {
            let target = |(host, port): &(String, u16)| {
                let name = Name::from_ascii(format!("{host}.{}.", table.cluster_domain)).ok()?;
                Some(RData::SRV(SRV::new(0, 100, *port, name)))
            };
            Found::Records(services.into_iter().flatten().filter_map(target).collect())
        }
        _ if addresses.is_some() || services.is_some() || is_above(table, name) => Found::Nothing,
        _ => Found::NoSuchName,
    }
}

/// Whether some name of the table lies below `name`.
fn is_above(table: &DnsTable, name: &str) -> bool {
    let ends = |other: &String| other.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    table.addresses.keys().chain(table.services.keys()).chain(table.aliases.keys()).any(ends)
}

/// `10-244-0-5.namespace.pod` is the pod's address.
fn pod_address(name: &str) -> Option<Ipv4Addr> {
    let (dashed, rest) = name.split_once('.')?;
    let (namespace, pod) = rest.split_once('.')?;
    if pod != "pod" || namespace.is_empty() {
        return None;
    }
    dashed.replace('-', ".").parse().ok()
}

/// `5.0.244.10.in-addr.arpa`, where the table has that address.
fn reverse(table: &DnsTable, name: &str) -> Option<Found> {
    let digits = name.strip_suffix(".in-addr.arpa")?;
    let parts: Vec<u8> = digits.split('.').rev().map(str::parse).collect::<Result<_, _>>().ok()?;
    let ip = Ipv4Addr::from(<[u8; 4]>::try_from(parts).ok()?);
    let owner = table.addresses.iter().find(|(_, list)| list.contains(&ip)).map(|(owner, _)| owner)?;
    let target = Name::from_ascii(format!("{owner}.{}.", table.cluster_domain)).ok()?;
    Some(Found::Records(vec![RData::PTR(PTR(target))]))
}

fn authority(table: &DnsTable) -> Option<Record> {
    let zone = Name::from_ascii(format!("{}.", table.cluster_domain)).ok()?;
    let server = Name::from_ascii(format!("ns.dns.{}.", table.cluster_domain)).ok()?;
    let contact = Name::from_ascii(format!("hostmaster.{}.", table.cluster_domain)).ok()?;
    let ttl = i32::try_from(TTL).unwrap_or(1);
    let soa = SOA::new(server, contact, 1, ttl, ttl, ttl, TTL);
    Some(Record::from_rdata(zone, TTL, RData::SOA(soa)))
}

/// The server's shared state.
pub(crate) struct Dns {
    /// What is answered now.
    pub(crate) table: ArcSwap<DnsTable>,
    /// Who is asked for the rest.
    pub(crate) upstream: ArcSwap<Vec<SocketAddr>>,
}

impl Dns {
    /// Serves until the process ends.
    pub(crate) async fn serve(self: Arc<Self>, ip: Ipv4Addr) -> io::Result<()> {
        let address = SocketAddrV4::new(ip, 53);
        let (udp, tcp) = (Arc::new(UdpSocket::bind(address).await?), TcpListener::bind(address).await?);
        let limit = Arc::new(Semaphore::new(MAX_QUERIES));
        tokio::spawn(Arc::clone(&self).serve_tcp(tcp));
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let Ok((length, from)) = udp.recv_from(&mut buffer).await else { continue };
            // Beyond the limit queries are dropped; resolvers ask again.
            let Ok(permit) = Arc::clone(&limit).try_acquire_owned() else { continue };
            let query = buffer.get(..length).unwrap_or_default().to_vec();
            let (this, udp) = (Arc::clone(&self), Arc::clone(&udp));
            tokio::spawn(async move {
                if let Some(reply) = this.handle(&query, false).await {
                    udp.send_to(&reply, from).await.ok();
                }
                drop(permit);
            });
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut connections = Connections::new();
        loop {
            let Ok((stream, from)) = listener.accept().await else { continue };
            let Some(permits) = connections.admit(from.ip()) else { continue };
            let this = Arc::clone(&self);
            tokio::spawn(async move {
                // A broken connection concerns only its other end.
                drop(tokio::time::timeout(CONNECTION_TIME, this.serve_stream(stream)).await);
                drop(permits);
            });
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        while let Ok(length) = tokio::time::timeout(IDLE_TIME, stream.read_u16()).await? {
            let mut query = vec![0; usize::from(length)];
            tokio::time::timeout(IDLE_TIME, stream.read_exact(&mut query)).await??;
            let Some(reply) = self.handle(&query, true).await else { return Ok(()) };
            let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
            tokio::time::timeout(IDLE_TIME, stream.write_u16(length)).await??;
            tokio::time::timeout(IDLE_TIME, stream.write_all(&reply)).await??;
        }
        Ok(())
    }

    async fn handle(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        match answer(&self.table.load(), query) {
            Answer::Ignore => None,
            Answer::Reply(reply) => encode(&reply, most_bytes(query, tcp)),
            Answer::Forward => self.forward(query, tcp).await.or_else(|| server_failure(query)),
        }
    }

    async fn forward(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        for upstream in self.upstream.load().iter() {
            let attempt = async { if tcp { ask_tcp(*upstream, query).await } else { ask_udp(*upstream, query).await } };
            if let Ok(Ok(reply)) = tokio::time::timeout(UPSTREAM_TIME, attempt).await {
                return Some(reply);
            }
        }
        None
    }
}

/// Who has how many TCP connections.
struct Connections {
    all: Arc<Semaphore>,
    /// Of each address that has any.
    each: BTreeMap<IpAddr, Arc<Semaphore>>,
}

impl Connections {
    fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_CONNECTIONS)), each: BTreeMap::new() }
    }

    /// Room for one more connection from an address, until it is dropped; none where there are too many.
    fn admit(&mut self, source: IpAddr) -> Option<[OwnedSemaphorePermit; 2]> {
        self.each.retain(|_, own| own.available_permits() < MAX_CONNECTIONS_EACH);
        let own = self.each.entry(source).or_insert_with(|| Arc::new(Semaphore::new(MAX_CONNECTIONS_EACH)));
        let own = Arc::clone(own).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some([all, own])
    }
}

async fn ask_udp(upstream: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(query).await?;
    let mut reply = vec![0; MAX_MESSAGE];
    loop {
        let length = socket.recv(&mut reply).await?;
        // Only an answer to this very query counts.
        if reply.get(..2) == query.get(..2) {
            reply.truncate(length);
            return Ok(reply);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    stream.write_u16(u16::try_from(query.len()).map_err(io::Error::other)?).await?;
    stream.write_all(query).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// Bytes that the asker takes.
fn most_bytes(query: &[u8], tcp: bool) -> usize {
    if tcp {
        return MAX_MESSAGE;
    }
    let edns = Message::from_vec(query).ok().and_then(|query| query.edns);
    edns.map_or(UDP_PLAIN, |edns| usize::from(edns.max_payload()).clamp(UDP_PLAIN, UDP_MOST))
}

fn encode(reply: &Message, most: usize) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= most { Some(bytes) } else { reply.truncate().to_vec().ok() }
}

fn server_failure(query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let mut reply = Message::error_msg(query.metadata.id, query.metadata.op_code, ResponseCode::ServFail);
    reply.queries = query.queries;
    reply.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;

    use super::*;

    fn table() -> DnsTable {
        DnsTable {
            cluster_domain: "cluster.local".to_owned(),
            addresses: [
                ("web.default.svc".to_owned(), vec![Ipv4Addr::new(10, 96, 3, 4)]),
                ("db.prod.svc".to_owned(), vec![Ipv4Addr::new(10, 244, 0, 5), Ipv4Addr::new(10, 244, 0, 6)]),
            ]
            .into(),
            services: [("_http._tcp.web.default.svc".to_owned(), vec![("web.default.svc".to_owned(), 80)])].into(),
            aliases: [("old.default.svc".to_owned(), "example.com".to_owned())].into(),
        }
    }

    fn ask(name: &str, kind: RecordType) -> Answer {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        answer(&table(), &message.to_vec().unwrap())
    }

    fn reply(name: &str, kind: RecordType) -> Message {
        match ask(name, kind) {
            Answer::Reply(reply) => *reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn services_have_addresses_whatever_the_case() {
        let found = reply("Web.Default.SVC.cluster.local.", RecordType::A);
        assert_eq!(found.answers.len(), 1);
        assert_eq!(reply("db.prod.svc.cluster.local.", RecordType::A).answers.len(), 2);
    }

    #[test]
    fn named_ports_have_srv_records() {
        let found = reply("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV);
        assert!(found.answers.first().unwrap().to_string().contains("80 web.default.svc.cluster.local."));
    }

    #[test]
    fn existing_names_without_such_records_are_no_errors() {
        let found = reply("web.default.svc.cluster.local.", RecordType::AAAA);
        assert_eq!((found.metadata.response_code, found.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(reply("svc.cluster.local.", RecordType::A).metadata.response_code, ResponseCode::NoError);
    }

    #[test]
    fn unknown_names_of_the_domain_do_not_leave_it() {
        let found = reply("example.com.default.svc.cluster.local.", RecordType::A);
        assert_eq!(found.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(found.authorities.len(), 1);
        assert!(matches!(ask("example.com.", RecordType::A), Answer::Forward));
        assert!(matches!(ask("notcluster.local.", RecordType::A), Answer::Forward));
    }

    #[test]
    fn addresses_have_names() {
        let found = reply("5.0.244.10.in-addr.arpa.", RecordType::PTR);
        assert!(found.answers.first().unwrap().to_string().contains("db.prod.svc.cluster.local."));
        assert!(matches!(ask("1.1.1.1.in-addr.arpa.", RecordType::PTR), Answer::Forward));
    }

    #[test]
    fn pods_have_names_by_address() {
        let found = reply("10-244-0-9.default.pod.cluster.local.", RecordType::A);
        assert!(found.answers.first().unwrap().to_string().contains("10.244.0.9"));
    }

    #[test]
    fn aliases_point_outside() {
        let found = reply("old.default.svc.cluster.local.", RecordType::A);
        assert!(found.answers.first().unwrap().to_string().contains("example.com."));
    }

    #[test]
    fn no_address_takes_every_connection() {
        let mut connections = Connections::new();
        let source = |number: u8| IpAddr::from([10, 244, 0, number]);
        let mut greedy: Vec<_> = (0..MAX_CONNECTIONS_EACH).map(|_| connections.admit(source(1)).unwrap()).collect();
        assert!(connections.admit(source(1)).is_none());
        assert!(connections.admit(source(2)).is_some());
        drop(greedy.pop());
        assert!(connections.admit(source(1)).is_some());
        drop(greedy);
        assert!(connections.admit(source(3)).is_some());
        assert_eq!(connections.each.len(), 1, "those without connections are forgotten");
    }

    #[test]
    fn all_connections_together_are_limited() {
        let mut connections = Connections::new();
        let of = |number: usize| IpAddr::from([10, 244, 0, u8::try_from(number / MAX_CONNECTIONS_EACH).unwrap()]);
        let all: Vec<_> = (0..MAX_CONNECTIONS).map(|number| connections.admit(of(number)).unwrap()).collect();
        let other = IpAddr::from([10, 244, 1, 1]);
        assert!(connections.admit(other).is_none());
        drop(all);
        assert!(connections.admit(other).is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_fall_over(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(answer(&table(), &bytes));
        }
    }
}
