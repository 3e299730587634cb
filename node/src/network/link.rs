//! Devices, addresses and routes of the pod network.
//!
//! Each pod has a veth pair: `eth0` inside, `pod<address in hexadecimal>` here. Nothing is bridged: the pod's only
//! neighbour is the gateway, and strict reverse-path filtering ties each device to its pod's address.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// What a netlink operation failed with, and what was attempted.
fn failed(attempt: &str) -> impl FnOnce(rtnetlink::Error) -> io::Error + '_ {
    move |error| io::Error::other(format!("could not {attempt}: {error}"))
}

/// Name of the node's end of a pod's pair.
pub(crate) fn name_of(ip: Ipv4Addr) -> String {
    format!("pod{:08x}", u32::from(ip))
}

/// Turns this thread's network namespace into a router for pods, with DNS's address as its own.
pub(crate) fn set_up(dns_ip: Ipv4Addr) -> io::Result<()> {
    for (name, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "1"), ("conf/default/rp_filter", "1")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value)?;
    }
    run(async move |handle| {
        let loopback = index(&handle, "lo").await?;
        up(&handle, loopback).await?;
        add_address(&handle, loopback, dns_ip).await
    })
}

/// Makes the pair of a pod whose network namespace is `pod`, from the pod network's side.
pub(crate) fn attach(pod: &OwnedFd, ip: Ipv4Addr, gateway: Ipv4Addr) -> io::Result<()> {
    let pod = pod.as_raw_fd();
    run(async move |handle| {
        let name = name_of(ip);
        // A pair of a pod that died without a word would be in the way.
        remove(&handle, &name).await?;
        let inside = LinkMessageBuilder::<LinkUnspec>::new().name("eth0".to_owned()).setns_by_fd(pod).build();
        let pair =
            LinkMessageBuilder::<LinkVeth>::new(&name, "eth0").set_info_data(InfoData::Veth(InfoVeth::Peer(inside)));
        handle.link().add(pair.build()).execute().await.map_err(failed("make the pod's link"))?;
        let link = index(&handle, &name).await?;
        add_address(&handle, link, gateway).await?;
        up(&handle, link).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(ip, 32)
            .output_interface(link)
            .scope(RouteScope::Link)
            .build();
        handle.route().add(route).replace().execute().await.map_err(failed("add the route to the pod"))
    })
}

/// Sets up the pod's side; runs in a thread that has entered the pod's network namespace.
pub(crate) fn set_up_pod(ip: Option<Ipv4Addr>, gateway: Ipv4Addr) -> io::Result<()> {
    run(async move |handle| {
        let loopback = index(&handle, "lo").await?;
        up(&handle, loopback).await?;
        let Some(ip) = ip else { return Ok(()) };
        let link = index(&handle, "eth0").await?;
        add_address(&handle, link, ip).await?;
        up(&handle, link).await?;
        let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(gateway, 32)
            .output_interface(link)
            .scope(RouteScope::Link)
            .build();
        handle.route().add(to_gateway).execute().await.map_err(failed("add the route to the gateway"))?;
        let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(link).build();
        handle.route().add(default).execute().await.map_err(failed("add the default route"))
    })
}

/// Removes a pod's pair.
pub(crate) fn detach(ip: Ipv4Addr) -> io::Result<()> {
    run(async move |handle| remove(&handle, &name_of(ip)).await)
}

/// Runs `work` with a netlink socket of this thread's network namespace.
fn run<T>(work: impl AsyncFnOnce(Handle) -> io::Result<T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let result = work(handle).await;
        connection.abort();
        result
    })
}

async fn index(handle: &Handle, name: &str) -> io::Result<u32> {
    let mut links = std::pin::pin!(handle.link().get().match_name(name).execute());
    match links.try_next().await {
        Ok(Some(link)) => Ok(link.header.index),
        Ok(None) => Err(io::Error::other(format!("there is no link {name}"))),
        Err(error) => Err(failed("find a link")(error)),
    }
}

async fn up(handle: &Handle, link: u32) -> io::Result<()> {
    let message = LinkMessageBuilder::<LinkUnspec>::new().index(link).up().build();
    handle.link().set(message).execute().await.map_err(failed("bring a link up"))
}

async fn add_address(handle: &Handle, link: u32, ip: Ipv4Addr) -> io::Result<()> {
    let request = handle.address().add(link, IpAddr::V4(ip), 32).replace();
    request.execute().await.map_err(failed("add an address"))
}

async fn remove(handle: &Handle, name: &str) -> io::Result<()> {
    match index(handle, name).await {
        Ok(link) => handle.link().del(link).execute().await.map_err(failed("remove a link")),
        Err(_) => Ok(()),
    }
}
