//! Load on any Kubernetes API server: rates and latencies, and what they cost the server.
//!
//! Every figure is one line of JSON. The load is the same whoever serves it, and two servers can be measured in turn;
//! only a server that is started here is also measured while it starts.

mod figure;
mod kind;
mod list;
mod meter;
mod pods;
mod requests;
mod run;
mod target;
mod watch;

pub use figure::{Figure, Latencies};
pub use kind::{Kind, define, undefine};
pub use list::{Filled, fill, memory};
pub use pods::{PodLoad, apply_to_running, until_node_is_ready};
pub use requests::{applies, creates, gets, patches};
pub use run::Run;
pub use target::Target;
pub use watch::{FanOut, fan_out, idle};
