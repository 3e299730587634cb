//! HTTP: reading requests, the one door they pass, and answering them.

pub mod body;
pub mod compress;
pub mod documents;
pub mod door;
pub mod extension;
pub mod failed;
pub mod health;
pub mod host;
pub mod info;
pub mod joined;
pub mod negotiate;
pub mod outbound;
pub mod proxy;
pub mod reply;
pub mod reviewed;
pub mod rewrite;
pub mod routes;
pub mod track;
pub mod websocket;
pub mod yaml;

pub use martello_api::query;
